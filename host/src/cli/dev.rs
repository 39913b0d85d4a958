//! `taskhost dev`: the host with a broker and a database of its own.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{EXIT_CODES, Failure, Global, serve};
use crate::config::Config;
use crate::dev::{
    Broker, BrokerOptions, DevEnv, Lease, Postgres, PostgresOptions, broker, env_file,
};

/// Run the host with a Kafka and a Postgres of its own, for trying things out on this machine.
///
/// A KAFKA_BROKERS or DATABASE_URL that is set is used instead. Data is kept in .taskhost/, so a second
/// start goes on where the first stopped. Ctrl-C ends everything.
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

/// What runs beside the host, in the order in which it ends.
struct Services {
    broker: Option<Broker>,
    postgres: Option<Postgres>,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let failed = |error: crate::dev::Error| Failure::Failed(error.to_string());
    let mut loaded = global.load_with(&[])?;
    let (own_broker, own_postgres) = (
        !loaded.origins.is_set("kafka.brokers"),
        !loaded.origins.is_set("database.url"),
    );
    let (plugins_set, cache_set, http_set) = (
        loaded.origins.is_set("plugins.dir"),
        loaded.origins.is_set("plugins.cache_dir"),
        loaded.origins.is_set("http.addr"),
    );
    let dir =
        std::path::absolute(env_file::DIR).map_err(|error| Failure::Failed(error.to_string()))?;
    let lease = Lease::take(&dir).map_err(failed)?;
    let mut services = Services {
        broker: None,
        postgres: None,
    };
    let mut env: Vec<(&str, String)> = Vec::new();
    if own_broker {
        eprintln!("starting a Kafka broker …");
        let libs = broker::find_libs().map_err(failed)?;
        let options = BrokerOptions {
            dir: lease.dir().join("kafka"),
            port: arguments.kafka_port,
            libs,
            extra: Vec::new(),
        };
        let started = Broker::start(options).map_err(failed)?;
        env.push(("KAFKA_BROKERS", started.bootstrap()));
        services.broker = Some(started);
    }
    if own_postgres {
        eprintln!("starting a Postgres …");
        let options = PostgresOptions {
            dir: lease.dir().join("postgres"),
            port: arguments.postgres_port,
            sync: true,
            extra: Vec::new(),
        };
        let started = Postgres::start(options).map_err(failed)?;
        started.create_database(DATABASE).map_err(failed)?;
        env.push(("DATABASE_URL", started.url(DATABASE)));
        services.postgres = Some(started);
    }
    if !plugins_set && Path::new(BUILT_PLUGINS).is_dir() {
        env.push(("TASKHOST_PLUGINS_DIR", BUILT_PLUGINS.to_owned()));
    }
    if !cache_set {
        env.push((
            "TASKHOST_PLUGINS_CACHE_DIR",
            lease.dir().join("cache").display().to_string(),
        ));
    }
    match arguments.port {
        Some(port) => env.push(("HTTP_ADDR", format!("127.0.0.1:{port}"))),
        None if !http_set => env.push(("HTTP_ADDR", "127.0.0.1:0".to_owned())),
        None => {}
    }
    loaded = global.load_with(&env)?;
    let config = serve::begin(loaded)?;
    let told = tell(&config, &lease);
    let result = serve::serve(config, told);
    drop(lease);
    services.stop();
    result
}

/// Writes and prints where everything is, once the host's address is known.
fn tell<'a>(config: &Config, lease: &'a Lease) -> impl FnOnce(std::net::SocketAddr) + Send + 'a {
    let kafka_brokers = config.kafka.brokers.join(",");
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
                "\n  Kafka     {}\n  Postgres  {}\n  HTTP      {}\n  plugins   {plugins}\n  \
                 All of it stands in {}; the other commands find it there:\n  \
                 taskhost publish-new-task, taskhost test-task-updates, taskhost task list\n  \
                 Ctrl-C ends everything.\n",
                env.kafka_brokers,
                env.database_url,
                env.taskhost_url,
                path.display()
            ),
            Err(error) => {
                tracing::error!(%error, "the commands won't find this host by themselves")
            }
        }
    }
}

impl Services {
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
