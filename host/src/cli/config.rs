//! `taskhost config`: the effective values, and the origin of each.

use clap::Args;
use comfy_table::Table;
use serde_json::{Value, json};

use super::output::{self, table};
use super::{EXIT_CODES, Failure, Global, Output};
use crate::config::value::MASK;
use crate::config::{Config, Loaded};

/// Show the effective configuration, and the origin of each value; secrets are masked.
///
/// Reads file and environment exactly as `run` does, connects to nothing, and lists every problem. Uses the broker and
/// database of a `taskhost dev` that runs here if nothing else is set.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  KAFKA_BROKERS=kafka:9092 taskhost config\n  taskhost config --json | jq -r 'select(.origin != \"default\")'\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let loaded = global.load()?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let text = if arguments.output.json {
        lines(&loaded)
    } else {
        tables(&loaded)
    };
    output::print(&text)
}

/// One JSON object a line: settings, then topics, then routes.
fn lines(loaded: &Loaded) -> String {
    let settings = loaded.origins.iter().map(|row| {
        json!({
            "key": row.setting.key,
            "env": row.setting.env,
            "value": row.value,
            "origin": row.origin.to_string(),
        })
    });
    let topics = loaded
        .config
        .topics
        .iter()
        .map(|(logical, real)| json!({ "topic": logical, "real": real }));
    let routes = loaded.config.routes.iter().map(|route| {
        json!({
            "route": route.name,
            "topic": route.real_topic,
            "taskType": route.task_type,
            "defaultTaskType": route.default_task_type,
            "onDeadLetter": crate::config::on_dead_letter_name(route.on_dead_letter),
            "file": loaded.config.plugins.file(&route.plugin).display().to_string(),
            "config": masked(&route.config),
            "origin": route.origin.to_string(),
        })
    });
    settings
        .chain(topics)
        .chain(routes)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// A plugin's configuration without secrets: a plugin needs none, but somebody may have given it one.
fn masked(config: &Value) -> Value {
    const SECRETS: [&str; 3] = ["password", "secret", "token"];
    match config {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let lower = name.to_ascii_lowercase();
                let secret = SECRETS.iter().any(|word| lower.contains(word));
                let shown = if secret { MASK.into() } else { masked(value) };
                (name.clone(), shown)
            })
            .collect(),
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

fn tables(loaded: &Loaded) -> String {
    let mut settings = table(["setting", "value", "from"]);
    for row in loaded.origins.iter() {
        settings.add_row([row.setting.key, &row.value, &row.origin.to_string()]);
    }
    format!(
        "{}\n{}",
        output::text(&settings),
        output::text(&routes(&loaded.config))
    )
}

fn routes(config: &Config) -> Table {
    let mut routes = table(["route", "topic", "plugin", "from"]);
    for route in &config.routes {
        let file = config.plugins.file(&route.plugin).display().to_string();
        routes.add_row([
            &route.name,
            &route.real_topic,
            &file,
            &route.origin.to_string(),
        ]);
    }
    routes
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn loaded() -> Loaded {
        let toml = "[kafka]\ngroup_id = \"g\"\n[topics]\ninvoices = \"acme.invoices\"\n";
        let env = [
            ("DATABASE_URL", "postgres://u:hunter2@db/x"),
            ("KAFKA_SASL_ENABLED", "1"),
            ("KAFKA_SASL_USERNAME", "u"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
        ];
        let env = env
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::parse(Some((Path::new("taskhost.toml"), toml)), env).expect("a configuration")
    }

    #[test]
    fn json_has_a_line_for_each_setting_topic_and_route_and_masks_secrets() {
        let text = lines(&loaded());
        for line in [
            r#"{"env":"KAFKA_GROUP_ID","key":"kafka.group_id","origin":"taskhost.toml:2","value":"g"}"#,
            r#"{"env":"KAFKA_SASL_PASSWORD","key":"kafka.sasl_password","origin":"env KAFKA_SASL_PASSWORD","value":"***"}"#,
            r#"{"env":"DATABASE_URL","key":"database.url","origin":"env DATABASE_URL","value":"postgres://u:***@db/x"}"#,
            r#"{"real":"acme.invoices","topic":"invoices"}"#,
            r#"{"config":{},"defaultTaskType":"web-crawl","file":"plugins/task_status.wasm","onDeadLetter":"go-on","origin":"default","route":"task-status","taskType":null,"topic":"task-status"}"#,
        ] {
            assert!(text.lines().any(|each| each == line), "{line} in\n{text}");
        }
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn what_looks_like_a_secret_in_a_plugins_configuration_is_masked() {
        let config = json!({ "limit": 1, "api": [{ "authToken": "hunter2", "url": "x" }] });
        let shown = json!({ "limit": 1, "api": [{ "authToken": "***", "url": "x" }] });
        assert_eq!(masked(&config), shown);
    }

    #[test]
    fn the_table_says_the_same_to_people() {
        let text = tables(&loaded());
        for part in [
            "kafka.group_id",
            "taskhost.toml:2",
            "env DATABASE_URL",
            "plugins/web_crawl.wasm",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("hunter2"));
    }
}
