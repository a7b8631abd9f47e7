//! How long the ledger is kept.
//!
//! Rows of calls and attempts go, and the roll-ups by end user with them, because they name people and are nearly as large.
//! The other roll-ups stay: they are small, and say what years ago cost.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{AssertSqlSafe, SqlitePool};

use super::partitions::{self, Month};
use crate::store::{
    Db, StoreError,
    run::{Held, within},
};

/// How long making or dropping months may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many rows SQLite deletes in one transaction: other writers wait for it.
const CHUNK: i64 = 2_000;

/// What was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Months of a table that were dropped (Postgres).
    pub partitions: usize,
    /// Rows that were deleted (SQLite).
    pub rows: u64,
}

/// Gives up what is older than `before`, in Unix milliseconds. Postgres drops whole months, so what it keeps reaches up
/// to a month further back. SQLite keeps the file's size and fills the space again.
///
/// # Errors
/// When the database cannot be written, or in Postgres when a long query keeps a month in use. What was given up by then
/// stays so; calling it again goes on.
pub async fn retain(db: &Db, before: i64) -> Result<Retained, StoreError> {
    match db {
        Db::Sqlite(pool, _) => Ok(Retained { rows: delete_before(pool, before).await?, ..Retained::default() }),
        Db::Postgres(pool) => {
            let dropped = within(PATIENCE, async {
                let mut held = Held::take(pool).await?;
                let dropped = partitions::drop_before(held.connection(), before).await;
                held.finished();
                Ok(dropped?)
            });
            Ok(Retained { partitions: dropped.await?, ..Retained::default() })
        }
    }
}

/// Makes the partitions of this month and the next, so that no write has to. To be called at start and now and then.
/// SQLite needs none.
///
/// # Errors
/// When the database cannot be written.
pub async fn prepare(db: &Db, now: i64) -> Result<(), StoreError> {
    let Db::Postgres(pool) = db else { return Ok(()) };
    let month = Month::of(now);
    within(PATIENCE, async {
        let mut held = Held::take(pool).await?;
        let made = partitions::make(held.connection(), &BTreeSet::from([month, month.next()])).await;
        held.finished();
        Ok(made?)
    })
    .await
}

async fn delete_before(pool: &SqlitePool, before: i64) -> Result<u64, sqlx::Error> {
    let mut deleted = 0;
    // Attempts first: a call without its attempts would look as if it had cost nothing.
    let tables =
        [("usage_hours_by_user", "hour"), ("usage_days_by_user", "day"), ("attempts", "at"), ("requests", "at")];
    for (table, column) in tables {
        let nth = format!("select {column} from {table} where {column} < $1 order by {column} limit 1 offset $2");
        let delete = format!("delete from {table} where {column} < $1");
        loop {
            let reached: Option<i64> =
                sqlx::query_scalar(AssertSqlSafe(nth.as_str())).bind(before).bind(CHUNK).fetch_optional(pool).await?;
            let until = reached.map_or(before, |nth| nth + 1);
            deleted += sqlx::query(AssertSqlSafe(delete.as_str())).bind(until).execute(pool).await?.rows_affected();
            if reached.is_none() {
                break;
            }
        }
    }
    Ok(deleted)
}
