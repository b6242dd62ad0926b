//! What something that is written to is, whatever its name says.
//!
//! A topic that is deleted and made anew, a database that is emptied or restored, an index that is recreated all keep
//! their names. Offsets, marks and consumer groups are therefore bound to identities: where one changes, what was
//! remembered of the old one counts for nothing, and reading begins anew.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One thing that is written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Where it is: it stays when the thing there is replaced.
    pub place: String,
    /// What is there now; empty where nothing but the place tells it apart.
    pub id: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id.is_empty() { f.write_str(&self.place) } else { write!(f, "{}/{}", self.place, self.id) }
    }
}

/// The consumer group in which a sink of these identities reads a log. Any other log, store or index reads in a group
/// of its own, from the beginning, and takes no partition away from this one.
pub fn group_name(base: &str, log: &Identity, sink: &[Identity]) -> String {
    let mut digest = Sha256::new();
    digest.update(log.to_string());
    for identity in sink {
        digest.update([0]);
        digest.update(identity.to_string());
    }
    let digest = digest.finalize();
    let short = u64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ]);
    format!("{base}.{short:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(place: &str, id: &str) -> Identity {
        Identity { place: place.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn a_group_belongs_to_one_log_and_one_sink() {
        let log = identity("cluster/eventos", "a");
        let sink = [identity("host/leads", "1"), identity("host/eventos", "2")];
        let name = group_name("sluice.elasticsearch", &log, &sink);
        assert!(name.starts_with("sluice.elasticsearch.") && name.len() == 37, "{name}");
        assert_eq!(name, group_name("sluice.elasticsearch", &log, &sink));
        let anew = identity("cluster/eventos", "b");
        assert_ne!(name, group_name("sluice.elasticsearch", &anew, &sink), "a topic made anew");
        let replaced = [identity("host/leads", "3"), identity("host/eventos", "2")];
        assert_ne!(name, group_name("sluice.elasticsearch", &log, &replaced), "an index made anew");
    }
}
