//! Errors of librdkafka's as errors of Kafka.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::log::{Disposition, Error};

impl Error {
    pub(crate) fn code(doing: &'static str, code: RDKafkaErrorCode) -> Self {
        Self::new(doing, disposition(code), code.to_string())
    }

    /// With the topic that it is about.
    pub(crate) fn topic(doing: &'static str, code: RDKafkaErrorCode, topic: &str) -> Self {
        Self::new(doing, disposition(code), format!("{topic}: {code}"))
    }

    pub(crate) fn kafka(doing: &'static str, error: &KafkaError) -> Self {
        let kind = match error {
            KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => {
                Disposition::Configuration
            }
            KafkaError::AdminOp(code) => disposition(*code),
            KafkaError::Transaction(error) if error.is_fatal() => match disposition(error.code()) {
                // A refusal also makes the client unusable, but somebody can correct it.
                Disposition::Authorization => Disposition::Authorization,
                _ => Disposition::Fatal,
            },
            other => other
                .rdkafka_error_code()
                .map_or(Disposition::Trouble, disposition),
        };
        let reason = match error {
            // The value may be a secret.
            KafkaError::ClientConfig(_, reason, name, _) => {
                return Self::new(doing, kind, format!("{name}: {}", without_value(reason)));
            }
            KafkaError::Transaction(error) => error.string(),
            other => other.to_string(),
        };
        Self::new(doing, kind, reason)
    }
}

/// librdkafka quotes the value that it refuses.
fn without_value(reason: &str) -> &str {
    reason
        .split(['"', '\''])
        .next()
        .unwrap_or_default()
        .trim_end()
}

fn disposition(code: RDKafkaErrorCode) -> Disposition {
    use RDKafkaErrorCode as C;
    match code {
        C::Fatal | C::Fenced | C::ProducerFenced | C::InvalidProducerEpoch | C::BrokerDestroy => {
            Disposition::Fatal
        }
        C::Authentication
        | C::SaslAuthenticationFailed
        | C::TopicAuthorizationFailed
        | C::GroupAuthorizationFailed
        | C::ClusterAuthorizationFailed
        | C::TransactionalIdAuthorizationFailed => Disposition::Authorization,
        C::InconsistentGroupProtocol => Disposition::OtherConsumer,
        C::UnknownTopic | C::UnknownPartition | C::UnknownTopicOrPartition => {
            Disposition::UnknownTopic
        }
        C::InvalidArgument
        | C::InvalidTopic
        | C::InvalidConfig
        | C::InvalidGroupId
        | C::UnsupportedVersion => Disposition::Configuration,
        _ => Disposition::Trouble,
    }
}
