//! What can go wrong with Postgres, and what to do about it.
//!
//! Branch on [`Error::disposition`] only. No message names the URL or a password.

use std::time::Duration;

use taskhost_core::frame::{BatchNumber, FrameError};

use taskhost_core::breaker::Extent;

/// Why Postgres did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings don't make a connection.
    #[error("the database settings can't be used: {reason}")]
    Settings {
        /// Why, without the URL.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("postgres can't be reached")]
    Unreachable(#[source] sqlx::Error),
    /// No answer within the time in which Postgres itself would have given up.
    #[error("postgres did not answer within {} ms", waited.as_millis())]
    Unanswered {
        /// How long was waited.
        waited: Duration,
    },
    /// Postgres answered with an error.
    #[error("postgres refused ({code}): {message}")]
    Refused {
        /// SQLSTATE.
        code: String,
        /// Its own words.
        message: String,
        /// The table it names, if any.
        table: Option<String>,
    },
    /// The month has no partition in a table that is partitioned by time.
    #[error(
        "the table {table} has no partition for this month: `taskhost migrate` makes the next ones, as a user who owns the \
         table, and so does a host whose user does"
    )]
    NoPartition {
        /// The table.
        table: String,
    },
    /// A value that has no form in Postgres.
    #[error("a value can't be stored")]
    Unstorable(#[source] sqlx::Error),
    /// A stored value has another form than this host expects.
    #[error("a stored value can't be read")]
    Unreadable(#[source] sqlx::Error),
    /// Somebody else claimed the partition, or progress is not where it was left.
    #[error("the partition was taken by somebody else")]
    Lost,
    /// The server takes no writes: what it says may be outdated.
    #[error("this postgres server is a standby, and may lag behind")]
    Standby,
    /// Others changed tasks since they were read.
    #[error("{} tasks were changed by others meanwhile", tasks.len())]
    Conflict {
        /// The tasks.
        tasks: Vec<taskhost_core::task::TaskId>,
    },
    /// A route has another activation than the one that decided.
    #[error("another version of a plugin was activated meanwhile")]
    Activated,
    /// Rows that were to be decided are gone: cancelled, replaced or called back.
    #[error("what was due is no longer there")]
    RowsGone,
    /// Another partition created some of the tasks first.
    #[error("{missing} of {expected} tasks were created by another partition meanwhile")]
    CreationRaced {
        /// Tasks to create.
        expected: u64,
        /// Tasks that were there already.
        missing: u64,
    },
    /// One call would be larger than what is sent at once.
    #[error("a batch of {bytes} bytes is too large for one call, which takes {max}")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What a call takes.
        max: usize,
    },
    /// The write set doesn't fit what is stored, though everything was locked: a defect.
    #[error("{what}: {found} rows instead of {expected}")]
    Inconsistent {
        /// What was written.
        what: &'static str,
        /// Rows that should have been there.
        expected: u64,
        /// Rows that were.
        found: u64,
    },
    /// The transaction failed before and can only be rolled back.
    #[error("the transaction has failed and can't go on")]
    Failed,
    /// An outbox frame that can't be read.
    #[error("the outbox frame of batch {batch} can't be read")]
    FrameUnreadable {
        /// Its batch.
        batch: BatchNumber,
        /// Why.
        #[source]
        source: FrameError,
    },
    /// An outbox frame that says it belongs to another batch.
    #[error("the outbox frame of batch {batch} says that it is of batch {found}")]
    FrameMisplaced {
        /// The row's batch.
        batch: BatchNumber,
        /// The frame's.
        found: BatchNumber,
    },
    /// The schema was made by a newer taskhost.
    #[error(
        "the database has migration {version}, which this taskhost doesn't know: it was migrated by a newer \
         one; run that version or newer"
    )]
    SchemaNewer {
        /// The migration that is not known.
        version: i64,
    },
    /// A migration that was applied is not the one this host has.
    #[error(
        "migration {version} in the database is not the one this taskhost has: it was changed after it was applied"
    )]
    SchemaChanged {
        /// The migration.
        version: i64,
    },
    /// Another host migrates.
    #[error("another taskhost has been migrating the database for {} s", waited.as_secs())]
    Migrating {
        /// How long was waited for it.
        waited: Duration,
    },
    /// It isn't clear which tables to move into the schema.
    #[error(
        "the schemas {} have tables of an earlier taskhost each: set search_path in the database's URL to the one to move",
        schemas.join(", ")
    )]
    EarlierAmbiguous {
        /// The schemas.
        schemas: Vec<String>,
    },
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// Infrastructure: roll back, wait, try again. No attempt is spent, no message blamed.
    Trouble,
    /// It may be a message's fault: decide again one by one. It blames the message that fails alone.
    Message,
    /// No retry helps and no message is to blame: the partition stops until somebody looks.
    Halt,
    /// The partition is somebody else's: claim again if it is still assigned, and recover.
    Lost,
    /// Roll back and decide again at once.
    Raced,
}

impl Error {
    /// What to do about it.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable(_)
            | Self::Unanswered { .. }
            | Self::Migrating { .. }
            | Self::NoPartition { .. } => Disposition::Trouble,
            Self::Refused { code, table, .. } => refused(code, table.as_deref()),
            Self::Unstorable(_) | Self::TooLarge { .. } => Disposition::Message,
            Self::Lost | Self::Standby => Disposition::Lost,
            Self::CreationRaced { .. }
            | Self::Conflict { .. }
            | Self::RowsGone
            | Self::Activated => Disposition::Raced,
            Self::Settings { .. }
            | Self::Unreadable(_)
            | Self::Inconsistent { .. }
            | Self::Failed
            | Self::FrameUnreadable { .. }
            | Self::FrameMisplaced { .. }
            | Self::SchemaNewer { .. }
            | Self::SchemaChanged { .. }
            | Self::EarlierAmbiguous { .. } => Disposition::Halt,
        }
    }

    /// How much of Postgres it speaks for.
    pub fn extent(&self) -> Extent {
        match self {
            Self::Unreachable(_) | Self::Unanswered { .. } => Extent::Unclear,
            Self::Refused { code, .. } => extent(code),
            _ => Extent::Own,
        }
    }

    /// Whether fewer causes at once may succeed where this many didn't: too slow (57014), too much memory (53200), or what
    /// somebody's value may be to blame for.
    pub fn is_for_fewer(&self) -> bool {
        let is_size =
            matches!(self, Self::Refused { code, .. } if code == "57014" || code == "53200");
        is_size || self.disposition() == Disposition::Message
    }

    /// Whether Postgres answered, so that it is known what became of the statement. A server that is going (57P0…) says so
    /// also after a commit.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unanswered { .. } | Self::Unreadable(_) => false,
            Self::Refused { code, .. } => !code.starts_with("57P") && !code.starts_with("08"),
            _ => true,
        }
    }

    /// Whether Postgres takes no further connection.
    pub(super) fn is_out_of_connections(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "53300")
    }

    /// Whether Postgres gave up waiting for a lock.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "55P03")
    }
}

/// What a SQLSTATE says (<https://www.postgresql.org/docs/15/errcodes-appendix.html>).
///
/// A data exception (22), a broken constraint (23) and an exceeded limit (54) come from what was written; in the
/// tables that hold no message's data they are a defect. A duplicate key (23505) is explained by no message.
/// Whatever else Postgres says, a person or time mends it.
fn refused(code: &str, table: Option<&str>) -> Disposition {
    let own = matches!(
        table,
        Some("progress" | "outbox" | "activations" | "plugin_versions")
    );
    match (code, code.get(..2)) {
        ("23505", _) => Disposition::Halt,
        (_, Some("22" | "23" | "54")) if own => Disposition::Halt,
        (_, Some("22" | "23" | "54")) => Disposition::Message,
        _ => Disposition::Trouble,
    }
}

/// A row that fits no partition has the SQLSTATE of one that breaks a check, which would blame a message. But no check is
/// named.
fn is_without_partition(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().as_deref() == Some("23514") && error.constraint().is_none()
}

/// How much of Postgres a SQLSTATE speaks for.
///
/// A server that is read-only (25006), full (53100), out of connections (53300) or of other resources (53000), and one that
/// is going, coming or has crashed (57P02, 57P03) fails everybody. So it does when one connection was ended (57P01), a
/// file can't be read (58) or something breaks inside (XX), perhaps. Locks, deadlocks and statements that take too long
/// are a step's own.
fn extent(code: &str) -> Extent {
    match (code, code.get(..2)) {
        ("25006" | "53000" | "53100" | "53300" | "57P02" | "57P03", _) => Extent::Whole,
        ("55P03" | "57014", _) | (_, Some("40")) => Extent::Own,
        _ => Extent::Unclear,
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) if is_without_partition(&*error) => Self::NoPartition {
                table: error.table().unwrap_or_default().to_owned(),
            },
            sqlx::Error::Database(error) => refusal(&*error),
            sqlx::Error::Encode(_) => Self::Unstorable(error),
            sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_) => Self::Unreadable(error),
            sqlx::Error::Configuration(_) => Self::Settings {
                reason: "it is no address of a Postgres database".to_owned(),
            },
            other => Self::Unreachable(other),
        }
    }
}

/// What Postgres answered. The codes that begin with TH are those of the function that commits a batch.
fn refusal(error: &(dyn sqlx::error::DatabaseError + 'static)) -> Error {
    #[derive(serde::Deserialize)]
    struct Raced {
        expected: u64,
        missing: u64,
    }
    let ours = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>();
    let detail = ours.and_then(|it| it.detail()).unwrap_or_default();
    let code = error.code().unwrap_or_default();
    match &*code {
        "TH001" => return Error::Lost,
        "TH002" => {
            let names: Vec<String> = serde_json::from_str(detail).unwrap_or_default();
            let tasks = names
                .into_iter()
                .filter_map(|name| taskhost_core::task::TaskId::new(name).ok());
            return Error::Conflict {
                tasks: tasks.collect(),
            };
        }
        "TH003" => return Error::RowsGone,
        "TH004" => return Error::Activated,
        "TH005" => {
            let raced: Option<Raced> = serde_json::from_str(detail).ok();
            let (expected, missing) = raced.map_or((0, 0), |it| (it.expected, it.missing));
            return Error::CreationRaced { expected, missing };
        }
        _ => {}
    }
    let hint = ours.and_then(|it| it.hint()).filter(|_| &*code == "TH000");
    let message = match hint {
        Some(hint) => format!("{}; {hint}", error.message()),
        None => error.message().to_owned(),
    };
    Error::Refused {
        code: code.into_owned(),
        message,
        table: error.table().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_blames_a_message_or_the_infrastructure_or_nobody() {
        let cases = [
            ("22P02", None, Disposition::Message),
            ("22008", Some("tasks"), Disposition::Message),
            ("23514", Some("tasks"), Disposition::Message),
            ("54000", None, Disposition::Message),
            ("23505", Some("task_events"), Disposition::Halt),
            ("23514", Some("progress"), Disposition::Halt),
            ("40P01", None, Disposition::Trouble),
            ("55P03", None, Disposition::Trouble),
            ("57014", None, Disposition::Trouble),
            ("53100", None, Disposition::Trouble),
            ("25006", None, Disposition::Trouble),
            ("42P01", None, Disposition::Trouble),
            ("", None, Disposition::Trouble),
        ];
        for (code, table, expected) in cases {
            assert_eq!(refused(code, table), expected, "{code} on {table:?}");
        }
    }

    #[test]
    fn an_outage_blames_nobody_whatever_its_sqlstate() {
        let outage = [
            ("08006", Extent::Unclear),
            ("25006", Extent::Whole),
            ("28000", Extent::Unclear),
            ("28P01", Extent::Unclear),
            ("3D000", Extent::Unclear),
            ("42501", Extent::Unclear),
            ("53000", Extent::Whole),
            ("53100", Extent::Whole),
            ("53200", Extent::Unclear),
            ("53300", Extent::Whole),
            ("53400", Extent::Unclear),
            ("55P03", Extent::Own),
            ("40P01", Extent::Own),
            ("57014", Extent::Own),
            ("57P01", Extent::Unclear),
            ("57P02", Extent::Whole),
            ("57P03", Extent::Whole),
            ("58030", Extent::Unclear),
            ("58P01", Extent::Unclear),
            ("XX000", Extent::Unclear),
            ("XX001", Extent::Unclear),
        ];
        for (code, expected) in outage {
            for table in [None, Some("tasks"), Some("progress")] {
                assert_eq!(refused(code, table), Disposition::Trouble, "{code}");
            }
            assert_eq!(extent(code), expected, "{code}");
        }
        let gone = [sqlx::Error::PoolTimedOut, sqlx::Error::WorkerCrashed];
        for error in gone.map(Error::from) {
            assert_eq!(error.disposition(), Disposition::Trouble);
            assert_eq!(error.extent(), Extent::Unclear);
        }
    }
}
