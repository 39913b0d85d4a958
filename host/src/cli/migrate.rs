//! `taskhost migrate`: updates the database's schema to this version.

use clap::Args;
use serde_json::json;

use super::database::Database;
use super::{EXIT_CODES, Failure, Global, Output, output};
use crate::store::SchemaState;

/// Update the database's schema to this version, and say what was done.
///
/// A host does this itself when it starts. Use the command to do it earlier, as another user, or through a direct
/// address if hosts connect through a proxy that pools transactions.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  DATABASE_URL=postgres://taskhost@db/taskhost taskhost migrate\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let database = Database::reach(&global.config()?)?;
    let before = database.ask(database.store.schema_state())?;
    let after = database.ask(database.store.migrate())?;
    let made = database.ask(database.store.make_partitions())?;
    let made = made.unwrap_or_default();
    let text = match arguments.output.json {
        true => format!(
            "{}\n",
            json!({ "from": before.applied, "to": after.applied, "partitions": made })
        ),
        false => said(before, after, &made),
    };
    output::print(&text)
}

fn said(before: SchemaState, after: SchemaState, made: &[String]) -> String {
    let (from, to) = (before.applied, after.applied);
    let mut said = match (from == to, made) {
        (true, []) => format!("the schema is at migration {to} already: nothing to do\n"),
        (true, _) => format!("the schema is at migration {to} already\n"),
        (false, _) => format!("the schema is at migration {to} now; it was at {from}\n"),
    };
    for table in made {
        said.push_str(&format!("made the partition {table}\n"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_whether_anything_was_done() {
        let state = |applied| SchemaState {
            applied,
            known: 4,
            refused: None,
        };
        assert!(said(state(4), state(4), &[]).contains("nothing to do"));
        assert!(said(state(0), state(4), &[]).contains("migration 4 now; it was at 0"));
        let made = said(state(4), state(4), &["task_events_2027_01".to_owned()]);
        assert!(
            !made.contains("nothing") && made.contains("task_events_2027_01"),
            "{made}"
        );
    }
}
