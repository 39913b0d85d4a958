//! The running `taskhost dev`: every other command finds it by its file.

use std::path::{Path, PathBuf};

use crate::config::{Loaded, Offered, Origin};
use crate::dev::env_file::{self, Found};

/// The running `taskhost dev` of the working directory, or of one above it.
pub(super) fn running_dev() -> Option<Found> {
    let from = std::env::current_dir().ok()?;
    match env_file::find(&from) {
        // The file of a killed `taskhost dev` is ignored.
        Ok(found) => found.filter(|found| found.running),
        Err(error) => {
            eprintln!("warning: {error}; a running `taskhost dev` is not used");
            None
        }
    }
}

/// The settings that it offers.
pub(super) fn offered(found: &Found) -> Offered {
    let env = &found.env;
    let values = [
        ("KAFKA_BROKERS", &env.kafka_brokers),
        ("DATABASE_URL", &env.database_url),
    ];
    Offered {
        path: shown(&found.path),
        values: values.map(|(name, value)| (name, value.clone())).into(),
    }
}

/// Prints on standard error which values came from a running `taskhost dev`.
pub(super) fn note(loaded: &Loaded) {
    let rows: Vec<_> = loaded
        .origins
        .iter()
        .filter(|row| matches!(row.origin, Origin::Dev(_)))
        .collect();
    let names: Vec<&str> = rows.iter().map(|row| row.setting.env).collect();
    if let Some(row) = rows.first() {
        eprintln!(
            "note: {} from {}, a running `taskhost dev`",
            names.join(" and "),
            row.origin
        );
    }
}

/// The path relative to the working directory, if it is inside.
pub(super) fn shown(path: &Path) -> PathBuf {
    let below = |here: PathBuf| path.strip_prefix(here).ok().map(Path::to_owned);
    std::env::current_dir()
        .ok()
        .and_then(below)
        .unwrap_or_else(|| path.to_owned())
}
