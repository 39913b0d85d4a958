//! Why a host can't start, or had to end.

use crate::background::Failed;
use crate::config::ConfigErrors;
use crate::{kafka, store};

/// Why the host can't start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Another process has the address, or it is none of this machine's.
    #[error("can't listen on {address}: {source}; set HTTP_ADDR to another address")]
    Listen {
        /// The configured address.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Postgres refuses for a reason that waiting doesn't mend.
    #[error("postgres: {0}")]
    Store(store::Error),
    /// Kafka refuses for a reason that waiting doesn't mend.
    #[error("kafka: {0}")]
    Kafka(#[from] kafka::Error),
    /// Topics are missing and can't be made.
    #[error("{0}")]
    Topics(String),
    /// Routes have no plugin that could decide.
    #[error("{0}")]
    Plugins(String),
    /// A task that the host can't do without failed.
    #[error(transparent)]
    Background(#[from] Failed),
}
