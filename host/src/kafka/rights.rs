//! The rights that a host needs, and which of them are missing. They are READ on consumed topics and on the group, and WRITE
//! on output topics and on its transactional ids. The broker is asked each time, so a later grant is found.
//!
//! READ and WRITE include DESCRIBE. Without DESCRIBE, a broker doesn't say whether a topic exists.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::Settings;
use super::context::Logging;
use super::ffi::describe::{self, Client};
use crate::log::{Disposition, Error, Result};
use crate::log::{MissingRight, Operation};

/// What a host does.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Topics it reads.
    pub consumed: Vec<String>,
    /// Topics it sends to.
    pub produced: Vec<String>,
    /// The group it is in.
    pub group: String,
}

/// The missing rights: on topics in their order, then on the group. A broker that doesn't say what is allowed
/// lacks nothing. Blocks.
pub(crate) fn missing(
    client: &Client,
    needs: &Needs,
    patience: Duration,
) -> Result<Vec<MissingRight>> {
    let mut names: Vec<String> = needs
        .consumed
        .iter()
        .chain(&needs.produced)
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    let mut missing = Vec::new();
    for topic in describe::topics(client, &names, true, patience)? {
        let name = topic.name.as_str();
        let allows = |operation| match topic.code {
            RDKafkaErrorCode::TopicAuthorizationFailed => false,
            RDKafkaErrorCode::NoError => topic.allows(operation),
            // Of a topic that isn't there nothing is known.
            _ => true,
        };
        if needs.consumed.contains(&topic.name) && !allows(Operation::Read) {
            missing.push(MissingRight::read(name));
        }
        if needs.produced.contains(&topic.name) && !allows(Operation::Write) {
            missing.push(MissingRight::write(name));
        }
    }
    missing.sort();
    if !describe::may_join(client, &needs.group, patience)? {
        missing.push(MissingRight::join(&needs.group));
    }
    Ok(missing)
}

/// Whether the host's transactional ids may be used: takes one that no host has. Blocks.
///
/// # Errors
/// If it can't be found out.
pub fn may_transact(settings: &Settings, patience: Duration) -> Result<Option<MissingRight>> {
    const DOING: &str = "taking a transactional id";
    let id = format!("{}-test-kafka", settings.transactional_prefix);
    let producer: BaseProducer<Logging> = settings
        .for_transactions(&id)
        .create_with_context(Logging)
        .map_err(|error| Error::kafka(DOING, &error))?;
    match producer.init_transactions(patience) {
        Ok(()) => Ok(None),
        Err(error) => match Error::kafka(DOING, &error) {
            error if error.disposition() == Disposition::Authorization => {
                Ok(Some(MissingRight::transact(&settings.transactional_prefix)))
            }
            error => Err(error),
        },
    }
}

/// The missing rights, for callers without a client. Blocks.
///
/// # Errors
/// If the broker doesn't answer.
pub fn missing_rights(
    settings: &Settings,
    needs: &Needs,
    patience: Duration,
) -> Result<Vec<MissingRight>> {
    let client: Client = settings
        .for_client()
        .create_with_context(Logging)
        .map_err(|error| Error::kafka("starting the admin client", &error))?;
    let found = missing(&client, needs, patience);
    describe::serve_log(&client);
    found
}
