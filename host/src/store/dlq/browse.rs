//! Dead letters by what people look for, page by page.
//!
//! The statement has only the conditions that are asked for, so that Postgres can take the index made for them.

use std::fmt::Write as _;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::change::{Edit, edit};
use crate::store::dead_letters::{State, StoredDeadLetter, columns, stored};
use crate::store::error::Error;
use crate::store::millis::Millis;
use crate::store::pool::Store;
use crate::store::schema::Statement;
use crate::store::session::Session;

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this topic: the one whose partition gave them up.
    pub topic: Option<String>,
    /// Only those that this plugin decided.
    pub plugin: Option<String>,
    /// Only with this code.
    pub code: Option<String>,
    /// Only those stored at or after this time, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Only those stored before this time, in milliseconds since 1970.
    pub until: Option<i64>,
    /// Only those with this text in their reason or payload.
    pub text: Option<String>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only in these states; all of them if there is none.
    pub states: Vec<State>,
}

/// Where a page ends: the next one begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// When the last one was stored, in microseconds since 1970: as exact as Postgres is.
    pub created_micros: i64,
    /// Its record's offset.
    pub offset: i64,
    /// Its id.
    pub id: Uuid,
}

/// Dead letters that nobody has seen to, of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLetters {
    /// The topic.
    pub topic: String,
    /// The state: open, replaying, waiting or parked.
    pub state: State,
    /// How many.
    pub count: i64,
}

const OPEN: &str = "
SELECT topic, state, count(*) AS count FROM taskhost.dead_letters
WHERE group_id = $1 AND state IN ('open', 'replaying', 'waiting', 'parked') GROUP BY topic, state";

const SHOW: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM taskhost.dead_letters d WHERE group_id = $1 AND id = $2"
);

const EDITS: &str = "
SELECT number, value, by, reason, at FROM taskhost.dead_letter_edits WHERE group_id = $1 AND id = $2 ORDER BY number";

const MICROS: &str = "(extract(epoch FROM d.created_at) * 1000000)::bigint AS created_micros";

/// The states that nobody is done with: those of an index.
const UNSETTLED: [State; 4] = [State::Open, State::Replaying, State::Waiting, State::Parked];

/// Which way a page is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// As people look: the last first.
    NewestFirst,
    /// As they are replayed: in the order in which they failed.
    OldestFirst,
}

/// A condition's argument.
enum Argument<'a> {
    Text(&'a str),
    Number(i64),
    Time(i64),
    Id(Uuid),
}

/// A statement in the making.
struct Conditions<'a> {
    sql: String,
    arguments: Vec<Argument<'a>>,
}

impl<'a> Conditions<'a> {
    fn add(&mut self, before: &str, argument: Argument<'a>, after: &str) {
        self.arguments.push(argument);
        let number = self.arguments.len();
        // Writing to a text has no way to fail.
        let _ = write!(self.sql, "{before}${number}{after}");
    }

    fn of(group: &'a str, filter: &'a Filter) -> Self {
        let mut all = Self {
            sql: String::new(),
            arguments: Vec::new(),
        };
        all.add(" WHERE d.group_id = ", Argument::Text(group), "");
        for (column, value) in [
            ("d.topic", &filter.topic),
            ("d.plugin_name", &filter.plugin),
            ("d.code", &filter.code),
            ("d.task_id", &filter.task),
        ] {
            if let Some(value) = value {
                all.add(&format!(" AND {column} = "), Argument::Text(value), "");
            }
        }
        if let Some(since) = filter.since {
            all.add(" AND d.created_at >= ", Argument::Time(since), "");
        }
        if let Some(until) = filter.until {
            all.add(" AND d.created_at < ", Argument::Time(until), "");
        }
        if let Some(text) = &filter.text {
            all.add(" AND (position(", Argument::Text(text), " IN d.reason) > 0");
            all.add(
                " OR position(convert_to(",
                Argument::Text(text),
                ", 'UTF8') IN CASE WHEN d.edits > 0 THEN d.edited_value ELSE d.value END) > 0)",
            );
        }
        all.states(&filter.states);
        all
    }

    /// As literals: what is planned for one state may be wrong for another.
    fn states(&mut self, states: &[State]) {
        if states.is_empty() {
            return;
        }
        let names: Vec<String> = states
            .iter()
            .map(|state| format!("'{}'", state.name()))
            .collect();
        let _ = write!(self.sql, " AND d.state IN ({})", names.join(", "));
        if states.iter().all(|state| UNSETTLED.contains(state)) {
            self.sql
                .push_str(" AND d.state IN ('open', 'replaying', 'waiting', 'parked')");
        }
    }

    fn page(&mut self, after: Option<&Place>, order: Order, limit: u32) {
        let (sign, way) = match order {
            Order::NewestFirst => ("<", "DESC"),
            Order::OldestFirst => (">", "ASC"),
        };
        if let Some(place) = after {
            let micros = Argument::Number(place.created_micros);
            let begin = format!(
                " AND (d.created_at, d.record_offset, d.id) {sign} (TIMESTAMPTZ '1970-01-01 00:00:00Z' + "
            );
            self.add(&begin, micros, "::bigint * INTERVAL '1 microsecond'");
            self.add(", ", Argument::Number(place.offset), "");
            self.add(", ", Argument::Id(place.id), ")");
        }
        let _ = write!(
            self.sql,
            " ORDER BY d.created_at {way}, d.record_offset {way}, d.id {way} LIMIT {limit}"
        );
    }

    fn statement(&self, select: &str) -> Statement<'_> {
        let sql = format!("{select} FROM taskhost.dead_letters d{}", self.sql);
        let mut statement = sqlx::query(AssertSqlSafe(sql));
        for argument in &self.arguments {
            statement = match argument {
                Argument::Text(text) => statement.bind(*text),
                Argument::Number(number) => statement.bind(*number),
                Argument::Time(millis) => statement.bind(Millis(*millis)),
                Argument::Id(id) => statement.bind(*id),
            };
        }
        statement
    }
}

impl Store {
    /// A page of the group's dead letters, the last first, behind `after`.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn dead_letter_page(
        &self,
        group: &str,
        filter: &Filter,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<(StoredDeadLetter, Place)>, Error> {
        let mut conditions = Conditions::of(group, filter);
        conditions.page(after, Order::NewestFirst, limit);
        let select = format!("SELECT {}, {MICROS}", columns!());
        let rows = self.read_rows(conditions.statement(&select)).await?;
        rows.iter()
            .map(|row| Ok((stored(row)?, place(row)?)))
            .collect()
    }

    /// Places of dead letters in the order in which they failed: what a command goes through that names a filter.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn dead_letter_places(
        &self,
        group: &str,
        filter: &Filter,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<Vec<Place>, Error> {
        let mut conditions = Conditions::of(group, filter);
        conditions.page(after, Order::OldestFirst, limit);
        let select = format!("SELECT d.id, d.record_offset, {MICROS}");
        let rows = self.read_rows(conditions.statement(&select)).await?;
        rows.iter().map(place).collect()
    }

    /// How many dead letters the filter names.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn count_dead_letters(&self, group: &str, filter: &Filter) -> Result<i64, Error> {
        let conditions = Conditions::of(group, filter);
        let row = self
            .read_row(conditions.statement("SELECT count(*) AS count"))
            .await?;
        row.map_or(Ok(0), |row| Ok(row.try_get("count")?))
    }

    /// How Postgres would find a page: for tests.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn explain_dead_letter_page(
        &self,
        group: &str,
        filter: &Filter,
        after: Option<&Place>,
        limit: u32,
    ) -> Result<String, Error> {
        let mut conditions = Conditions::of(group, filter);
        conditions.page(after, Order::NewestFirst, limit);
        let select = format!("EXPLAIN (ANALYZE, BUFFERS) SELECT {}, {MICROS}", columns!());
        let rows = self.read_rows(conditions.statement(&select)).await?;
        let lines = rows.iter().map(|row| row.try_get::<String, _>(0));
        Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }

    /// A dead letter with its edits, oldest first; none if there is no such.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn show_dead_letter(
        &self,
        group: &str,
        id: Uuid,
    ) -> Result<Option<(StoredDeadLetter, Vec<Edit>)>, Error> {
        let mut session = Session::begin(self).await?;
        let row = session.row(sqlx::query(SHOW).bind(group).bind(id)).await?;
        let edits = session
            .rows(sqlx::query(EDITS).bind(group).bind(id))
            .await?;
        session.rollback().await;
        let Some(row) = row else {
            return Ok(None);
        };
        let edits = edits.iter().map(edit).collect::<Result<_, _>>()?;
        Ok(Some((stored(&row)?, edits)))
    }

    /// How many dead letters nobody has seen to, by topic and state. Reads an index only.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn open_dead_letters(&self, group: &str) -> Result<Vec<OpenLetters>, Error> {
        let rows = self.read_rows(sqlx::query(OPEN).bind(group)).await?;
        rows.iter()
            .map(|row| {
                Ok(OpenLetters {
                    topic: row.try_get("topic")?,
                    state: State::from_name(row.try_get("state")?).unwrap_or(State::Open),
                    count: row.try_get("count")?,
                })
            })
            .collect()
    }
}

fn place(row: &PgRow) -> Result<Place, Error> {
    Ok(Place {
        created_micros: row.try_get("created_micros")?,
        offset: row.try_get("record_offset")?,
        id: row.try_get("id")?,
    })
}
