//! Approves invoices: small ones at once, others by a person, with a reminder and an expiry.
//!
//! ```text
//!  submitted ──► up to the limit? ──yes──► approved ──► message to `payments`
//!                      │ no
//!                      ▼           ┌── timer `reminder`: message to `invoice-notices`, and again
//!                   waiting ◄──────┘
//!                      │ approved by somebody else ──► approved ──► message to `payments`
//!                      │ declined                  ──► declined
//!                      └ timer `expiry`            ──► expired  ──► message to `invoice-notices`
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskhost_sdk::{
    Context, Decision, Description, Outgoing, Plugin, Rejection, Task, TaskId, Timestamp,
    Transition, Wakeup,
};

#[cfg(test)]
mod tests;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// The plugin.
struct InvoiceApproval;

/// The route's `[config]` table.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct Config {
    /// Invoices up to this amount are approved at once.
    limit_cents: u64,
    /// How often a reminder is sent for a waiting invoice.
    remind_after_hours: u32,
    /// The longest time that an invoice waits.
    expire_after_hours: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limit_cents: 50_000,
            remind_after_hours: 24,
            expire_after_hours: 24 * 14,
        }
    }
}

/// What happened to an invoice: the body of a message on `invoices`.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Message {
    Submitted(Invoice),
    Approved { by: String },
    Declined { by: String, reason: String },
}

/// The task's data.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Invoice {
    supplier: String,
    amount_cents: u64,
    submitted_by: String,
    #[serde(default)]
    reminders: u32,
}

/// The event data of a person's decision.
#[derive(Serialize)]
struct Verdict<'a> {
    by: &'a str,
    reason: Option<&'a str>,
}

/// The body of a message to `payments`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Payment<'a> {
    payment_id: String,
    invoice_id: &'a str,
    supplier: &'a str,
    amount_cents: u64,
}

/// The body of a message to `invoice-notices`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notice<'a> {
    invoice_id: &'a str,
    notice: &'a str,
    waiting_since: Timestamp,
}

impl Plugin for InvoiceApproval {
    type Config = Config;
    type Message = Message;

    fn check(config: &Config) -> Result<(), String> {
        if config.remind_after_hours == 0 {
            return Err("remind_after_hours must be at least 1".to_owned());
        }
        if config.remind_after_hours >= config.expire_after_hours {
            return Err("remind_after_hours must be less than expire_after_hours".to_owned());
        }
        Ok(())
    }

    fn describe(_: &Config) -> Description {
        Description::new("invoice-approval", env!("CARGO_PKG_VERSION"))
            .initial("waiting")
            .initial_and_terminal("approved")
            .terminal("declined")
            .terminal("expired")
            .transition("waiting", "waiting")
            .transition("waiting", "approved")
            .transition("waiting", "declined")
            .transition("waiting", "expired")
            .consumes("invoices")
            .produces("payments")
            .produces("invoice-notices")
            .event("invoice.submitted")
            .event("invoice.reminded")
            .event("invoice.approved")
            .event("invoice.declined")
            .event("invoice.expired")
            .task_id(TaskId::Body("/invoiceId"))
    }

    fn validate(_: &Config, message: Message, _: &Context) -> Result<Message, Rejection> {
        match &message {
            Message::Submitted(invoice) if invoice.amount_cents == 0 => {
                Err(Rejection::new("invalid-amount", "amountCents is 0"))
            }
            _ => Ok(message),
        }
    }

    fn transition(
        config: &Config,
        task: Option<&Task>,
        message: Message,
        context: &Context,
    ) -> Result<Decision, Rejection> {
        match (message, task) {
            (Message::Submitted(invoice), None) => Ok(submit(config, &invoice, context)),
            (Message::Submitted(_), Some(_)) => {
                Ok(Decision::ignore("the invoice was submitted before"))
            }
            // The submission may be on another partition.
            (_, None) => Ok(Decision::defer(
                "the invoice is not submitted yet",
                Duration::from_secs(1),
            )),
            (_, Some(task)) if task.status() != "waiting" => {
                Ok(Decision::ignore("the invoice is settled"))
            }
            (Message::Approved { by }, Some(task)) => {
                let invoice: Invoice = task.data()?;
                if by == invoice.submitted_by {
                    let reason = "nobody approves an invoice of their own";
                    return Err(Rejection::new("own-invoice", reason));
                }
                let verdict = Verdict {
                    by: &by,
                    reason: None,
                };
                Ok(approve(&invoice, context)
                    .event("invoice.approved", &verdict)
                    .into())
            }
            (Message::Declined { by, reason }, Some(task)) => {
                let verdict = Verdict {
                    by: &by,
                    reason: Some(&reason),
                };
                Ok(settle("declined", &task.data()?)
                    .event("invoice.declined", &verdict)
                    .into())
            }
        }
    }

    fn wakeup(
        config: &Config,
        task: &Task,
        wakeup: &Wakeup,
        context: &Context,
    ) -> Result<Decision, Rejection> {
        if task.status() != "waiting" {
            return Ok(Decision::ignore("the invoice is settled"));
        }
        let mut invoice: Invoice = task.data()?;
        let notice = |notice| {
            let waiting_since = task.created_at();
            let notice = Notice {
                invoice_id: task.id(),
                notice,
                waiting_since,
            };
            Outgoing::to("invoice-notices", &notice)
        };
        if wakeup.name() == "expiry" {
            let expired = settle("expired", &invoice).event("invoice.expired", &());
            return Ok(expired.send(notice("expired")).into());
        }
        invoice.reminders += 1;
        Ok(Transition::to("waiting")
            .data(&invoice)
            .event("invoice.reminded", &())
            .send(notice("reminder"))
            .set_timer(
                "reminder",
                context.now().after(HOUR * config.remind_after_hours),
                &(),
            )
            .into())
    }
}

fn submit(config: &Config, invoice: &Invoice, context: &Context) -> Decision {
    if invoice.amount_cents <= config.limit_cents {
        let verdict = Verdict {
            by: "the limit",
            reason: None,
        };
        let approved = approve(invoice, context).event("invoice.submitted", invoice);
        return approved.event("invoice.approved", &verdict).into();
    }
    let now = context.now();
    Transition::to("waiting")
        .data(invoice)
        .event("invoice.submitted", invoice)
        .set_timer("reminder", now.after(HOUR * config.remind_after_hours), &())
        .set_timer("expiry", now.after(HOUR * config.expire_after_hours), &())
        .into()
}

fn approve(invoice: &Invoice, context: &Context) -> Transition {
    let payment = Payment {
        payment_id: context.uuid("payment").to_string(),
        invoice_id: context.task_id(),
        supplier: &invoice.supplier,
        amount_cents: invoice.amount_cents,
    };
    settle("approved", invoice).send(Outgoing::to("payments", &payment))
}

/// The last transition of an invoice: no timer remains.
fn settle(status: &str, invoice: &Invoice) -> Transition {
    Transition::to(status)
        .data(invoice)
        .cancel_timer("reminder")
        .cancel_timer("expiry")
}

taskhost_sdk::export!(InvoiceApproval);
