//! Which connections are open, and which of them goes when there is no room for another.
//!
//! A connection is held by the address it comes from until a request on it was let in, from then on by that request's
//! sender. Nobody holds more than a client may. What is at work for somebody let in is never cut; everything else is
//! there only as long as nobody needs its place, and those give way first who hold the most.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::mcp::principal::{Principal, canonical};

/// Every open connection.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    most_per_client: usize,
    table: Mutex<Table>,
    cut: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    held: HashMap<Holder, usize>,
    /// Counts up; the next connection's number, and the time as far as anything here needs it.
    clock: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    /// Nothing sent from there was let in so far.
    Unknown(IpAddr),
    Client(Principal),
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    /// Whether a request that was let in is being answered.
    busy: bool,
    /// Since when it is as it is.
    since: u64,
    cut: CancellationToken,
}

/// Every connection is at work for a client that was let in.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("as many connections are open as may be, see SLUICE_HTTP_MAX_CONNECTIONS; try again later")]
pub(super) struct Full;

/// One client holds as many connections as it may, each at work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} requests of this client are open at once, see SLUICE_HTTP_MAX_CONNECTIONS_PER_CLIENT; end some, or wait for \
     them"
)]
pub(super) struct TooManyOpen(usize);

/// An open connection, for whoever drives it; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    connections: Arc<Connections>,
    cut: CancellationToken,
}

/// The connection a request came by; it may be gone by now.
#[derive(Debug, Clone)]
pub(super) struct Link {
    id: u64,
    connections: Arc<Connections>,
}

/// Keeps a connection from being cut until its answer has been sent.
#[derive(Debug)]
pub(super) struct AtWork(Link);

impl Connections {
    pub(super) fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_per_client,
            table: Mutex::default(),
            cut: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Takes in a new connection, in the place of another where there is no more room.
    pub(super) fn open(self: &Arc<Self>, from: IpAddr) -> Result<Connection, Full> {
        let mut table = self.lock();
        let holder = Holder::Unknown(canonical(from));
        if table.held_by(&holder) >= self.most_per_client {
            self.cut_one(&mut table, |entry| entry.holder == holder);
        }
        if table.entries.len() >= self.most && !self.cut_one(&mut table, |_| true) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        let id = table.tick();
        let cut = CancellationToken::new();
        table.take(&holder);
        table.entries.insert(id, Entry { holder, busy: false, since: id, cut: cut.clone() });
        Ok(Connection { id, connections: self.clone(), cut })
    }

    /// Makes room where the system has no more of it. `false` when there is nothing to cut.
    pub(super) fn make_room(&self) -> bool {
        self.cut_one(&mut self.lock(), |_| true)
    }

    /// Cuts whatever waits for nobody who was let in.
    pub(super) fn cut_unknown(&self) {
        while self.cut_one(&mut self.lock(), |entry| matches!(entry.holder, Holder::Unknown(_))) {}
    }

    pub(super) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// How many were cut to make room so far, and how many found none.
    pub(super) fn crowded_out(&self) -> (u64, u64) {
        (self.cut.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    fn cut_one(&self, table: &mut Table, among: impl Fn(&Entry) -> bool) -> bool {
        let Some(id) = table.dispensable(among) else { return false };
        if let Some(entry) = table.remove(id) {
            entry.cut.cancel();
        }
        self.cut.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn held_by(&self, holder: &Holder) -> usize {
        self.held.get(holder).copied().unwrap_or_default()
    }

    fn take(&mut self, holder: &Holder) {
        *self.held.entry(holder.clone()).or_default() += 1;
    }

    fn give_back(&mut self, holder: &Holder) {
        if let Some(count) = self.held.get_mut(holder) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(holder);
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.give_back(&entry.holder);
        Some(entry)
    }

    /// What goes first: of whoever holds the most, what has done nothing for the longest time.
    fn dispensable(&self, among: impl Fn(&Entry) -> bool) -> Option<u64> {
        let idle = self.entries.iter().filter(|(_, entry)| !entry.busy && among(entry));
        idle.max_by_key(|(_, entry)| (self.held_by(&entry.holder), Reverse(entry.since))).map(|(id, _)| *id)
    }
}

impl Connection {
    /// Done once the connection has to go.
    pub(super) fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    pub(super) fn link(&self) -> Link {
        Link { id: self.id, connections: self.connections.clone() }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lock().remove(self.id);
    }
}

impl Link {
    /// Notes that a request of this client's was let in, and is being answered until what this returns is dropped.
    pub(super) fn admit(&self, principal: &Principal) -> Result<AtWork, TooManyOpen> {
        let most = self.connections.most_per_client;
        let mut table = self.connections.lock();
        let since = table.tick();
        let holder = Holder::Client(principal.clone());
        let Some(before) = table.entries.get(&self.id).map(|entry| entry.holder.clone()) else {
            // It was cut meanwhile: whatever the answer, nobody reads it.
            return Ok(AtWork(self.clone()));
        };
        if before != holder {
            let others = |entry: &Entry| entry.holder == holder;
            if table.held_by(&holder) >= most && !self.connections.cut_one(&mut table, others) {
                return Err(TooManyOpen(most));
            }
            table.give_back(&before);
            table.take(&holder);
        }
        if let Some(entry) = table.entries.get_mut(&self.id) {
            (entry.holder, entry.busy, entry.since) = (holder, true, since);
        }
        Ok(AtWork(self.clone()))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut table = self.0.connections.lock();
        let since = table.tick();
        if let Some(entry) = table.entries.get_mut(&self.0.id) {
            (entry.busy, entry.since) = (false, since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn token(name: &str) -> Principal {
        Principal::Token(name.into())
    }

    fn is_cut(connection: &Connection) -> bool {
        connection.cut().is_cancelled()
    }

    #[test]
    fn an_address_that_opens_too_many_loses_its_oldest_and_nobody_elses() {
        let connections = Connections::new(10, 2);
        let other = connections.open(from(2)).expect("room");
        let opened: Vec<Connection> = (0..5).map(|_| connections.open(from(1)).expect("room")).collect();
        assert_eq!(opened.iter().map(is_cut).collect::<Vec<_>>(), [true, true, true, false, false]);
        assert!(!is_cut(&other));
        assert_eq!(connections.count(), 3);
        assert_eq!(connections.crowded_out(), (3, 0));
    }

    #[test]
    fn whoever_holds_the_most_makes_room_for_a_newcomer() {
        let connections = Connections::new(4, 3);
        let quiet = connections.open(from(1)).expect("room");
        let greedy: Vec<Connection> = (0..3).map(|_| connections.open(from(2)).expect("room")).collect();
        let newcomer = connections.open(from(3)).expect("a place");
        assert!(!is_cut(&quiet) && !is_cut(&newcomer));
        assert_eq!(greedy.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn what_is_at_work_for_a_client_is_never_cut_and_idle_ones_are() {
        let connections = Connections::new(3, 3);
        let open: Vec<Connection> = (0..3).map(|_| connections.open(from(1)).expect("room")).collect();
        let at_work: Vec<AtWork> =
            open.iter().map(|one| one.link().admit(&token("a")).expect("let in")).collect();
        assert_eq!(connections.open(from(2)).expect_err("no room"), Full);
        assert_eq!(connections.crowded_out(), (0, 1));
        drop(at_work);
        assert!(connections.open(from(2)).is_ok());
        assert_eq!(open.iter().map(is_cut).collect::<Vec<_>>(), [true, false, false], "the longest idle");
    }

    #[test]
    fn a_client_has_its_own_share_wherever_it_connects_from() {
        let connections = Connections::new(10, 2);
        let open: Vec<Connection> = (1..=4).map(|last| connections.open(from(last)).expect("room")).collect();
        let admit = |index: usize, name: &str| open[index].link().admit(&token(name));
        let (first, _second) = (admit(0, "a").expect("let in"), admit(1, "a").expect("let in"));
        assert_eq!(admit(2, "a").expect_err("two are at work"), TooManyOpen(2));
        let other = admit(2, "b").expect("another client");
        drop(other);
        // Connections of a proxy carry one client's request after another's.
        drop(first);
        let _again = admit(3, "a").expect("its idle one makes room");
        assert!(is_cut(&open[0]) && !is_cut(&open[1]) && !is_cut(&open[2]));
    }

    #[test]
    fn a_request_on_a_connection_that_was_cut_changes_nothing() {
        let connections = Connections::new(1, 1);
        let gone = connections.open(from(1)).expect("room");
        let link = gone.link();
        let open = connections.open(from(2)).expect("a place");
        drop(link.admit(&token("a")).expect("nobody reads the answer"));
        drop(gone);
        assert_eq!(connections.count(), 1);
        assert_eq!(connections.lock().held.len(), 1);
        drop(open);
        assert!(connections.lock().held.is_empty(), "who holds nothing is forgotten");
    }
}
