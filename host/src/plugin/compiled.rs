//! The directory of compiled components, so that the next start doesn't compile them again.
//!
//! Loading compiled code runs it. So a file is trusted only if this user owns it and its directory, nobody else can
//! write or read either, and its checksum is right. A file's name has the component's digest, and a hash of the engine's
//! version and settings as far as they affect compiled code; another engine looks for another name. If a file can't be
//! used, the component is compiled again.

use std::cmp::Reverse;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use super::engine::Engine;

/// The most files that are kept; the least recently used are removed. A route rarely has more than a few versions.
const FILES_MAX: usize = 64;

const SUFFIX: &str = ".compiled";
const CHECKSUM_BYTES: usize = 32;

/// A directory that only this user can enter.
#[derive(Debug)]
pub(super) struct CompiledDir {
    path: PathBuf,
    engine_hash: u64,
    next: AtomicU64,
}

impl CompiledDir {
    /// Creates the directory if it is missing.
    ///
    /// # Errors
    /// If it can't be created, or others can use it.
    pub(super) fn open(path: &Path, engine: &Engine) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let metadata = fs::symlink_metadata(path)?;
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            return Err(io::Error::other("it is not a directory of this user"));
        }
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
        let mut hasher = DefaultHasher::new();
        engine
            .inner()
            .precompile_compatibility_hash()
            .hash(&mut hasher);
        Ok(Self {
            path: path.to_owned(),
            engine_hash: hasher.finish(),
            next: AtomicU64::new(0),
        })
    }

    /// The compiled code for a digest, if it exists and is sound.
    pub(super) fn load(
        &self,
        engine: &Engine,
        digest: &str,
    ) -> Option<wasmtime::component::Component> {
        let path = self.file(digest);
        let bytes = match self.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code is not used; the plugin is compiled again");
                return None;
            }
        };
        match deserialize(engine, &bytes) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = format!("{error:#}"), "compiled code can't be loaded; the plugin is compiled again");
                None
            }
        }
    }

    /// Stores compiled code. A failure only makes the next start slower.
    pub(super) fn store(&self, digest: &str, component: &wasmtime::component::Component) {
        let stored = component
            .serialize()
            .map_err(|error| io::Error::other(format!("{error:#}")));
        if let Err(error) = stored.and_then(|bytes| self.write(digest, &bytes)) {
            tracing::warn!(path = %self.path.display(), %error, "compiled code can't be stored; the next start compiles the plugin again");
        }
        self.prune();
    }

    fn file(&self, digest: &str) -> PathBuf {
        self.path
            .join(format!("{digest}-{:016x}{SUFFIX}", self.engine_hash))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        check_private(&fs::symlink_metadata(&self.path)?)?;
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        // Checked through the open file, so that nobody can replace it meanwhile.
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not an ordinary file"));
        }
        check_private(&metadata)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let Some(length) = bytes.len().checked_sub(CHECKSUM_BYTES) else {
            return Err(io::Error::other("it is truncated"));
        };
        if *Sha256::digest(&bytes[..length]) != bytes[length..] {
            return Err(io::Error::other("its checksum is wrong"));
        }
        bytes.truncate(length);
        // Updates the file's time, so that files in use are removed last.
        let _ = file.set_modified(std::time::SystemTime::now());
        Ok(bytes)
    }

    fn write(&self, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .path
            .join(format!(".{digest}-{}-{number}", std::process::id()));
        let written = write_private(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, self.file(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the least recently used files beyond the number that is kept.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(SUFFIX))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_by_key(|(modified, _)| Reverse(*modified));
        for (_, path) in files.into_iter().skip(FILES_MAX) {
            let _ = fs::remove_file(path);
        }
    }
}

fn check_private(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("others may read or write it"));
    }
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.write_all(&Sha256::digest(bytes))?;
    file.sync_data()
}

#[expect(
    unsafe_code,
    reason = "compiled code is loaded; the file was checked to be this host's own"
)]
fn deserialize(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<wasmtime::component::Component> {
    // SAFETY: the bytes were written by `write_private` after compiling: the file and its directory belong to
    // this user and nobody else may write them, and the checksum holds. The engine checks its own version
    // and settings.
    unsafe { wasmtime::component::Component::deserialize(engine.inner(), bytes) }
}
