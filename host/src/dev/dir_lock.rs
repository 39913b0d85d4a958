//! A lock on a directory: only its holder uses the directory's files.
//!
//! The kernel releases the lock when the holder's process ends, even if it is killed. So there is never a stale lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::error::{self, Error, Result};

const FILE: &str = "lock";

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    /// The lock lasts for as long as the file is open.
    _file: File,
}

/// Whether somebody holds the lock on `dir`: nobody does if it can be taken.
pub(super) fn is_held(dir: &Path) -> bool {
    File::open(dir.join(FILE))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

impl DirLock {
    /// Takes the lock on a directory that exists, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        /// A process that checks whether the lock is held takes it for a moment.
        const TRIES: usize = 5;
        let path = dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(error::io("open", &path))?;
        for _ in 0..TRIES {
            match file.try_lock() {
                Ok(()) => {
                    // For the message of the next process that tries.
                    file.set_len(0).map_err(error::io("write", &path))?;
                    writeln!(file, "{}", std::process::id()).map_err(error::io("write", &path))?;
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::Error(error)) => return Err(error::io("lock", &path)(error)),
            }
        }
        let pid = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        Err(Error::InUse {
            dir: dir.to_owned(),
            pid,
        })
    }
}
