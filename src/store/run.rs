//! Running one text on whichever database is open, within a bounded time.

use std::time::Duration;

use sqlx::{Database, Pool, pool::PoolConnection};

use super::StoreError;
use crate::types::Clock;

/// How long a function of the store may take, the wait for a connection included, unless it says otherwise.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a block of queries on a connection of whichever database is open, within [`PATIENCE`] or the time given:
///
/// ```ignore
/// on!(db, |connection| {
///     let row: Option<KeyRow> = sqlx::query_as(SQL).bind(id).fetch_optional(&mut *connection).await?;
///     Ok(row)
/// })
/// ```
///
/// The block is the body of an async function that gives `Result<_, StoreError>`. It is compiled once for each
/// database, so it needs no bounds; `connection` is a `&mut SqliteConnection` or a `&mut PgConnection`.
macro_rules! on {
    ($db:expr, |$connection:ident| $work:block) => {
        $crate::store::run::on!($db, $crate::store::run::PATIENCE, |$connection| $work)
    };
    ($db:expr, $patience:expr, |$connection:ident| $work:block) => {
        match $db {
            $crate::store::Db::Sqlite(pool, _) => $crate::store::run::on!(@ pool, $patience, $connection, $work),
            $crate::store::Db::Postgres(pool) => $crate::store::run::on!(@ pool, $patience, $connection, $work),
        }
    };
    (@ $pool:ident, $patience:expr, $connection:ident, $work:block) => {
        $crate::store::run::within($patience, async {
            let mut held = $crate::store::run::Held::take($pool).await?;
            let $connection = held.connection();
            let outcome: Result<_, $crate::store::StoreError> = async { $work }.await;
            held.finished();
            outcome
        })
        .await
    };
}

pub(super) use on;

/// A connection that goes back to its pool when the work on it has come to an end, good or bad. When the work is
/// dropped half-way, which is what a deadline does, nobody knows whether the other side is still there: the connection
/// is closed, so that a server that is gone in silence does not keep places in the pool.
pub(super) struct Held<D: Database> {
    connection: PoolConnection<D>,
    is_finished: bool,
}

impl<D: Database> Held<D> {
    pub(super) async fn take(pool: &Pool<D>) -> Result<Self, StoreError> {
        Ok(Self { connection: pool.acquire().await?, is_finished: false })
    }

    pub(super) fn connection(&mut self) -> &mut D::Connection {
        &mut self.connection
    }

    pub(super) fn finished(&mut self) {
        self.is_finished = true;
    }
}

impl<D: Database> Drop for Held<D> {
    fn drop(&mut self) {
        if !self.is_finished {
            self.connection.close_on_drop();
        }
    }
}

/// Runs `work`, which stands on the heap: every future that asks the store would hold the whole of it otherwise, for
/// either database, and be large. The database is real, so its time is, too.
///
/// # Errors
/// Those of `work`, and [`StoreError::NoAnswer`] after `patience`.
pub(super) fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> impl Future<Output = Result<T, StoreError>> {
    let work = Box::pin(work);
    async move {
        let clock = Clock::Real;
        clock.timeout_at(clock.now() + patience, work).await.unwrap_or(Err(StoreError::NoAnswer))
    }
}
