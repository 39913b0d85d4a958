//! A host as a process of its own, as it is shipped.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use taskhost::dev::{DeathSignal, Process};

use crate::exec::{Finished, run};
use crate::{PATIENCE, soon};

/// What orchestrators give a process between SIGTERM and SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The log lines that are shown when a test fails.
const SHOWN_LINES: usize = 80;

/// How a host will be started.
#[derive(Clone, Debug)]
pub struct HostBuilder {
    dir: PathBuf,
    log: PathBuf,
    environment: BTreeMap<String, String>,
}

impl HostBuilder {
    pub(crate) fn new(dir: &Path, number: u32, mut environment: BTreeMap<String, String>) -> Self {
        environment.insert("HTTP_ADDR".to_owned(), "127.0.0.1:0".to_owned());
        environment.insert("TASKHOST_LOG_FORMAT".to_owned(), "json".to_owned());
        Self {
            dir: dir.to_owned(),
            log: dir.join(format!("host-{number}.log")),
            environment,
        }
    }

    /// With a variable of its environment set.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// With a variable of its environment not set.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// That dies at a failpoint, `name` or `name:n`.
    #[must_use]
    pub fn failpoint(self, text: &str) -> Self {
        self.env("TASKHOST_FAILPOINT", text)
    }

    /// With a `taskhost.toml`.
    ///
    /// # Panics
    /// If it can't be written.
    #[must_use]
    pub fn config(self, toml: &str) -> Self {
        let path = self.log.with_extension("toml");
        fs::write(&path, toml).expect("the configuration's file");
        self.env("TASKHOST_CONFIG", path.display().to_string())
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn start(self) -> Host {
        let host = self.spawn();
        host.wait_ready();
        host
    }

    /// Starts it and waits for nothing.
    #[must_use]
    pub fn spawn(self) -> Host {
        let (process, log_from) = self.launch();
        Host {
            builder: self,
            process,
            log_from,
        }
    }

    /// Runs it, or another command with its environment, to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        run(self.command(arguments), None)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(host_binary());
        command
            .args(arguments)
            .current_dir(&self.dir)
            .env_clear()
            .envs(&self.environment);
        for name in ["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    fn launch(&self) -> (Process, usize) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the log's file");
        let from = log.metadata().map_or(0, |metadata| metadata.len());
        let mut command = self.command(&["run"]);
        command
            .stdout(log.try_clone().expect("the log's file"))
            .stderr(log);
        let process =
            Process::spawn("taskhost", command, DeathSignal(Signal::SIGKILL)).expect("the host");
        (process, usize::try_from(from).unwrap_or(usize::MAX))
    }
}

/// A running host. It dies with the value; if a test failed by then, the end of its log is shown.
pub struct Host {
    builder: HostBuilder,
    process: Process,
    /// Where this process' lines begin in the log, which a restart continues.
    log_from: usize,
}

/// An answer of the HTTP API.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// What asks the HTTP API; whatever it answers is an answer.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)))
        .build();
    ureq::Agent::new_with_config(config)
}

impl Host {
    /// The address of its HTTP API, as its log tells it.
    #[must_use]
    pub fn address(&self) -> String {
        soon("the HTTP API answers", || {
            self.assert_alive();
            let lines = self.log_lines();
            let line = lines
                .iter()
                .find(|line| line["message"] == "the HTTP API answers")?;
            line["address"].as_str().map(str::to_owned)
        })
    }

    /// Asks its HTTP API, which must answer.
    ///
    /// # Panics
    /// If it doesn't.
    #[must_use]
    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path)
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let mut response = agent()
            .get(format!("http://{}{path}", self.address()))
            .call()?;
        let content_type = response
            .headers()
            .get("content-type")
            .and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default().to_owned(),
            body: response.body_mut().read_to_string()?,
        })
    }

    /// Posts a body of that content type to its HTTP API, which must answer.
    ///
    /// # Panics
    /// If it doesn't.
    #[must_use]
    pub fn post(&self, path: &str, kind: &str, body: &str) -> Answer {
        let mut response = agent()
            .post(format!("http://{}{path}", self.address()))
            .content_type(kind)
            .send(body)
            .unwrap_or_else(|error| panic!("POST {path}: {error}"));
        Answer {
            status: response.status().as_u16(),
            content_type: String::new(),
            body: response.body_mut().read_to_string().expect("a body"),
        }
    }

    /// Waits until `/readyz` says that nothing is missing.
    ///
    /// # Panics
    /// If it ends instead, or doesn't become ready.
    pub fn wait_ready(&self) {
        soon("the host is ready", || {
            self.assert_alive();
            (self.try_get("/readyz").ok()?.status == 200).then_some(())
        });
    }

    /// The partitions that stand still, as its health tells them: topic, number and reason.
    #[must_use]
    pub fn halted(&self) -> Vec<(String, i64, String)> {
        let health = self.get("/api/health/detailed").json();
        let parts = health["details"]["partitions"].as_object().cloned();
        let lists = parts.unwrap_or_default().into_iter();
        lists
            .filter_map(|(_, part)| part.as_array().cloned())
            .flatten()
            .filter(|one| one["state"] == "halted")
            .map(|one| {
                let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                let number = one["partition"].as_i64().expect("a partition's number");
                (text("topic"), number, text("reason"))
            })
            .collect()
    }

    /// Waits until a partition stands still for that reason.
    #[must_use]
    pub fn wait_halted(&self, code: &str) -> (String, i64, String) {
        soon(&format!("a partition halts with {code}"), || {
            let mut all = self.halted();
            all.retain(|(_, _, reason)| reason.starts_with(code));
            all.pop()
        })
    }

    /// Waits until a line of its log holds that text.
    pub fn wait_log(&self, text: &str) {
        soon(&format!("the log says {text:?}"), || {
            let found = self.log().contains(text);
            if !found {
                self.assert_alive();
            }
            found.then_some(())
        });
    }

    /// One sample of its metrics: the value of `name` with exactly these labels.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let listed: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""))
            .collect();
        let mut wanted = listed;
        wanted.sort();
        let text = self.get("/api/metrics").body;
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .find_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                let (found, inner) = series.strip_suffix('}').map_or((series, ""), |series| {
                    series.split_once('{').unwrap_or((series, ""))
                });
                let mut own: Vec<&str> =
                    inner.split(',').filter(|label| !label.is_empty()).collect();
                own.sort_unstable();
                (found == name && own == wanted).then(|| value.parse().ok())?
            })
    }

    /// A counter of its metrics: 0 if it has none such.
    ///
    /// # Panics
    /// If its value is no count.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        let value = self.metric(name, labels).unwrap_or_default().to_string();
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} is {value}, no count"))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// If it doesn't.
    #[must_use]
    pub fn wait_exit(&self) -> ExitStatus {
        self.process.wait_for(PATIENCE).expect("the host ends")
    }

    /// Waits until a failpoint has frozen it.
    ///
    /// # Panics
    /// If it ends instead, or goes on.
    pub fn wait_frozen(&self) {
        soon("the host freezes", || {
            self.assert_alive();
            self.is_frozen().then_some(())
        });
    }

    /// Whether it stands still, by a failpoint or a signal.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The state is the first field behind the name, which ends with the last parenthesis.
        stat.rsplit_once(')')
            .is_some_and(|(_, fields)| fields.trim_start().starts_with('T'))
    }

    /// Stops it as an orchestrator does: SIGTERM, then exit code 0 within 10 s.
    ///
    /// # Panics
    /// If it takes longer or ends otherwise.
    pub fn stop(self) {
        self.terminate();
    }

    /// [`Host::stop`], keeping the value to look at its log or to start it again.
    ///
    /// # Panics
    /// If it takes longer or ends otherwise.
    pub fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait_for(STOP_LIMIT);
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(0),
            "the end after SIGTERM: {status:?}"
        );
    }

    /// Kills it on the spot.
    pub fn kill(&self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait();
    }

    /// Starts it again, as it was, and waits until it is ready. Kills it first if it still runs.
    pub fn restart(&mut self) {
        self.respawn();
        self.wait_ready();
    }

    /// Starts it again and waits for nothing; without the failpoint, if it had one.
    pub fn respawn(&mut self) {
        self.kill();
        self.builder.environment.remove("TASKHOST_FAILPOINT");
        (self.process, self.log_from) = self.builder.launch();
    }

    /// Its log since it was started last.
    #[must_use]
    pub fn log(&self) -> String {
        let all = fs::read(&self.builder.log).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.log_from..).unwrap_or_default()).into_owned()
    }

    /// Its log's lines as JSON; lines that are none are left out.
    #[must_use]
    pub fn log_lines(&self) -> Vec<Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    fn assert_alive(&self) {
        if let Some(status) = self.process.exit_status() {
            panic!("the host ended: {status}");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!(
                "the host's log ({}), its end:\n{}",
                self.builder.log.display(),
                shown.join("\n")
            );
        }
    }
}

/// The host's program: `TASKHOST_BIN`, or the one in the target directory that this program is from.
pub(crate) fn host_binary() -> PathBuf {
    if let Some(path) = env::var_os("TASKHOST_BIN").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let exe = env::current_exe().expect("this program's path");
    let found = exe
        .ancestors()
        .skip(1)
        .map(|dir| dir.join("taskhost"))
        .find(|path| path.is_file());
    found.expect(
        "the host's program: build it with `cargo build --workspace --bins`, or set TASKHOST_BIN",
    )
}
