//! A real Kafka broker: Kafka's jars, run by Java as one KRaft node on loopback.
//!
//! Its directory has the data (`data/`), the settings of the last start, and the log. A start on a directory with data goes on
//! from them, on any ports: clients learn a broker's address when they connect.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::dir_lock::DirLock;
use super::error::{self, Error, Result};
use super::processes::{self, DeathSignal, Process};
use super::{log_file, probe};

/// The variable with the directory of Kafka's jars, if it is not `.tools/kafka/libs` of a checkout.
pub const LIBS_VARIABLE: &str = "TASKHOST_KAFKA_LIBS";

/// An orderly stop takes 0.3 s. What a killed broker loses is the time to recover, not data.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Little memory: 512 MB of heap hold thousands of test partitions; the serial collector and the first compiler alone start
/// fastest and leave the cores to others.
const QUICK: [&str; 4] = [
    "-Xmx512m",
    "-Xms64m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
];

/// The options of Kafka's own `kafka-server-start.sh` and `kafka-run-class.sh` (4.3).
const SUSTAINED: [&str; 6] = [
    "-Xmx1G",
    "-Xms1G",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// Where its lines go, and how many.
const LOG_FLAGS: [&str; 5] = [
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    // These two print every setting of every client and component, a thousand lines a start.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
];

/// Settings that one node needs (a single copy of each internal topic) or that make it quick: few partitions to
/// create, no wait before a group's first assignment, sessions as short as a test wants them.
const SETTINGS: [(&str, &str); 20] = [
    ("process.roles", "broker,controller"),
    ("node.id", "1"),
    ("controller.listener.names", "CONTROLLER"),
    ("offsets.topic.replication.factor", "1"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("transaction.state.log.num.partitions", "4"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    ("share.coordinator.state.topic.num.partitions", "4"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    // The cluster admits a crashed broker again only when its old session has expired: 9 s by default.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    // The default takes a quarter of the heap at once.
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
];

/// The purpose of its Java options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jvm {
    /// Fast start and little memory: for tests, and for a developer's machine.
    Quick,
    /// The options of Kafka's own scripts: slow at first, and far cheaper for each request once the code is compiled.
    Sustained,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// The directory of data, settings and log. Created if it is missing.
    pub dir: PathBuf,
    /// The port for clients; a free one if none is given.
    pub port: Option<u16>,
    /// The directory with Kafka's jars; [`find_libs`] knows the usual places.
    pub libs: PathBuf,
    /// The purpose of its Java options.
    pub jvm: Jvm,
    /// Further broker settings, which override ours.
    pub extra: Vec<(String, String)>,
}

/// A listener in addition to the plaintext one: TLS, SASL or both. Its other settings (key stores, mechanisms) are broker
/// settings that begin with `listener.name.` and its name in lower case.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name: capital letters, digits and underscores.
    pub name: &'static str,
    /// How it is secured: `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`, or `PLAINTEXT`.
    pub protocol: &'static str,
}

/// A broker that runs until it is stopped, killed or dropped (dropping kills it).
#[derive(Debug)]
pub struct Broker {
    options: BrokerOptions,
    port: u16,
    /// The further listeners, each with its port.
    listeners: Vec<(Listener, u16)>,
    process: Process,
    /// Held as long as we may start the service on its directory.
    _lock: DirLock,
}

/// Finds Kafka's jars: where `TASKHOST_KAFKA_LIBS` says, or in `.tools/kafka/libs` of the checkout that holds the
/// current directory or this program.
pub fn find_libs() -> Result<PathBuf> {
    if let Some(named) = env::var_os(LIBS_VARIABLE) {
        let named = PathBuf::from(named);
        return if holds_kafka(&named) {
            Ok(named)
        } else {
            Err(Error::KafkaMissing {
                searched: vec![named],
            })
        };
    }
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    let candidates = || {
        starts
            .iter()
            .flatten()
            .flat_map(|start| start.ancestors())
            .map(|above| above.join(".tools/kafka/libs"))
    };
    candidates()
        .find(|libs| holds_kafka(libs))
        .ok_or_else(|| Error::KafkaMissing {
            searched: candidates().take(1).collect(),
        })
}

impl Broker {
    /// Starts a broker and returns when it serves clients.
    pub fn start(options: BrokerOptions) -> Result<Self> {
        Self::start_with(options, &[])
    }

    /// [`Broker::start`], with further listeners, each on a free port.
    pub fn start_with(options: BrokerOptions, listeners: &[Listener]) -> Result<Self> {
        if !holds_kafka(&options.libs) {
            return Err(Error::KafkaMissing {
                searched: vec![options.libs],
            });
        }
        let java = find_java()?;
        fs::create_dir_all(&options.dir).map_err(error::io("create", &options.dir))?;
        let lock = DirLock::take(&options.dir)?;
        let (port, (listeners, process)) = probe::on_port(options.port, |port| {
            let listeners = with_ports(listeners)?;
            let process = launch(&java, &options, port, &listeners)?;
            Ok((listeners, process))
        })?;
        Ok(Self {
            options,
            port,
            listeners,
            process,
            _lock: lock,
        })
    }

    /// The address for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port for clients, the same after [`Broker::restart`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a further listener; none if there is none of that name.
    pub fn listener(&self, name: &str) -> Option<String> {
        let found = self
            .listeners
            .iter()
            .find(|(listener, _)| listener.name == name);
        found.map(|(_, port)| format!("127.0.0.1:{port}"))
    }

    /// The directory with Kafka's jars.
    pub fn libs(&self) -> &Path {
        &self.options.libs
    }

    /// The log of this run.
    pub fn log(&self) -> PathBuf {
        log_path(&self.options.dir)
    }

    /// The running process: its pid, whether it has ended, signals to it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Stops in good order: partitions are closed, so that the next start has nothing to recover.
    pub fn stop(&mut self) {
        self.process.stop(&[(Signal::SIGTERM, STOP_PATIENCE)]);
    }

    /// Kills it, like a crash.
    pub fn kill(&mut self) {
        self.process.stop(&[]);
    }

    /// Starts it again, on the same port and data, after [`Broker::stop`], [`Broker::kill`] or a crash; one that
    /// still runs is stopped first.
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.process = launch(&find_java()?, &self.options, self.port, &self.listeners)?;
        Ok(())
    }
}

/// A port for each; none is drawn twice, because all are held until the last one is.
fn with_ports(listeners: &[Listener]) -> Result<Vec<(Listener, u16)>> {
    let ports = probe::free_ports(listeners.len())?;
    Ok(listeners.iter().cloned().zip(ports).collect())
}

/// Formats the directory where that is due, starts the broker and waits until it serves.
fn launch(
    java: &Path,
    options: &BrokerOptions,
    port: u16,
    listeners: &[(Listener, u16)],
) -> Result<Process> {
    // Nobody else uses the controller's listener, but it must not get the same port.
    let mut controller = probe::free_port()?;
    while controller == port {
        controller = probe::free_port()?;
    }
    let settings = options.dir.join("server.properties");
    fs::write(&settings, properties(options, port, controller, listeners))
        .map_err(error::io("write", &settings))?;
    format_data(java, options, &settings)?;

    let mut command = kafka(java, options, options.jvm);
    command.arg("kafka.Kafka").arg(&settings);
    let log = log_path(&options.dir);
    log_file::attach(&mut command, &log)?;
    let process = Process::spawn("kafka-broker", command, DeathSignal(Signal::SIGKILL))
        .map_err(error::io("run", java))?;
    processes::until_ready("the Kafka broker", process, log, |_| {
        probe::broker_answers(port)
    })
}

/// Gives a new directory its cluster id. A format that was cut short is done again; one that is done stays.
fn format_data(java: &Path, options: &BrokerOptions, settings: &Path) -> Result<()> {
    let done = options.dir.join("formatted");
    if done.exists() {
        return Ok(());
    }
    // Kafka's cluster id is 16 bytes in base64; hexadecimal digits are some of that alphabet.
    let mut cluster = uuid::Uuid::new_v4().simple().to_string();
    cluster.truncate(21);
    cluster.push('A');
    let mut command = kafka(java, options, Jvm::Quick);
    command
        .args([
            "kafka.tools.StorageTool",
            "format",
            "--ignore-formatted",
            "-t",
            &cluster,
            "-c",
        ])
        .arg(settings);
    let output = processes::run(command).map_err(error::io("run", java))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(Error::Step {
            step: "formatting the Kafka broker's directory",
            status: output.status,
            output: log_file::last_lines(&said),
        });
    }
    fs::write(&done, cluster + "\n").map_err(error::io("write", &done))
}

fn properties(
    options: &BrokerOptions,
    port: u16,
    controller: u16,
    listeners: &[(Listener, u16)],
) -> String {
    let (mut addresses, mut protocols) = (
        format!("PLAINTEXT://127.0.0.1:{port}"),
        "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
    );
    for (Listener { name, protocol }, port) in listeners {
        write!(addresses, ",{name}://127.0.0.1:{port}").ok();
        write!(protocols, ",{name}:{protocol}").ok();
    }
    let own = [
        (
            "listeners",
            format!("{addresses},CONTROLLER://127.0.0.1:{controller}"),
        ),
        ("advertised.listeners", addresses),
        ("listener.security.protocol.map", protocols),
        (
            "controller.quorum.voters",
            format!("1@127.0.0.1:{controller}"),
        ),
        ("log.dirs", options.dir.join("data").display().to_string()),
    ];
    let fixed = SETTINGS.iter().map(|(key, value)| (*key, *value));
    let own = own.iter().map(|(key, value)| (*key, value.as_str()));
    let extra = options
        .extra
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let mut text = String::from("# Written at each start.\n");
    for (key, value) in fixed.chain(own).chain(extra) {
        // If a key occurs twice, the last one counts. A backslash would start an escape.
        writeln!(text, "{key}={}", value.replace('\\', "\\\\")).ok();
    }
    text
}

fn kafka(java: &Path, options: &BrokerOptions, jvm: Jvm) -> Command {
    let mut command = Command::new(java);
    command
        .args(match jvm {
            Jvm::Quick => QUICK.as_slice(),
            Jvm::Sustained => SUSTAINED.as_slice(),
        })
        .args(LOG_FLAGS)
        .arg("-cp")
        .arg(options.libs.join("*"))
        .current_dir(&options.dir)
        // Java would apply flags for other programs, and print them.
        .env_remove("JAVA_TOOL_OPTIONS")
        .env_remove("_JAVA_OPTIONS");
    command
}

fn log_path(dir: &Path) -> PathBuf {
    dir.join("broker.log")
}

fn find_java() -> Result<PathBuf> {
    let home = env::var_os("JAVA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    home.into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("java"))
        .find(|java| java.is_file())
        .ok_or(Error::JavaMissing)
}

fn holds_kafka(libs: &Path) -> bool {
    let entries = fs::read_dir(libs).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        name.starts_with("kafka_2.") && name.ends_with(".jar")
    })
}
