//! The table of inputs: what is sent, and what becomes of it.

use serde_json::{Value, json};
use taskhost_tests::Message;

use super::topics::{REQUESTS, STATUS, THINGS};

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Becomes {
    Applied,
    Ignored,
    /// A dead letter of that code, the record on the dead letter topic whole.
    Dead(&'static str),
    /// A dead letter of that code, whole as a row; the record has not room for all of it.
    DeadCut(&'static str),
}

use Becomes::{Applied, Dead, DeadCut, Ignored};

/// Where, how it is made, and its end.
pub(super) type Case = (&'static str, fn(Message) -> Message, Becomes);

/// 10 MiB.
const LARGE: usize = 10 << 20;
/// Deeper than any reader goes.
const DEEP: usize = 10_000;
/// A trace of somebody else's.
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// 99999-12-31T00:00:00Z, in milliseconds.
const YEAR_99999: i64 = 3_093_527_894_400_000;

/// A list of cases; the formatter leaves a macro's lines as they are, so each case stays one.
macro_rules! cases {
    ($($case:expr,)+) => { &[$($case),+] };
}

pub(super) fn all() -> Vec<Case> {
    let parts = [
        BYTES, TEXTS, NUMBERS, NESTING, LARGE_ONES, IDS, KEYS, FIELDS, ENVELOPES, TYPES, TIMES,
        UPDATES, WANTED, PLUGINS,
    ];
    parts.concat()
}

/// No value, and bytes that are no text.
const BYTES: &[Case] = cases! {
    (STATUS, |m| m, Dead("tombstone")),
    (STATUS, |m| m.value(""), Dead("empty-value")),
    (STATUS, |m| m.value([0xff]), Dead("not-utf8")),
    (STATUS, |m| m.value([b"{\"a\": \"".as_slice(), &[0xff, 0xfe], b"\"}"].concat()), Dead("not-utf8")),
    // A surrogate in UTF-8, an overlong slash, a character cut off, Latin-1.
    (STATUS, |m| m.value(*b"{\"a\": \"\xed\xa0\x80\"}"), Dead("not-utf8")),
    (STATUS, |m| m.value(*b"{\"a\": \"\xc0\xaf\"}"), Dead("not-utf8")),
    (STATUS, |m| m.value(*b"{\"a\": \"\xe2\x82"), Dead("not-utf8")),
    (STATUS, |m| m.value(*b"{\"a\": \"caf\xe9\"}"), Dead("not-utf8")),
    // UTF-16 with and without its mark, gzip, a schema registry's frame.
    (STATUS, |m| m.value(*b"\xff\xfe{\0}\0"), Dead("not-utf8")),
    (STATUS, |m| m.value(*b"{\0}\0"), Dead("not-json")),
    (STATUS, |m| m.value(*b"\x1f\x8b\x08\0\0\0\0\0"), Dead("not-utf8")),
    (STATUS, |m| m.value(*b"\0\0\0\0\x07\x02a"), Dead("not-json")),
    (STATUS, |m| m.value("\u{feff}{\"status\": \"new\"}"), Dead("not-json")),
};

/// Texts that are no JSON object, or one that readers disagree on.
const TEXTS: &[Case] = cases! {
    (STATUS, |m| m.value("hello"), Dead("not-json")),
    (STATUS, |m| m.value("   \n\t "), Dead("not-json")),
    (STATUS, |m| m.value("\0"), Dead("not-json")),
    (STATUS, |m| m.value("{"), Dead("not-json")),
    (STATUS, |m| m.value(r#"{"status": "new"} {}"#), Dead("not-json")),
    (STATUS, |m| m.value(r#"{"status": "new",}"#), Dead("not-json")),
    (STATUS, |m| m.value("{'status': 'new'}"), Dead("not-json")),
    (STATUS, |m| m.value("{status: \"new\"}"), Dead("not-json")),
    (STATUS, |m| m.value("{\"status\": \"new\", // a note\n}"), Dead("not-json")),
    (STATUS, |m| m.value("{\"status\": \"ne\nw\"}"), Dead("not-json")),
    (STATUS, |m| m.value(r#"{"status": "\x6eew"}"#), Dead("not-json")),
    (STATUS, |m| m.value(r#"{"status": "\u12"}"#), Dead("not-json")),
    (STATUS, |m| m.value("\u{a0}{\"status\": \"new\"}"), Dead("not-json")),
    (STATUS, |m| m.value("null"), Dead("not-an-object")),
    (STATUS, |m| m.value("7"), Dead("not-an-object")),
    (STATUS, |m| m.value("\"{}\""), Dead("not-an-object")),
    (STATUS, |m| m.value(r#"[{"status": "new"}]"#), Dead("not-an-object")),
    (STATUS, |m| m.value(r#"{"status": "new", "note": "\u0000"}"#), Dead("nul-character")),
    (STATUS, |m| m.value(r#"{"status": "new", "a\u0000b": 1}"#), Dead("nul-character")),
    (STATUS, |m| m.value(r#"{"status": "new", "note": "\ud800"}"#), Dead("lone-surrogate")),
    (STATUS, |m| m.value(r#"{"status": "new", "note": "\udc00"}"#), Dead("lone-surrogate")),
    (STATUS, |m| m.value(r#"{"status": "new", "note": "\ud83d\u0041"}"#), Dead("lone-surrogate")),
    (STATUS, |m| m.value(r#"{"status": "new", "\ud800": 1}"#), Dead("lone-surrogate")),
    (STATUS, |m| m.value(r#"{"status": "new", "status": "new"}"#), Dead("duplicate-key")),
    (STATUS, |m| m.value(r#"{"status": "new", "st\u0061tus": "started"}"#), Dead("duplicate-key")),
    (STATUS, |m| m.value(r#"{"status": "new", "note": [{"b": 1, "b": 1}]}"#), Dead("duplicate-key")),
    // And texts that only look odd.
    (STATUS, |m| m.value("\r\n\t {\"status\":\"new\"} \n"), Applied),
    (STATUS, |m| m.value(r#"{"st\u0061tus": "new", "note": "\ud83d\ude00"}"#), Applied),
    (STATUS, |m| m.value(r#"{"status": "new", "": "", "note": "\uffff\u0001"}"#), Applied),
};

const NUMBERS: &[Case] = cases! {
    (STATUS, |m| m.value(r#"{"status": "new", "note": 1e999}"#), Dead("number-out-of-range")),
    (STATUS, |m| m.value(r#"{"status": "new", "note": -1e999}"#), Dead("number-out-of-range")),
    (STATUS, |m| noted(m, &"9".repeat(400)), Dead("number-out-of-range")),
    (STATUS, |m| noted(m, "NaN"), Dead("not-json")),
    (STATUS, |m| noted(m, "-Infinity"), Dead("not-json")),
    (STATUS, |m| noted(m, "0x1f"), Dead("not-json")),
    (STATUS, |m| noted(m, "007"), Dead("not-json")),
    (STATUS, |m| noted(m, "+1"), Dead("not-json")),
    (STATUS, |m| noted(m, "1."), Dead("not-json")),
    (STATUS, |m| noted(m, "-0"), Applied),
    (STATUS, |m| noted(m, "18446744073709551616"), Applied),
    (STATUS, |m| noted(m, "1e-99999"), Applied),
    (STATUS, |m| noted(m, &format!("0.{}", "3".repeat(20_000))), Applied),
};

const NESTING: &[Case] = cases! {
    (STATUS, |m| noted(m, &nested("[", "]", DEEP)), Dead("nested-too-deep")),
    (STATUS, |m| noted(m, &nested("{\"a\":", "}", DEEP)), Dead("nested-too-deep")),
    (STATUS, |m| m.value("[".repeat(DEEP)), Dead("nested-too-deep")),
    (STATUS, |m| noted(m, &nested("[", "]", 127)), Dead("nested-too-deep")),
    // An event has its task's data two levels further down, and whoever reads it has such a bound, too.
    (STATUS, |m| noted(m, &nested("[", "]", 120)), Applied),
};

const LARGE_ONES: &[Case] = cases! {
    (STATUS, |m| m.value(vec![b'x'; LARGE]), Dead("not-json")),
    (STATUS, |m| m.value(format!("{{\"status\": \"new\"}}{}", " ".repeat(LARGE))), Applied),
    (STATUS, |m| noted(m, &format!("\"{}\"", "x".repeat(LARGE))), Dead("plugin-memory")),
    // It fits the task, and the record that would tell of it doesn't fit its topic.
    (STATUS, |m| noted(m, &format!("\"{}\"", "x".repeat(1_048_400))), Dead("plugin-answer-too-large")),
    // The dead letter topic of the requests takes 1 MiB: the rest stays in the row.
    (REQUESTS, |m| m.value(vec![b'x'; LARGE]), DeadCut("not-json")),
    (REQUESTS, |m| m.key(vec![b'k'; 2 << 20]), DeadCut("tombstone")),
    (REQUESTS, |m| m.header("large", vec![b'h'; 2 << 20]), DeadCut("tombstone")),
    (REQUESTS, |m| m.header("__connect.errors.topic", vec![b't'; 2 << 20]), Dead("tombstone")),
    (REQUESTS, |m| m.header("__connect.errors.offset", vec![b'7'; 700_000]), Dead("tombstone")),
    (REQUESTS, |m| m.key(vec![b'k'; 2 << 20]).value(wanted("q")), Applied),
    // What another tracing system wants to have passed on is not passed on at any price.
    (REQUESTS, |m| m.value(wanted("q")).header("traceparent", PARENT).header("tracestate", long_state()), Applied),
};

const IDS: &[Case] = cases! {
    (STATUS, |m| id(m, &json!("x".repeat(10_000))), Dead("invalid-task-id")),
    (STATUS, |m| id(m, &json!("x".repeat(201))), Dead("invalid-task-id")),
    (STATUS, |m| id(m, &json!("ü".repeat(200))), Applied),
    (STATUS, |m| id(m, &json!("")), Dead("invalid-task-id")),
    (STATUS, |m| id(m, &json!("\u{1}\u{7f}\u{1b}[31m\r\n")), Applied),
    (STATUS, |m| id(m, &json!("\u{202e}\u{feff}\u{fffd}'; DROP TABLE tasks; --")), Applied),
    (STATUS, |m| id(m, &json!("a\0b")), Dead("nul-character")),
    (STATUS, |m| id(m, &json!(5)), Dead("invalid-meta-field")),
    (STATUS, |m| id(m, &json!(["a"])), Dead("invalid-meta-field")),
    (STATUS, |m| id(m, &json!({})), Dead("invalid-meta-field")),
    (STATUS, |m| id(m, &json!(false)), Dead("invalid-meta-field")),
    // Absent: the key is the id.
    (STATUS, |m| id(m, &json!(null)), Applied),
    (REQUESTS, |m| m.value(wanted("q")).header("requestId", "r".repeat(10_000)), Dead("invalid-task-id")),
    (REQUESTS, |m| m.value(wanted("q")).header("requestId", ""), Dead("invalid-task-id")),
    (REQUESTS, |m| m.value(r#"{"requestId": 7}"#), Dead("invalid-meta-field")),
};

const KEYS: &[Case] = cases! {
    (STATUS, |m| id(m, &json!("without-a-key")).no_key(), Applied),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).no_key(), Dead("task-id-missing")),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).key(""), Dead("task-id-missing")),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).key([0xff]), Dead("invalid-task-id")),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).key("a\0b"), Dead("invalid-task-id")),
    (STATUS, |m| m.no_key(), Dead("tombstone")),
};

/// Record headers, and bodies that differ from them.
const FIELDS: &[Case] = cases! {
    (STATUS, |m| id(m, &json!("a")).header("taskId", "b"), Dead("task-id-mismatch")),
    (STATUS, |m| { id(m, &json!("h-1")).header("taskId", "b").header("taskId", "h-1") }, Applied),
    (STATUS, |m| { id(m, &json!("h-2")).header("taskId", "h-2").null_header("taskId") }, Applied),
    (STATUS, |m| id(m, &json!("h-3")).header("taskId", [0xff]), Dead("invalid-meta-field")),
    (STATUS, |m| id(m, &json!("h-4")).header("taskId", "h\0"), Dead("invalid-meta-field")),
    (STATUS, |m| id(m, &json!("h-5")).header("taskType", [0xc0]), Dead("invalid-meta-field")),
    (STATUS, |m| id(m, &json!("h-6")).header("taskid", "another name"), Applied),
    (STATUS, |m| { id(m, &json!("h-7")).header("traceId", [0xff]).header("spanId", "\0") }, Applied),
    (STATUS, |m| id(m, &json!("h-8")).header("traceparent", "00-nonsense-01"), Applied),
    (STATUS, |m| { id(m, &json!("h-9")).header("traceparent", [0xff]).header("tracestate", [0]) }, Applied),
    (STATUS, |m| { (0..5_000).fold(id(m, &json!("h-10")), |m, n| { m.header("many", format!("{n}")) }) }, Applied),
    (STATUS, |m| (0..5_000).fold(m, |m, n| m.header("many", format!("{n}"))), Dead("tombstone")),
    (STATUS, |m| { m.header("", "a header without a name").header("n\u{fc}", "\0") }, Dead("tombstone")),
};

const ENVELOPES: &[Case] = cases! {
    (STATUS, |m| m.value("{}"), Dead("invalid-body")),
    (STATUS, |m| enveloped(m, &json!(5)), Dead("invalid-body")),
    (STATUS, |m| enveloped(m, &json!([])), Dead("invalid-body")),
    (STATUS, |m| enveloped(m, &json!(null)), Dead("invalid-body")),
    (STATUS, |m| enveloped(m, &json!("{}")), Dead("invalid-body")),
    (STATUS, |m| enveloped(m, &json!({})), Applied),
    (STATUS, |m| m.json(&json!({"headers": {}, "message": "text"})), Dead("invalid-body")),
    (STATUS, |m| m.json(&json!({"headers": {}, "message": null})), Dead("invalid-body")),
    (STATUS, |m| m.json(&json!({"headers": {}, "message": []})), Dead("invalid-body")),
    (STATUS, |m| m.json(&json!({"headers": {}, "message": {}})), Dead("invalid-body")),
    (STATUS, |m| differing(m, "a", "b"), Dead("task-id-mismatch")),
    (STATUS, |m| enveloped(m, &json!({"taskId": 5})), Dead("invalid-meta-field")),
    (STATUS, |m| enveloped(m, &json!({"taskType": 5})), Dead("invalid-meta-field")),
    (STATUS, |m| enveloped(m, &json!({"taskType": ["a"]})), Dead("invalid-meta-field")),
    (STATUS, |m| enveloped(m, &json!({"taskType": {}})), Dead("invalid-meta-field")),
    (STATUS, |m| enveloped(m, &json!({"taskType": null, "requestType": null})), Applied),
    (STATUS, |m| enveloped(m, &json!({"timestamp": 1_704_067_200_000_u64})), Dead("invalid-meta-field")),
    (STATUS, |m| enveloped(m, &json!({"traceId": 5, "spanId": [], "other": {"a": [1]}})), Applied),
};

const TYPES: &[Case] = cases! {
    (REQUESTS, |m| m.value(wanted("q")).header("taskType", "video"), Dead("unknown-task-type")),
    (REQUESTS, |m| m.value(wanted("q")).header("requestType", ""), Dead("unknown-task-type")),
    (REQUESTS, |m| m.value(wanted("q")).header("requestType", "web-crawl"), Applied),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).header("taskType", ""), Dead("invalid-task-type")),
    (STATUS, |m| { m.value(r#"{"status": "new"}"#).header("taskType", "t".repeat(65)) }, Dead("invalid-task-type")),
    (THINGS, |m| m.value("{}"), Dead("task-type-missing")),
};

/// The record's own time, and times in headers and bodies.
const TIMES: &[Case] = cases! {
    (STATUS, |m| m.value(r#"{"status": "new"}"#).at(YEAR_99999), Dead("invalid-timestamp")),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).at(super::topics::AFTER_TIME), Dead("invalid-timestamp")),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).at(-1), Dead("invalid-timestamp")),
    (STATUS, |m| m.value(r#"{"status": "new"}"#).at(-86_400_000), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "noon"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, ""), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "1704067200000"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2024-01-01"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2024-01-01T00:00:00"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2024-13-01T00:00:00Z"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2023-02-29T00:00:00Z"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2024-01-01T24:00:00Z"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2024-01-01T00:00:00+25:00"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "99999-01-01T00:00:00Z"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "1969-12-31T23:59:59.9999Z"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "-0001-01-01T00:00:00Z"), Dead("invalid-timestamp")),
    (STATUS, |m| timed(m, "2024-01-01T00:00:00.123456789+01:00"), Applied),
    (STATUS, |m| m.value(r#"{"status": "new", "timestamp": 7}"#), Applied),
    (STATUS, |m| m.value(r#"{"status": "new", "timestamp": "noon"}"#), Applied),
};

/// Status messages that the shipped plugin rejects, and ends that contradict what was.
const UPDATES: &[Case] = cases! {
    (STATUS, |m| m.value(r#"{"status": "done"}"#), Dead("unknown-status")),
    (STATUS, |m| m.value(r#"{"status": "NEW"}"#), Dead("unknown-status")),
    (STATUS, |m| m.value(r#"{"status": ""}"#), Dead("unknown-status")),
    (STATUS, |m| m.value(r#"{"status": null}"#), Dead("invalid-body")),
    (STATUS, |m| m.value(r#"{"status": 1}"#), Dead("invalid-body")),
    (STATUS, |m| m.value(r#"{"status": "completed", "result": 5}"#), Dead("invalid-body")),
    (STATUS, |m| m.value(r#"{"status": "new", "startedAt": "noon"}"#), Dead("invalid-started-at")),
    (STATUS, |m| m.value(r#"{"status": "new", "finishedAt": "noon"}"#), Dead("invalid-finished-at")),
    (STATUS, |m| ends(m, "was-completed", "completed", "another"), Dead("illegal-transition")),
    (STATUS, |m| ends(m, "was-completed", "error", "first"), Dead("illegal-transition")),
    (STATUS, |m| ends(m, "was-completed", "completed", "first"), Ignored),
    (STATUS, |m| ends(m, "was-completed", "started", ""), Ignored),
    (STATUS, |m| ends(m, "was-completed", "new", ""), Ignored),
    (STATUS, |m| ends(m, "was-error", "completed", "first"), Dead("illegal-transition")),
    (STATUS, |m| ends(m, "was-error", "error", "another"), Dead("illegal-transition")),
    (STATUS, |m| ends(m, "was-error", "error", "first"), Ignored),
};

const WANTED: &[Case] = cases! {
    (REQUESTS, |m| email(m, "no address"), Dead("invalid-email")),
    (REQUESTS, |m| email(m, ""), Dead("invalid-email")),
    (REQUESTS, |m| email(m, "a@"), Dead("invalid-email")),
    (REQUESTS, |m| email(m, "@example.com"), Dead("invalid-email")),
    (REQUESTS, |m| email(m, "a b@example.com"), Dead("invalid-email")),
    (REQUESTS, |m| email(m, "Somebody <a@example.com>"), Dead("invalid-email")),
    (REQUESTS, |m| email(m, "a@example.com\n"), Dead("invalid-email")),
    (REQUESTS, |m| m.value(wanted("")), Dead("query-blank")),
    (REQUESTS, |m| m.value(wanted(" \t\n ")), Dead("query-blank")),
    (REQUESTS, |m| m.value(wanted("\u{3000}\u{2003}")), Dead("query-blank")),
    (REQUESTS, |m| m.value(wanted(&"q".repeat(10_001))), Dead("query-too-long")),
    (REQUESTS, |m| m.value(wanted(&"ü".repeat(10_000))), Applied),
    (REQUESTS, |m| url(m, ""), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "example.com"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "/a/path"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "//example.com"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "ftp://example.com"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "javascript:alert(1)"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "http://"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, "https://example.com:99999/"), Dead("invalid-url")),
    (REQUESTS, |m| url(m, &format!("https://example.com/{}", "u".repeat(8_192))), Dead("url-too-long")),
    (REQUESTS, |m| m.value(r#"{"userEmail": 5}"#), Dead("invalid-body")),
    (REQUESTS, |m| m.value("{}"), Dead("invalid-body")),
    (REQUESTS, |m| m.json(&request("a@example.com", "q", "https://a.example", "soon")), Dead("invalid-requested-at")),
};

/// Answers that the host doesn't take.
const PLUGINS: &[Case] = cases! {
    (THINGS, |m| thing(m, "undeclared-topic"), Dead("plugin-undeclared-topic")),
    (THINGS, |m| thing(m, "undeclared-status"), Dead("plugin-undeclared-status")),
    (THINGS, |m| thing(m, "undeclared-event"), Dead("plugin-undeclared-event")),
    (THINGS, |m| thing(m, "non-initial-status"), Dead("plugin-undeclared-transition")),
    (THINGS, |m| thing(m, "deep-json"), Dead("plugin-malformed-answer")),
    (THINGS, |m| thing(m, "huge-number"), Dead("plugin-malformed-answer")),
    (THINGS, |m| thing(m, "trap"), Dead("plugin-trap")),
    (THINGS, |m| thing(m, "recurse"), Dead("plugin-stack")),
    (THINGS, |m| thing(m, "allocate"), Dead("plugin-memory")),
    (THINGS, |m| thing(m, "reject"), Dead("told-to")),
};

fn noted(message: Message, note: &str) -> Message {
    message.value(format!(r#"{{"status": "new", "note": {note}}}"#))
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

fn id(message: Message, id: &Value) -> Message {
    message.json(&json!({"taskId": id, "status": "new"}))
}

fn timed(message: Message, timestamp: &str) -> Message {
    message
        .value(r#"{"status": "new"}"#)
        .header("timestamp", timestamp)
}

fn enveloped(message: Message, headers: &Value) -> Message {
    message.json(&json!({"headers": headers, "message": {"status": "new"}}))
}

fn differing(message: Message, body: &str, headers: &str) -> Message {
    message.json(
        &json!({"headers": {"taskId": headers}, "message": {"taskId": body, "status": "new"}}),
    )
}

fn long_state() -> String {
    let members: Vec<String> = (0..200_000).map(|number| format!("k{number}=v")).collect();
    members.join(",")
}

fn ends(message: Message, id: &str, status: &str, with: &str) -> Message {
    let mut body = json!({"taskId": id, "status": status});
    match status {
        "completed" => body["result"] = with.into(),
        "error" => body["error"] = with.into(),
        _ => {}
    }
    message.json(&body)
}

fn request(email: &str, query: &str, url: &str, at: &str) -> Value {
    json!({"userEmail": email, "userQuery": query, "originalUrl": url, "requestedAt": at})
}

const AT: &str = "2024-01-01T00:00:00Z";

fn wanted(query: &str) -> String {
    request("a@example.com", query, "https://example.com", AT).to_string()
}

fn email(message: Message, email: &str) -> Message {
    message.json(&request(email, "q", "https://example.com", AT))
}

fn url(message: Message, url: &str) -> Message {
    message.json(&request("a@example.com", "q", url, AT))
}

fn thing(message: Message, behaviour: &str) -> Message {
    message
        .header("taskType", "thing")
        .json(&json!({"misbehave": behaviour}))
}
