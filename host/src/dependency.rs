//! What a host can't do without, and how it is called.

/// A service that every host needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The brokers.
    Kafka,
    /// Postgres.
    Postgres,
}

impl Dependency {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Kafka];

    /// Its name in metrics and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
        }
    }

    /// Its name in health reports.
    #[must_use]
    pub fn health_name(self) -> &'static str {
        match self {
            Self::Postgres => "database",
            Self::Kafka => "kafka",
        }
    }
}
