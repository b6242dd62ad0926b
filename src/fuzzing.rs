//! What the fuzz targets call: one function a target, which panics when its property does not hold. See `fuzz/README.md`.

use crate::domain::Catalog;
use crate::store::postgres;

/// What the SQL check lets pass reads the same again, and passes again unchanged.
///
/// # Panics
/// When it does not.
pub fn sql_check(text: &str) {
    let Ok(written) = postgres::checked(text, Catalog::built_in()) else { return };
    match postgres::checked(&written, Catalog::built_in()) {
        Ok(again) => assert_eq!(again, written, "written differently the second time; from {text:?}"),
        Err(fault) => panic!("{written:?}, written from {text:?}, is refused: {fault}"),
    }
}

pub use crate::mcp::transport::stdio::framing;
