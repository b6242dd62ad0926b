//! Who was erased: the ledger that everything obeys which reads the log or the source.
//!
//! A key stands in it only as the digest of salt, table and key, so that it tells of a key that is at hand whether it was
//! erased, and of none otherwise.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Table;

/// A key as the ledger has it.
pub type ErasedDigest = [u8; 32];

/// Every erasure of a store, as of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErasureLedger {
    version: Uuid,
    salt: Vec<u8>,
    digests: HashSet<ErasedDigest>,
}

impl ErasureLedger {
    /// `version` is another after each erasure.
    pub fn new(version: Uuid, salt: Vec<u8>, digests: HashSet<ErasedDigest>) -> Self {
        Self { version, salt, digests }
    }

    pub fn version(&self) -> Uuid {
        self.version
    }

    /// Nobody was erased.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether the entity of this key, in its one spelling, was erased.
    pub fn holds(&self, table: Table, key: &str) -> bool {
        !self.digests.is_empty() && self.digests.contains(&Self::digest(&self.salt, table.name(), key))
    }

    /// What stands in the ledger for a key.
    pub fn digest(salt: &[u8], table: &str, key: &str) -> ErasedDigest {
        let mut digest = Sha256::new();
        // Of a length that each store keeps to, so nothing runs into what follows.
        digest.update(salt);
        digest.update(table.as_bytes());
        digest.update(b"\0");
        digest.update(key.as_bytes());
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Catalog;

    #[test]
    fn a_ledger_knows_a_key_in_its_table_and_under_its_salt_only() {
        let table = |name| Catalog::built_in().get(name).expect("a table");
        let (leads, sessions) = (table("leads"), table("chat_sessions"));
        let digests = HashSet::from([ErasureLedger::digest(b"salt", "leads", "7")]);
        let ledger = ErasureLedger::new(Uuid::nil(), b"salt".to_vec(), digests.clone());
        assert!(ledger.holds(leads, "7"));
        assert!(!ledger.holds(leads, "8") && !ledger.holds(sessions, "7"));
        assert!(!ErasureLedger::new(Uuid::nil(), b"other".to_vec(), digests).holds(leads, "7"));
        assert!(!ErasureLedger::default().holds(leads, "7"));
    }
}
