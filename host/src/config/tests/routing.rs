//! Routes and topics.

use expect_test::expect;

use super::{bad, good};
use crate::config::Origin;

#[test]
fn without_routes_the_two_shipped_ones_apply_on_the_configured_topics() {
    let loaded = good("", &["TASK_STATUS_TOPIC=acme.status"]);
    let routes: Vec<(&str, &str, &str, Option<&str>)> = loaded
        .config
        .routes
        .iter()
        .map(|route| {
            let kind = route.default_task_type.as_deref();
            (
                route.name.as_str(),
                route.real_topic.as_str(),
                route.plugin.as_str(),
                kind,
            )
        })
        .collect();
    assert_eq!(
        routes,
        [
            (
                "requests-web-crawl",
                "requests-web-crawl",
                "web_crawl",
                Some("web-crawl")
            ),
            (
                "task-status",
                "acme.status",
                "task_status",
                Some("web-crawl")
            ),
        ]
    );
    assert!(
        loaded
            .config
            .routes
            .iter()
            .all(|route| route.origin == Origin::Default)
    );
}

#[test]
fn a_route_has_a_real_topic_a_file_and_a_configuration() {
    let toml = r#"
        [[route]]
        topic = "invoices"
        task_type = "invoice"
        default_task_type = "invoice"
        plugin = "invoice_approval"
        [route.config]
        limit_cents = 100_000
        since = 2024-01-01
        nested = { share = 0.5, tags = ["a", "b"], on = true }

        [[route]]
        topic = "invoices"
        plugin = "other"

        [topics]
        invoices = "acme.invoices"
        receipts = "acme.receipts"

        [plugins]
        dir = "lib"
    "#;
    let config = good(toml, &[]).config;
    let [first, second] = config.routes.as_slice() else {
        panic!("two routes")
    };
    assert_eq!(
        (first.name.as_str(), second.name.as_str()),
        ("invoices/invoice", "invoices")
    );
    assert_eq!(first.real_topic, "acme.invoices");
    assert_eq!(
        config.plugins.file(&first.plugin).to_str(),
        Some("lib/invoice_approval.wasm")
    );
    expect![[r#"{"limit_cents":100000,"nested":{"on":true,"share":0.5,"tags":["a","b"]},"since":"2024-01-01"}"#]]
        .assert_eq(&first.config.to_string());
    assert_eq!(second.config.to_string(), "{}");
    assert_eq!(config.topics.real("receipts"), "acme.receipts");
    assert_eq!(config.topics.real("unmapped"), "unmapped");
}

#[test]
fn routes_that_leave_something_open_are_refused() {
    let toml = r#"[[route]]
topic = "a"
plugin = "x"
default_task_type = "k"
[[route]]
topic = "a"
plugin = "../y"
default_task_type = "l"
plugin_config = 1
[[route]]
plugin = "z.wasm"
[[route]]
topic = "b"
plugin = 1
[[route]]
topic = "c"
plugin = "c"
[route.config]
ratio = nan
[topics]
c = "a"
d = "no good"
"#;
    expect![[r#"
        the configuration has 11 problems:
          - unknown key route.plugin_config (taskhost.toml:9): remove it; what the plugin reads goes into [route.config]
          - route.plugin is a integer (taskhost.toml:14): write it as a text in quotes
          - route.config holds nan, which is not a JSON number (taskhost.toml:18): write a value that JSON has
          - topics.d is "no good", a topic's name can't contain ' ' (taskhost.toml:22): write the name of a Kafka topic
          - route.plugin is "../y", a plugin's name has 1 to 128 letters, digits, _, - and ., and is not a path (taskhost.toml:7): correct plugin
          - route.plugin is "z.wasm", which .wasm is added to (taskhost.toml:11): correct plugin
          - a route has no topic (taskhost.toml:10): add topic = "…" to it
          - a route has no plugin (taskhost.toml:12): add plugin = "…" to it
          - two routes take the same messages: a (taskhost.toml:1, taskhost.toml:5): remove one, or give one a task_type
          - two routes of topic a have different default_task_type (taskhost.toml:1, taskhost.toml:5): keep one of them
          - the topics a and c are both a (taskhost.toml:1, taskhost.toml:15): use one name for it in all routes"#]]
    .assert_eq(&bad(toml, &[]));
}
