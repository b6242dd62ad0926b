//! Which hosts and origins a request may name. A page on the open web can make a browser send requests to a server on
//! this machine; what gives it away is the name it was reached by and the site it came from.

use std::net::IpAddr;

use axum::http::uri::Authority;

/// A host a request may be addressed to, on one port or on any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    port: Option<u16>,
}

impl HostPattern {
    /// `sluice.example.com` for any port, `sluice.example.com:8443` for one.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = pattern(text)?;
        Some(Self { host, port })
    }

    /// Whether a `Host` header names it.
    pub fn matches(&self, header: &str) -> bool {
        split(header)
            .is_some_and(|(host, port)| host == self.host && (self.port.is_none() || port == self.port))
    }
}

/// Whether a `Host` header gives an address. No name that somebody else points here is behind it, so it needs no allowance.
pub fn is_address(header: &str) -> bool {
    split(header).is_some_and(|(host, _)| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok())
}

/// A site whose pages may send requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: String,
    host: String,
    /// `None` for any.
    port: Option<u16>,
}

impl OriginPattern {
    /// `https://app.example.com` for the scheme's own port, `http://localhost:5173` for one, `http://localhost:*` for any.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_suffix(":*") {
            let (scheme, rest) = rest.split_once("://")?;
            let (host, port) = pattern(rest)?;
            return port.is_none().then(|| Self { scheme: scheme.to_ascii_lowercase(), host, port: None });
        }
        let (scheme, host, port) = origin(text)?;
        Some(Self { scheme, host: literal(host)?, port: Some(port?) })
    }

    /// Whether an `Origin` header names it. `null`, which sandboxed pages send, never does.
    pub fn matches(&self, header: &str) -> bool {
        origin(header).is_some_and(|(scheme, host, port)| {
            scheme == self.scheme && host == self.host && (self.port.is_none() || port == self.port)
        })
    }
}

/// A host that is meant as it stands. Whoever writes `*` means more than that sign, and would be refused silently.
fn literal(host: String) -> Option<String> {
    (!host.contains('*')).then_some(host)
}

fn pattern(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split(text)?;
    Some((literal(host)?, port))
}

fn origin(text: &str) -> Option<(String, String, Option<u16>)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = split(rest)?;
    let port = port.or_else(|| default_port(&scheme));
    Some((scheme, host, port))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// A host in lower case, and its port.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let authority: Authority = text.trim().parse().ok()?;
    // Whoever is named before an @ leaves the host elsewhere than at the start.
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => None,
        port => Some(port.strip_prefix(':')?.parse().ok()?),
    };
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(pattern: &str, header: &str) -> bool {
        HostPattern::parse(pattern).expect("a pattern").matches(header)
    }

    fn origin(pattern: &str, header: &str) -> bool {
        OriginPattern::parse(pattern).expect("a pattern").matches(header)
    }

    #[test]
    fn a_host_matches_by_name_and_where_it_is_given_by_port() {
        assert!(host("localhost", "LocalHost:8765") && host("localhost", "localhost"));
        assert!(host("[::1]", "[::1]:8765") && host("sluice.example:8443", "sluice.example:8443"));
        assert!(
            !host("sluice.example:8443", "sluice.example") && !host("localhost", "localhost.evil.example")
        );
        assert!(
            !host("localhost", "evil@localhost")
                && !host("localhost", "localhost:99999")
                && !host("localhost", "")
        );
        for wrong in ["https://sluice.example", "", "*", "*:8443", "*.sluice.example"] {
            assert!(HostPattern::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_told_from_a_name() {
        assert!(["10.0.0.7:8765", "127.0.0.1", "[fd00::7]:8765"].into_iter().all(is_address));
        assert!(
            !["10.0.0.7.evil.example", "10.0.7", "evil@10.0.0.7", "localhost", ""]
                .into_iter()
                .any(is_address)
        );
    }

    #[test]
    fn an_origin_matches_by_scheme_host_and_port() {
        assert!(
            origin("http://localhost:*", "http://localhost:5173") && origin("http://[::1]:*", "http://[::1]")
        );
        assert!(origin("https://app.example", "https://app.example:443"));
        assert!(!origin("https://app.example", "https://app.example:8443"));
        assert!(!origin("https://app.example", "http://app.example"));
        assert!(!origin("http://localhost:*", "http://localhost.evil.example"));
        assert!(
            !origin("http://localhost:*", "null") && !origin("http://localhost:*", "http://evil@localhost")
        );
        for wrong in [
            "https://*",
            "https://*.app.example",
            "http://*:*",
            "app.example",
            "https://app.example/x",
            "https://a:443:*",
            "null",
            "https://app.example:80:*",
        ] {
            assert!(OriginPattern::parse(wrong).is_none(), "{wrong}");
        }
    }
}
