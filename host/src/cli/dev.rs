//! `taskhost dev`: the host with its own broker and database.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{EXIT_CODES, Failure, Global, serve};
use crate::config::{Config, Loaded};
use crate::dev::{
    Broker, BrokerOptions, DevEnv, Jvm, Lease, Postgres, PostgresOptions, broker, env_file,
};

/// Run the host with its own Kafka and Postgres, to try things out on this machine.
///
/// If KAFKA_BROKERS or DATABASE_URL is set, that service is used instead. Data is kept in .taskhost/, so a second
/// start goes on where the first stopped. Ctrl-C stops everything.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dev --port 3000\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// Port of the HTTP API; a free one if none is given.
    #[arg(long)]
    port: Option<u16>,
    /// Port of the broker; a free one if none is given.
    #[arg(long, value_name = "PORT")]
    kafka_port: Option<u16>,
    /// Port of Postgres; a free one if none is given.
    #[arg(long, value_name = "PORT")]
    postgres_port: Option<u16>,
}

/// The database of the host within its Postgres.
const DATABASE: &str = "taskhost";

/// Where `make plugins` puts components, seen from the checkout.
const BUILT_PLUGINS: &str = "plugins/target/wasm32-wasip2/release";

/// The processes beside the host, in the order in which they end.
struct Services {
    broker: Option<Broker>,
    postgres: Option<Postgres>,
}

/// A host that was killed leaves a member in the group until its session expires. With one host and its own broker,
/// the usual 30 s are not needed.
const SESSION: [(&str, &str, &str); 2] = [
    ("kafka.session_timeout", "KAFKA_SESSION_TIMEOUT", "6000"),
    (
        "kafka.heartbeat_interval",
        "KAFKA_HEARTBEAT_INTERVAL",
        "1000",
    ),
];

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let failed = |error: crate::dev::Error| Failure::Failed(error.to_string());
    let configured = global.load()?;
    let dir =
        std::path::absolute(env_file::DIR).map_err(|error| Failure::Failed(error.to_string()))?;
    let lease = Lease::take(&dir).map_err(failed)?;
    let mut env = Vec::new();
    let mut services = Services::start(arguments, &configured, &lease, &mut env).map_err(failed)?;
    defaults(arguments, &configured, &lease, &mut env);
    let config = serve::begin(global.load_with(&env)?)?;
    let told = tell(&config, &lease);
    let result = serve::serve(config, told);
    drop(lease);
    services.stop();
    result
}

/// Better defaults for a host on its own broker, for settings that are not set.
fn defaults(
    arguments: &Arguments,
    configured: &Loaded,
    lease: &Lease,
    env: &mut Vec<(&'static str, String)>,
) {
    let is_set = |key| configured.origins.is_set(key);
    if !is_set("plugins.dir") && Path::new(BUILT_PLUGINS).is_dir() {
        env.push(("TASKHOST_PLUGINS_DIR", BUILT_PLUGINS.to_owned()));
    }
    if !is_set("plugins.cache_dir") {
        let cache = lease.dir().join("cache").display().to_string();
        env.push(("TASKHOST_PLUGINS_CACHE_DIR", cache));
    }
    if !SESSION.iter().any(|(key, _, _)| is_set(key)) {
        env.extend(SESSION.map(|(_, variable, value)| (variable, value.to_owned())));
    }
    match arguments.port {
        Some(port) => env.push(("HTTP_ADDR", format!("127.0.0.1:{port}"))),
        None if !is_set("http.addr") => env.push(("HTTP_ADDR", "127.0.0.1:0".to_owned())),
        None => {}
    }
}

/// Prints all addresses and writes them to the file, once the host's address is known.
fn tell<'a>(config: &Config, lease: &'a Lease) -> impl FnOnce(std::net::SocketAddr) + Send + 'a {
    let kafka_brokers = config.kafka.brokers.join(",");
    // The terminal must not show the password. The file has it, and only this user can read the file.
    let database_shown = config
        .database_url()
        .map(crate::config::DatabaseUrl::masked)
        .unwrap_or_default();
    let database_url = config
        .database_url()
        .map(|url| url.expose().to_owned())
        .unwrap_or_default();
    let plugins = config.plugins.dir.display().to_string();
    move |address| {
        let env = DevEnv {
            kafka_brokers,
            database_url,
            taskhost_url: format!("http://{address}"),
            taskhost_bin: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("taskhost")),
        };
        match lease.publish(&env) {
            Ok(path) => eprintln!(
                "\n  Kafka     {}\n  Postgres  {database_shown}\n  HTTP      {}\n  plugins   {plugins}\n  \
                 All of it stands in {}; the other commands find it there:\n  \
                 taskhost publish-new-task, taskhost test-task-updates, taskhost task list\n  \
                 Ctrl-C ends everything.\n",
                env.kafka_brokers,
                env.taskhost_url,
                path.display()
            ),
            Err(error) => {
                tracing::error!(%error, "the file for the other commands can't be written; they won't find this host by themselves")
            }
        }
    }
}

impl Services {
    /// Starts the services that the configuration doesn't name, and adds their addresses.
    fn start(
        arguments: &Arguments,
        configured: &Loaded,
        lease: &Lease,
        env: &mut Vec<(&'static str, String)>,
    ) -> crate::dev::Result<Self> {
        let mut services = Self {
            broker: None,
            postgres: None,
        };
        if !configured.origins.is_set("kafka.brokers") {
            eprintln!("starting a Kafka broker …");
            let broker = Broker::start(BrokerOptions {
                dir: lease.dir().join("kafka"),
                port: arguments.kafka_port,
                libs: broker::find_libs()?,
                jvm: Jvm::Quick,
                extra: Vec::new(),
            })?;
            env.push(("KAFKA_BROKERS", broker.bootstrap()));
            services.broker = Some(broker);
        }
        if !configured.origins.is_set("database.url") {
            eprintln!("starting a Postgres …");
            let postgres = Postgres::start(PostgresOptions {
                dir: lease.dir().join("postgres"),
                port: arguments.postgres_port,
                sync: true,
                extra: Vec::new(),
            })?;
            postgres.create_database(DATABASE)?;
            env.push(("DATABASE_URL", postgres.url(DATABASE)));
            services.postgres = Some(postgres);
        }
        Ok(services)
    }

    fn stop(&mut self) {
        if let Some(broker) = &mut self.broker {
            eprintln!("stopping the broker …");
            broker.stop();
        }
        if let Some(postgres) = &mut self.postgres {
            postgres.stop();
        }
    }
}
