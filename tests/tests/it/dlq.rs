//! Dead letters after they were made: each command and the API against a real host.

mod changes;
mod elsewhere;
mod http;
mod replays;
mod retention;

use serde_json::Value;
use taskhost_tests::{Finished, HostBuilder, World};

/// What a command of `taskhost dlq` says for scripts: one JSON object a line.
pub(crate) fn lines(command: &HostBuilder, arguments: &[&str]) -> Vec<Value> {
    let said = dlq(command, &[arguments, &["--json"]].concat()).ok();
    parsed(&said)
}

pub(crate) fn parsed(said: &str) -> Vec<Value> {
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Runs `taskhost dlq`.
pub(crate) fn dlq(command: &HostBuilder, arguments: &[&str]) -> Finished {
    command.run(&[&["dlq"], arguments].concat())
}

/// The id of the only dead letter.
pub(crate) fn only(world: &World) -> String {
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters[0].id.to_string()
}

/// The one line of a list.
pub(crate) fn shown(command: &HostBuilder, id: &str) -> Value {
    lines(command, &["show", id]).remove(0)
}

/// Writes a payload to a file and gives its path.
pub(crate) fn file(world: &World, name: &str, text: &str) -> String {
    let path = world.dir().join(name);
    std::fs::write(&path, text).expect("a file");
    path.display().to_string()
}
