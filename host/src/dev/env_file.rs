//! `.taskhost/dev.env`: how other commands, scripts and tests find the `taskhost dev` that runs here.
//!
//! The process that runs `taskhost dev` on a directory holds its lock ([`Lease`]). The lock ends with the process, even if
//! it is killed. So the file of a killed process is known to be stale.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::dir_lock::{self, DirLock};
use super::error::{self, Result};

/// The directory of `taskhost dev` in a checkout.
pub const DIR: &str = ".taskhost";

const FILE: &str = "dev.env";

/// The addresses of a running `taskhost dev`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DevEnv {
    /// `KAFKA_BROKERS`: the broker's address, or several with commas.
    pub kafka_brokers: String,
    /// `DATABASE_URL`: the host's database.
    pub database_url: String,
    /// `TASKHOST_URL`: the host's HTTP address.
    pub taskhost_url: String,
    /// `TASKHOST_BIN`: the program itself.
    pub taskhost_bin: PathBuf,
}

/// The right to run `taskhost dev` on a directory. Dropping it removes the file, then gives up the right.
#[derive(Debug)]
pub struct Lease {
    dir: PathBuf,
    _lock: DirLock,
}

/// A file that was found, and whether its process still runs.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub env: DevEnv,
    /// Whether the `taskhost dev` that wrote it still runs.
    pub running: bool,
}

/// Looks for a `.taskhost/dev.env` in `from` and the directories above it.
pub fn find(from: &Path) -> Result<Option<Found>> {
    for above in from.ancestors() {
        let dir = above.join(DIR);
        let path = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => {
                return Ok(Some(Found {
                    env: parse(&text),
                    running: dir_lock::is_held(&dir),
                    path,
                }));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error::io("read", &path)(error)),
        }
    }
    Ok(None)
}

impl Lease {
    /// Takes the lease on `dir`, and creates the directory if it is missing.
    pub fn take(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(error::io("create", dir))?;
        let lease = Self {
            _lock: DirLock::take(dir)?,
            dir: dir.to_owned(),
        };
        lease.withdraw();
        Ok(lease)
    }

    /// The leased directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the file atomically, and returns its path. Call it once everything that the file names is ready.
    pub fn publish(&self, env: &DevEnv) -> Result<PathBuf> {
        let path = self.dir.join(FILE);
        let new = self.dir.join("dev.env.new");
        // It contains the database's password.
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(error::io("create", &new))?;
        file.write_all(render(env).as_bytes())
            .map_err(error::io("write", &new))?;
        fs::rename(&new, &path).map_err(error::io("write", &path))?;
        Ok(path)
    }

    fn withdraw(&self) {
        // If it can't be removed, the lock still shows that nothing runs.
        fs::remove_file(self.dir.join(FILE)).ok();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl DevEnv {
    fn texts_mut(&mut self) -> [(&'static str, &mut String); 3] {
        [
            ("KAFKA_BROKERS", &mut self.kafka_brokers),
            ("DATABASE_URL", &mut self.database_url),
            ("TASKHOST_URL", &mut self.taskhost_url),
        ]
    }
}

/// One `KEY=value` a line, in a form that a shell reads too.
fn render(env: &DevEnv) -> String {
    let mut text = format!(
        "# Written by `taskhost dev`, process {}; gone when it stops.\n",
        std::process::id()
    );
    let bin = env.taskhost_bin.display().to_string();
    for (key, value) in [
        ("KAFKA_BROKERS", &env.kafka_brokers),
        ("DATABASE_URL", &env.database_url),
        ("TASKHOST_URL", &env.taskhost_url),
        ("TASKHOST_BIN", &bin),
    ] {
        writeln!(text, "{key}={}", quote(value)).ok();
    }
    text
}

fn parse(text: &str) -> DevEnv {
    let mut env = DevEnv::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let value = unquote(value);
        if key == "TASKHOST_BIN" {
            env.taskhost_bin = value.into();
        } else if let Some((_, field)) = env.texts_mut().into_iter().find(|(name, _)| *name == key)
        {
            *field = value;
        }
    }
    env
}

fn quote(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@,=%+".contains(c);
    if value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

fn unquote(value: &str) -> String {
    let inner = value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    inner.map_or_else(|| value.to_owned(), |inner| inner.replace(r"'\''", "'"))
}

#[cfg(test)]
mod tests {
    use super::{DIR, DevEnv, Lease, find};

    fn sample() -> DevEnv {
        DevEnv {
            kafka_brokers: "127.0.0.1:9092,127.0.0.1:9093".into(),
            database_url: "postgres://me:it's@127.0.0.1:5432/db?a=b&c=$d".into(),
            taskhost_url: "http://127.0.0.1:3000".into(),
            taskhost_bin: "/a directory/taskhost".into(),
        }
    }

    #[test]
    fn what_was_published_is_found_from_a_directory_below() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let below = root.path().join("a/b");
        std::fs::create_dir_all(&below).expect("directories");
        let lease = Lease::take(&root.path().join(DIR)).expect("the lease");
        assert!(find(&below).expect("a search").is_none());

        lease.publish(&sample()).expect("the file");
        let found = find(&below).expect("a search").expect("the file");
        assert_eq!(found.env, sample());
        assert!(found.running);

        drop(lease);
        assert!(find(&below).expect("a search").is_none());
    }

    #[test]
    fn a_file_that_a_killed_process_left_is_stale() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join(DIR);
        let path = Lease::take(&dir)
            .and_then(|lease| lease.publish(&sample()))
            .expect("the file");
        assert!(
            !path.exists(),
            "a lease that ends in order takes its file along"
        );
        std::fs::write(&path, super::render(&sample())).expect("a file left behind");
        let found = find(root.path()).expect("a search").expect("the file");
        assert!(!found.running);
        assert_eq!(found.env, sample());
    }

    #[test]
    fn a_directory_is_leased_once_and_the_refusal_names_the_holder() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let _lease = Lease::take(root.path()).expect("the lease");
        let refusal = Lease::take(root.path())
            .expect_err("a second lease")
            .to_string();
        assert!(
            refusal.contains(&format!("process {}", std::process::id())),
            "{refusal}"
        );
    }
}
