//! Errors of Kafka, whoever the client is. Branch only on [`Error::disposition`].

use taskhost_core::breaker::Extent;

/// The result of a call.
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
