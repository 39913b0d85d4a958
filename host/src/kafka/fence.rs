//! Ends a former owner's open transaction: taking its transactional id fences the owner and aborts the transaction. So
//! nobody waits for `transaction.timeout.ms`.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::Settings;
use super::context::Logging;
use crate::log::{Error, Result};

/// When this process last began to fence each id successfully.
static FENCED: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);

/// Fences a previous owner's transactional id, unless that was done `since` the partition was assigned. Once is enough for
/// all partitions of a rebalance: a living owner that was fenced begins again with its current group membership. If an owner
/// got the partition back after an earlier fencing and crashed, it is fenced again.
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
                // Another host fenced it first, with the same effect.
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
