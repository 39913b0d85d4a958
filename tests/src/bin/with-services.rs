//! Runs a command beside one Kafka broker and one Postgres, and takes both down when it ends.
//!
//!     with-services -- cargo nextest run
//!
//! The command finds `TEST_KAFKA_BROKERS` and `TEST_DATABASE_URL` (the database `postgres`, as superuser) in its
//! environment. Where one of them is set already, that service is used and none is started. Everything lies in a
//! temporary directory; a signal is passed on to the command; the exit code is the command's.

use std::env;
use std::fs::{self, File, Permissions};
use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use taskhost::dev::{
    Broker, BrokerOptions, DeathSignal, Jvm, Postgres, PostgresOptions, Process, broker,
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

const KAFKA: &str = "TEST_KAFKA_BROKERS";
const DATABASE: &str = "TEST_DATABASE_URL";
const DIR_PREFIX: &str = "taskhost-services-";

/// Tests run side by side, each with a database and pools of its own.
const CONNECTIONS_MAX: &str = "300";

/// What was started, and where. Fields are dropped in order: the directory goes last.
struct Services {
    broker: Option<Broker>,
    postgres: Option<Postgres>,
    /// Held for as long as the directory is in use, so that another run doesn't take it for a leftover.
    _lock: File,
    _dir: TempDir,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let mut arguments = env::args_os()
        .skip(1)
        .skip_while(|argument| argument == "--");
    let program = arguments
        .next()
        .context("usage: with-services [--] COMMAND [ARGUMENT…]")?;

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut next_signal = async || {
        tokio::select! {
            _ = interrupt.recv() => Signal::SIGINT,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hang_up.recv() => Signal::SIGHUP,
        }
    };

    let starting = tokio::task::spawn_blocking(Services::start);
    let services = tokio::select! {
        services = starting => services??,
        // What has been started so far ends with this process.
        signal = next_signal() => std::process::exit(128 + signal as i32),
    };

    let mut command = Command::new(&program);
    command.args(arguments);
    services.export_to(&mut command);
    let process = Process::spawn_attached("command", command, DeathSignal(Signal::SIGTERM))
        .with_context(|| format!("can't run {}", program.display()))?;
    let process = Arc::new(process);

    let waiting = Arc::clone(&process);
    let mut end = tokio::task::spawn_blocking(move || waiting.wait());
    let status = loop {
        tokio::select! {
            status = &mut end => break status?,
            signal = next_signal() => {
                // A Ctrl-C at the terminal has reached the command too; twice would mean "at once".
                if signal != Signal::SIGINT || !std::io::stdin().is_terminal() {
                    process.signal(signal);
                }
            }
        }
    };
    tokio::task::spawn_blocking(move || services.stop()).await?;
    Ok(exit_code(status))
}

impl Services {
    fn start() -> Result<Self> {
        sweep_leftovers(&env::temp_dir());
        let dir = tempfile::Builder::new().prefix(DIR_PREFIX).tempdir()?;
        // As root, Postgres runs as another user, who must be able to enter.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let lock = File::create(dir.path().join("lock"))?;
        lock.lock()?;

        let (broker, postgres) = thread::scope(|scope| {
            let broker = scope.spawn(|| start_unless_set(KAFKA, || start_broker(dir.path())));
            let postgres = start_unless_set(DATABASE, || start_postgres(dir.path()));
            let broker = broker
                .join()
                .unwrap_or_else(|_| bail!("starting the broker panicked"));
            (broker, postgres)
        });
        Ok(Self {
            broker: broker?,
            postgres: postgres?,
            _lock: lock,
            _dir: dir,
        })
    }

    fn export_to(&self, command: &mut Command) {
        if let Some(broker) = &self.broker {
            command.env(KAFKA, broker.bootstrap());
        }
        if let Some(postgres) = &self.postgres {
            command.env(DATABASE, postgres.url("postgres"));
        }
        // For tests that start brokers of their own, and those that run the host as a process.
        if let Ok(libs) = broker::find_libs() {
            command.env(broker::LIBS_VARIABLE, libs);
        }
        if let Some(host) = host_beside_us() {
            command.env("TASKHOST_BIN", host);
        }
    }

    fn stop(mut self) {
        let died = |name: &str, process: &Process, log: PathBuf| {
            if let Some(status) = process.exit_status() {
                eprintln!(
                    "with-services: {name} died while the command ran ({status}); its log says:"
                );
                eprintln!("{}", fs::read_to_string(log).unwrap_or_default());
            }
        };
        if let Some(broker) = &mut self.broker {
            died("the Kafka broker", broker.process(), broker.log());
            // Nobody needs what it would still write.
            broker.kill();
        }
        if let Some(postgres) = self.postgres.take() {
            died("Postgres", postgres.process(), postgres.log());
            if let Err(error) = postgres.destroy() {
                eprintln!("with-services: {error}");
            }
        }
    }
}

fn start_broker(dir: &Path) -> Result<Broker> {
    let libs = broker::find_libs()?;
    Ok(Broker::start(BrokerOptions {
        dir: dir.join("kafka"),
        port: None,
        libs,
        jvm: Jvm::Quick,
        extra: Vec::new(),
    })?)
}

fn start_postgres(dir: &Path) -> Result<Postgres> {
    let extra = vec![("max_connections".to_owned(), CONNECTIONS_MAX.to_owned())];
    Ok(Postgres::start(PostgresOptions {
        dir: dir.join("postgres"),
        port: None,
        sync: false,
        extra,
    })?)
}

fn start_unless_set<T>(variable: &str, start: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let set = env::var_os(variable).is_some_and(|value| !value.is_empty());
    if set { Ok(None) } else { start().map(Some) }
}

/// Removes the directories of runs that were killed: those whose lock nobody holds.
fn sweep_leftovers(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(DIR_PREFIX);
        if ours && File::open(entry.path().join("lock")).is_ok_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// `cargo build --workspace` puts both programs in one directory.
fn host_beside_us() -> Option<PathBuf> {
    let host = env::current_exe().ok()?.with_file_name("taskhost");
    host.is_file().then_some(host)
}

/// As a shell reports it: 128 and the signal's number for what a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
