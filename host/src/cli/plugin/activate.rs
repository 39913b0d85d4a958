//! `taskhost plugin activate`: activates another version on all hosts at once.
//!
//! The version is compiled, configured and checked here, with a host's limits. Then one compare-and-set in the
//! database makes it the active one. Running hosts find it there within a second.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use taskhost_core::timestamp;

use crate::app;
use crate::background::Background;
use crate::cli::database::Database;
use crate::cli::person::by;
use crate::cli::routed::number_of;
use crate::cli::{EXIT_CODES, Failure, Global, Output, output};
use crate::config::{Config, Loaded, Origin};
use crate::plugin::{Activation, Catalog, CatalogError, Offer, Offered, Wish};

/// Activate another version of a route's plugin, on all hosts at once.
///
/// The version is compiled, configured and checked first; a refused version changes nothing. --previous restores the
/// version and the configuration of the activation before the current one.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost plugin activate task-status --file task_status.wasm\n  taskhost plugin activate task-status --previous\n\n{EXIT_CODES}"))]
#[group(id = "version", required = true, multiple = false, args = ["file", "digest", "previous"])]
pub(in crate::cli) struct Arguments {
    /// The route: a logical topic, or topic/task type.
    pub(super) route: String,
    /// The version in this file.
    #[arg(long, value_name = "PATH")]
    pub(super) file: Option<PathBuf>,
    /// A stored version, by the beginning of its SHA-256: 4 digits or more.
    #[arg(long, value_name = "SHA256", value_parser = digest_beginning)]
    pub(super) digest: Option<String>,
    /// The version that was active before the current one.
    #[arg(long)]
    pub(super) previous: bool,
    /// Accept a version that was rolled back because it failed on probation. It gets no second probation.
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) output: Output,
}

/// The fewest digits that identify a version. Fewer are probably a mistake.
const DIGITS_MIN: usize = 4;

/// Digits of a digest in texts for people.
pub(in crate::cli) const DIGITS_SHOWN: usize = 12;

/// Versions that an error lists if the beginning fits several.
const CANDIDATES_MAX: u32 = 5;

pub(in crate::cli) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let loaded = global.load()?;
    let config = with_cache(loaded);
    let route = number_of(&config, &arguments.route)?;
    // If the file can't be read, don't ask the database.
    let bytes = arguments.file.as_deref().map(read).transpose()?;
    let database = Database::open(&config)?;
    let catalog = app::catalog(
        &config,
        Arc::new(database.store.clone()),
        Arc::new(()),
        &Background::unsupervised(),
    )?;
    let name = &config.routes[route].name;
    let configured: Arc<str> = config.routes[route].config.to_string().into();
    let history = database.ask(database.store.history(name))?;
    let by = by();
    // It replaces the activation that was read here. A version that somebody else activates meanwhile stays.
    let seen = Some(history.first().map_or(0, |current| current.number));
    let offered = if let (Some(file), Some(bytes)) = (&arguments.file, bytes) {
        let offer = Offer {
            route,
            bytes,
            config: configured,
            file: file.display().to_string(),
            by,
            reason: "a command named this file".to_owned(),
            force: true,
            despite_rollback: arguments.force,
            seen,
        };
        database.runtime.block_on(catalog.offer(offer))
    } else {
        let (digest, config, reason) = match &arguments.digest {
            Some(beginning) => (
                stored(&database, beginning)?,
                configured,
                "a command named this version",
            ),
            None => {
                let before = before(name, &history)?;
                (
                    before.digest.clone(),
                    before.config.clone(),
                    "a command went back to it",
                )
            }
        };
        let wish = Wish {
            by: &by,
            reason,
            despite_rollback: arguments.force,
            seen,
        };
        let activated = catalog.activate_known(route, &digest, config, wish);
        database.runtime.block_on(activated)
    };
    let text = ended(arguments, name, &history, &catalog, offered)?;
    output::print(&text)
}

/// The configuration. With the database of a running `taskhost dev`, its cache of compiled components is used too.
fn with_cache(loaded: Loaded) -> Config {
    let mut config = loaded.config;
    if let Some(Origin::Dev(file)) = loaded.origins.of("database.url")
        && let Some(dir) = file.parent()
        && !loaded.origins.is_set("plugins.cache_dir")
    {
        config.plugins.cache_dir = dir.join("cache");
    }
    config
}

fn read(file: &Path) -> Result<Arc<[u8]>, Failure> {
    std::fs::read(file)
        .map(Arc::from)
        .map_err(|error| Failure::Failed(format!("{} can't be read: {error}", file.display())))
}

fn digest_beginning(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    match text.len() {
        DIGITS_MIN..=64 if text.bytes().all(|digit| digit.is_ascii_hexdigit()) => Ok(text),
        _ => Err(format!("expected {DIGITS_MIN} to 64 hexadecimal digits")),
    }
}

/// The digest of the one stored version that begins like this.
fn stored(database: &Database, beginning: &str) -> Result<String, Failure> {
    let mut found = database.ask(database.store.versions_beginning(beginning, CANDIDATES_MAX))?;
    match found.len() {
        0 => Err(Failure::Failed(format!(
            "no stored version begins with {beginning}; `taskhost task show` names those that decided, and --file \
             stores another"
        ))),
        1 => Ok(found.swap_remove(0).digest),
        _ => {
            let name = |one: &crate::store::StoredVersion| {
                format!("\n  {} {} {}", one.digest, one.name, one.version)
            };
            let names: String = found.iter().map(name).collect();
            Err(Failure::Failed(format!(
                "{beginning} is the beginning of several versions:{names}"
            )))
        }
    }
}

/// The activation before the current one.
fn before<'a>(route: &str, history: &'a [Activation]) -> Result<&'a Activation, Failure> {
    history.get(1).ok_or_else(|| {
        let so_far = match history.len() {
            0 => "no version was ever activated on it",
            _ => "its first version is still the active one",
        };
        Failure::Failed(format!(
            "the route {route} has no previous version: {so_far}"
        ))
    })
}

fn ended(
    arguments: &Arguments,
    route: &str,
    history: &[Activation],
    catalog: &Catalog,
    offered: Result<Offered, CatalogError>,
) -> Result<String, Failure> {
    let (activation, changed) = match offered {
        Ok(Offered::Activated(activation)) => (activation, true),
        Ok(Offered::Unchanged(activation)) => (activation, false),
        Ok(Offered::Lost(_)) => {
            return Err(Failure::Failed(format!(
                "somebody else activated a version on {route} at the same time, and that one is current; look at \
                 `taskhost plugin list` and try again"
            )));
        }
        Err(CatalogError::Refused(refused)) => {
            return Err(Failure::Failed(format!(
                "nothing changed on {route}, the version is refused: {refused}"
            )));
        }
        Err(error) => return Err(Failure::of(&format!("nothing changed on {route}"), &error)),
    };
    let active = catalog
        .number_of(route)
        .and_then(|number| catalog.current(number));
    let (name, version) = match &active {
        Some(active) => (
            active.version.name.as_str(),
            active.version.version.as_str(),
        ),
        None => ("", ""),
    };
    let replaced = history.first().filter(|_| changed);
    if arguments.output.json {
        let line = json!({
            "route": route,
            "changed": changed,
            "activation": activation.number,
            "name": name,
            "version": version,
            "digest": activation.digest,
            "since": timestamp::to_rfc3339(activation.since),
            "by": activation.by,
            "replaced": replaced.map_or(Value::Null, |before| before.digest.clone().into()),
        });
        return Ok(format!("{line}\n"));
    }
    let short = |digest: &str| digest.chars().take(DIGITS_SHOWN).collect::<String>();
    let (number, digest) = (activation.number, short(&activation.digest));
    Ok(match (changed, replaced) {
        (false, _) => {
            format!(
                "{route}: {name} {version} ({digest}) is already active (activation {number})\n"
            )
        }
        (true, None) => {
            format!("{route}: {name} {version} ({digest}) is active now (activation {number})\n")
        }
        (true, Some(before)) => format!(
            "{route}: {name} {version} ({digest}) is active now (activation {number}); it replaced {}\n",
            short(&before.digest)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activation(number: i64) -> Activation {
        Activation {
            route: "r".into(),
            number,
            digest: number.to_string().repeat(64),
            config: "{}".into(),
            since: 0,
            by: String::new(),
            reason: String::new(),
            probation: false,
            rollback_of: None,
        }
    }

    #[test]
    fn the_previous_version_is_that_of_the_activation_before() {
        let history = [activation(3), activation(2), activation(1)];
        assert_eq!(before("r", &history).expect("a version").number, 2);
        for (history, said) in [(&history[2..], "first version"), (&[], "ever activated")] {
            let failure = before("r", history).expect_err("no version").to_string();
            assert!(failure.contains(said), "{failure}");
        }
    }

    #[test]
    fn a_digest_is_hexadecimal_and_not_too_short() {
        assert_eq!(digest_beginning("ABCD").as_deref(), Ok("abcd"));
        for text in ["abc", "wxyz", "", &"a".repeat(65)] {
            assert!(digest_beginning(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_route_that_is_none_is_wrong_usage_and_the_routes_are_named() {
        let config = Config::load(None, std::iter::empty())
            .expect("the defaults")
            .config;
        assert_eq!(number_of(&config, "task-status").expect("a route"), 1);
        let failure = number_of(&config, "nothing").expect_err("no route");
        assert!(matches!(failure, Failure::Usage(_)));
        assert!(
            failure
                .to_string()
                .contains("requests-web-crawl, task-status"),
            "{failure}"
        );
    }
}
