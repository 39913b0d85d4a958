//! What people order the breakers of routes: open, closed, held closed. The last order counts, for all hosts.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::Error;
use super::listen::BREAKERS;
use super::millis::Millis;
use super::pool::Store;
use super::session::Session;

/// What a breaker is ordered to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderedState {
    /// Nothing is decided until another order.
    Open,
    /// Closed, and free to open by itself.
    Closed,
    /// Closed, whatever fails.
    HeldClosed,
}

impl OrderedState {
    const ALL: [Self; 3] = [Self::Open, Self::Closed, Self::HeldClosed];

    /// As stored and as shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::HeldClosed => "held-closed",
        }
    }

    /// From its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// A person's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerOrder {
    /// The route's name.
    pub route: String,
    /// Its number within the route.
    pub number: i64,
    /// What the breaker is to be.
    pub state: OrderedState,
    /// When it was ordered, in milliseconds since 1970.
    pub since: i64,
    /// Who ordered it.
    pub by: String,
    /// What for.
    pub reason: String,
}

/// Two orders at the same time get two numbers: the lock is the route's own, and short.
const ORDER: &str = "
INSERT INTO taskhost.breaker_orders (route, number, state, by, reason)
SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4 FROM taskhost.breaker_orders WHERE route = $1
RETURNING route, number, state, since, by, reason";

const LAST: &str = "
SELECT DISTINCT ON (route) route, number, state, since, by, reason FROM taskhost.breaker_orders
ORDER BY route, number DESC";

impl Store {
    /// Orders what a route's breaker is to be, on all hosts. They hear of it at once.
    ///
    /// # Errors
    /// Trouble only, after which it may have been ordered or not.
    pub async fn order_breaker(
        &self,
        route: &str,
        state: OrderedState,
        by: &str,
        reason: &str,
    ) -> Result<BreakerOrder, Error> {
        let mut session = Session::begin(self).await?;
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended('taskhost/breakers/' || $1, 0))";
        session.execute(sqlx::query(lock).bind(route)).await?;
        let statement = sqlx::query(ORDER)
            .bind(route)
            .bind(state.as_str())
            .bind(by)
            .bind(reason);
        let row = session.row(statement).await?;
        let tell = sqlx::query("SELECT pg_notify($1, $2)")
            .bind(BREAKERS)
            .bind(route);
        session.execute(tell).await?;
        session.commit_or_repeat().await?;
        row.as_ref().map_or(Err(Error::Lost), order)
    }

    /// The last order for each route that ever had one.
    ///
    /// # Errors
    /// Trouble only.
    pub async fn breaker_orders(&self) -> Result<Vec<BreakerOrder>, Error> {
        let rows = self.read_rows(sqlx::query(LAST)).await?;
        rows.iter().map(order).collect()
    }
}

fn order(row: &PgRow) -> Result<BreakerOrder, Error> {
    let (state, since): (&str, Millis) = (row.try_get("state")?, row.try_get("since")?);
    let unknown = || Error::Unreadable(sqlx::Error::Decode("unknown order of a breaker".into()));
    Ok(BreakerOrder {
        route: row.try_get("route")?,
        number: row.try_get("number")?,
        state: OrderedState::from_name(state).ok_or_else(unknown)?,
        since: since.0,
        by: row.try_get("by")?,
        reason: row.try_get("reason")?,
    })
}
