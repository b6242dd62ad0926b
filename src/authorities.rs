//! Certificate authorities that a setting names, to be trusted besides the system's.

use std::path::Path;

use crate::fault::Fault;

/// The file's text, if it may hold what it should.
///
/// # Errors
/// When it can't be read or holds no certificate.
pub(crate) fn read(part: &'static str, setting: &str, path: &Path) -> Result<Vec<u8>, Fault> {
    let unusable = |problem: &str| {
        Fault::misconfigured(
            part,
            format!("{setting}: {} {problem}", path.display()),
            "name a PEM file of the authority that signed the server's certificate",
        )
    };
    let pem = std::fs::read(path).map_err(|error| unusable(&format!("can't be read: {error}")))?;
    if String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
        Ok(pem)
    } else {
        Err(unusable("holds no certificate"))
    }
}
