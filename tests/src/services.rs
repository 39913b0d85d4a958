//! A broker and a Postgres of a test's own: to be stopped, killed, frozen, or started with settings of their own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use taskhost::dev::{Broker, BrokerOptions, Jvm, Listener, Postgres, PostgresOptions, broker};
use tempfile::TempDir;

/// Both services, each on a port that it keeps over restarts. They end with the value.
pub struct Services {
    /// Kafka.
    pub broker: Broker,
    /// Postgres.
    pub postgres: Postgres,
    /// Removed last.
    _dir: TempDir,
}

impl Services {
    /// Starts both with the settings of the suite's own.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[], &[])
    }

    /// Starts both with further settings: of the broker, and of Postgres.
    ///
    /// # Panics
    /// If one of them doesn't start.
    #[must_use]
    pub fn with(broker: &[(&str, &str)], postgres: &[(&str, &str)]) -> Self {
        Self::with_listeners(&[], broker, postgres)
    }

    /// [`Services::with`], the broker with further listeners beside the plaintext one.
    ///
    /// # Panics
    /// If one of them doesn't start.
    #[must_use]
    pub fn with_listeners(
        listeners: &[Listener],
        broker: &[(&str, &str)],
        postgres: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("taskhost-own-services-")
            .tempdir()
            .expect("a temporary directory");
        // As root, Postgres runs as another user, who must be able to enter.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the directory");
        let options = BrokerOptions {
            dir: dir.path().join("kafka"),
            port: None,
            libs: broker::find_libs().expect("Kafka's jars"),
            jvm: Jvm::Quick,
            extra: owned(broker),
        };
        let broker = Broker::start_with(options, listeners);
        let postgres = Postgres::start(PostgresOptions {
            dir: dir.path().join("postgres"),
            port: None,
            sync: false,
            extra: owned(postgres),
        });
        Self {
            broker: broker.expect("the broker"),
            postgres: postgres.expect("Postgres"),
            _dir: dir,
        }
    }

    /// The broker's address.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    /// The database `postgres`, as superuser.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.postgres.url("postgres")
    }
}

fn owned(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    settings.iter().map(owned).collect()
}
