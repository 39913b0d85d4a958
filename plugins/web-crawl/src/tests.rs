//! The contract's rules for requests, each with a request that keeps it and one that breaks it.

use serde_json::{Value, json};
use taskhost_sdk::testing::{self, Case, Sent, message};

use super::*;

fn body() -> Value {
    json!({
        "userEmail": "user@example.com",
        "userQuery": "Find product information",
        "originalUrl": "https://example.com",
        "requestedAt": "2024-01-01T00:00:00.000Z",
    })
}

fn request(field: &str, value: impl Into<Value>) -> Case {
    let mut body = body();
    body[field] = value.into();
    message(body)
}

#[test]
fn a_request_creates_a_new_task_and_announces_it() {
    let created = message(body())
        .header("requestId", "r-1")
        .at("2024-05-06T07:08:09.010Z")
        .decide::<WebCrawl>()
        .applied();

    let mut data = body();
    data["receivedAt"] = "2024-05-06T07:08:09.010Z".into();
    assert_eq!(created.task.id(), "r-1");
    assert_eq!(created.status, "new");
    assert_eq!(created.data, data);
    assert_eq!(created.events, [("task.created".to_owned(), data)]);
    assert_eq!(created.timers, []);
    assert_eq!(
        created.messages,
        [Sent {
            topic: "task-status".to_owned(),
            key: None,
            body: json!({
                "taskId": "r-1",
                "userEmail": "user@example.com",
                "userQuery": "Find product information",
                "originalUrl": "https://example.com",
                "receivedAt": "2024-05-06T07:08:09.010Z",
                "status": "new",
            }),
            headers: vec![],
        }]
    );
}

#[test]
fn the_time_of_the_request_may_be_missing() {
    let mut body = body();
    body.as_object_mut()
        .expect("an object")
        .remove("requestedAt");
    let created = message(body).decide::<WebCrawl>().applied();
    assert_eq!(created.data.get("requestedAt"), None);

    let created = request("requestedAt", Value::Null)
        .decide::<WebCrawl>()
        .applied();
    assert_eq!(created.data.get("requestedAt"), None);
}

#[test]
fn the_same_request_id_twice_is_one_task() {
    for status in ["new", "started", "completed", "error"] {
        let task = testing::task("r-1", status, json!({}));
        request("requestId", "r-1")
            .on(task)
            .decide::<WebCrawl>()
            .ignored();
    }
}

#[test]
fn the_request_id_is_the_task_id_wherever_it_is() {
    let id = |case: Case| case.decide::<WebCrawl>().applied().task.id().to_owned();
    let all = request("requestId", "body")
        .envelope("requestId", "envelope")
        .header("requestId", "header");
    assert_eq!(id(all), "header");
    assert_eq!(
        id(request("requestId", "body").envelope("requestId", "envelope")),
        "envelope"
    );
    assert_eq!(id(request("requestId", "body").key("key")), "body");
}

#[test]
fn without_a_request_id_the_position_makes_the_task_id() {
    let id = |offset| {
        message(body())
            .position(3, offset)
            .key("k")
            .decide::<WebCrawl>()
            .applied()
            .task
            .id()
            .to_owned()
    };
    assert_eq!(id(7), id(7));
    assert_ne!(id(7), id(8));
}

#[test]
fn a_malformed_email_is_rejected() {
    for email in [
        "",
        "user",
        "user@",
        "@example.com",
        "a b@example.com",
        "a@b@c.com",
        "Jo <jo@example.com>",
        " jo@example.com",
    ] {
        assert_eq!(
            request("userEmail", email).decide::<WebCrawl>().rejected(),
            "invalid-email",
            "{email}"
        );
    }
    for email in [
        "a@b.co",
        "first.last+tag@sub.example.com",
        "user@localhost",
        "jörg@exämple.de",
    ] {
        assert_eq!(
            request("userEmail", email)
                .decide::<WebCrawl>()
                .applied()
                .status,
            "new",
            "{email}"
        );
    }
}

#[test]
fn a_blank_query_is_rejected() {
    for query in ["", " ", "\t\n\u{a0}"] {
        assert_eq!(
            request("userQuery", query).decide::<WebCrawl>().rejected(),
            "query-blank"
        );
    }
}

#[test]
fn a_query_is_counted_in_characters() {
    let longest = "ü".repeat(QUERY_CHARS_MAX);
    assert_eq!(
        request("userQuery", longest.as_str())
            .decide::<WebCrawl>()
            .applied()
            .status,
        "new"
    );
    assert_eq!(
        request("userQuery", longest + "x")
            .decide::<WebCrawl>()
            .rejected(),
        "query-too-long"
    );
}

#[test]
fn only_absolute_http_urls_are_crawled() {
    for url in [
        "",
        "example.com",
        "/path",
        "//example.com",
        "ftp://example.com",
        "http://",
        "https://a b.c",
        "javascript:alert(1)",
        "mailto:a@b.c",
    ] {
        assert_eq!(
            request("originalUrl", url).decide::<WebCrawl>().rejected(),
            "invalid-url",
            "{url}"
        );
    }
    for url in [
        "http://example.com",
        "HTTPS://EXAMPLE.COM/a?b#c",
        "http://127.0.0.1:8080",
        "https://[::1]/",
        "https://exämple.de/ü",
    ] {
        assert_eq!(
            request("originalUrl", url)
                .decide::<WebCrawl>()
                .applied()
                .status,
            "new",
            "{url}"
        );
    }
}

#[test]
fn a_url_is_counted_in_characters() {
    let prefix = "https://example.com/";
    let longest = format!("{prefix}{}", "a".repeat(URL_CHARS_MAX - prefix.len()));
    assert_eq!(
        request("originalUrl", longest.as_str())
            .decide::<WebCrawl>()
            .applied()
            .status,
        "new"
    );
    assert_eq!(
        request("originalUrl", longest + "a")
            .decide::<WebCrawl>()
            .rejected(),
        "url-too-long"
    );
}

#[test]
fn a_malformed_time_of_the_request_is_rejected() {
    for time in ["", "2024-01-01", "tomorrow"] {
        assert_eq!(
            request("requestedAt", time).decide::<WebCrawl>().rejected(),
            "invalid-requested-at"
        );
    }
}

#[test]
fn a_missing_field_or_one_of_another_type_is_named() {
    for field in ["userEmail", "userQuery", "originalUrl"] {
        let mut body = body();
        body.as_object_mut().expect("an object").remove(field);
        let answer = message(body).decide::<WebCrawl>();
        assert_eq!(answer.clone().rejected(), "invalid-body");
        assert_eq!(
            answer.rejected_because(),
            format!("missing field `{field}`")
        );

        let answer = request(field, 7).decide::<WebCrawl>();
        assert_eq!(answer.clone().rejected(), "invalid-body");
        assert_eq!(
            answer.rejected_because(),
            format!("field `{field}`: expected a string")
        );
    }
    assert_eq!(
        request("requestedAt", 7).decide::<WebCrawl>().rejected(),
        "invalid-body"
    );
}
