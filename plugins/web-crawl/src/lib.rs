//! Creates a task for each web-crawl request.
//!
//! Comes in: a request on `requests-web-crawl` (e-mail, query, URL, perhaps the time of the request).
//! Goes out: a task in the status `new`, the event `task.created`, and the message New Task on
//! `task-status`, whose plugin drives the task from there. A request whose id was seen before is ignored.
//! What can't be crawled or answered is rejected with a code that names the field.

use std::str::FromStr;

use email_address::{EmailAddress, Options};
use serde::{Deserialize, Serialize};
use taskhost_sdk::{
    Context, Decision, Description, NoConfig, Outgoing, Plugin, Rejection, Task, TaskId, Timestamp,
    Transition,
};
use url::Url;

#[cfg(test)]
mod tests;

/// The longest query, in characters: the contract's number.
const QUERY_CHARS_MAX: usize = 10_000;

/// The longest URL, in characters: the contract's number. Servers seldom accept more than 8 KiB.
const URL_CHARS_MAX: usize = 8_192;

/// The plugin.
struct WebCrawl;

/// The body of a request, and with it what is kept of it.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    user_email: String,
    user_query: String,
    original_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<String>,
}

/// The task's data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(flatten)]
    request: &'a Request,
    received_at: Timestamp,
}

/// New Task: what `task-status` is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewTask<'a> {
    task_id: &'a str,
    user_email: &'a str,
    user_query: &'a str,
    original_url: &'a str,
    received_at: Timestamp,
    status: &'a str,
}

impl Plugin for WebCrawl {
    type Config = NoConfig;
    type Message = Request;

    fn describe(_: &NoConfig) -> Description {
        // It orders no transition of its own: the other statuses are those that the plugin of
        // `task-status` moves the same tasks to.
        Description::new("web-crawl", env!("CARGO_PKG_VERSION"))
            .initial("new")
            .status("started")
            .terminal("completed")
            .terminal("error")
            .consumes("requests-web-crawl")
            .produces("task-status")
            .event("task.created")
            .task_id(TaskId::Header("requestId"))
            .task_id(TaskId::Envelope("requestId"))
            .task_id(TaskId::Body("/requestId"))
            .task_id(TaskId::Position)
    }

    fn validate(_: &NoConfig, request: Request, _: &Context) -> Result<Request, Rejection> {
        check_email(&request.user_email)?;
        check_query(&request.user_query)?;
        check_url(&request.original_url)?;
        if request
            .requested_at
            .as_deref()
            .is_some_and(|time| Timestamp::parse(time).is_err())
        {
            return Err(Rejection::new(
                "invalid-requested-at",
                "requestedAt is not an RFC 3339 time",
            ));
        }
        Ok(request)
    }

    fn transition(
        _: &NoConfig,
        task: Option<&Task>,
        request: Request,
        context: &Context,
    ) -> Result<Decision, Rejection> {
        if task.is_some() {
            return Ok(Decision::ignore(
                "a request with this id has its task already",
            ));
        }
        let data = Data {
            request: &request,
            received_at: context.now(),
        };
        let new_task = NewTask {
            task_id: context.task_id(),
            user_email: &request.user_email,
            user_query: &request.user_query,
            original_url: &request.original_url,
            received_at: context.now(),
            status: "new",
        };
        Ok(Transition::to("new")
            .data(&data)
            .event("task.created", &data)
            .send(Outgoing::to("task-status", &new_task))
            .into())
    }
}

fn check_email(email: &str) -> Result<(), Rejection> {
    // An address to answer to: `Name <address>` is how a mail client shows one.
    match EmailAddress::parse_with_options(email, Options::default().without_display_text()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Rejection::new(
            "invalid-email",
            "userEmail is not a well-formed address",
        )),
    }
}

fn check_query(query: &str) -> Result<(), Rejection> {
    if query.trim().is_empty() {
        return Err(Rejection::new("query-blank", "userQuery is blank"));
    }
    // Bytes are never fewer than characters, so that most queries needn't be counted.
    if query.len() > QUERY_CHARS_MAX && query.chars().count() > QUERY_CHARS_MAX {
        let reason = format!("userQuery is longer than {QUERY_CHARS_MAX} characters");
        return Err(Rejection::new("query-too-long", reason));
    }
    Ok(())
}

fn check_url(text: &str) -> Result<(), Rejection> {
    if text.len() > URL_CHARS_MAX && text.chars().count() > URL_CHARS_MAX {
        let reason = format!("originalUrl is longer than {URL_CHARS_MAX} characters");
        return Err(Rejection::new("url-too-long", reason));
    }
    match Url::from_str(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => Err(Rejection::new(
            "invalid-url",
            "originalUrl is not an absolute http or https URL",
        )),
    }
}

taskhost_sdk::export!(WebCrawl);
