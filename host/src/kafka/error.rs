//! Errors of Kafka. Branch only on [`Error::disposition`].

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use taskhost_core::breaker::Extent;

/// The result of everything in this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of Kafka or of its client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {reason}")]
pub struct Error {
    /// What was being done, as in "reading the committed offset".
    doing: &'static str,
    /// librdkafka's or the broker's own words.
    reason: String,
    disposition: Disposition,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Trouble of the infrastructure: try again after a pause.
    Trouble,
    /// This client is unusable; create a new one.
    Fatal,
    /// The broker refuses: credentials or access rights are wrong.
    Authorization,
    /// A consumer of another kind is in the group: this one can't join until it has left.
    OtherConsumer,
    /// A topic or partition does not exist.
    UnknownTopic,
    /// A setting or an argument is wrong; another try fails again.
    Configuration,
}

impl Error {
    /// An error, in words.
    pub fn new(doing: &'static str, disposition: Disposition, reason: impl Into<String>) -> Self {
        Self {
            doing,
            reason: reason.into(),
            disposition,
        }
    }

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

    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// How much of Kafka is affected. One broker, one partition's leader or one coordinator may be away alone.
    pub fn extent(&self) -> Extent {
        match self.disposition {
            Disposition::Trouble | Disposition::Fatal => Extent::Unclear,
            Disposition::Authorization
            | Disposition::OtherConsumer
            | Disposition::UnknownTopic
            | Disposition::Configuration => Extent::Own,
        }
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
