//! What is measured: a broker, a Postgres, and the host's process on topics and a database of its own.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taskhost::dev::{Broker, BrokerOptions, Postgres, PostgresOptions, broker};
use uuid::Uuid;

/// The services that all rounds share.
pub(crate) struct Stage {
    broker: Broker,
    postgres: Postgres,
    directory: tempfile::TempDir,
    host: PathBuf,
    plugins: PathBuf,
}

/// One host with its own topics and database.
pub(crate) struct Subject {
    child: Child,
    /// The host's plugin directory.
    pub(crate) plugins: PathBuf,
    /// From the process's start until `/readyz` said yes.
    pub(crate) ready_after: Duration,
    url: String,
}

impl Stage {
    pub(crate) fn start(host: Option<PathBuf>, plugins: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let host = match host {
            Some(host) => host,
            None => std::env::current_exe()?.with_file_name("taskhost"),
        };
        anyhow::ensure!(
            host.is_file(),
            "there is no {}; `make build` makes it",
            host.display()
        );
        eprintln!("starting a broker and a Postgres …");
        let broker = Broker::start(BrokerOptions {
            dir: directory.path().join("kafka"),
            port: None,
            libs: broker::find_libs()?,
            extra: Vec::new(),
        })?;
        let postgres = Postgres::start(PostgresOptions {
            dir: directory.path().join("postgres"),
            port: None,
            sync: true,
            extra: Vec::new(),
        })?;
        Ok(Self {
            broker,
            postgres,
            directory,
            host,
            plugins: plugins.to_owned(),
        })
    }

    pub(crate) fn brokers(&self) -> String {
        self.broker.bootstrap()
    }

    /// A built plugin.
    pub(crate) fn plugin(&self, file: &str) -> PathBuf {
        self.plugins.join(file)
    }

    /// Names for a new round.
    pub(crate) fn suffix() -> String {
        Uuid::new_v4().simple().to_string()[..8].to_owned()
    }

    /// Starts the host and waits until it is ready.
    pub(crate) fn run(&self, suffix: &str, config: Option<&str>) -> anyhow::Result<Subject> {
        let database = format!("bench_{suffix}");
        self.postgres.create_database(&database)?;
        let directory = self.directory.path().join(suffix);
        let plugins = directory.join("plugins");
        std::fs::create_dir_all(&plugins)?;
        for (name, target) in [
            ("web_crawl.wasm", "web_crawl.wasm"),
            ("task_status.wasm", "task_status.wasm"),
            ("guest_swap_v1.wasm", "swap.wasm"),
            ("guest_misbehave.wasm", "misbehave.wasm"),
        ] {
            std::fs::copy(self.plugins.join(name), plugins.join(target))
                .with_context(|| format!("{name}: `make plugins` builds it"))?;
        }
        let log = std::fs::File::create(directory.join("host.log"))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let mut command = Command::new(&self.host);
        command
            .arg("run")
            .current_dir(&directory)
            .env("KAFKA_BROKERS", self.brokers())
            .env("DATABASE_URL", self.postgres.url(&database))
            .env("KAFKA_GROUP_ID", format!("bench-{suffix}"))
            .env("TASK_STATUS_TOPIC", format!("task-status-{suffix}"))
            .env("WEB_CRAWL_REQUEST_TOPIC", format!("requests-{suffix}"))
            .env("TASK_EVENTS_TOPIC", format!("events-{suffix}"))
            .env("TASKHOST_EVENTS_TOPIC", format!("life-{suffix}"))
            .env("TASKHOST_PLUGINS_DIR", &plugins)
            // Compiled plugins are kept between the rounds, as they are on a machine that restarts its host.
            .env(
                "TASKHOST_PLUGINS_CACHE_DIR",
                self.directory.path().join("cache"),
            )
            .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
            // As an operator runs it: with it, every error of the engine takes a backtrace of the host, too.
            .env_remove("RUST_BACKTRACE")
            .env_remove("RUST_LIB_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some(config) = config {
            let file = directory.join("taskhost.toml");
            std::fs::write(&file, config)?;
            command.env("TASKHOST_CONFIG", file);
        }
        let began = Instant::now();
        let mut child = command.spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        while ureq::get(format!("{url}/readyz")).call().is_err() {
            if began.elapsed() > Duration::from_secs(60) || child.try_wait()?.is_some() {
                let mut said = String::new();
                std::fs::File::open(directory.join("host.log"))?.read_to_string(&mut said)?;
                bail!("the host is not ready:\n{said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let ready_after = began.elapsed();
        Ok(Subject {
            child,
            plugins,
            ready_after,
            url,
        })
    }
}

impl Subject {
    /// The most memory that the host's process ever had resident, in MiB (`VmHWM`, proc(5)).
    pub(crate) fn memory_peak(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = line
            .context("no VmHWM")?
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()?;
        Ok(kib / 1024.0)
    }

    /// Messages of a topic whose outcome is committed, as the host counts them.
    pub(crate) fn processed(&self, topic: &str) -> anyhow::Result<u64> {
        self.sample("kafka_consumer_messages_processed_total", topic)
    }

    /// Those of them that became dead letters.
    pub(crate) fn failed(&self, topic: &str) -> anyhow::Result<u64> {
        self.sample("kafka_consumer_messages_failed_total", topic)
    }

    fn sample(&self, name: &str, topic: &str) -> anyhow::Result<u64> {
        let text = ureq::get(format!("{}/api/metrics", self.url))
            .call()?
            .body_mut()
            .read_to_string()?;
        let start = format!("{name}{{topic=\"{topic}\"}} ");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .context("no such sample")?;
        Ok(value.trim().parse()?)
    }

    /// Ends the host as an orchestrator does; it has to exit with 0.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        kill(
            Pid::from_raw(i32::try_from(self.child.id())?),
            Signal::SIGTERM,
        )?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "the host ended with {status}");
        Ok(())
    }
}
