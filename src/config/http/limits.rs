//! How much one client, and all of them together, may hold of the HTTP side.

use std::{num::NonZeroU32, time::Duration};

use crate::config::reader::Reader;

/// Unless told otherwise, one client may hold this part of what all may: no client can shut the others out.
const SHARE: usize = 4;

/// Bounds of the HTTP side. A client is a token, or an address while no token was shown or none is needed.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections open at once.
    pub connections: usize,
    pub connections_per_client: usize,
    /// Calls of one client that may be under way at once, tasks included.
    pub calls_per_client: usize,
    /// Sessions open at once, of each transport.
    pub sessions: usize,
    pub sessions_per_client: usize,
    /// Bytes a request's body may have.
    pub body_bytes: usize,
    /// Requests a client may send each second in the long run; `None` for any number.
    pub requests_per_second: Option<NonZeroU32>,
    /// How long a client may take to send a request's head, to send its body, or to take in any of an answer.
    pub io_timeout: Duration,
}

impl HttpLimits {
    pub(super) fn read(read: &mut Reader) -> Self {
        let connections = read.number("SLUICE_HTTP_MAX_CONNECTIONS", 1000, 1..=100_000);
        let sessions = read.number("SLUICE_HTTP_MAX_SESSIONS", 1000, 1..=100_000);
        Self {
            connections,
            connections_per_client: share(read, "SLUICE_HTTP_MAX_CONNECTIONS_PER_CLIENT", connections),
            calls_per_client: read.number("SLUICE_HTTP_MAX_CALLS_PER_CLIENT", 100, 1..=100_000),
            sessions,
            sessions_per_client: share(read, "SLUICE_HTTP_MAX_SESSIONS_PER_CLIENT", sessions),
            body_bytes: read.number("SLUICE_HTTP_MAX_BODY_KIB", 1024, 1..=65_536) * 1024,
            requests_per_second: NonZeroU32::new(read.number(
                "SLUICE_HTTP_REQUESTS_PER_SECOND",
                100,
                0..=100_000,
            )),
            io_timeout: read.seconds("SLUICE_HTTP_IO_TIMEOUT_SECONDS", 30),
        }
    }
}

fn share(read: &mut Reader, name: &str, all: usize) -> usize {
    read.number(name, (all / SHARE).max(1), 1..=all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(changes: &[(&str, &str)]) -> Result<HttpLimits, String> {
        let variables = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut read = Reader::new(variables.collect());
        let limits = HttpLimits::read(&mut read);
        read.finish().map(|()| limits).map_err(|error| error.to_string())
    }

    #[test]
    fn a_client_may_hold_a_quarter_of_what_all_may_unless_told_otherwise() {
        let limits = load(&[("SLUICE_HTTP_MAX_SESSIONS", "20")]).expect("valid settings");
        assert_eq!((limits.sessions, limits.sessions_per_client), (20, 5));
        assert_eq!((limits.connections, limits.connections_per_client), (1000, 250));
        let one = load(&[("SLUICE_HTTP_MAX_SESSIONS", "1"), ("SLUICE_HTTP_MAX_CONNECTIONS", "3")]);
        let one = one.expect("valid settings");
        assert_eq!((one.sessions_per_client, one.connections_per_client), (1, 1), "never none");
        let told = load(&[("SLUICE_HTTP_MAX_SESSIONS", "20"), ("SLUICE_HTTP_MAX_SESSIONS_PER_CLIENT", "20")]);
        assert_eq!(told.expect("valid settings").sessions_per_client, 20);
    }

    #[test]
    fn a_client_may_not_be_allowed_more_than_all_clients_together() {
        for name in ["SLUICE_HTTP_MAX_SESSIONS_PER_CLIENT", "SLUICE_HTTP_MAX_CONNECTIONS_PER_CLIENT"] {
            let text = load(&[(name, "1001")]).expect_err("more than all");
            assert!(text.contains(&format!("{name}: must be a whole number from 1 to 1000")), "{text}");
        }
    }
}
