//! What is measured: a broker, a Postgres, and the host's process on topics and a database of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use taskhost::dev::{
    Broker, BrokerOptions, DeathSignal, Jvm, Postgres, PostgresOptions, Process, broker,
};
use uuid::Uuid;

use crate::usage;

/// The services that all rounds share.
pub(crate) struct Stage {
    broker: Broker,
    postgres: Postgres,
    directory: tempfile::TempDir,
    host: PathBuf,
    plugins: PathBuf,
    contenders: PathBuf,
}

/// One host with its own topics and database.
pub(crate) struct Subject {
    process: Process,
    url: String,
    /// The host's plugin directory.
    pub(crate) plugins: PathBuf,
    /// From the process's start until `/readyz` said yes.
    pub(crate) ready_after: Duration,
}

impl Stage {
    pub(crate) fn start(
        host: Option<PathBuf>,
        plugins: &Path,
        contenders: &Path,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let host = match host {
            Some(host) => host,
            None => std::env::current_exe()?.with_file_name("taskhost"),
        };
        anyhow::ensure!(
            host.is_file(),
            "there is no {}; `make bench` builds it",
            host.display()
        );
        eprintln!("starting a broker and a Postgres …");
        let broker = Broker::start(BrokerOptions {
            dir: directory.path().join("kafka"),
            port: None,
            libs: broker::find_libs()?,
            jvm: Jvm::Sustained,
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
            contenders: contenders.to_owned(),
        })
    }

    /// Kafka's jars.
    pub(crate) fn kafka_libs(&self) -> &Path {
        self.broker.libs()
    }

    /// The contenders' directory.
    pub(crate) fn contenders(&self) -> &Path {
        &self.contenders
    }

    /// One of the host's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        match name {
            "taskhost" => self.host.clone(),
            _ => self.host.with_file_name(name),
        }
    }

    /// Processor seconds so far of the broker and of Postgres.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<[f64; 2]> {
        let of = |process: &Process| usage::cpu_seconds(process.pid());
        Ok([of(self.broker.process())?, of(self.postgres.process())?])
    }

    /// A database of a round.
    pub(crate) fn create_database(&self, name: &str) -> anyhow::Result<()> {
        Ok(self.postgres.create_database(name)?)
    }

    /// Where a database is.
    pub(crate) fn database_url(&self, name: &str) -> String {
        self.postgres.url(name)
    }

    /// A directory of a round.
    pub(crate) fn directory(&self, suffix: &str) -> anyhow::Result<PathBuf> {
        let directory = self.directory.path().join(suffix);
        std::fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// The end of what a round's contender wrote to its log.
    pub(crate) fn said(&self, suffix: &str) -> String {
        let directory = self.directory.path().join(suffix);
        let logs = ["contender.log", "host.log"].map(|name| directory.join(name));
        let text = logs
            .iter()
            .find_map(|log| std::fs::read_to_string(log).ok());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Removes what a round left on broker and database.
    pub(crate) fn clear(&self, suffix: &str) -> anyhow::Result<()> {
        crate::load::remove(&self.brokers(), suffix)?;
        crate::database::drop_database(&self.database_url("postgres"), &format!("bench_{suffix}"))
    }

    /// The consumer group of a round.
    pub(crate) fn group(suffix: &str) -> String {
        format!("bench-{suffix}")
    }

    /// `task-status` of a round.
    pub(crate) fn status_topic(suffix: &str) -> String {
        format!("task-status-{suffix}")
    }

    /// `requests-web-crawl` of a round.
    pub(crate) fn request_topic(suffix: &str) -> String {
        format!("requests-{suffix}")
    }

    /// `task-events` of a round.
    pub(crate) fn event_topic(suffix: &str) -> String {
        format!("events-{suffix}")
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
        self.run_program("taskhost", suffix, config)
    }

    /// Starts one of the host's programs and waits until it is ready.
    pub(crate) fn run_program(
        &self,
        program: &str,
        suffix: &str,
        config: Option<&str>,
    ) -> anyhow::Result<Subject> {
        let database = format!("bench_{suffix}");
        self.create_database(&database)?;
        let directory = self.directory(suffix)?;
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
        let mut command = Command::new(self.program(program));
        command
            .arg("run")
            .current_dir(&directory)
            .env("KAFKA_BROKERS", self.brokers())
            .env("DATABASE_URL", self.postgres.url(&database))
            .env("KAFKA_GROUP_ID", Self::group(suffix))
            .env("TASK_STATUS_TOPIC", Self::status_topic(suffix))
            .env("WEB_CRAWL_REQUEST_TOPIC", Self::request_topic(suffix))
            .env("TASK_EVENTS_TOPIC", Self::event_topic(suffix))
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
        let process = Process::spawn("host", command, DeathSignal(Signal::SIGKILL))?;
        let url = format!("http://127.0.0.1:{port}");
        await_ready(&process, &url, &directory.join("host.log"))?;
        let ready_after = began.elapsed();
        Ok(Subject {
            process,
            url,
            plugins,
            ready_after,
        })
    }
}

/// Waits until a host says that it is ready; if it doesn't, the error has what it wrote.
fn await_ready(process: &Process, url: &str, log: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    while ureq::get(format!("{url}/readyz")).call().is_err() {
        if began.elapsed() > Duration::from_secs(60) || process.exit_status().is_some() {
            let said = std::fs::read_to_string(log)?;
            bail!("the host is not ready:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

impl Subject {
    /// The host's process.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// The most memory that the host's process ever had resident, in MiB.
    pub(crate) fn memory_peak(&self) -> anyhow::Result<f64> {
        usage::memory_peak(self.pid())
    }

    /// Messages of a topic that became dead letters, as the host counts them.
    pub(crate) fn failed(&self, topic: &str) -> anyhow::Result<u64> {
        let text = ureq::get(format!("{}/api/metrics", self.url))
            .call()?
            .body_mut()
            .read_to_string()?;
        let start = format!("kafka_consumer_messages_failed_total{{topic=\"{topic}\"}} ");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&start))
            .context("no such sample")?;
        Ok(value.trim().parse()?)
    }

    /// Ends the host as an orchestrator does; it has to exit with 0.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        let status = self
            .process
            .stop(&[(Signal::SIGTERM, Duration::from_secs(30))]);
        anyhow::ensure!(status.success(), "the host ended with {status}");
        Ok(())
    }
}
