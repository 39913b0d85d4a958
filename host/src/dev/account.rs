//! The user that runs Postgres when we are root, and the directory of its cluster.
//!
//! That user must be able to enter the cluster's directory. It can't below a home directory that others can't enter, such as a
//! checkout in /root. The cluster is then in another directory. The file `elsewhere` in the requested directory has its path,
//! for the next start and for cleaning up.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Uid, User, chown};

use super::error::{self, Error, Result};
use super::processes;

/// An account other than ours.
#[derive(Debug)]
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The account for Postgres, if we can't run it as ourselves.
    pub(super) fn needed() -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let user = User::from_name("postgres")
            .ok()
            .flatten()
            .ok_or(Error::AccountMissing)?;
        Ok(Some(Self {
            uid: user.uid,
            gid: user.gid,
        }))
    }

    /// Makes a command run as this account.
    pub(super) fn assume(&self, command: &mut Command) {
        command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
    }

    /// Makes this account the owner of a file or directory.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(io::Error::from)
            .map_err(error::io("change the owner of", path))
    }

    /// A directory of this account for the content of `dir`: inside `dir` if the account can enter it.
    pub(super) fn home_for(&self, dir: &Path) -> Result<PathBuf> {
        let pointer = dir.join("elsewhere");
        if let Ok(text) = fs::read_to_string(&pointer) {
            let home = PathBuf::from(text.trim_end_matches('\n'));
            if self.can_enter(&home) {
                return Ok(home);
            }
        }
        let inside = dir.join("cluster");
        if self.can_enter(dir) {
            fs::create_dir_all(&inside).map_err(error::io("create", &inside))?;
            self.own(&inside)?;
            return Ok(inside);
        }
        let system = PathBuf::from("/var/lib/postgresql");
        let above = if self.can_enter(&system) {
            system
        } else {
            env::temp_dir()
        };
        let home = above.join(format!("taskhost-{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&home).map_err(error::io("create", &home))?;
        self.own(&home)?;
        fs::write(&pointer, format!("{}\n", home.display()))
            .map_err(error::io("write", &pointer))?;
        tracing::info!(
            "the user postgres can't enter {}; its cluster is kept in {}",
            dir.display(),
            home.display()
        );
        Ok(home)
    }

    /// Asks the system itself, by running a command there: permissions and access lists have many forms.
    fn can_enter(&self, dir: &Path) -> bool {
        let mut command = Command::new("true");
        command.current_dir(dir);
        self.assume(&mut command);
        processes::run(command).is_ok_and(|output| output.status.success())
    }
}
