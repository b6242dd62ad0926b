//! Why brokers refuse this client. Its calls only tell that no broker answered in time; its log says that a certificate
//! or a password was refused, so that is heard there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::config::RDKafkaLogLevel;

use super::{PART, client::forward_log, password::Password};
use crate::fault::{Fault, FaultKind};

/// How long a refusal explains what fails: the client repeats the same line every 30 seconds at most.
const EXPLAINS_FOR: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Certificate,
    Credentials,
    Protocol,
}

/// The last refusal that was heard of.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Mutex<Option<(Instant, Refusal)>>,
    password: Arc<Password>,
}

impl Refusals {
    pub(super) fn new(password: Arc<Password>) -> Self {
        Self { last: Mutex::default(), password }
    }

    /// Passes a line of the client's log on.
    pub(super) fn hear(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(refusal) = Refusal::read(facility, message) {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), refusal));
            if refusal == Refusal::Credentials {
                self.password.was_refused();
            }
        }
        forward_log(level, facility, message);
    }

    /// A fault, with the reason for it where a refusal is.
    pub(super) fn explain(&self, fault: Fault) -> Fault {
        let heard = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match heard {
            Some((at, refusal)) if fault.kind == FaultKind::Transient && at.elapsed() < EXPLAINS_FOR => {
                let (reason, advice) = refusal.told();
                Fault::misconfigured(PART, format!("{}: {reason}", fault.message), advice)
            }
            _ => fault,
        }
    }
}

impl Refusal {
    fn read(facility: &str, message: &str) -> Option<Self> {
        let says = |text: &str| message.contains(text);
        // A connection that breaks while it is made is no refusal.
        if facility != "FAIL" || says("Local: ") {
            return None;
        }
        if says("certificate verify failed") {
            Some(Self::Certificate)
        } else if says("SASL authentication error") || says("SASL mechanism") {
            Some(Self::Credentials)
        } else if says("SSL handshake failed") || says("security.protocol") {
            Some(Self::Protocol)
        } else {
            None
        }
    }

    fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Certificate => (
                "the brokers' certificate is not trusted",
                "name the file of the authority that signed it in KAFKA_SSL_CA_LOCATION, and the brokers in \
                 KAFKA_BOOTSTRAP_SERVERS as their certificates do",
            ),
            Self::Credentials => (
                "the brokers refuse the user",
                "check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM",
            ),
            Self::Protocol => (
                "the brokers speak another protocol at this address",
                "check KAFKA_SECURITY_PROTOCOL, and that KAFKA_BOOTSTRAP_SERVERS names the listeners that speak it",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_broken_connections_by_the_clients_own_words() {
        let read = |message: &str| Refusal::read("FAIL", message);
        assert_eq!(
            read(
                "[thrd:ssl]: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker"
            ),
            Some(Refusal::Certificate)
        );
        assert_eq!(
            read(
                "SASL authentication error: Authentication failed during authentication due to invalid credentials"
            ),
            Some(Refusal::Credentials)
        );
        assert_eq!(
            read("SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?"),
            Some(Refusal::Protocol)
        );
        let broken =
            "SASL authentication error: SaslAuthenticateRequest failed: Local: Broker transport failure";
        assert_eq!(read(broken), None);
        assert_eq!(read("Connect to ipv4#127.0.0.1:9092 failed: Connection refused"), None);
        assert_eq!(Refusal::read("GETPID", "certificate verify failed"), None);
    }

    #[test]
    fn only_what_may_pass_is_explained_by_a_refusal() {
        let refusals = Refusals::default();
        let unreachable = || Fault::transient(PART, "listing the topics failed", "look at the brokers");
        assert_eq!(refusals.explain(unreachable()).kind, FaultKind::Transient);
        refusals.hear(RDKafkaLogLevel::Error, "FAIL", "SASL authentication error: invalid credentials");
        let told = refusals.explain(unreachable());
        assert_eq!(told.kind, FaultKind::Misconfigured);
        assert_eq!(told.message, "listing the topics failed: the brokers refuse the user");
        let other = Fault::misconfigured(PART, "no such topic", "make it");
        assert_eq!(refusals.explain(other).message, "no such topic");
    }
}
