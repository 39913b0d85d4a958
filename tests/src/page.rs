//! Commands as the documentation shows them, run as they stand: the tests' proof that they do what is said.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use taskhost::dev::broker;

use crate::exec::{Finished, run};
use crate::{World, checkout};

/// Kafka's scripts that pages name, and the classes that they start.
const KAFKA_SCRIPTS: [(&str, &str); 4] = [
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
    (
        "kafka-consumer-groups.sh",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    ),
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
];

/// Quick to start, and small.
const JVM: &str = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";

/// A page of the documentation.
#[derive(Debug)]
pub struct Page {
    name: String,
    text: String,
}

impl Page {
    /// A file of `docs/`.
    ///
    /// # Panics
    /// If it isn't there.
    #[must_use]
    pub fn read(name: &str) -> Self {
        let path = checkout().join("docs").join(name);
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self {
            name: name.to_owned(),
            text,
        }
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The block of that language (such as `sh`) that follows the first line with these words.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn block(&self, words: &str, language: &str) -> &str {
        let missing = || panic!("{} has no {language} block after {words:?}", self.name);
        let (_, after) = self.text.split_once(words).unwrap_or_else(missing);
        let begin = format!("```{language}\n");
        let (_, block) = after.split_once(begin.as_str()).unwrap_or_else(missing);
        block.split_once("```").map_or(block, |(block, _)| block)
    }
}

impl World {
    /// A text of the documentation with this world's names in place of the default ones.
    #[must_use]
    pub fn localized(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longer names first, because they hold the shorter ones.
        for name in [
            "requests-web-crawl.dlq",
            "task-status.dlq",
            "requests-web-crawl",
            "taskhost-events",
            "task-status",
            "task-events",
        ] {
            text = replace_word(&text, name, &self.topic(name));
        }
        replace_word(&text, "task-manager-group", &self.group())
            .replace("kafka:9092", self.brokers())
    }

    /// Runs commands of the documentation in a shell that stops at the first failure: with this world's names and
    /// environment, Kafka's scripts and the `taskhost` program on its path.
    #[must_use]
    pub fn shell(&self, text: &str) -> Finished {
        let scripts = self.dir().join("bin");
        if !scripts.exists() {
            install(&scripts);
        }
        let program = crate::host::host_binary();
        let beside = program.parent().expect("the program's directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &self.localized(text)])
            .current_dir(self.dir())
            .envs(self.environment())
            .env(
                "PATH",
                format!("{}:{}:{path}", scripts.display(), beside.display()),
            );
        run(command, None)
    }
}

/// Replaces a name where it stands alone: letters, digits, hyphens and dots beside it make it another one.
fn replace_word(text: &str, name: &str, by: &str) -> String {
    let belongs =
        |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '.'));
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        replaced.push_str(before);
        let alone = !belongs(before.chars().next_back()) && !belongs(after.chars().next());
        replaced.push_str(if alone { by } else { name });
        rest = after;
    }
    replaced + rest
}

fn install(dir: &Path) {
    fs::create_dir(dir).expect("a directory");
    let libs: PathBuf = broker::find_libs().expect("Kafka's jars").join("*");
    for (name, class) in KAFKA_SCRIPTS {
        let text = format!(
            "#!/bin/sh\nexec java {JVM} -cp '{}' {class} \"$@\"\n",
            libs.display()
        );
        let path = dir.join(name);
        fs::write(&path, text).expect("the script");
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
    }
}

#[cfg(test)]
mod tests {
    use super::replace_word;

    #[test]
    fn only_whole_names_are_replaced() {
        let text = "--topic task-status --topic task-status.dlq my-task-status 'task-status'";
        assert_eq!(
            replace_word(text, "task-status", "x"),
            "--topic x --topic task-status.dlq my-task-status 'x'"
        );
    }
}
