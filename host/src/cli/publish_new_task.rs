//! `taskhost publish-new-task`: sends a request for a web crawl, like the script of the replaced system.

use std::io::IsTerminal as _;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use taskhost_core::record::Record;
use uuid::Uuid;

use super::messages::Request;
use super::{EXIT_CODES, Failure, Global, Output, broker, output};
use crate::config::Config;
use crate::kafka::Sender;

/// Send web crawl requests, like any other producer.
///
/// Each becomes a task whose id is the requestId. With --bare, the message is that of the documented script: only the
/// body, with the key test-task-1. The task's id then comes from the message's position.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost publish-new-task --query 'Find product information' --count 3\n  id=$(taskhost publish-new-task --json | jq -r .requestId)\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// Send the bare body, without the envelope of headers and message.
    #[arg(long)]
    pub(super) bare: bool,
    /// How many requests to send.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: u32,
    /// The `userEmail` of the requests.
    #[arg(long, default_value = "test@example.com")]
    pub(super) email: String,
    /// The `userQuery` of the requests.
    #[arg(long, default_value = "Test query")]
    pub(super) query: String,
    /// The `originalUrl` of the requests.
    #[arg(long, default_value = "https://example.com")]
    pub(super) url: String,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Requests that are made and sent together, so that memory doesn't grow with their number.
const CHUNK: u32 = 1_000;

/// Ids in the output for people; a script gets all of them.
const IDS_SHOWN: usize = 10;

pub(super) fn run(arguments: &Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let cluster = broker::reach(&config)?;
    let sender = broker::sender(&cluster.settings)?;
    let bar = bar(arguments.count);
    let mut shown = Vec::new();
    let mut left = arguments.count;
    while left > 0 {
        let chunk = left.min(CHUNK);
        let ids = send(arguments, &config, &sender, chunk)?;
        left -= chunk;
        bar.inc(u64::from(chunk));
        if arguments.output.json {
            let text: String = ids
                .iter()
                .map(|id| line(arguments, &config, id.as_deref()))
                .collect();
            output::print(&text)?;
        } else {
            shown.extend(
                ids.into_iter()
                    .flatten()
                    .take(IDS_SHOWN.saturating_sub(shown.len())),
            );
        }
    }
    bar.finish_and_clear();
    if !arguments.output.json {
        output::print(&said(
            arguments,
            &config.topics.named.requests_web_crawl,
            &shown,
        ))?;
    }
    Ok(())
}

/// Sends some requests, and returns the id of each that has one.
fn send(
    arguments: &Arguments,
    config: &Config,
    sender: &Sender,
    count: u32,
) -> Result<Vec<Option<String>>, Failure> {
    let topic = &config.topics.named.requests_web_crawl;
    let Arguments {
        email, query, url, ..
    } = arguments;
    let request = Request { email, query, url };
    let made = (0..count).map(|_| {
        if arguments.bare {
            return (None, request.bare(topic));
        }
        let id = Uuid::new_v4().to_string();
        let record = request.envelope(topic, &id);
        (Some(id), record)
    });
    let (ids, records): (Vec<_>, Vec<Record>) = made.unzip();
    broker::send(sender, &records, config)?;
    Ok(ids)
}

fn line(arguments: &Arguments, config: &Config, id: Option<&str>) -> String {
    let topic = &config.topics.named.requests_web_crawl;
    let line = json!({ "topic": topic, "requestId": id, "bare": arguments.bare });
    format!("{line}\n")
}

fn said(arguments: &Arguments, topic: &str, ids: &[String]) -> String {
    let count = usize::try_from(arguments.count).unwrap_or(usize::MAX);
    let requests = if count == 1 { "request" } else { "requests" };
    let mut text = format!("sent {count} {requests} to {topic}\n");
    if arguments.bare {
        text.push_str("they have no requestId; `taskhost task list` shows their tasks\n");
        return text;
    }
    for id in ids {
        text.push_str(&format!("  requestId {id}\n"));
    }
    if count > ids.len() {
        text.push_str(&format!(
            "  … and {} more; --json lists them all\n",
            count - ids.len()
        ));
    }
    text
}

/// A progress bar, if there is a terminal and the number of requests takes a while; else a hidden one.
fn bar(count: u32) -> ProgressBar {
    if count <= CHUNK || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos}/{human_len}, {per_sec}, {eta} left");
    let bar = ProgressBar::new(u64::from(count));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use expect_test::expect;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(words: &[&str]) -> Arguments {
        let words = std::iter::once(&"publish-new-task").chain(words);
        Line::try_parse_from(words)
            .expect("good arguments")
            .arguments
    }

    #[test]
    fn people_are_shown_the_ids() {
        expect![[r#"
            sent 3 requests to requests-web-crawl
              requestId a
              requestId b
              … and 1 more; --json lists them all
        "#]]
        .assert_eq(&said(
            &arguments(&["--count", "3"]),
            "requests-web-crawl",
            &["a".into(), "b".into()],
        ));
        expect![[r#"
            sent 1 request to requests-web-crawl
            they have no requestId; `taskhost task list` shows their tasks
        "#]]
        .assert_eq(&said(&arguments(&["--bare"]), "requests-web-crawl", &[]));
    }

    #[test]
    fn scripts_get_a_line_for_each_request() {
        let config = Config::load(None, std::iter::empty())
            .expect("the defaults")
            .config;
        let envelope = line(&arguments(&["--json"]), &config, Some("a"));
        expect![[r#"
            {"bare":false,"requestId":"a","topic":"requests-web-crawl"}
        "#]]
        .assert_eq(&envelope);
    }

    #[test]
    fn none_is_not_a_count() {
        assert!(Line::try_parse_from(["publish-new-task", "--count", "0"]).is_err());
    }
}
