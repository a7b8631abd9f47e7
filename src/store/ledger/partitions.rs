//! Months of the ledger in Postgres: each is a partition of the tables that grow with every call, so that old months go
//! by dropping tables, which leaves nothing to clean up.
//!
//! Partitions are made ahead of time, and when a row comes for a month that has none. A partition is made as a table of
//! its own and then attached: unlike `create table … partition of`, that stops neither readers nor writers of the
//! others.

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The tables that are partitioned, by their column of time.
const PARTITIONED: [&str; 4] = ["requests", "attempts", "usage_hours_by_user", "usage_days_by_user"];

/// The advisory lock of whoever makes or drops partitions: the letters `sbpartit`.
const LOCK: i64 = 0x7362_7061_7274_6974;

/// A month in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Month(Date);

impl Month {
    /// The month of this time in Unix milliseconds.
    pub(super) fn of(millis: i64) -> Self {
        let at = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        Self(at.to_zoned(TimeZone::UTC).date().first_of_month())
    }

    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1.month()))
    }

    /// Its first millisecond.
    fn start(self) -> i64 {
        self.0.to_zoned(TimeZone::UTC).map_or(0, |midnight| midnight.timestamp().as_millisecond())
    }

    /// The end of the names of its partitions, such as `_y2026m11`.
    fn suffix(self) -> String {
        format!("_y{:04}m{:02}", self.0.year(), self.0.month())
    }

    fn of_suffix(suffix: &str) -> Option<Self> {
        let (year, month) = suffix.strip_prefix("_y")?.split_once('m')?;
        Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok().map(Self)
    }
}

/// Makes the partitions of these months that are missing.
pub(super) async fn make(connection: &mut PgConnection, months: &BTreeSet<Month>) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    for month in months {
        for table in PARTITIONED {
            let partition = format!("{table}{}", month.suffix());
            let exists: bool = sqlx::query_scalar("select to_regclass($1) is not null")
                .bind(&partition)
                .fetch_one(&mut *transaction)
                .await?;
            if exists {
                continue;
            }
            let (from, to) = (month.start(), month.next().start());
            let create = format!(
                "create table {partition} (like {table} including defaults including constraints including storage)"
            );
            let attach = format!("alter table {table} attach partition {partition} for values from ({from}) to ({to})");
            for sql in [create, attach] {
                sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *transaction).await?;
            }
        }
    }
    transaction.commit().await
}

/// Drops the partitions of months that ended by `before`, in Unix milliseconds, and says how many.
///
/// # Errors
/// Also when a query that runs for long keeps a table in use: dropping waits five seconds for it, because whoever wants
/// the table meanwhile waits as well.
pub(super) async fn drop_before(connection: &mut PgConnection, before: i64) -> Result<usize, sqlx::Error> {
    const CHILDREN: &str = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid \
                            where i.inhparent = to_regclass($1)";
    let mut dropped = 0;
    for table in PARTITIONED {
        let partitions: Vec<String> = sqlx::query_scalar(CHILDREN).bind(table).fetch_all(&mut *connection).await?;
        for partition in partitions {
            let month = partition.strip_prefix(table).and_then(Month::of_suffix);
            if month.is_some_and(|month| month.next().start() <= before) {
                drop_one(connection, &partition).await?;
                dropped += 1;
            }
        }
    }
    Ok(dropped)
}

async fn drop_one(connection: &mut PgConnection, partition: &str) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("set local lock_timeout = '5s'").execute(&mut *transaction).await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    // The name is one of ours: a table's and the digits of a month.
    let sql = format!("drop table if exists {partition}");
    sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *transaction).await?;
    transaction.commit().await
}
