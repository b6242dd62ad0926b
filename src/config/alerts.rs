//! Where alerts may go.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::{Host, Url};

use super::reader::Reader;
use crate::redaction;

const TARGETS: &str = "SLUICE_ALERT_TARGETS";
const ALLOW_PRIVATE: &str = "SLUICE_ALERT_ALLOW_PRIVATE";

/// Where alerts may go. A webhook's URL is a secret: whoever knows it may write there.
#[derive(Debug, Clone, Default)]
pub struct AlertSettings {
    /// URLs, by names that clients are shown.
    pub targets: BTreeMap<String, SecretString>,
    /// Addresses of this machine and of local networks may be sent to, and these without TLS.
    pub allow_private: bool,
}

impl AlertSettings {
    pub(super) fn read(read: &mut Reader) -> Self {
        let allow_private = read.flag(ALLOW_PRIVATE, false);
        let mut targets = BTreeMap::new();
        let list = read.optional(TARGETS).unwrap_or_default();
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        for (n, entry) in entries.enumerate() {
            match target(entry, allow_private) {
                Ok((name, url)) => {
                    redaction::keep(&url);
                    if targets.insert(name, SecretString::from(url)).is_some() {
                        read.problem(TARGETS, format_args!("target {} has the name of another", n + 1));
                    }
                }
                Err(problem) => read.problem(TARGETS, format_args!("target {} {problem}", n + 1)),
            }
        }
        Self { targets, allow_private }
    }
}

/// A name and a URL; what is wrong is told without either.
fn target(entry: &str, allow_private: bool) -> Result<(String, String), String> {
    let (name, url) = entry.split_once('=').ok_or("must be name=https://…")?;
    let (name, url) = (name.trim(), url.trim());
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 32 || !name.chars().all(legal) {
        return Err("needs a name of at most 32 letters, digits, '.', '_' or '-'".to_owned());
    }
    let parsed = Url::parse(url).ok().filter(Url::has_host).ok_or("has no URL; write https://host/path")?;
    match parsed.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => {
            return Err(format!(
                "is not https; only with {ALLOW_PRIVATE}=true may http lead to an address of the local network"
            ));
        }
        _ => return Err("is not https".to_owned()),
    }
    if matches!(parsed.host(), Some(Host::Domain(name)) if name == "localhost") && !allow_private {
        return Err(format!("is this machine; {ALLOW_PRIVATE}=true allows it"));
    }
    Ok((name.to_owned(), url.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_needs_a_name_and_a_safe_url_and_what_is_wrong_tells_neither() {
        for (entry, allow_private, told) in [
            ("https://hooks.example.com/s3gredo", false, "must be name=https"),
            ("vend as=https://hooks.example.com/s3gredo", false, "needs a name"),
            ("vendas=hooks.example.com/s3gredo", false, "has no URL"),
            ("vendas=ftp://hooks.example.com/s3gredo", true, "is not https"),
            ("vendas=http://10.0.0.7/s3gredo", false, "only with SLUICE_ALERT_ALLOW_PRIVATE=true"),
            ("vendas=https://localhost/s3gredo", false, "is this machine"),
        ] {
            let problem = target(entry, allow_private).expect_err(entry);
            assert!(problem.contains(told) && !problem.contains("s3gredo"), "{problem}");
        }
        assert!(target("vendas=https://hooks.example.com/a=b", false).is_ok());
        assert!(target("vendas=http://10.0.0.7/a", true).is_ok());
    }
}
