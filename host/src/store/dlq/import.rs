//! Dead letters that come from elsewhere: another system's topic, or a file.
//!
//! From then on they are this group's: counted in the progress of the partition that will decide them.

use taskhost_core::dead_letter::{DeadLetter, Source};

use crate::store::Key;
use crate::store::error::Error;
use crate::store::keyed::keyed;
use crate::store::pool::Store;
use crate::store::session::Session;
use crate::store::write;

/// How an import of some dead letters ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// They are stored; so many are new.
    New(u64),
    /// No host of the group ever had this partition: nobody would decide them.
    NoSuchPartition,
}

const COUNT: &str = "
UPDATE taskhost.progress SET consumed = consumed + $4, dead_letters = dead_letters + $4
WHERE group_id = $1 AND topic = $2 AND partition = $3";

const LOCK: &str = "
SELECT batch FROM taskhost.progress WHERE group_id = $1 AND topic = $2 AND partition = $3 FOR UPDATE";

impl Store {
    /// Stores dead letters for a partition, each with where it comes from. Those that are there stay as they are.
    ///
    /// # Errors
    /// See [`Error::disposition`].
    pub async fn import_dead_letters(
        &self,
        key: &Key,
        letters: &[(DeadLetter, String)],
    ) -> Result<Imported, Error> {
        let mut session = Session::begin(self).await?;
        if session.row(keyed(LOCK, key)).await?.is_none() {
            session.rollback().await;
            return Ok(Imported::NoSuchPartition);
        }
        let (mut new, mut records) = (0, 0);
        for is_record in [true, false] {
            let some: Vec<(&DeadLetter, String)> = letters
                .iter()
                .filter(|(letter, _)| (letter.source == Source::Record) == is_record)
                .map(|(letter, from)| (letter, from.clone()))
                .collect();
            if some.is_empty() {
                continue;
            }
            let made = write::import_dead_letters(&mut session, key, &some).await?;
            new += made;
            if is_record {
                records = made;
            }
        }
        let count = i64::try_from(records).unwrap_or(i64::MAX);
        session.execute(keyed(COUNT, key).bind(count)).await?;
        session.commit_or_repeat().await?;
        Ok(Imported::New(new))
    }
}
