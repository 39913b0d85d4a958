//! `taskhost dlq edit`: sets another payload for a dead letter. The original payload is kept.

use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::json;
use taskhost_core::record::Message;
use uuid::Uuid;

use super::show;
use crate::cli::database::Database;
use crate::cli::person::by;
use crate::cli::{EXIT_CODES, Failure, Global, Output, output};
use crate::store::{Edited, StoredDeadLetter};
use crate::{app, letters};

/// Set another payload for a dead letter's next replay.
///
/// The payload comes from --file, or from standard input, or on a terminal from $EDITOR. The original payload is kept,
/// and so is each edit, with who made it and why. A payload that can't be decoded is refused, unless --force is given.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq edit $id --file fixed.json --reason 'status was misspelt'\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    /// The dead letter's id.
    id: Uuid,
    /// The file with the payload; - is standard input.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Make it a tombstone: a record without a payload.
    #[arg(long, conflicts_with = "file")]
    tombstone: bool,
    /// Why, for people who look at it later.
    #[arg(long)]
    reason: String,
    /// Accept a payload that can't be decided.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let (stored, _) = show::find(&database, &config, arguments.id)?;
    let value = match arguments.tombstone {
        true => None,
        false => Some(payload(arguments, &stored)?),
    };
    if value == stored.message().value {
        return Err(Failure::Failed(
            "nothing changed: the dead letter already has this payload".to_owned(),
        ));
    }
    if !arguments.force {
        let message = Message {
            value: value.clone(),
            ..Message::clone(&stored.letter.message)
        };
        let topic = &stored.owner.partition.topic;
        letters::check(&message, topic, &app::routes(&config)).map_err(|why| {
            Failure::Failed(format!(
                "nothing changed: this payload would be a dead letter again: {} ({}); --force takes it anyway",
                why.reason, why.code
            ))
        })?;
    }
    let edited = database.ask(database.store.edit_dead_letter(
        &config.kafka.group_id,
        arguments.id,
        stored.edits,
        value.as_deref(),
        &by(),
        &arguments.reason,
    ))?;
    let id = arguments.id;
    match edited {
        Edited::Edited => output::print(&match arguments.output.json {
            true => format!("{}\n", json!({"id": id, "edits": stored.edits + 1})),
            false => format!("{id} has a new payload; `taskhost dlq replay {id}` decides it\n"),
        }),
        Edited::Missing => Err(Failure::Failed(format!("{id} no longer exists"))),
        Edited::Raced => Err(Failure::Failed(
            "nothing changed: somebody else edited it meanwhile; look at it again".to_owned(),
        )),
        Edited::Refused(state) => Err(Failure::Failed(format!(
            "nothing changed: the dead letter is {}; only one that is open or parked can be edited",
            state.name()
        ))),
    }
}

fn payload(arguments: &Arguments, stored: &StoredDeadLetter) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |what: &str, error: io::Error| Failure::Usage(format!("{what} can't be read: {error}"));
    let stdin = || {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        read.map(|_| bytes)
            .map_err(|error| unreadable("standard input", error))
    };
    match &arguments.file {
        Some(path) if path == Path::new("-") => stdin(),
        Some(path) => {
            std::fs::read(path).map_err(|error| unreadable(&path.display().to_string(), error))
        }
        None if !io::stdin().is_terminal() => stdin(),
        None => edited(stored),
    }
}

/// The payload as a person's editor leaves it.
fn edited(stored: &StoredDeadLetter) -> Result<Vec<u8>, Failure> {
    let editor = std::env::var("VISUAL")
        .or_else(|_| std::env::var("EDITOR"))
        .unwrap_or_else(|_| "vi".to_owned());
    let failed =
        |error: io::Error| Failure::Failed(format!("the payload can't be edited: {error}"));
    let dir = tempfile::tempdir().map_err(failed)?;
    let path = dir.path().join("payload.json");
    let before = stored.message().value.clone().unwrap_or_default();
    std::fs::write(&path, before).map_err(failed)?;
    // An editor may be given with arguments.
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or("vi");
    let status = Command::new(program)
        .args(words)
        .arg(&path)
        .status()
        .map_err(failed)?;
    if !status.success() {
        return Err(Failure::Failed(format!(
            "nothing changed: {program} ended with {status}"
        )));
    }
    std::fs::read(&path).map_err(failed)
}
