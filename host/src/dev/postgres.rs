//! A private Postgres: a cluster of the installed binaries, on loopback, with its own password.
//!
//! Its directory has the cluster (`data/`), the password and the log. Postgres refuses to run as root, so for root the server
//! runs as the user `postgres` (see `account` for the directory of the cluster). A killed server leaves `postmaster.pid`
//! behind. The start checks whether that process is still this cluster's server, and otherwise removes the file. So a crash
//! never prevents the next start.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::account::Account;
use super::dir_lock::DirLock;
use super::error::{self, Error, Result};
use super::processes::{self, DeathSignal, Process};
use super::{log_file, probe};

/// How long a server may take to end after its parent was killed. It is signalled at once.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(15);

/// An orderly stop that disconnects clients, then one that leaves the rest to recovery.
const STOP_STEPS: [(Signal, Duration); 2] = [
    (Signal::SIGINT, Duration::from_secs(20)),
    (Signal::SIGQUIT, Duration::from_secs(5)),
];

/// The cluster's superuser, which [`Postgres::url`] names.
const USER: &str = "postgres";

/// What to start.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The directory of the cluster and its log. Created if it is missing.
    pub dir: PathBuf,
    /// The port; a free one if none is given.
    pub port: Option<u16>,
    /// Whether commits reach the disk before they are acknowledged. With false, a crash of the server still loses nothing,
    /// but a crash of the machine may damage the whole cluster: for tests only.
    pub sync: bool,
    /// Further server settings, such as `max_connections`.
    pub extra: Vec<(String, String)>,
}

/// A server that runs until it is stopped, killed or dropped (dropping kills it).
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    options: PostgresOptions,
    port: u16,
    process: Process,
    /// Held as long as we may start the service on its directory.
    _lock: DirLock,
}

/// The directory of a cluster, its binaries, and the user that runs it.
#[derive(Debug)]
struct Cluster {
    bin: PathBuf,
    account: Option<Account>,
    /// Holds `data/` and the password: the directory that was asked for, unless the account can't enter it.
    home: PathBuf,
    password: String,
}

impl Postgres {
    /// Creates the cluster if there is none, starts the server, and returns when it accepts connections.
    pub fn start(options: PostgresOptions) -> Result<Self> {
        fs::create_dir_all(&options.dir).map_err(error::io("create", &options.dir))?;
        let lock = DirLock::take(&options.dir)?;
        let cluster = Cluster::prepare(&options.dir)?;
        let (port, process) =
            probe::on_port(options.port, |port| launch(&cluster, &options, port))?;
        Ok(Self {
            cluster,
            options,
            port,
            process,
            _lock: lock,
        })
    }

    /// The address of a database of this server, password included.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/{database}",
            self.cluster.password, self.port
        )
    }

    /// Creates a database, unless it is there.
    pub fn create_database(&self, name: &str) -> Result<()> {
        let output = self.cluster.run("createdb", |command| {
            command.env("PGPASSWORD", &self.cluster.password).args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                USER,
                "-w",
                "--",
                name,
            ])
        })?;
        // The message is in English, because the tools run with LC_ALL=C.
        if output.status.success()
            || String::from_utf8_lossy(&output.stderr).contains("already exists")
        {
            return Ok(());
        }
        Err(failed_step("creating the database", &output))
    }

    /// The port, the same after [`Postgres::restart`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The log of this run.
    pub fn log(&self) -> PathBuf {
        log_path(&self.options.dir)
    }

    /// The directory of the cluster: the requested one, unless the server's user can't enter it.
    pub fn home(&self) -> &Path {
        &self.cluster.home
    }

    /// The running server: its pid, whether it has ended, signals to it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Stops in good order, after disconnecting its clients.
    pub fn stop(&mut self) {
        self.process.stop(&STOP_STEPS);
    }

    /// Ends it like a crash: nothing more is written, and the next start recovers from the log.
    pub fn kill(&mut self) {
        // The server's own signal for a crash, so that its helpers end too and free the shared memory.
        self.process
            .stop(&[(Signal::SIGQUIT, Duration::from_secs(5))]);
    }

    /// Ends it and removes its cluster.
    pub fn destroy(mut self) -> Result<()> {
        self.kill();
        let home = &self.cluster.home;
        fs::remove_dir_all(home).map_err(error::io("remove", home))
    }

    /// Starts it again, on the same port and data, after [`Postgres::stop`], [`Postgres::kill`] or a crash; one that
    /// still runs is stopped first.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.process = launch(&self.cluster, &self.options, self.port)?;
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    fn prepare(dir: &Path) -> Result<Self> {
        let account = Account::needed()?;
        let home = match &account {
            Some(account) => account.home_for(dir)?,
            None => dir.to_owned(),
        };
        let bin = find_binaries(&home.join("data"))?;
        let mut cluster = Self {
            bin,
            account,
            home,
            password: String::new(),
        };
        cluster.password = if cluster.data().exists() {
            let path = cluster.password_path();
            let text = fs::read_to_string(&path).map_err(error::io("read", &path))?;
            text.trim().to_owned()
        } else {
            cluster.create()?
        };
        Ok(cluster)
    }

    /// Creates the cluster in a temporary directory and moves it to its place when it is complete. Returns its password.
    fn create(&self) -> Result<String> {
        let password = uuid::Uuid::new_v4().simple().to_string();
        let path = self.password_path();
        fs::write(&path, &password).map_err(error::io("write", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(error::io("protect", &path))?;
        if let Some(account) = &self.account {
            account.own(&path)?;
        }
        let new = self.home.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(error::io("remove", &new))?;
        }
        let output = self.run("initdb", |command| {
            command
                .args([
                    "--no-sync",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--auth=scram-sha-256",
                    "-U",
                    USER,
                ])
                .arg("--pwfile")
                .arg(&path)
                .arg("-D")
                .arg(&new)
        })?;
        if !output.status.success() {
            return Err(failed_step("creating the Postgres cluster", &output));
        }
        fs::rename(&new, self.data()).map_err(error::io("rename", &new))?;
        Ok(password)
    }

    /// Runs one of Postgres' tools to its end.
    fn run(
        &self,
        tool: &str,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Output> {
        let mut command = self.command(tool);
        arguments(&mut command);
        processes::run(command).map_err(error::io("run", &self.bin.join(tool)))
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = Command::new(self.bin.join(tool));
        command.current_dir(&self.home).env("LC_ALL", "C");
        // PGPORT, PGDATA, PGOPTIONS and their like are meant for another server.
        for (key, _) in env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"PG"))
        {
            command.env_remove(key);
        }
        if let Some(account) = &self.account {
            account.assume(&mut command);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn password_path(&self) -> PathBuf {
        self.home.join("password")
    }

    fn pid_path(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    /// Removes the files of a killed server; waits for a server that is stopping.
    fn settle_leftover(&self) -> Result<()> {
        let path = self.pid_path();
        let deadline = Instant::now() + LEFTOVER_PATIENCE;
        while let Ok(text) = fs::read_to_string(&path) {
            let pid = text
                .lines()
                .next()
                .and_then(|line| line.trim().parse().ok());
            match pid.filter(|pid| self.is_server(*pid)) {
                None => return fs::remove_file(&path).map_err(error::io("remove", &path)),
                Some(pid) if Instant::now() >= deadline => {
                    return Err(Error::InUse {
                        dir: self.home.clone(),
                        pid: Some(pid),
                    });
                }
                Some(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
        Ok(())
    }

    /// Whether this process is a server of this cluster: a server's working directory is its data directory.
    fn is_server(&self, pid: i32) -> bool {
        let process = Path::new("/proc").join(pid.to_string());
        let Ok(here) = self.data().canonicalize() else {
            return false;
        };
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == here)
    }
}

fn launch(cluster: &Cluster, options: &PostgresOptions, port: u16) -> Result<Process> {
    cluster.settle_leftover()?;
    let mut command = cluster.command("postgres");
    command.arg("-D").arg(cluster.data());
    let mut set = |key: &str, value: &str| {
        command.arg("-c").arg(format!("{key}={value}"));
    };
    set("listen_addresses", "127.0.0.1");
    set("port", &port.to_string());
    set("unix_socket_directories", "");
    if !options.sync {
        set("fsync", "off");
        set("full_page_writes", "off");
    }
    for (key, value) in &options.extra {
        set(key, value);
    }
    let log = log_path(&options.dir);
    log_file::attach(&mut command, &log)?;
    let process = Process::spawn("postgres", command, DeathSignal(Signal::SIGQUIT))
        .map_err(error::io("run", &cluster.bin.join("postgres")))?;
    processes::until_ready("Postgres", process, log, |process| {
        is_ready(&cluster.pid_path(), process.pid())
    })
}

/// The server writes its state to line 8 of its pid file; this is what `pg_ctl --wait` looks at too.
fn is_ready(pid_file: &Path, pid: i32) -> bool {
    let text = fs::read_to_string(pid_file).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    // A standby has another word for "accepts connections".
    lines.next() == Some(&pid.to_string()) && matches!(lines.nth(6), Some("ready" | "standby"))
}

/// The newest binaries, or those of the version that the cluster was made with.
fn find_binaries(data: &Path) -> Result<PathBuf> {
    let mut candidates = Vec::new();
    for version in fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
    {
        let number = version.file_name().to_string_lossy().parse::<u32>();
        candidates.extend(number.map(|number| (number, version.path().join("bin"))));
    }
    candidates.sort_by_key(|(number, _)| *number);
    candidates.retain(|(_, bin)| has_server(bin));
    let version = fs::read_to_string(data.join("PG_VERSION"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    if let Some(position) = candidates
        .iter()
        .position(|(number, _)| Some(*number) == version)
    {
        return Ok(candidates.swap_remove(position).1);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    candidates
        .pop()
        .map(|(_, bin)| bin)
        .or_else(|| env::split_paths(&path).find(|bin| has_server(bin)))
        .ok_or(Error::PostgresMissing)
}

fn has_server(bin: &Path) -> bool {
    ["initdb", "postgres"]
        .map(OsStr::new)
        .iter()
        .all(|tool| bin.join(tool).is_file())
}

fn failed_step(step: &'static str, output: &Output) -> Error {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    Error::Step {
        step,
        status: output.status,
        output: log_file::last_lines(&said),
    }
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("postgres.log")
}
