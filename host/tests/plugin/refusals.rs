//! What can't decide is refused with a sentence that says why, and the current version stays active.

use std::sync::Arc;

use taskhost::plugin::{CatalogError, Component, Limits, Offer, Offered, Refused};

use crate::support::{Setting, catalog, engine, guest, quick};

fn reason(bytes: &[u8]) -> String {
    Component::compile(&engine(quick()), bytes)
        .expect_err("it is refused")
        .to_string()
}

/// A core module with one function of no use.
const CORE_MODULE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a\x04\x01\x02\0\x0b";

/// A component that imports nothing and exports nothing.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[test]
fn what_is_no_component_is_refused_with_what_it_is() {
    let component = guest("guest_swap_v1");
    for (bytes, says) in [
        (&b"#!/bin/sh\necho hello\n"[..], "but a text file"),
        (b"", "but an empty file"),
        (b"\x7fELF\xff\xfe\0\0", "but an unknown kind of file"),
        (
            CORE_MODULE,
            "but a core module; build it for the target wasm32-wasip2",
        ),
        (&component[..component.len() / 2], "it does not compile: "),
        (
            EMPTY_COMPONENT,
            "it lacks the export `configure` of the world taskhost:plugin/plugin@0.1.0",
        ),
    ] {
        let reason = reason(bytes);
        assert!(reason.contains(says), "{reason}");
    }
}

#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_compiled() {
    let limits = Limits {
        component_bytes_max: 1000,
        ..quick()
    };
    let refused =
        Component::compile(&engine(limits), &guest("guest_swap_v1")).expect_err("it is refused");
    assert!(
        matches!(
            refused,
            Refused::TooLarge {
                bytes_max: 1000,
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn a_refused_configuration_says_what_the_plugin_says() {
    let component = Component::compile(&engine(quick()), &guest("guest_refused_config"))
        .expect("it is a plugin");
    let refused = component.describe("{}").expect_err("it is refused");
    assert_eq!(
        refused.to_string(),
        "it refuses the route's configuration: this guest accepts no configuration"
    );
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    let component = Component::compile(&engine(quick()), &guest("guest_bad_descriptor"))
        .expect("it is a plugin");
    assert!(component.describe(r#"{"flaw":"none"}"#).is_ok());
    for flaw in [
        "no-initial-status",
        "terminal-with-transition",
        "undeclared-status",
        "no-statuses",
        "duplicate-status",
        "no-task-id",
        "bad-pointer",
        "bad-name",
        "consumes-nothing",
    ] {
        let refused = component
            .describe(&format!(r#"{{"flaw":"{flaw}"}}"#))
            .expect_err(flaw);
        assert!(
            matches!(refused, Refused::Description { .. }),
            "{flaw}: {refused}"
        );
    }
}

fn offer(bytes: Arc<[u8]>, config: &str) -> Offer {
    Offer {
        route: 0,
        bytes,
        config: config.into(),
        file: "it.wasm".to_owned(),
        by: "a test".to_owned(),
        reason: "to see".to_owned(),
        force: false,
        despite_rollback: false,
        seen: None,
    }
}

#[tokio::test]
async fn a_refused_file_is_told_everywhere_and_the_old_version_goes_on() {
    let Setting {
        catalog,
        versions,
        heard,
    } = catalog("swap", "swap", "{}");
    let good = catalog
        .offer(offer(guest("guest_swap_v1"), "{}"))
        .await
        .expect("it is good");
    assert!(matches!(good, Offered::Activated(_)));
    for bytes in [Arc::from(*b"text"), guest("guest_misbehave")] {
        catalog
            .offer(offer(bytes, "{}"))
            .await
            .expect_err("it is refused");
    }

    let active = catalog.current(0).expect("the old version goes on");
    assert_eq!(
        (active.version.version.as_str(), active.number),
        ("1.0.0", 1)
    );
    assert_eq!(versions.history("swap").len(), 1);
    let reasons: Vec<String> = catalog
        .refusals(0)
        .into_iter()
        .map(|refusal| refusal.reason)
        .collect();
    let expected = [
        "it is not a WebAssembly component but a text file",
        "it does not fit the route: the route's topic is `swap`, and it consumes `misbehave`",
    ];
    assert_eq!(reasons, expected);
    let told = expected.map(|reason| format!("swap refused: {reason}"));
    assert_eq!(heard.all()[1..], told);

    let api = serde_json::to_value(catalog.snapshot()).expect("it is JSON");
    assert_eq!(api[0]["route"], "swap");
    assert_eq!(api[0]["name"], "guest-swap");
    assert_eq!(api[0]["activation"], 1);
    assert_eq!(api[0]["refused"][0]["reason"], expected[0]);
    assert!(
        api[0]["since"]
            .as_str()
            .is_some_and(|since| since.ends_with('Z')),
        "{api}"
    );
}

#[tokio::test]
async fn a_plugin_that_sends_where_the_host_sends_nothing_is_refused() {
    let Setting { catalog, .. } = catalog("requests-web-crawl", "web_crawl", "{}");
    let error = catalog
        .offer(offer(guest("web_crawl"), "{}"))
        .await
        .expect_err("it is refused");
    assert!(
        matches!(error, CatalogError::Refused(Refused::Route { .. })),
        "{error}"
    );
    assert!(error.to_string().contains(
        "it produces to `task-status`, and the configuration maps no topic to that name"
    ));
}
