//! Usage: sums over calls, grouped by up to two dimensions and by time.

use jiff::tz::TimeZone;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{
    buckets::{Bucket, Buckets},
    cursor,
    dimension::{Dimension, gathered},
    sql::Sql,
    summed::{Summed, read_values},
};
use crate::store::{
    Db, StoreError,
    ledger::{
        clean::MAX_TIME,
        sums::{MEASURES, Sums},
    },
};

/// The most groups on a page.
const MAX_PAGE: u32 = 10_000;

/// A question for usage.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    /// Calls that arrived at this time or later, in Unix milliseconds.
    pub from: i64,
    /// Calls that arrived before this time, in Unix milliseconds.
    pub to: i64,
    /// Divides the range; `None` leaves it whole.
    pub bucket: Option<Bucket>,
    /// Whose hours, days and months.
    pub zone: TimeZone,
    /// At most two.
    pub by: Vec<Dimension>,
    /// Several values for one dimension mean any of them; several dimensions mean all.
    pub filters: Vec<(Dimension, String)>,
    /// How many groups at most: 1 to 10,000.
    pub limit: u32,
    /// The `next` of the page before.
    pub after: Option<String>,
}

/// Some of the groups, by time and then by their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsagePage {
    pub groups: Vec<UsageGroup>,
    /// What to ask for as `after` for the next page; `None` on the last.
    pub next: Option<String>,
}

/// The sums over a bucket and the values of the dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageGroup {
    /// When the bucket begins, in Unix milliseconds: before the range, when it begins amid the bucket.
    pub start: i64,
    /// In the order of the query's `by`.
    pub values: Vec<String>,
    pub sums: Sums,
}

/// A group as the database gives it.
struct Found {
    bucket: i64,
    values: Vec<String>,
    sums: Sums,
}

/// The groups of `query` that have calls or attempts. Grouped by a dimension that a call need not have (tag, end user,
/// workflow, session, step), calls without one are left out. Filtered by provider or target, only attempts there count,
/// and calls that ended there. The sums of several tags may hold a call more than once; those without tags never do.
///
/// # Errors
/// [`StoreError::BadQuery`] for more than two dimensions, or one twice, a cursor of another list, or a range beyond two hundred years
/// in buckets; others when the database cannot be read, and when a sum is beyond 63 bits.
pub async fn usage(db: &Db, query: &UsageQuery) -> Result<UsagePage, StoreError> {
    if query.by.len() > 2 || matches!(query.by.as_slice(), [one, two] if one == two) {
        return Err(StoreError::BadQuery("usage is grouped by at most two dimensions, not twice by one".to_owned()));
    }
    let (from, to) = (query.from.clamp(0, MAX_TIME + 1), query.to.clamp(0, MAX_TIME + 1));
    let after = query.after.as_deref().map(|after| cursor::decode(after, query.by.len())).transpose()?;
    if from >= to {
        return Ok(UsagePage::default());
    }
    let buckets = Buckets::new(query.bucket, &query.zone, from, to)?;
    let limit = query.limit.clamp(1, MAX_PAGE);
    let wanted = gathered(&query.filters);
    let summed = Summed { by: &query.by, wanted: &wanted, buckets: &buckets, measures: &MEASURES };
    let mut sql = Sql::default();
    summed.select(&mut sql, db, from..to);
    let key = summed.key();
    if let Some((bucket, values)) = after {
        sql.push(" where (").push(&key).push(") > (").number(bucket);
        values.iter().for_each(|value| {
            sql.push(", ").text(value);
        });
        sql.push(")");
    }
    sql.push(" group by ").push(&key).push(" order by ").push(&key).push(" limit ").number((limit + 1).into());
    let mut found: Vec<Found> = sql.fetch(db).await?;

    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| {
        let values: Vec<&str> = last.values.iter().map(String::as_str).collect();
        cursor::encode(last.bucket, &values)
    });
    let groups = found.into_iter().map(|group| UsageGroup {
        start: buckets.start_of(group.bucket),
        values: group.values,
        sums: group.sums,
    });
    Ok(UsagePage { groups: groups.collect(), next })
}

impl<'r, R: Row> FromRow<'r, R> for Found
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self { bucket: row.try_get("bucket")?, values: read_values(row, MEASURES.len())?, sums: Sums::read(row)? })
    }
}
