//! `taskhost dlq import`: imports dead letters from another system's topic, or from an export, into this group.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use taskhost_core::dead_letter::DeadLetter;
use taskhost_core::foreign;
use taskhost_core::record::TopicPartition;
use uuid::Uuid;

use crate::cli::database::Database;
use crate::cli::person::by;
use crate::cli::routed::real_topic;
use crate::cli::{EXIT_CODES, Failure, Global, Output, broker, output};
use crate::config::Config;
use crate::kafka::{Admin, Scan};
use crate::letters;
use crate::store::{Imported, Key};

/// Import dead letters that another system wrote to a topic, or an export.
///
/// The command understands the headers of Kafka Connect, Spring Kafka, Kafka Streams, share groups and taskhost itself.
/// They say where a record was and why it failed. A second import changes nothing. `taskhost dlq replay` decides the
/// imported dead letters.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost dlq import --topic orders-dlt --dry-run\n  taskhost dlq import --topic orders-dlt --into task-status\n  taskhost dlq import --file letters.jsonl\n\n{EXIT_CODES}"))]
pub(in crate::cli) struct Arguments {
    /// The topic to read, by its name in Kafka. Everything that it has now is read.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    topic: Option<String>,
    /// The export to read; - is standard input.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// The topic whose partitions decide the dead letters, if no route reads the topic that they came from.
    #[arg(long, value_name = "TOPIC")]
    into: Option<String>,
    /// Only print what the source has.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// Dead letters in one transaction.
const LETTERS_MAX: usize = 200;

/// Payload bytes in one transaction.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A dead letter that was read.
struct Found {
    letter: DeadLetter,
    owner: TopicPartition,
    /// The payload as it was edited before.
    edited: Option<Option<Vec<u8>>>,
    from: String,
}

/// What was found and done.
#[derive(Default)]
struct Told {
    read: u64,
    new: u64,
    dialects: BTreeMap<&'static str, u64>,
    homeless: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let database = Database::open(&config)?;
    let into = arguments
        .into
        .as_ref()
        .map(|topic| real_topic(&config, topic));
    let all = database.ask(database.store.snapshot(&config.kafka.group_id))?;
    let mut partitions: HashMap<String, Vec<i32>> = HashMap::new();
    for one in all {
        let topic = one.partition.topic.to_string();
        partitions
            .entry(topic)
            .or_default()
            .push(one.partition.partition);
    }
    let mut import = Import {
        arguments,
        config: &config,
        database: &database,
        into,
        partitions,
        batch: Vec::new(),
        bytes: 0,
        told: Told::default(),
    };
    match (&arguments.topic, &arguments.file) {
        (Some(topic), _) => import.read_topic(topic)?,
        (None, Some(path)) => import.file(path)?,
        // clap guarantees one of the two.
        (None, None) => {}
    }
    import.flush()?;
    let told = import.told;
    output::print(&text(&told, arguments))?;
    match told.homeless.first() {
        None => Ok(()),
        Some(first) => Err(Failure::Failed(format!(
            "{} have no partition of this group that can decide them, such as {first}; name a topic with --into",
            told.homeless.len()
        ))),
    }
}

fn text(told: &Told, arguments: &Arguments) -> String {
    let homeless = told.homeless.len();
    if arguments.output.json {
        let line = json!({
            "dryRun": arguments.dry_run, "read": told.read, "new": told.new, "dialects": told.dialects,
            "withoutPartition": homeless,
        });
        return format!("{line}\n");
    }
    let dialects: Vec<String> = told
        .dialects
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let found = match dialects.is_empty() {
        true => format!("{} read", told.read),
        false => format!("{} read ({})", told.read, dialects.join(", ")),
    };
    match arguments.dry_run {
        true => format!("{found}; nothing changed\n"),
        false => format!("{found}, {} new\n", told.new),
    }
}

struct Import<'a> {
    arguments: &'a Arguments,
    config: &'a Config,
    database: &'a Database,
    into: Option<String>,
    /// The group's partitions by topic.
    partitions: HashMap<String, Vec<i32>>,
    batch: Vec<Found>,
    bytes: usize,
    told: Told,
}

impl Import<'_> {
    fn read_topic(&mut self, topic: &str) -> Result<(), Failure> {
        let cluster = broker::reach(self.config)?;
        let patience = broker::patience(self.config);
        let failed = |error: crate::kafka::Error| Failure::of("kafka", &error);
        let admin = Admin::new(&cluster.settings, patience).map_err(failed)?;
        let described = self.database.runtime.block_on(admin.describe(&[topic]));
        let Some(described) = described.map_err(failed)?.remove(topic) else {
            return Err(Failure::Failed(format!("the topic {topic} does not exist")));
        };
        let mut scan = Scan::start(&cluster.settings, topic, patience).map_err(failed)?;
        let bar = ProgressBar::new(scan.offsets());
        while let Some(record) = scan.read().map_err(failed)? {
            bar.inc(1);
            let foreign = foreign::read(&record, described.id);
            let name = foreign.dialect.name();
            *self.told.dialects.entry(name).or_default() += 1;
            let owner = self.owner(&foreign.letter.message.position);
            self.take(Found {
                owner: owner.unwrap_or_else(|| TopicPartition::new("", -1)),
                letter: foreign.letter,
                edited: None,
                from: record.position.to_string(),
            })?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let unreadable =
            |error: io::Error| Failure::Usage(format!("{} can't be read: {error}", path.display()));
        let reader: Box<dyn io::BufRead> = match path == Path::new("-") {
            true => Box::new(io::stdin().lock()),
            false => Box::new(BufReader::new(
                std::fs::File::open(path).map_err(unreadable)?,
            )),
        };
        for (number, line) in (1..).zip(reader.lines()) {
            let line = line.map_err(unreadable)?;
            if line.trim().is_empty() {
                continue;
            }
            let read = letters::from_line(&line).map_err(|why| {
                Failure::Failed(format!(
                    "line {number} of {} is not a dead letter: {why}; the lines before it are imported",
                    path.display()
                ))
            });
            if read.is_err() {
                self.flush()?;
            }
            let read = read?;
            let known = self.is_known(&read.owner.topic, read.owner.partition);
            let owner = match known {
                true => Some(read.owner),
                false => self.owner(&read.letter.message.position),
            };
            self.take(Found {
                owner: owner.unwrap_or_else(|| TopicPartition::new("", -1)),
                letter: read.letter,
                edited: read.edited,
                from: format!("{}:{number}", path.display()),
            })?;
        }
        Ok(())
    }

    fn is_known(&self, topic: &str, partition: i32) -> bool {
        self.partitions
            .get(topic)
            .is_some_and(|known| known.contains(&partition))
    }

    /// The partition that will decide a record: its own, or one of the topic that was named.
    fn owner(&self, position: &taskhost_core::record::Position) -> Option<TopicPartition> {
        if self.is_known(&position.topic, position.partition) {
            return Some(TopicPartition::new(
                position.topic.clone(),
                position.partition,
            ));
        }
        let into = self.into.as_ref()?;
        let known = self.partitions.get(into)?;
        let count = i32::try_from(known.len()).ok()?;
        let partition = position.partition.rem_euclid(count);
        known
            .contains(&partition)
            .then(|| TopicPartition::new(into.as_str(), partition))
    }

    fn take(&mut self, found: Found) -> Result<(), Failure> {
        self.told.read += 1;
        if found.owner.partition < 0 {
            self.told
                .homeless
                .push(found.letter.message.position.to_string());
            return Ok(());
        }
        self.bytes += found.letter.message.size();
        self.batch.push(found);
        match self.batch.len() >= LETTERS_MAX || self.bytes >= BYTES_MAX {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Stores what was read so far.
    fn flush(&mut self) -> Result<(), Failure> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if self.arguments.dry_run {
            return Ok(());
        }
        let mut by_owner: BTreeMap<TopicPartition, Vec<(DeadLetter, String)>> = BTreeMap::new();
        let mut edits: Vec<(Uuid, Option<Vec<u8>>)> = Vec::new();
        for found in batch {
            edits.extend(found.edited.map(|value| (found.letter.id, value)));
            by_owner
                .entry(found.owner)
                .or_default()
                .push((found.letter, found.from));
        }
        let (store, group) = (&self.database.store, &self.config.kafka.group_id);
        for (owner, letters) in by_owner {
            let key = Key::new(group.as_str(), owner.clone());
            match self
                .database
                .ask(store.import_dead_letters(&key, &letters))?
            {
                Imported::New(new) => self.told.new += new,
                Imported::NoSuchPartition => self.told.homeless.push(owner.to_string()),
            }
        }
        for (id, value) in edits {
            // Only if it has no edit yet, so that a second import changes nothing.
            let reason = "as it was edited before it was exported";
            self.database.ask(store.edit_dead_letter(
                group,
                id,
                0,
                value.as_deref(),
                &by(),
                reason,
            ))?;
        }
        Ok(())
    }
}
