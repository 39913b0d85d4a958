//! The routes: which plugin decides the messages of a topic and task type.
//!
//! Routes are `[[route]]` tables of `taskhost.toml`. Without any, the two shipped ones apply: web crawl requests
//! and status messages. The most specific route wins: topic and type before topic alone.

use std::collections::BTreeMap;

use taskhost_core::cause::OnDeadLetter;

use super::file::{Extras, RouteTable};
use super::input::Input;
use super::problem::{Origin, Problem};
use super::topics::{Topics, check_name};

/// Values of `on_dead_letter`.
const GO_ON: &str = "go-on";
const HOLD_TASK: &str = "hold-task";

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its stable id: `<logical topic>`, or `<logical topic>/<task type>`.
    pub name: String,
    /// The logical topic it consumes.
    pub topic: String,
    /// The real topic behind it.
    pub real_topic: String,
    /// The only task type that the route takes; `None` if it takes all messages that no other route of the topic takes.
    pub task_type: Option<String>,
    /// The task type of messages without one.
    pub default_task_type: Option<String>,
    /// What becomes of later messages of a task when one of its messages becomes a dead letter.
    pub on_dead_letter: OnDeadLetter,
    /// The plugin's name: `<plugins.dir>/<plugin>.wasm`.
    pub plugin: String,
    /// The plugin's configuration: always a JSON object.
    pub config: serde_json::Value,
    /// Where the route is written; `Origin::Default` for the shipped ones.
    pub origin: Origin,
}

/// The routes that apply when the file has none: topic, plugin, default task type.
const SHIPPED: [(&str, &str, &str); 2] = [
    ("requests-web-crawl", "web_crawl", "web-crawl"),
    ("task-status", "task_status", "web-crawl"),
];

/// Reads the routes of the file, else the shipped ones.
pub(super) fn read(input: &mut Input, extras: &Extras, topics: &Topics) -> Vec<Route> {
    if extras.routes.is_empty() {
        return SHIPPED
            .iter()
            .map(|(topic, plugin, kind)| shipped(topic, plugin, kind, topics))
            .collect();
    }
    let routes: Vec<Route> = extras
        .routes
        .iter()
        .filter_map(|(table, origin)| route(input, table, origin, topics))
        .collect();
    check_duplicates(input, &routes);
    check_real_topics(input, &routes);
    routes
}

fn shipped(topic: &str, plugin: &str, default_task_type: &str, topics: &Topics) -> Route {
    Route {
        name: topic.to_owned(),
        topic: topic.to_owned(),
        real_topic: topics.real(topic).to_owned(),
        task_type: None,
        default_task_type: Some(default_task_type.to_owned()),
        on_dead_letter: OnDeadLetter::GoOn,
        plugin: plugin.to_owned(),
        config: serde_json::Value::Object(serde_json::Map::new()),
        origin: Origin::Default,
    }
}

fn route(input: &mut Input, table: &RouteTable, origin: &Origin, topics: &Topics) -> Option<Route> {
    let mut text = |key: &str, check: fn(&str) -> Result<(), String>| -> Option<String> {
        let (value, at) = table.texts.get(key)?;
        if let Err(reason) = check(value) {
            input.problems.push(Problem {
                what: format!("route.{key} is {value:?}, {reason}"),
                at: vec![at.clone()],
                fix: format!("correct {key}"),
            });
        }
        Some(value.clone())
    };
    let topic = text("topic", check_name);
    let plugin = text("plugin", check_plugin);
    let task_type = text("task_type", check_type);
    let default_task_type = text("default_task_type", check_type);
    let on_dead_letter = text("on_dead_letter", check_on_dead_letter);
    for (key, missing) in [("topic", topic.is_none()), ("plugin", plugin.is_none())] {
        if missing {
            input.problems.push(Problem {
                what: format!("a route has no {key}"),
                at: vec![origin.clone()],
                fix: format!("add {key} = \"…\" to it"),
            });
        }
    }
    let (topic, plugin) = (topic?, plugin?);
    let name = task_type
        .as_ref()
        .map_or_else(|| topic.clone(), |kind| format!("{topic}/{kind}"));
    Some(Route {
        name,
        real_topic: topics.real(&topic).to_owned(),
        topic,
        task_type,
        default_task_type,
        on_dead_letter: match on_dead_letter.as_deref() {
            Some(HOLD_TASK) => OnDeadLetter::HoldTask,
            _ => OnDeadLetter::GoOn,
        },
        plugin,
        config: table
            .config
            .clone()
            .unwrap_or_else(|| serde_json::Value::Object(serde_json::Map::new())),
        origin: origin.clone(),
    })
}

/// The setting's value.
pub fn on_dead_letter_name(rule: OnDeadLetter) -> &'static str {
    match rule {
        OnDeadLetter::GoOn => GO_ON,
        OnDeadLetter::HoldTask => HOLD_TASK,
    }
}

fn check_on_dead_letter(value: &str) -> Result<(), String> {
    match value {
        GO_ON | HOLD_TASK => Ok(()),
        _ => Err(format!("neither {GO_ON:?} nor {HOLD_TASK:?}")),
    }
}

/// Refuses two routes of one name, and two defaults for one topic: it would be unclear which one applies.
fn check_duplicates(input: &mut Input, routes: &[Route]) {
    let mut names: BTreeMap<&str, &Route> = BTreeMap::new();
    let mut defaults: BTreeMap<&str, &Route> = BTreeMap::new();
    for route in routes {
        if let Some(first) = names.insert(&route.name, route) {
            input.problems.push(Problem {
                what: format!("two routes take the same messages: {}", route.name),
                at: vec![first.origin.clone(), route.origin.clone()],
                fix: "remove one, or give one a task_type".into(),
            });
        }
        if route.default_task_type.is_none() {
            continue;
        }
        let first = *defaults.entry(&route.topic).or_insert(route);
        if first.default_task_type != route.default_task_type {
            input.problems.push(Problem {
                what: format!(
                    "two routes of topic {} have different default_task_type",
                    route.topic
                ),
                at: vec![first.origin.clone(), route.origin.clone()],
                fix: "keep one of them".into(),
            });
        }
    }
}

/// Refuses two logical topics that are one real topic: it would be unclear which one a message came from.
fn check_real_topics(input: &mut Input, routes: &[Route]) {
    let mut reals: BTreeMap<&str, &Route> = BTreeMap::new();
    for route in routes {
        let first = *reals.entry(&route.real_topic).or_insert(route);
        if first.topic != route.topic {
            input.problems.push(Problem {
                what: format!(
                    "the topics {} and {} are both {}",
                    first.topic, route.topic, route.real_topic
                ),
                at: vec![first.origin.clone(), route.origin.clone()],
                fix: "use one name for it in all routes".into(),
            });
        }
    }
}

fn check_plugin(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.starts_with('.') || name.len() > 128 || !name.chars().all(legal) {
        return Err(
            "a plugin's name has 1 to 128 letters, digits, _, - and ., and is not a path".into(),
        );
    }
    if name.ends_with(".wasm") {
        return Err("which .wasm is added to".into());
    }
    Ok(())
}

fn check_type(name: &str) -> Result<(), String> {
    let legal = name.trim() == name && !name.is_empty() && name.len() <= 200;
    legal
        .then_some(())
        .ok_or_else(|| "a task type has 1 to 200 characters and no blanks around".into())
}
