//! Where clients find the server when a proxy stands in front of it.

use url::{Host, Url};

use crate::config::reader::Reader;

const NAME: &str = "SLUICE_HTTP_PUBLIC_URL";

/// The address clients use: a proxy's, perhaps with a path before the server's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    url: Url,
}

impl PublicUrl {
    pub(super) fn read(read: &mut Reader) -> Option<Self> {
        let text = read.optional(NAME)?;
        Self::parse(&text).map_err(|problem| read.problem(NAME, problem)).ok()
    }

    /// `https://tools.example.com` or `https://example.com/sluice`.
    ///
    /// # Errors
    /// Says what such an address looks like.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url =
            url.ok_or("must be a URL starting with https:// or http://, such as https://example.com/sluice")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a name or a password; clients send their token in a header");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("must end with the path: nothing may follow ? or #");
        }
        // Whoever reads `//`, a dot segment or a % otherwise than the proxy does would be led elsewhere.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if url.path().contains("//")
            || text.contains("/.")
            || text.contains('%')
            || !url.path().chars().all(plain)
        {
            return Err("must have a plain path, such as /sluice");
        }
        let ours = ["/mcp", "/sse"].iter().any(|end| url.path().trim_end_matches('/').ends_with(end));
        if ours {
            return Err("must be what stands before /mcp and /sse, without them");
        }
        Ok(Self { url })
    }

    /// What stands before the server's own paths: empty, or `/sluice`.
    pub fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    /// What stands before the server's own paths, with scheme and host.
    pub fn base(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Whether only this machine can mean it.
    pub fn is_local(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The site whose pages are the server's own.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// The name, and the port where it is not the scheme's own, that a proxy may hand on as `Host`.
    pub fn host(&self) -> String {
        let host = self.url.host().map(|host: Host<&str>| host.to_string()).unwrap_or_default();
        self.url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_before_the_servers_own_is_kept_without_its_last_slash() {
        for (text, path, host) in [
            ("https://tools.example.com", "", "tools.example.com"),
            ("https://example.com:8443/sluice/", "/sluice", "example.com:8443"),
            ("http://[::1]/a/b", "/a/b", "[::1]"),
        ] {
            let url = PublicUrl::parse(text).expect(text);
            assert_eq!((url.path(), url.host().as_str()), (path, host));
        }
        for (text, local) in
            [("http://localhost:8080/a", true), ("http://[::1]", true), ("https://a.b", false)]
        {
            assert_eq!(PublicUrl::parse(text).expect(text).is_local(), local, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_the_whole_server_is_refused_with_the_reason() {
        for (wrong, reason) in [
            ("example.com/sluice", "https://"),
            ("ftp://example.com", "https://"),
            ("https://", "https://"),
            ("https://a:b@example.com", "password"),
            ("https://example.com/?token=1", "?"),
            ("https://example.com/#a", "#"),
            ("https://example.com//sluice", "plain path"),
            ("https://example.com/a/../b", "plain path"),
            ("https://example.com/%2e%2e/b", "plain path"),
            ("https://example.com/{a}", "plain path"),
            ("https://example.com/sluice/mcp", "without them"),
        ] {
            let problem = PublicUrl::parse(wrong).expect_err(wrong);
            assert!(problem.contains(reason), "{wrong}: {problem}");
        }
    }
}
