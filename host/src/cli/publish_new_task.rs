//! `taskhost publish-new-task`: a request for a web crawl, sent as the replaced system's script sent it.

use clap::Args;

use super::{EXIT_CODES, Failure, Global, Output};

/// Send web crawl requests, as any producer would.
#[derive(Args, Debug)]
#[command(after_help = format!("Example:\n  taskhost publish-new-task --query 'Find product information' --count 3\n\n{EXIT_CODES}"))]
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

pub(super) fn run(_arguments: &Arguments, _global: &Global) -> Result<(), Failure> {
    Err(Failure::not_here("publish-new-task"))
}
