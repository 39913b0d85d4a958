//! The rounds that are done, one line each, so that an interrupted run goes on where it stopped.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::report::Figure;

/// One round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Line {
    /// What it was run with: rounds of other settings don't count.
    pub(crate) settings: String,
    /// What was measured, such as `drain/seed/4`.
    pub(crate) subject: String,
    /// Which round, from 1.
    pub(crate) round: usize,
    /// What came out.
    pub(crate) figures: Vec<Figure>,
    /// Why it doesn't count. It is done again by the next run.
    pub(crate) void: Option<String>,
}

/// The settings of each subject that is measured now.
pub(crate) type Settings = HashMap<String, String>;

/// The file, and what is in it of these subjects under these settings.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    settings: Settings,
    lines: Vec<Line>,
}

impl Ledger {
    /// Opens it; `fresh` forgets what is there.
    pub(crate) fn open(path: &Path, settings: Settings, fresh: bool) -> anyhow::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        if fresh && path.exists() {
            fs::remove_file(path)?;
        }
        let text = match path.exists() {
            true => fs::read_to_string(path)?,
            false => String::new(),
        };
        // A line that was cut short is a round that wasn't done.
        let all = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let counts = |line: &Line| {
            settings.get(&line.subject) == Some(&line.settings) && line.void.is_none()
        };
        let lines = all.filter(counts).collect();
        Ok(Self {
            path: path.to_owned(),
            lines,
            settings,
        })
    }

    /// What is measured.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &str> {
        self.settings.keys().map(String::as_str)
    }

    /// Whether a round is done.
    pub(crate) fn has(&self, subject: &str, round: usize) -> bool {
        let is =
            |line: &&Line| line.subject == subject && line.round == round && line.void.is_none();
        self.lines.iter().any(|line| is(&line))
    }

    /// Writes a round down.
    pub(crate) fn add(
        &mut self,
        subject: &str,
        round: usize,
        figures: Vec<Figure>,
        void: Option<String>,
    ) -> anyhow::Result<()> {
        let line = Line {
            settings: self.settings.get(subject).cloned().unwrap_or_default(),
            subject: subject.to_owned(),
            round,
            figures,
            void,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        // The newline comes first, so that a line that was cut short spoils no other.
        let text = format!("\n{}", serde_json::to_string(&line)?);
        file.write_all(text.as_bytes())
            .with_context(|| self.path.display().to_string())?;
        self.lines.push(line);
        Ok(())
    }

    /// All rounds, void ones of this run included.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, settings: &str, fresh: bool) -> Ledger {
        let subjects = ["drain/seed/4", "drain/seed/1", "swap"];
        let settings = subjects.map(|subject| (subject.to_owned(), settings.to_owned()));
        Ledger::open(path, settings.into(), fresh).expect("a ledger")
    }

    #[test]
    fn a_round_that_is_done_is_remembered_unless_it_was_void_or_the_settings_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("bench/rounds.jsonl");
        let mut ledger = open(&path, "a", false);
        ledger
            .add("drain/seed/4", 1, Vec::new(), None)
            .expect("written");
        let void = Some("an event came twice".to_owned());
        ledger
            .add("drain/seed/4", 2, Vec::new(), void)
            .expect("written");
        assert_eq!(ledger.lines().len(), 2);

        let again = open(&path, "a", false);
        assert!(again.has("drain/seed/4", 1));
        assert!(!again.has("drain/seed/4", 2));
        assert!(!again.has("drain/seed/1", 1));
        assert!(!open(&path, "b", false).has("drain/seed/4", 1));
        assert!(!open(&path, "a", true).has("drain/seed/4", 1));
    }

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("rounds.jsonl");
        fs::write(&path, r#"{"settings":"a","subj"#).expect("written");
        let mut ledger = open(&path, "a", false);
        ledger.add("swap", 1, Vec::new(), None).expect("written");
        assert!(open(&path, "a", false).has("swap", 1));
    }
}
