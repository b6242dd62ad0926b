//! What each Kafka error means for the engine, in one table.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::PART;
use crate::{
    fault::{Fault, FaultKind},
    next_step::NextStep,
    redaction::words,
};

/// Translates an error met while doing `what` (which names its object).
pub(super) fn fault(what: &str, error: &KafkaError) -> Fault {
    // rdkafka has no code for an admin operation's error, although it holds one.
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    };
    let Some(code) = code else {
        return Fault::misconfigured(
            PART,
            format!("{what} failed: {}", words(&error.to_string())),
            "check the KAFKA_ settings; the client refused them or could not be made",
        );
    };
    let (kind, advice) = match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            (FaultKind::Misconfigured, NextStep::Migrate)
        }
        code => {
            let (kind, advice) = verdict(code);
            (kind, advice.into())
        }
    };
    Fault::new(PART, kind, format!("{what} failed: {code}"), advice)
}

/// Whether an error passes by itself, and what an operator should do about it.
fn verdict(code: Code) -> (FaultKind, &'static str) {
    use FaultKind::{Fenced, Misconfigured, Transient};
    match code {
        Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::FencedInstanceId
        | Code::AssignmentLost => {
            (Fenced, "another worker of the group has the partitions now; nothing to do")
        }
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => (
            Misconfigured,
            "check KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
        ),
        Code::SSL => (Misconfigured, "check KAFKA_SECURITY_PROTOCOL and KAFKA_SSL_CA_LOCATION"),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed => (
            Misconfigured,
            "grant this user Read, Write, Describe and Create on the topics, Delete too where SLUICE_LETTERS_RETENTION_DAYS is set, \
             and Read on the consumer groups",
        ),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => (
            Transient,
            "the topic's max.message.bytes was lowered below KAFKA_MAX_MESSAGE_BYTES; raise it again",
        ),
        Code::InvalidReplicationFactor => {
            (Misconfigured, "set KAFKA_REPLICATION_FACTOR to at most the number of brokers")
        }
        Code::InvalidTopic | Code::InvalidPartitions | Code::InvalidConfig | Code::PolicyViolation => {
            (Misconfigured, "check KAFKA_TOPIC, KAFKA_PARTITIONS and the cluster's policies for topics")
        }
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            (Transient, "bring back the brokers that hold the topic's replicas")
        }
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException => (
            Transient,
            "check that the brokers in KAFKA_BOOTSTRAP_SERVERS run and can be reached from here, and that \
                 KAFKA_SECURITY_PROTOCOL is what they speak",
        ),
        _ => (Transient, "it passes by itself as a rule; if it stays, look at the brokers' logs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: Code) -> FaultKind {
        fault("reading eventos", &KafkaError::MessageConsumption(code)).kind
    }

    #[test]
    fn what_passes_is_retried_and_what_needs_a_person_says_so() {
        assert_eq!(kind(Code::AllBrokersDown), FaultKind::Transient);
        assert_eq!(kind(Code::NotLeaderForPartition), FaultKind::Transient);
        assert_eq!(kind(Code::SaslAuthenticationFailed), FaultKind::Misconfigured);
        assert_eq!(kind(Code::UnknownTopicOrPartition), FaultKind::Misconfigured);
        assert_eq!(kind(Code::IllegalGeneration), FaultKind::Fenced);
    }

    #[test]
    fn a_library_that_quotes_a_setting_tells_no_password() {
        crate::redaction::keep("senha-do-kafka");
        let config = rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        let (why, key) = ("Invalid value".to_owned(), "sasl.password".to_owned());
        let quoted = KafkaError::ClientConfig(config, why, key, "senha-do-kafka".to_owned());
        assert!(quoted.to_string().contains("senha-do-kafka"));
        let told = fault("connecting", &quoted).to_string();
        assert!(told.contains("sasl.password ***") && !told.contains("senha"), "{told}");
    }

    #[test]
    fn a_fault_names_what_failed_and_the_next_step() {
        let fault = fault("creating topic eventos", &KafkaError::AdminOp(Code::TopicAuthorizationFailed));
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        assert!(fault.to_string().starts_with("kafka: creating topic eventos failed"), "{fault}");
        assert!(fault.advice.to_string().contains("grant"), "{fault}");
    }
}
