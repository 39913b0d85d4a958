//! Ending what a former owner left open: taking its transactional id shuts it out and aborts its
//! transaction, so that nobody waits for `transaction.timeout.ms`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer as _};

use super::Settings;
use super::context::Logging;
use super::error::{Error, Result};

/// Ids that this process has fenced: once is enough, because a living owner that was fenced begins again
/// with the group membership it has then.
static FENCED: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// Fences a previous owner's transactional id. Blocks for about a second the first time.
///
/// # Errors
/// [`super::Disposition::Trouble`] if the coordinator doesn't answer in time: try again, the partition can't be
/// taken over before that.
pub fn fence(settings: &Settings, previous_id: &str, patience: Duration) -> Result<()> {
    let known =
        |fenced: &mut Option<HashSet<String>>| fenced.get_or_insert_default().contains(previous_id);
    if known(&mut FENCED.lock().unwrap_or_else(PoisonError::into_inner)) {
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
    FENCED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert_default()
        .insert(previous_id.to_owned());
    Ok(())
}
