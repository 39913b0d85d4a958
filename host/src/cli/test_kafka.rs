//! `taskhost test-kafka`: tests the connection to the brokers, and lists their topics and missing rights.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::json;

use super::broker::{self, Cluster};
use super::output::{self, table};
use super::{EXIT_CODES, Failure, Global, Output};
use crate::config::Config;
use crate::kafka::{MissingRight, Resource};
use crate::{app, kafka};

/// Connect to Kafka with the configured brokers, TLS and login, list its topics, and name each missing right that a host
/// needs.
///
/// If it can't connect, it says why: refused, unknown host, the certificate, the login, no answer. With --json that is a
/// line too, with `cause`, `reason` and `nextStep`. To find out whether transactional ids may be used, it tries one that
/// no host uses: <prefix>-test-kafka.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  KAFKA_BROKERS=kafka:9092 taskhost test-kafka\n  taskhost test-kafka --json | jq -r 'select(.kind == \"topic\").name'\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) output: Output,
}

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let json = arguments.output.json;
    match broker::diagnose(&config) {
        Ok(cluster) => {
            let rights = broker::missing_rights(&config, &cluster)?;
            let shown = match json {
                true => lines(&config, &cluster) + &right_lines(&rights),
                false => tables(&config, &cluster),
            };
            output::print(&shown)?;
            if !rights.is_empty() {
                return Err(Failure::Failed(refused(&config, &rights)));
            }
        }
        Err(diagnosis) => {
            if json {
                let (cause, reason) = (diagnosis.cause, &diagnosis.reason);
                let line = json!({
                    "kind": "failure", "cause": cause.name(), "reason": reason, "nextStep": cause.next_step(),
                });
                output::print(&format!("{line}\n"))?;
            }
            return Err(broker::out_of_reach(&config, &diagnosis));
        }
    }
    Ok(())
}

/// What the host does with a topic.
fn role(config: &Config, name: &str) -> Option<&'static str> {
    let (consumed, produced) = (app::consumed(config), app::produced(config));
    match (consumed.contains(name), produced.contains(name)) {
        (true, true) => Some("read and written"),
        (true, false) => Some("read"),
        (false, true) => Some("written"),
        (false, false) => None,
    }
}

/// The topics that the host needs and the cluster doesn't have.
fn missing(config: &Config, topics: &[kafka::Topic]) -> Vec<String> {
    let there = |name: &String| topics.iter().any(|topic| topic.name == *name);
    let needed: BTreeSet<String> = app::consumed(config)
        .into_iter()
        .chain(app::produced(config))
        .collect();
    needed.into_iter().filter(|name| !there(name)).collect()
}

fn lines(config: &Config, cluster: &Cluster) -> String {
    let brokers = cluster
        .brokers
        .iter()
        .map(|broker| json!({ "kind": "broker", "id": broker.id, "address": broker.address }));
    let topics = cluster.topics.iter().map(|topic| {
        let role = role(config, &topic.name);
        json!({ "kind": "topic", "name": topic.name, "partitions": topic.partitions, "role": role })
    });
    let missing = missing(config, &cluster.topics)
        .into_iter()
        .map(|name| json!({ "kind": "missing-topic", "name": name, "role": role(config, &name) }));
    brokers
        .chain(topics)
        .chain(missing)
        .map(|line| format!("{line}\n"))
        .collect()
}

fn right_lines(rights: &[MissingRight]) -> String {
    let line = |right: &MissingRight| {
        json!({
            "kind": "missing-right", "operation": right.operation.name(),
            "resource": right.resource.kind(), "name": right.resource.name(),
        })
    };
    rights
        .iter()
        .map(|right| format!("{}\n", line(right)))
        .collect()
}

/// The missing rights, and the commands that grant them.
fn refused(config: &Config, rights: &[MissingRight]) -> String {
    let user = config.kafka.sasl_username.as_deref();
    let user = user
        .filter(|_| config.kafka.sasl_enabled)
        .unwrap_or("<user>");
    let server = config.kafka.brokers.join(",");
    let mut text =
        "this user lacks rights that a host needs; grant them (docs/kafka-security.md):".to_owned();
    for right in rights {
        let (operation, resource) = (right.operation.name(), &right.resource);
        let prefixed = match resource {
            Resource::TransactionalId(_) => " --resource-pattern-type prefixed",
            _ => "",
        };
        text.push_str(&format!(
            "\n  {right}:\n    kafka-acls.sh --bootstrap-server {server} --add --allow-principal User:{user} \
             --operation {operation} --{} {}{prefixed}",
            resource.kind(),
            resource.name()
        ));
    }
    text
}

fn tables(config: &Config, cluster: &Cluster) -> String {
    let mut brokers = table(["broker", "address"]);
    for broker in &cluster.brokers {
        brokers.add_row([broker.id.to_string(), broker.address.clone()]);
    }
    let mut topics = table(["topic", "partitions", "taskhost"]);
    for topic in &cluster.topics {
        let role = role(config, &topic.name).unwrap_or_default();
        topics.add_row([&topic.name, &topic.partitions.to_string(), role]);
    }
    let asked = config.kafka.brokers.join(",");
    let mut text = format!("connected to {asked}\n\n{}", output::text(&brokers));
    if !cluster.topics.is_empty() {
        text.push_str(&format!("\n{}", output::text(&topics)));
    }
    let missing = missing(config, &cluster.topics);
    if !missing.is_empty() {
        let then = match config.kafka.auto_create_topics {
            true => "a host creates them when it starts",
            false => "create them before a host starts, because KAFKA_AUTO_CREATE_TOPICS is false",
        };
        text.push_str(&format!("\nmissing: {}; {then}\n", missing.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn cluster() -> Cluster {
        let topic = |name: &str| kafka::Topic {
            name: name.to_owned(),
            partitions: 4,
        };
        Cluster {
            settings: kafka::Settings::default(),
            brokers: vec![kafka::Broker {
                id: 1,
                address: "kafka:9092".into(),
            }],
            topics: ["other", "requests-web-crawl", "task-events", "task-status"]
                .map(topic)
                .into(),
        }
    }

    fn config() -> Config {
        Config::load(None, std::iter::empty())
            .expect("the defaults")
            .config
    }

    #[test]
    fn people_see_what_is_there_and_what_is_missing() {
        expect![[r#"
            connected to localhost:9092

             broker  address
             1       kafka:9092

             topic               partitions  taskhost
             other               4
             requests-web-crawl  4           read and written
             task-events         4           written
             task-status         4           read and written

            missing: requests-web-crawl.dlq, task-status.dlq, taskhost-events; a host creates them when it starts
        "#]]
        .assert_eq(&tables(&config(), &cluster()));
    }

    #[test]
    fn each_missing_right_comes_with_the_command_that_grants_it() {
        let rights = [
            MissingRight::read("task-status"),
            MissingRight::transact("task-manager-group"),
        ];
        expect![[r#"
            this user lacks rights that a host needs; grant them (docs/kafka-security.md):
              no right to Read topic task-status:
                kafka-acls.sh --bootstrap-server localhost:9092 --add --allow-principal User:<user> --operation Read --topic task-status
              no right to Write transactional-id task-manager-group:
                kafka-acls.sh --bootstrap-server localhost:9092 --add --allow-principal User:<user> --operation Write --transactional-id task-manager-group --resource-pattern-type prefixed"#]].assert_eq(&refused(&config(), &rights));
        expect![[r#"
            {"kind":"missing-right","name":"task-status","operation":"Read","resource":"topic"}
            {"kind":"missing-right","name":"task-manager-group","operation":"Write","resource":"transactional-id"}
        "#]].assert_eq(&right_lines(&rights));
    }

    #[test]
    fn scripts_get_an_object_a_line() {
        expect![[r#"
            {"address":"kafka:9092","id":1,"kind":"broker"}
            {"kind":"topic","name":"other","partitions":4,"role":null}
            {"kind":"topic","name":"requests-web-crawl","partitions":4,"role":"read and written"}
            {"kind":"topic","name":"task-events","partitions":4,"role":"written"}
            {"kind":"topic","name":"task-status","partitions":4,"role":"read and written"}
            {"kind":"missing-topic","name":"requests-web-crawl.dlq","role":"written"}
            {"kind":"missing-topic","name":"task-status.dlq","role":"written"}
            {"kind":"missing-topic","name":"taskhost-events","role":"written"}
        "#]]
        .assert_eq(&lines(&config(), &cluster()));
    }
}
