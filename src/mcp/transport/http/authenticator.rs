//! Makes out who sends a request, by its bearer token where the server has any.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, header};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::{info, warn};

use crate::{
    config::{HttpSettings, Token, TokensFile},
    mcp::{
        Access,
        principal::{Principal, canonical},
    },
};

/// Browsers, and nothing else, say with every request what made them send it.
pub(super) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("a bearer token is needed; send the header Authorization: Bearer <token>")]
    NoToken,
    #[error("the bearer token is not one of this server's")]
    WrongToken,
}

/// The tokens that open the server. Without any, every program that reaches it has every right, and every page may
/// read: a page of this machine's is not its operator.
pub(super) struct Authenticator {
    tokens: RwLock<Arc<[Known]>>,
    /// Where tokens are kept that may change.
    file: Option<TokensFile>,
    pages: Access,
}

/// How often a file of tokens is read again.
const REREAD: Duration = Duration::from_secs(5);

/// Digests have one length, so that comparing them tells nothing of a secret's.
#[derive(PartialEq)]
struct Known {
    name: Arc<str>,
    access: Access,
    digest: [u8; 32],
}

impl Authenticator {
    pub(super) fn new(settings: &HttpSettings) -> Self {
        let pages = if settings.pages_may_write { Access::Full } else { Access::ReadOnly };
        Self { tokens: RwLock::new(known(&settings.tokens)), file: settings.tokens_file.clone(), pages }
    }

    /// Lets in whom the file of tokens names from now on, and nobody else any more. As long as something is wrong with it,
    /// those stay in who were named before.
    pub(super) async fn follow_file(&self) {
        let Some(file) = &self.file else { return };
        let mut told = None;
        loop {
            tokio::time::sleep(REREAD).await;
            let file = file.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || file.tokens()).await else { continue };
            let problem = read.as_ref().err().cloned();
            match read {
                Ok(tokens) => {
                    let now = known(&tokens);
                    if now != self.tokens() {
                        info!(tokens = now.len(), "the file of tokens was changed and holds from now on");
                        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = now;
                    }
                }
                Err(problem) if told.as_ref() != Some(&problem) => {
                    warn!(
                        problem,
                        "the file of tokens was changed and can't be used; the tokens before hold on"
                    );
                }
                Err(_) => {}
            }
            told = problem;
        }
    }

    fn tokens(&self) -> Arc<[Known]> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Result<(Principal, Access), Unknown> {
        let tokens = self.tokens();
        if tokens.is_empty() {
            let peer = canonical(peer);
            return Ok(if is_of_a_page(headers) {
                (Principal::Page(peer), self.pages)
            } else {
                (Principal::Peer(peer), Access::Full)
            });
        }
        let given = bearer(headers).ok_or(Unknown::NoToken)?;
        let digest: [u8; 32] = Sha256::digest(given).into();
        // Every token is compared, whichever matches: time tells nothing.
        let mut found = None;
        for token in &*tokens {
            if bool::from(token.digest.ct_eq(&digest)) {
                found = Some(token);
            }
        }
        found.map(|token| (Principal::Token(token.name.clone()), token.access)).ok_or(Unknown::WrongToken)
    }
}

fn known(tokens: &[Token]) -> Arc<[Known]> {
    let known = tokens.iter().map(|token| Known {
        name: token.name.as_str().into(),
        access: if token.read_only { Access::ReadOnly } else { Access::Full },
        digest: Sha256::digest(token.secret.expose_secret()).into(),
    });
    known.collect()
}

fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::http::HeaderValue;

    use super::*;
    use crate::config::Settings;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const ONE: &str = "chave-um-12345678";
    const TWO: &str = "chave-dois-123456";

    fn authenticator(changes: &[(&str, &str)]) -> Authenticator {
        let folder = ("SLUICE_DATA_DIR".to_owned(), "/nowhere".to_owned());
        let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Authenticator::new(&Settings::load(changes.chain([folder])).expect("valid settings").http)
    }

    fn authenticate(authorization: &str) -> Result<(Principal, Access), Unknown> {
        let tokens = format!("claude:full:{ONE},painel:read:{TWO}");
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(authorization).expect("a header"));
        authenticator(&[("SLUICE_HTTP_TOKENS", &tokens)]).authenticate(&headers, PEER)
    }

    #[test]
    fn each_token_brings_its_own_rights() {
        let full = Ok((Principal::Token("claude".into()), Access::Full));
        for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
            assert_eq!(authenticate(&format!("{scheme} {ONE}")), full, "{scheme}");
        }
        let read = Ok((Principal::Token("painel".into()), Access::ReadOnly));
        assert_eq!(authenticate(&format!("Bearer  {TWO}")), read);
    }

    #[test]
    fn whoever_brings_none_or_a_wrong_one_stays_outside() {
        let nothing = authenticator(&[("SLUICE_HTTP_TOKENS", &format!("a:full:{ONE}"))]);
        assert_eq!(nothing.authenticate(&HeaderMap::new(), PEER), Err(Unknown::NoToken));
        assert_eq!(authenticate(&format!("Basic {ONE}")), Err(Unknown::NoToken));
        assert_eq!(authenticate(ONE), Err(Unknown::NoToken));
        let (cut, twice, both) = (&ONE[1..], format!("{ONE} {ONE}"), format!("{ONE},{TWO}"));
        for wrong in ["chave-tres-123456", cut, "", &twice, &both, &ONE.to_uppercase()] {
            assert!(authenticate(&format!("Bearer {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn without_tokens_every_program_may_do_everything_and_a_page_may_read() {
        let program = authenticator(&[]).authenticate(&HeaderMap::new(), PEER);
        assert_eq!(program, Ok((Principal::Peer(PEER), Access::Full)));
        for (name, value) in [("origin", "http://localhost:5173"), ("sec-fetch-site", "none")] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            let page = authenticator(&[]).authenticate(&headers, PEER);
            assert_eq!(page, Ok((Principal::Page(PEER), Access::ReadOnly)), "{name}");
            let trusted = authenticator(&[("SLUICE_HTTP_PAGES_MAY_WRITE", "true")]);
            assert_eq!(
                trusted.authenticate(&headers, PEER),
                Ok((Principal::Page(PEER), Access::Full)),
                "{name}"
            );
        }
    }

    #[test]
    fn what_node_says_of_its_own_requests_makes_no_page_of_them() {
        let mut headers = HeaderMap::new();
        headers.insert("sec-fetch-mode", HeaderValue::from_static("cors"));
        let program = authenticator(&[]).authenticate(&headers, PEER);
        assert_eq!(program, Ok((Principal::Peer(PEER), Access::Full)));
    }
}
