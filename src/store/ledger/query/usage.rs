//! Usage: sums over calls, grouped by up to two dimensions and by time.
//!
//! Where a roll-up has every dimension that is asked for, whole hours come from it. An hour that is cut, by the range or
//! by a midnight of a zone whose offset is no whole hour, comes from the rows. Else everything comes from the rows, which
//! is slower, and reaches back only as far as rows are kept: for dimensions without a roll-up, for tags together with end
//! users, and for hours of a zone whose offset is no whole hour.

use std::ops::Range;

use jiff::tz::TimeZone;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{
    buckets::{Bucket, Buckets},
    cursor,
    dimension::{Dimension, Wanted, filter_call, gathered, tags_of_request},
    sql::Sql,
};
use crate::store::{
    Db, StoreError,
    ledger::{
        clean::MAX_TIME,
        rollup::{HOUR, Rollup},
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
    values: [String; 2],
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
    let mut found: Vec<Found> = select(db, query, &buckets, from..to, after, limit + 1).fetch(db).await?;

    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|last| {
        let values: Vec<&str> = last.values.iter().take(query.by.len()).map(String::as_str).collect();
        cursor::encode(last.bucket, &values)
    });
    let groups = found.into_iter().map(|group| UsageGroup {
        start: buckets.start_of(group.bucket),
        values: group.values.into_iter().take(query.by.len()).collect(),
        sums: group.sums,
    });
    Ok(UsagePage { groups: groups.collect(), next })
}

fn select(
    db: &Db,
    query: &UsageQuery,
    buckets: &Buckets<'_>,
    range: Range<i64>,
    after: Option<(i64, Vec<String>)>,
    limit: u32,
) -> Sql {
    let wanted = gathered(&query.filters);
    let mut sql = Sql::default();
    sql.push("select bucket, d0, d1");
    for measure in MEASURES {
        sql.push(&format!(", cast(sum({measure}) as bigint) as {measure}"));
    }
    sql.push(" from (");
    for (index, part) in parts(query, &wanted, buckets, range).iter().enumerate() {
        sql.push(if index == 0 { "" } else { " union all " });
        match part {
            Part::Rollup(rollup, hours, without) => {
                select_rollup(&mut sql, *rollup, query, &wanted, buckets);
                sql.push(" and hour >= ").number(hours.start).push(" and hour < ").number(hours.end);
                without.iter().for_each(|hour| {
                    sql.push(" and hour <> ").number(*hour);
                });
            }
            Part::Rows(part) => select_rows(&mut sql, db, query, &wanted, buckets, part),
        }
    }
    sql.push(") as parts");
    if let Some((bucket, values)) = after {
        let columns = ["bucket, d0, d1", "bucket, d0", "bucket"][2 - values.len().min(2)];
        sql.push(" where (").push(columns).push(") > (").number(bucket);
        values.iter().for_each(|value| {
            sql.push(", ").text(value);
        });
        sql.push(")");
    }
    sql.push(" group by bucket, d0, d1 order by bucket, d0, d1 limit ").number(limit.into());
    sql
}

/// What a part of the answer is summed from.
enum Part {
    /// The hours of a range, but for those that are left out.
    Rollup(Rollup, Range<i64>, Vec<i64>),
    Rows(Range<i64>),
}

/// The parts that make up the range. An hour that the range or a bucket cuts comes from the rows, where only a roll-up's
/// whole hours can be had.
fn parts(query: &UsageQuery, wanted: &[Wanted<'_>], buckets: &Buckets<'_>, range: Range<i64>) -> Vec<Part> {
    let (Some(rollup), Some(cuts)) = (rollup_for(query, wanted), buckets.cuts()) else {
        return vec![Part::Rows(range)];
    };
    let mut cut_hours: Vec<i64> = cuts.iter().filter(|cut| *cut % HOUR != 0).map(|cut| cut - cut % HOUR).collect();
    cut_hours.dedup();
    let rows = cut_hours.iter().map(|hour| Part::Rows(range.start.max(*hour)..range.end.min(hour + HOUR)));
    let mut parts: Vec<Part> = rows.collect();
    let whole = range.start / HOUR * HOUR..range.end;
    parts.push(Part::Rollup(rollup, whole, cut_hours));
    parts
}

/// The roll-up that has every dimension of the query.
fn rollup_for(query: &UsageQuery, wanted: &[Wanted<'_>]) -> Option<Rollup> {
    // Calls of two tags would count twice, though they are asked for once.
    let any_of_tags = wanted.iter().any(|(dimension, values)| *dimension == Dimension::Tag && values.len() > 1);
    if any_of_tags && !query.by.contains(&Dimension::Tag) {
        return None;
    }
    let dimensions = || query.by.iter().copied().chain(wanted.iter().map(|(dimension, _)| *dimension));
    Rollup::EVERY.into_iter().find(|rollup| dimensions().all(|dimension| dimension.in_rollup(*rollup).is_some()))
}

fn select_rollup(sql: &mut Sql, rollup: Rollup, query: &UsageQuery, wanted: &[Wanted<'_>], buckets: &Buckets<'_>) {
    sql.push("select ").push(&buckets.number_of("hour")).push(" as bucket");
    for place in 0..2 {
        let column = query.by.get(place).and_then(|dimension| dimension.in_rollup(rollup)).unwrap_or("''");
        sql.push(&format!(", {column} as d{place}"));
    }
    sql.push(", ").push(&MEASURES.join(", ")).push(" from ").push(rollup.table());
    sql.push(" where true");
    for (dimension, values) in wanted {
        if let Some(column) = dimension.in_rollup(rollup) {
            sql.push(" and ").one_of(column, values);
        }
    }
}

fn select_rows(
    sql: &mut Sql,
    db: &Db,
    query: &UsageQuery,
    wanted: &[Wanted<'_>],
    buckets: &Buckets<'_>,
    part: &Range<i64>,
) {
    sql.push("select ").push(&buckets.number_of("r.at")).push(" as bucket");
    for place in 0..2 {
        let value = query.by.get(place).map_or("''", |dimension| dimension.in_rows(db));
        sql.push(&format!(", {value} as d{place}"));
    }
    for measure in MEASURES {
        sql.push(&format!(", {} as {measure}", of_row(measure)));
    }
    // The range is said twice, because no database concludes it for the attempts from the join.
    sql.push(" from requests r left join attempts a on a.at = r.at and a.id = r.id");
    sql.push(" and a.at >= ").number(part.start).push(" and a.at < ").number(part.end);
    if query.by.contains(&Dimension::Tag) {
        sql.push(" cross join ").push(tags_of_request(db));
    }
    sql.push(" where r.at >= ").number(part.start).push(" and r.at < ").number(part.end);
    for column in query.by.iter().filter_map(|dimension| dimension.optional()) {
        sql.push(" and ").push(column).push(" is not null");
    }
    for filter in wanted {
        let (dimension, values) = filter;
        if dimension.is_of_attempt() || query.by.contains(dimension) {
            sql.push(" and ").one_of(dimension.in_rows(db), values);
        } else {
            filter_call(sql, db, filter);
        }
    }
}

/// What a request (`r`) joined with one of its attempts (`a`), or with none, adds to a measure. The same as [`Sums`] in
/// SQL.
fn of_row(measure: &str) -> String {
    match measure {
        "calls" => "coalesce(a.is_last, 1)".to_owned(),
        "attempts" => "case when a.id is null then 0 else 1 end".to_owned(),
        "errors" => "case when r.outcome in ('ok', 'client_cancel') then 0 else coalesce(a.is_last, 1) end".to_owned(),
        "failed_attempts" => {
            "case when a.id is null or a.outcome in ('ok', 'client_cancel') then 0 else 1 end".to_owned()
        }
        "unpriced" => "case when a.id is not null and a.cost is null then 1 else 0 end".to_owned(),
        "estimated" => "case when a.usage_source in ('counted', 'estimated') then 1 else 0 end".to_owned(),
        column => format!("coalesce(a.{column}, 0)"),
    }
}

impl<'r, R: Row> FromRow<'r, R> for Found
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            bucket: row.try_get("bucket")?,
            values: [row.try_get("d0")?, row.try_get("d1")?],
            sums: Sums::read(row)?,
        })
    }
}
