//! Ending what a former owner left open: taking its transactional id shuts it out and aborts its
//! transaction, so that nobody waits for `transaction.timeout.ms`.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::Settings;
use super::context::Logging;
use super::error::{Error, Result};

/// When this process last began to fence each id, with success.
static FENCED: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);

/// Fences a previous owner's transactional id, unless that was done `since` the partition was assigned: once is enough
/// for all the partitions of a rebalance, because a living owner that was fenced begins again with the group membership
/// it has then. An owner that was given the partition back after an earlier fencing, and died, is fenced again.
///
/// Blocks for about a second.
///
/// # Errors
/// [`super::Disposition::Trouble`] if the coordinator doesn't answer in time: try again, the partition can't be
/// taken over before that.
pub fn fence(
    settings: &Settings,
    previous_id: &str,
    since: Instant,
    patience: Duration,
) -> Result<()> {
    let began = Instant::now();
    let done = fenced().get(previous_id).copied();
    if done.is_some_and(|done| done >= since) {
        return Ok(());
    }
    let producer: BaseProducer<Logging> = settings
        .for_transactions(previous_id)
        .create_with_context(Logging)
        .map_err(|error| Error::kafka("fencing a previous owner", &error))?;
    match producer.init_transactions(patience) {
        Ok(()) => {}
        Err(error)
            if matches!(
                error.rdkafka_error_code(),
                // Somebody else was there first, with the same effect.
                Some(
                    RDKafkaErrorCode::Fenced
                        | RDKafkaErrorCode::ProducerFenced
                        | RDKafkaErrorCode::InvalidProducerEpoch
                )
            ) => {}
        Err(error) => return Err(Error::kafka("fencing a previous owner", &error)),
    }
    fenced().insert(previous_id.to_owned(), began);
    Ok(())
}

fn fenced() -> MutexGuard<'static, HashMap<String, Instant>> {
    FENCED.lock().unwrap_or_else(PoisonError::into_inner)
}
