//! The Kafka topic of each name that routes and plugins use.
//!
//! Plugins and routes use *logical* topics. Four of them have their own settings. Any other has the same real name,
//! unless `[topics]` maps it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::file::Extras;
use super::input::Input;
use super::problem::Problem;
use super::section::section;

section! {
    /// The topics that have a setting of their own.
    pub struct Named in "topics" {
        /// Topic of status messages. The host reads and writes it.
        task_status as "task-status": String = "task-status", "TASK_STATUS_TOPIC" => "the logical topic `task-status`";
        /// Topic of requests for a web crawl. The host reads it.
        requests_web_crawl as "requests-web-crawl": String = "requests-web-crawl", "WEB_CRAWL_REQUEST_TOPIC"
            => "the logical topic `requests-web-crawl`";
        /// Topic of task events. The host writes it.
        task_events as "task-events": String = "task-events", "TASK_EVENTS_TOPIC" => "the logical topic `task-events`";
        /// Topic of life-cycle events of hosts, breakers and plugins. The host writes it.
        taskhost_events as "taskhost-events": String = "taskhost-events", "TASKHOST_EVENTS_TOPIC"
            => "the logical topic `taskhost-events`";
    }
}

section! {
    /// The topic and the retention of dead letters.
    pub struct DeadLetters in "dead_letters" {
        /// The dead letter topic of each consumed topic. `{topic}` is the real name of the topic, `{group}` the group id.
        topic: String = "{topic}.dlq", "TASKHOST_DLQ_TOPIC" => "the topic of dead letters";
        /// Whether dead letters also have Spring Kafka's headers, so that consoles for those can send them again.
        spring_headers: bool = "false", "TASKHOST_DLQ_SPRING_HEADERS" => "`kafka_dlt-*` headers of dead letters";
        /// How often a dead letter can be replayed. If it fails that often, it is parked, and only `--force` replays it.
        replays_max: u32 = "5" [1..=1000000], "TASKHOST_DLQ_REPLAYS_MAX" => "`taskhost dlq replay`, `POST /api/dlq/replay`";
        /// How long a resolved dead letter is kept: applied, ignored, discarded or republished.
        retention: Duration = "2592000000" [1000..=315360000000], "TASKHOST_DLQ_RETENTION" => "what is removed from `dead_letters`";
        /// How many resolved dead letters are kept. Beyond it the oldest are removed.
        keep_max: u32 = "100000" [0..=4294967295], "TASKHOST_DLQ_KEEP_MAX" => "what is removed from `dead_letters`";
        /// How often one host of the fleet removes old resolved dead letters and published frames.
        retention_interval: Duration = "60000" [100..=86400000], "TASKHOST_DLQ_RETENTION_INTERVAL" => "the retention's passes";
    }
}

/// Logical names and the real topics behind them.
#[derive(Clone, Debug, PartialEq)]
pub struct Topics {
    /// The topics with their own setting.
    pub named: Named,
    /// The other entries of `[topics]`: logical name to real name.
    pub others: BTreeMap<String, String>,
}

impl Topics {
    /// The real name of a logical topic; an unmapped name stays the same.
    #[must_use]
    pub fn real<'a>(&'a self, logical: &'a str) -> &'a str {
        match logical {
            "task-status" => &self.named.task_status,
            "requests-web-crawl" => &self.named.requests_web_crawl,
            "task-events" => &self.named.task_events,
            "taskhost-events" => &self.named.taskhost_events,
            _ => self.others.get(logical).map_or(logical, String::as_str),
        }
    }

    /// All mapped names: logical and real, the four with settings first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        [
            "task-status",
            "requests-web-crawl",
            "task-events",
            "taskhost-events",
        ]
        .into_iter()
        .chain(self.others.keys().map(String::as_str))
        .map(|logical| (logical, self.real(logical)))
    }

    pub(super) fn read(input: &mut Input, extras: &Extras) -> Self {
        let named = Named::read(input);
        let mut others = BTreeMap::new();
        for (logical, (real, origin)) in &extras.topics {
            if let Err(reason) = check_name(real) {
                input.problems.push(Problem {
                    what: format!("topics.{logical} is {real:?}, {reason}"),
                    at: vec![origin.clone()],
                    fix: "write the name of a Kafka topic".into(),
                });
            }
            others.insert(logical.clone(), real.clone());
        }
        Self { named, others }
    }

    pub(super) fn check(&self, input: &mut Input) {
        for setting in Named::SETTINGS {
            if let Err(reason) = check_name(self.real(setting.name())) {
                input.add_contradiction(
                    &[setting.key],
                    format!(
                        "{} is {:?}, {reason}",
                        setting.key,
                        self.real(setting.name())
                    ),
                    "write the name of a Kafka topic",
                );
            }
        }
    }
}

impl DeadLetters {
    /// The topic for dead letters of the topic with this real name.
    #[must_use]
    pub fn topic_of(&self, real: &str, group: &str) -> String {
        self.topic
            .replace("{topic}", real)
            .replace("{group}", group)
    }

    pub(super) fn check(&self, input: &mut Input) {
        let sample = self.topic_of("t", "g");
        let reason = match check_name(&sample) {
            Err(reason) => reason,
            // Without the topic in its name, dead letters of all topics would share one and lose their partitions.
            Ok(()) if !self.topic.contains("{topic}") => "it doesn't contain {topic}".into(),
            Ok(()) if sample == "t" => "it is the topic itself, which would be read again".into(),
            Ok(()) => return,
        };
        input.add_contradiction(
            &["dead_letters.topic"],
            format!("dead_letters.topic is {:?}, {reason}", self.topic),
            "write a name with {topic} in it, such as {topic}.dlq",
        );
    }
}

/// Kafka's rule for names: 1 to 249 of letters, digits, `.`, `_` and `-`, but not `.` or `..`.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 249 {
        Err("a topic's name has 1 to 249 characters".into())
    } else if let Some(c) = name.chars().find(|c| !legal(*c)) {
        Err(format!("a topic's name can't contain {c:?}"))
    } else if matches!(name, "." | "..") {
        Err("which no topic can be called".into())
    } else {
        Ok(())
    }
}
