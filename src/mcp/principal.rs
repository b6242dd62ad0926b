//! Who sends a request: what limits are counted by, and to whom sessions, tasks and log events belong.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use axum::http::request::Parts;
use rmcp::model::Extensions;

/// Whoever sends a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Who started the process, over stdio.
    Process,
    /// A token's holder, from wherever.
    Token(Arc<str>),
    /// A program, where nobody needs a token.
    Peer(IpAddr),
    /// A page in a browser, where nobody needs a token: whoever wrote it is not whoever opened it.
    Page(IpAddr),
}

impl Principal {
    /// The sender behind a request, from its context's extensions.
    pub fn of(extensions: &Extensions) -> Self {
        match extensions.get::<Parts>() {
            None => Self::Process,
            // Who was not made out is trusted as little as may be.
            Some(parts) => {
                let found = parts.extensions.get::<Self>().cloned();
                found.unwrap_or(Self::Page(Ipv4Addr::UNSPECIFIED.into()))
            }
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("this process"),
            Self::Token(name) => f.write_str(name),
            Self::Peer(address) => write!(f, "{address}"),
            Self::Page(address) => write!(f, "a page on {address}"),
        }
    }
}

/// The address that stands for all its holder has: one machine has many loopback addresses, and one customer of a
/// provider a /64 of IPv6.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    if address.is_loopback() {
        return Ipv4Addr::LOCALHOST.into();
    }
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_holder_are_one() {
        for (given, stands_for) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.9.9.9", "127.0.0.1"),
            ("::1", "127.0.0.1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::", "2001:db8:1:3::"),
        ] {
            let address: IpAddr = given.parse().expect("an address");
            assert_eq!(canonical(address).to_string(), stands_for, "{given}");
        }
    }

    #[test]
    fn stdio_is_the_process_and_an_unchecked_request_is_nobody_in_particular() {
        assert_eq!(Principal::of(&Extensions::new()), Principal::Process);
        let mut request = axum::http::Request::new(());
        request.extensions_mut().insert(Principal::Token("a".into()));
        let (mut parts, ()) = request.into_parts();
        let mut extensions = Extensions::new();
        extensions.insert(parts.clone());
        assert_eq!(Principal::of(&extensions), Principal::Token("a".into()));
        parts.extensions.clear();
        extensions.insert(parts);
        assert!(matches!(Principal::of(&extensions), Principal::Page(_)));
    }
}
