//! Who sends a request.

use std::{fmt, net::IpAddr, sync::Arc};

use axum::http::{HeaderMap, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{config::Token, mcp::Access};

/// Who sends a request: a token's holder, or an address where nobody needs a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Client {
    Token(Arc<str>),
    Peer(IpAddr),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => f.write_str(name),
            Self::Peer(address) => write!(f, "{address}"),
        }
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("a bearer token is needed; send the header Authorization: Bearer <token>")]
    NoToken,
    #[error("the bearer token is not one of this server's")]
    WrongToken,
}

/// The tokens that open the server; without any, everybody who reaches it has every right.
pub(super) struct Doorman {
    tokens: Vec<Known>,
}

/// Digests have one length, so that comparing them tells nothing of a secret's.
struct Known {
    name: Arc<str>,
    access: Access,
    digest: [u8; 32],
}

impl Doorman {
    pub(super) fn new(tokens: &[Token]) -> Self {
        let known = |token: &Token| Known {
            name: token.name.as_str().into(),
            access: if token.read_only { Access::ReadOnly } else { Access::Full },
            digest: Sha256::digest(token.secret.expose_secret()).into(),
        };
        Self { tokens: tokens.iter().map(known).collect() }
    }

    pub(super) fn admit(&self, headers: &HeaderMap, peer: IpAddr) -> Result<(Client, Access), Unknown> {
        if self.tokens.is_empty() {
            return Ok((Client::Peer(peer), Access::Full));
        }
        let given = bearer(headers).ok_or(Unknown::NoToken)?;
        let digest: [u8; 32] = Sha256::digest(given).into();
        // Every token is compared, whichever matches: time tells nothing.
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found.map(|token| (Client::Token(token.name.clone()), token.access)).ok_or(Unknown::WrongToken)
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::http::HeaderValue;
    use secrecy::SecretString;

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn doorman() -> Doorman {
        let token = |name: &str, read_only, secret: &str| Token {
            name: name.to_owned(),
            read_only,
            secret: SecretString::from(secret),
        };
        Doorman::new(&[token("claude", false, "chave-um"), token("painel", true, "chave-dois")])
    }

    fn admit(authorization: &str) -> Result<(Client, Access), Unknown> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(authorization).expect("a header"));
        doorman().admit(&headers, PEER)
    }

    #[test]
    fn each_token_brings_its_own_rights() {
        assert_eq!(admit("Bearer chave-um"), Ok((Client::Token("claude".into()), Access::Full)));
        assert_eq!(admit("bearer chave-dois"), Ok((Client::Token("painel".into()), Access::ReadOnly)));
    }

    #[test]
    fn whoever_brings_none_or_a_wrong_one_stays_outside() {
        assert_eq!(doorman().admit(&HeaderMap::new(), PEER), Err(Unknown::NoToken));
        assert_eq!(admit("Basic chave-um"), Err(Unknown::NoToken));
        for wrong in ["Bearer chave-tres", "Bearer chave-u", "Bearer ", "Bearer chave-um chave-um"] {
            assert!(admit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_tokens_everybody_may_do_everything() {
        let admitted = Doorman::new(&[]).admit(&HeaderMap::new(), PEER);
        assert_eq!(admitted, Ok((Client::Peer(PEER), Access::Full)));
    }
}
