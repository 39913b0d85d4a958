//! The reasons why a component is refused, each a sentence for the person who wrote or copied it.

use serde::Serialize;
use taskhost_core::fault::Fault;
use time::OffsetDateTime;

/// A file or version that was refused for a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The file, or another source.
    pub file: String,
    /// SHA-256 of its bytes, if they could be read.
    pub digest: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// The last time it was refused.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// Why a component is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The file is larger than any component may be.
    #[error("the file has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Its size, or the number of bytes that were read.
        bytes: u64,
        /// What is allowed.
        bytes_max: usize,
    },
    /// The bytes are something else than a component.
    #[error("it is not a WebAssembly component but {found}")]
    NotAComponent {
        /// What they are.
        found: String,
    },
    /// The component is damaged, or uses features that this host doesn't support.
    #[error("it does not compile: {reason}")]
    DoesNotCompile {
        /// What the compiler says.
        reason: String,
    },
    /// It is a component of another world.
    #[error("it is not a plugin for this host: {reason}")]
    OtherWorld {
        /// Which import or export is wrong.
        reason: String,
    },
    /// It needs more than the limits allow, before it is even asked.
    #[error("it needs more than a plugin may use: {reason}")]
    OverLimit {
        /// Which limit.
        reason: String,
    },
    /// `configure` refused the route's configuration.
    #[error("it refuses the route's configuration: {reason}")]
    Configuration {
        /// What the plugin says.
        reason: String,
    },
    /// `configure` failed.
    #[error("it faults when it is configured: {}", fault.reason)]
    Faulty {
        /// How.
        fault: Fault,
    },
    /// Its description contradicts itself.
    #[error("its description is wrong: {}", problems.join("; "))]
    Description {
        /// Every problem found.
        problems: Vec<String>,
    },
    /// It doesn't fit the route.
    #[error("it does not fit the route: {reason}")]
    Route {
        /// Which topic is missing where.
        reason: String,
    },
    /// It was active on this route before and was replaced.
    #[error(
        "this version has been replaced on this route, and a file does not bring it back; \
         `taskhost plugin activate {route} --digest {digest}` does"
    )]
    Superseded {
        /// The route's name.
        route: String,
        /// The version's digest.
        digest: String,
    },
    /// It was active on this route before, tripped its breaker on probation and was rolled back.
    #[error(
        "this version was rolled back on this route at {since} (activation {activation}): {reason}; \
         `taskhost plugin activate {route} --digest {digest} --force` lets it decide all the same"
    )]
    RolledBack {
        /// The route's name.
        route: String,
        /// The version's digest.
        digest: String,
        /// The activation that tripped the breaker.
        activation: i64,
        /// When (RFC 3339).
        since: String,
        /// Why.
        reason: String,
    },
    /// The trouble is with the machine, not with the component: worth trying again.
    #[error("the host could not try it: {reason}")]
    Machine {
        /// What was missing.
        reason: String,
    },
}

impl Refused {
    /// Whether the same bytes will be refused again.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Machine { .. })
    }

    /// Whether an incompletely written file can cause this refusal.
    pub fn looks_half_written(&self) -> bool {
        matches!(
            self,
            Self::NotAComponent { .. } | Self::DoesNotCompile { .. }
        )
    }
}
