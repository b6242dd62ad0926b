//! Which log a sink is drained from, and which sink that is: what everything remembered of a drain is bound to.

use crate::{
    fault::Fault,
    identity::{Identity, group_name},
    log::Log,
    sink::Sink,
};

/// A log and a sink as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) log: Identity,
    pub(super) sink: Vec<Identity>,
    /// The consumer group of this sink in this log.
    pub(super) group: String,
}

impl Reading {
    /// Asks both. `base` is what the group's name begins with.
    pub(super) async fn of(log: &dyn Log, sink: &dyn Sink, base: &str) -> Result<Self, Fault> {
        let (log, sink) = tokio::try_join!(log.identity(), sink.identities())?;
        let group = group_name(base, &log, &sink);
        Ok(Self { log, sink, group })
    }

    /// What became another since `before`.
    pub(super) fn replaced<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = &'a Identity> {
        let known = |identity: &&Identity| **identity != before.log && !before.sink.contains(identity);
        std::iter::once(&self.log).chain(&self.sink).filter(known)
    }
}
