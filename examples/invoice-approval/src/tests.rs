//! An invoice's ways from its submission to its end.

use serde_json::{Value, json};
use taskhost_sdk::testing::{self, Applied, Case, TimerOrder, message, wakeup};

use super::*;

fn submitted(amount_cents: u64) -> Case {
    message(json!({
        "kind": "submitted", "invoiceId": "i-1",
        "supplier": "Acme", "amountCents": amount_cents, "submittedBy": "jo",
    }))
}

fn said(kind: &str, by: &str) -> Case {
    message(json!({"kind": kind, "invoiceId": "i-1", "by": by, "reason": "too dear"}))
}

fn applied(case: Case) -> Applied {
    case.decide::<InvoiceApproval>().applied()
}

fn waiting() -> Task {
    applied(submitted(50_001)).task
}

fn kinds(applied: &Applied) -> Vec<&str> {
    applied
        .events
        .iter()
        .map(|(kind, _)| kind.as_str())
        .collect()
}

fn cancelled(applied: &Applied) -> bool {
    applied.timers == ["reminder", "expiry"].map(|name| TimerOrder::Cancel(name.to_owned()))
}

#[test]
fn an_invoice_up_to_the_limit_is_approved_and_paid_at_once() {
    let approved = applied(submitted(50_000));
    assert_eq!(approved.status, "approved");
    assert_eq!(kinds(&approved), ["invoice.submitted", "invoice.approved"]);
    assert_eq!(approved.messages[0].topic, "payments");
    assert_eq!(approved.messages[0].body["amountCents"], 50_000);
    assert_eq!(approved.messages[0].body["invoiceId"], "i-1");
}

#[test]
fn the_limit_is_the_routes() {
    let limit = |cents: u64| json!({"limit_cents": cents});
    assert_eq!(applied(submitted(100).config(limit(99))).status, "waiting");
    assert_eq!(
        applied(submitted(100).config(limit(100))).status,
        "approved"
    );
}

#[test]
fn a_larger_invoice_waits_with_a_reminder_and_an_end() {
    let config = json!({"remind_after_hours": 1, "expire_after_hours": 3});
    let waiting = applied(submitted(50_001).at("2024-01-01T12:00:00Z").config(config));
    assert_eq!(waiting.status, "waiting");
    assert_eq!(waiting.messages, []);
    let due = |name: &str, time: &str| TimerOrder::Set {
        name: name.to_owned(),
        due: Timestamp::parse(time).expect("a time"),
        data: Value::Null,
    };
    assert_eq!(
        waiting.timers,
        [
            due("reminder", "2024-01-01T13:00:00Z"),
            due("expiry", "2024-01-01T15:00:00Z")
        ]
    );
}

#[test]
fn somebody_else_approves_it_and_it_is_paid() {
    let approved = applied(said("approved", "kim").on(waiting()));
    assert_eq!(approved.status, "approved");
    assert_eq!(approved.events[0].1, json!({"by": "kim", "reason": null}));
    assert_eq!(approved.messages[0].topic, "payments");
    assert!(cancelled(&approved));

    let own = said("approved", "jo")
        .on(waiting())
        .decide::<InvoiceApproval>();
    assert_eq!(own.rejected(), "own-invoice");
}

#[test]
fn a_declined_invoice_is_not_paid() {
    let declined = applied(said("declined", "kim").on(waiting()));
    assert_eq!(declined.status, "declined");
    assert_eq!(declined.messages, []);
    assert!(cancelled(&declined));
}

#[test]
fn a_waiting_invoice_is_brought_to_mind_again_and_again() {
    let first = applied(
        wakeup("reminder", ())
            .at("2024-01-02T00:00:00Z")
            .on(waiting()),
    );
    assert_eq!(first.status, "waiting");
    assert_eq!(first.messages[0].topic, "invoice-notices");
    assert_eq!(
        first.messages[0].body,
        json!({"invoiceId": "i-1", "notice": "reminder", "waitingSince": "2024-01-01T00:00:00.000Z"})
    );
    assert_eq!(first.timers.len(), 1);
    let second = applied(wakeup("reminder", ()).on(first.task));
    assert_eq!(second.data["reminders"], 2);
}

#[test]
fn a_waiting_invoice_expires() {
    let expired = applied(wakeup("expiry", ()).on(waiting()));
    assert_eq!(expired.status, "expired");
    assert_eq!(expired.messages[0].body["notice"], "expired");
    assert!(cancelled(&expired));
}

#[test]
fn a_settled_invoice_stays_as_it_is() {
    for status in ["approved", "declined", "expired"] {
        for kind in ["approved", "declined"] {
            let task = testing::task("i-1", status, json!({}));
            said(kind, "kim")
                .on(task)
                .decide::<InvoiceApproval>()
                .ignored();
        }
        for timer in ["reminder", "expiry"] {
            let task = testing::task("i-1", status, json!({}));
            wakeup(timer, ())
                .on(task)
                .decide::<InvoiceApproval>()
                .ignored();
        }
    }
    submitted(1)
        .on(waiting())
        .decide::<InvoiceApproval>()
        .ignored();
}

#[test]
fn a_verdict_waits_for_its_invoice() {
    let early = said("approved", "kim").decide::<InvoiceApproval>();
    assert_eq!(early.deferred(), Duration::from_secs(1));
}

#[test]
fn what_is_no_invoice_is_rejected() {
    assert_eq!(
        submitted(0).decide::<InvoiceApproval>().rejected(),
        "invalid-amount"
    );
    let unknown = said("shredded", "kim").decide::<InvoiceApproval>();
    assert_eq!(unknown.rejected(), "invalid-body");
}

#[test]
fn a_reminder_after_the_end_is_a_wrong_configuration() {
    let check = |remind_after_hours, expire_after_hours| {
        InvoiceApproval::check(&Config {
            remind_after_hours,
            expire_after_hours,
            ..Config::default()
        })
    };
    assert_eq!(check(1, 2), Ok(()));
    assert!(check(2, 2).is_err());
    assert!(check(0, 2).is_err());
}
