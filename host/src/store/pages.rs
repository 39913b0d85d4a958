//! A list of any length, read page by page, so that memory holds one page.

use sqlx::postgres::PgRow;

use super::error::Error;
use super::pool::Store;
use super::schema::Statement;
use super::session::Session;

/// How long whoever reads may look at a page. While it does, an old snapshot stays open.
const PAUSE_MAX: &str = "10min";

/// What a statement that opens such a list begins with.
macro_rules! cursor {
    () => {
        "DECLARE taskhost_rows NO SCROLL CURSOR FOR "
    };
}
pub(super) use cursor;

/// 1,000 rows of about 150 bytes: a page is written faster than it is read.
const NEXT: &str = "FETCH 1000 FROM taskhost_rows";

/// Rows as they were at one moment.
#[derive(Debug)]
pub struct Pages<T> {
    session: Session,
    read: fn(&PgRow) -> Result<T, Error>,
}

impl<T> Pages<T> {
    /// Begins to read what a statement lists that begins with `cursor!`.
    pub(super) async fn open(
        store: &Store,
        statement: Statement<'_>,
        read: fn(&PgRow) -> Result<T, Error>,
    ) -> Result<Self, Error> {
        let mut session = Session::begin(store).await?;
        let pause = "SELECT set_config('idle_in_transaction_session_timeout', $1, true)";
        session.execute(sqlx::query(pause).bind(PAUSE_MAX)).await?;
        session.execute(statement).await?;
        Ok(Self { session, read })
    }

    /// The next rows; empty at the end.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn next(&mut self) -> Result<Vec<T>, Error> {
        let rows = self.session.rows(sqlx::query(NEXT)).await?;
        rows.iter().map(self.read).collect()
    }

    /// Gives the connection back.
    pub async fn close(self) {
        self.session.rollback().await;
    }
}
