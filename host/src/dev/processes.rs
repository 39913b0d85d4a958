//! Child processes that never outlive this one. The terminal's Ctrl-C doesn't reach them before us.
//!
//! Each child gets its own session, so a Ctrl-C at the terminal reaches only the host, which then stops its children in
//! order. Each child also has a death signal: the kernel sends it when the parent ends, even if it is killed. For the kernel,
//! the parent is the *thread* that started the child. So the thread that starts a [`Process`] lives exactly as long as the
//! child: a child started from a pool's thread would die with that thread.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid, getppid, setsid};

use super::error::{Error, Result};
use super::log_file;

/// The signal that the kernel sends to a child whose parent has ended.
#[derive(Debug, Clone, Copy)]
pub struct DeathSignal(pub Signal);

/// A running child. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    state: Arc<State>,
}

/// State shared with the thread that started the child and waits for it.
#[derive(Debug, Default)]
struct State {
    /// Set once, while the child is reaped. As long as it is `None`, the pid still belongs to the child.
    exit: Mutex<Option<ExitStatus>>,
    ended: Condvar,
}

impl Process {
    /// Starts `command` in its own session; `name` is the name of the thread that waits for it.
    pub fn spawn(name: &str, mut command: Command, death: DeathSignal) -> io::Result<Self> {
        die_with_parent(&mut command, death);
        Self::spawn_watched(name, command)
    }

    /// Like [`Process::spawn`], but in our own session and process group, so that it may use the terminal.
    pub fn spawn_attached(
        name: &str,
        mut command: Command,
        death: DeathSignal,
    ) -> io::Result<Self> {
        set_death_signal(&mut command, death, false);
        Self::spawn_watched(name, command)
    }

    fn spawn_watched(name: &str, mut command: Command) -> io::Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let (started, start) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let pid = Pid::from_raw(child.id().cast_signed());
                drop(started.send(Ok(pid)));
                // Waits without reaping, so that the pid can't become another's while someone signals it.
                while let Err(nix::Error::EINTR) =
                    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
                {
                }
                let mut exit = shared.exit();
                *exit = child.wait().ok().or(Some(ExitStatus::default()));
                shared.ended.notify_all();
            })?;
        let pid = start.recv().map_err(io::Error::other)??;
        Ok(Self { pid, state })
    }

    /// The child's process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        *self.state.exit()
    }

    /// Sends a signal, unless the child has ended.
    pub fn signal(&self, signal: Signal) {
        let exit = self.state.exit();
        if exit.is_none() {
            // The child can't be reaped while `exit` is locked, and it is ours, so this can't fail.
            signal::kill(self.pid, signal).ok();
        }
    }

    /// Waits until it ends, at most for `limit`.
    pub fn wait_for(&self, limit: Duration) -> Option<ExitStatus> {
        let exit = self.state.exit();
        let (exit, _) = self
            .state
            .ended
            .wait_timeout_while(exit, limit, |exit| exit.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        *exit
    }

    /// Waits until it ends.
    pub fn wait(&self) -> ExitStatus {
        let mut exit = self.state.exit();
        loop {
            if let Some(status) = *exit {
                return status;
            }
            exit = self
                .state
                .ended
                .wait(exit)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends each signal in turn and waits for the child to end; finally kills it. Returns how it ended.
    pub fn stop(&self, steps: &[(Signal, Duration)]) -> ExitStatus {
        for (signal, patience) in steps {
            self.signal(*signal);
            if let Some(status) = self.wait_for(*patience) {
                return status;
            }
        }
        self.signal(Signal::SIGKILL);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(&[]);
    }
}

impl State {
    fn exit(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a short command to its end, with nothing on its standard input.
pub(super) fn run(mut command: Command) -> io::Result<Output> {
    die_with_parent(&mut command, DeathSignal(Signal::SIGKILL));
    command.stdin(Stdio::null()).output()
}

/// Waits until a service that was just started is `ready`. If it fails, the error has the end of its log.
pub(super) fn until_ready(
    service: &'static str,
    process: Process,
    log: PathBuf,
    ready: impl Fn(&Process) -> bool,
) -> Result<Process> {
    /// Short against a start of 0.2 s (Postgres) to 2 s (Kafka), and long against what a look costs.
    const PAUSE: Duration = Duration::from_millis(20);
    /// A machine that is busy compiling, or a recovery after a crash, takes many times the usual.
    const LIMIT: Duration = Duration::from_secs(120);
    let deadline = Instant::now() + LIMIT;
    while !ready(&process) {
        if let Some(status) = process.wait_for(PAUSE) {
            let tail = log_file::tail(&log);
            return Err(Error::Died {
                service,
                status,
                log,
                tail,
            });
        }
        if Instant::now() >= deadline {
            let tail = log_file::tail(&log);
            return Err(Error::NotReady {
                service,
                after: LIMIT,
                log,
                tail,
            });
        }
    }
    Ok(process)
}

fn die_with_parent(command: &mut Command, death: DeathSignal) {
    set_death_signal(command, death, true);
}

#[expect(
    unsafe_code,
    reason = "pre_exec runs code between fork and exec, where only plain system calls are allowed"
)]
fn set_death_signal(command: &mut Command, death: DeathSignal, own_session: bool) {
    let parent = getpid();
    let prepare = move || {
        if own_session {
            setsid()?;
        }
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(death.0)?;
        #[cfg(not(target_os = "linux"))]
        let _ = death;
        // The parent may have ended before the signal was requested; then the signal would never come.
        if getppid() != parent {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(())
    };
    // SAFETY: `prepare` makes three system calls; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}
