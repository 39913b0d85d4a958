//! What people do to dead letters without deciding them: edit the payload, discard, call a replay back.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::store::dead_letters::State;
use crate::store::error::Error;
use crate::store::millis::Millis;
use crate::store::pool::Store;
use crate::store::schema::Statement;
use crate::store::session::Session;
use crate::store::settle;

/// One edit of a dead letter's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Its number, from 1.
    pub number: i32,
    /// What the payload became; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970, by the database's clock.
    pub at: i64,
}

/// How an edit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edited {
    /// It is the payload now.
    Edited,
    /// There is no such dead letter.
    Missing,
    /// It is in a state in which its payload stays.
    Refused(State),
    /// Somebody else edited it since it was looked at.
    Raced,
}

const LOCK: &str =
    "SELECT state, edits FROM taskhost.dead_letters WHERE group_id = $1 AND id = $2 FOR UPDATE";

const EDIT: &str = "
UPDATE taskhost.dead_letters SET edits = edits + 1, edited_value = $3 WHERE group_id = $1 AND id = $2";

const RECORD: &str = "
INSERT INTO taskhost.dead_letter_edits (group_id, id, number, value, by, reason) VALUES ($1, $2, $3, $4, $5, $6)";

/// What is being decided, or is done with, stays.
const DISCARD: &str = "
UPDATE taskhost.dead_letters SET state = 'discarded', state_at = now(), decided_by = $3, note = $4
WHERE group_id = $1 AND id = ANY ($2) AND state IN ('open', 'parked')
RETURNING id";

/// A batch that decides a replay locks the wakeup first, too: either it finds it gone, or this does.
const CANCEL: &str = "
WITH called_back AS (
    DELETE FROM taskhost.wakeups
    WHERE group_id = $1 AND kind = 'replay' AND id = ANY (ARRAY(
        SELECT wakeup FROM taskhost.dead_letters WHERE group_id = $1 AND id = ANY ($2) AND state = 'replaying'))
    RETURNING id
)
UPDATE taskhost.dead_letters d SET state = CASE WHEN d.replays >= $3 THEN 'parked' ELSE 'open' END, state_at = now(),
    wakeup = NULL, republish = false, decided_by = $4
FROM called_back WHERE d.group_id = $1 AND d.id = ANY ($2) AND d.wakeup = called_back.id
RETURNING d.id";

impl Store {
    /// Gives a dead letter another payload. What it came with is kept, and so is each edit. `seen` is the number of edits
    /// that it had when it was looked at.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn edit_dead_letter(
        &self,
        group: &str,
        id: Uuid,
        seen: i32,
        value: Option<&[u8]>,
        by: &str,
        reason: &str,
    ) -> Result<Edited, Error> {
        let mut session = Session::begin(self).await?;
        let row = session.row(sqlx::query(LOCK).bind(group).bind(id)).await?;
        let Some(row) = row else {
            session.rollback().await;
            return Ok(Edited::Missing);
        };
        let state = State::from_name(row.try_get("state")?).unwrap_or(State::Open);
        let edits: i32 = row.try_get("edits")?;
        let refused = match state {
            State::Open | State::Parked if edits == seen => None,
            State::Open | State::Parked => Some(Edited::Raced),
            other => Some(Edited::Refused(other)),
        };
        if let Some(refused) = refused {
            session.rollback().await;
            return Ok(refused);
        }
        let statement = sqlx::query(EDIT).bind(group).bind(id).bind(value);
        session.execute(statement).await?;
        let record = sqlx::query(RECORD)
            .bind(group)
            .bind(id)
            .bind(edits + 1)
            .bind(value)
            .bind(by)
            .bind(reason);
        session.execute(record).await?;
        session.commit_or_repeat().await?;
        Ok(Edited::Edited)
    }

    /// Calls replays back that are not decided yet, and says of which dead letters: each is what it was before, open, or
    /// parked if it had its `most` tries.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn cancel_replays(
        &self,
        group: &str,
        ids: &[Uuid],
        most: u32,
        by: &str,
    ) -> Result<Vec<Uuid>, Error> {
        let statement = sqlx::query(CANCEL)
            .bind(group)
            .bind(ids)
            .bind(i64::from(most))
            .bind(by);
        self.change(group, ids, statement).await
    }

    /// Gives dead letters up for good, and says which of them. They stay counted as dead letters; what waited behind them
    /// gets its turn, and its partitions are told.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn discard_dead_letters(
        &self,
        group: &str,
        ids: &[Uuid],
        by: &str,
        reason: &str,
    ) -> Result<Vec<Uuid>, Error> {
        let statement = sqlx::query(DISCARD)
            .bind(group)
            .bind(ids)
            .bind(by)
            .bind(reason);
        self.change(group, ids, statement).await
    }

    /// Carries a change out that answers the ids of what it changed. What these dead letters held gets its turn in the same
    /// transaction, and its partitions are told.
    async fn change(
        &self,
        group: &str,
        ids: &[Uuid],
        statement: Statement<'_>,
    ) -> Result<Vec<Uuid>, Error> {
        let mut session = Session::begin(self).await?;
        settle::lock_owners(&mut session, group, ids).await?;
        let rows = session.rows(statement).await?;
        let changed = rows.iter().map(|row| Ok(row.try_get("id")?));
        let changed = changed.collect::<Result<Vec<Uuid>, Error>>()?;
        let keys = settle::letters(&mut session, group, &changed).await?;
        session.commit_or_repeat().await?;
        if let Err(error) = self.notify(&keys).await {
            tracing::debug!(%error, "the hosts are not told whose turn it is; they look by themselves");
        }
        Ok(changed)
    }
}

pub(super) fn edit(row: &PgRow) -> Result<Edit, Error> {
    let at: Millis = row.try_get("at")?;
    Ok(Edit {
        number: row.try_get("number")?,
        value: row.try_get("value")?,
        by: row.try_get("by")?,
        reason: row.try_get("reason")?,
        at: at.0,
    })
}
