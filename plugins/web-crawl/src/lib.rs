//! Creates a task for each web-crawl request.
//!
//! In: a request on `requests-web-crawl` (e-mail, query, URL, optionally the time of the request). Out: a task in the status
//! `new`, the event `task.created`, and the message New Task on `task-status`, whose plugin decides the task from there on. A
//! request with a known id is ignored. A request that can't be crawled or answered is rejected with a code that names the
//! field.

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

/// The longest query, in characters, as the contract has it.
const QUERY_CHARS_MAX: usize = 10_000;

/// The longest URL, in characters, as the contract has it. Servers rarely accept more than 8 KiB.
const URL_CHARS_MAX: usize = 8_192;

/// The plugin.
struct WebCrawl;

/// The body of a request, and the fields of it that are kept.
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

/// The message New Task to `task-status`.
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
        // This plugin has no transitions: the plugin of `task-status` moves the same tasks to the other statuses.
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
    // Only an address to answer to: `Name <address>` is a mail client's display form.
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
    // A text never has fewer bytes than characters, so most queries don't have to be counted.
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
