//! What was spent since a moment: what limits on requests, tokens and money are counted from.
//!
//! Exact to the millisecond, however many rows there are: whole hours come from the roll-ups and the hour that the moment
//! cuts from the rows. Where no roll-up has the dimensions (sessions, a tag with an end user), all of it comes from rows.

use jiff::tz::TimeZone;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{
    buckets::Buckets,
    dimension::{Dimension, gathered},
    sql::Sql,
    summed::{ALL_INPUT, ALL_OUTPUT, MAX_DIMENSIONS, SENT, Summed, read_values},
};
use crate::{
    store::{
        Db, StoreError,
        ledger::{clean::MAX_TIME, rollup::HOUR},
    },
    types::Nanos,
};

/// The most groups of an answer. A million end users are asked for one by one, or some at a time.
const MAX_GROUPS: i64 = 200_000;

/// The most values that a question names. They are bound up to three times, and SQLite binds 32,766.
const MAX_VALUES: usize = 5_000;

/// In the order of [`Spent`].
const MEASURES: [&str; 8] =
    ["calls", "attempts", ALL_INPUT, ALL_OUTPUT, "cost", "unpriced", "unpriced_input", "unpriced_output"];
/// The same, without calls that were sent nowhere.
const SENT_MEASURES: [&str; 8] =
    [SENT, "attempts", ALL_INPUT, ALL_OUTPUT, "cost", "unpriced", "unpriced_input", "unpriced_output"];

/// A question for what was spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpentQuestion {
    /// Calls that arrived at this time or later, in Unix milliseconds.
    pub since_ms: i64,
    /// Calls that arrived before this time, in Unix milliseconds; `None`: all that are in the store by now.
    pub until_ms: Option<i64>,
    /// At most three. Without any there is one sum.
    pub by: Vec<Dimension>,
    /// Several values for one dimension mean any of them; several dimensions mean all. At most 5,000 values.
    pub filters: Vec<(Dimension, String)>,
    /// Leaves calls that were sent nowhere out of `calls`: those that were refused, and those whose targets all rested.
    /// By end user over many days this takes longer.
    pub sent_only: bool,
}

/// What the calls of a group spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In the order of the question's `by`.
    pub values: Vec<String>,
    /// Calls, each at its last attempt: a call that went on to another provider counts there. One that was sent nowhere
    /// is among them unless the question leaves it out.
    pub calls: i64,
    /// Dispatches to providers.
    pub attempts: i64,
    /// Input tokens, cached or not, of any kind.
    pub input: i64,
    /// Output tokens of any kind, reasoning among them.
    pub output: i64,
    /// What they cost, without the attempts whose price is unknown.
    pub cost: Nanos,
    /// Attempts whose price is unknown.
    pub unpriced: i64,
    /// Input tokens of these.
    pub unpriced_input: i64,
    /// Output tokens of these.
    pub unpriced_output: i64,
}

/// What was spent, by the values of the dimensions, in their order. Groups without calls or attempts are not there, but
/// without dimensions there is one sum, whatever it is. As with usage, calls that have no end user (tag, session) are in
/// no group by that, a call is in the group of each of its tags, and of providers and targets only attempts there count.
///
/// # Errors
/// [`StoreError::BadQuery`] for more than three dimensions, one twice, more than 5,000 values, or an answer of more than
/// 200,000 groups; others when the database cannot be read, and when a sum is beyond 63 bits.
pub async fn spent(db: &Db, question: &SpentQuestion) -> Result<Vec<Spent>, StoreError> {
    let by = question.by.as_slice();
    if by.len() > MAX_DIMENSIONS || (1..by.len()).any(|place| by[..place].contains(&by[place])) {
        return Err(bad("what was spent is grouped by at most three dimensions, not twice by one"));
    }
    if question.filters.len() > MAX_VALUES {
        return Err(bad("a question for what was spent names at most 5,000 values"));
    }
    // The end of an hour, so that without an end no hour is cut by it.
    const END: i64 = MAX_TIME + 1;
    const { assert!(END % HOUR == 0) };
    let (since, until) = (question.since_ms.clamp(0, END), question.until_ms.unwrap_or(END).clamp(0, END));
    let mut found: Vec<Spent> = Vec::new();
    if since < until {
        let zone = TimeZone::UTC;
        let buckets = Buckets::new(None, &zone, since, until)?;
        let wanted = gathered(&question.filters);
        let measures = if question.sent_only { &SENT_MEASURES } else { &MEASURES };
        let summed = Summed { by, wanted: &wanted, buckets: &buckets, measures };
        let mut sql = Sql::default();
        summed.select(&mut sql, db, since..until);
        let key = summed.key();
        sql.push(" group by ").push(&key).push(" order by ").push(&key).push(" limit ").number(MAX_GROUPS + 1);
        found = sql.fetch(db).await?;
    }
    if found.len() as i64 > MAX_GROUPS {
        return Err(bad("the answer has more than 200,000 groups: ask for some of the values, or for a shorter time"));
    }
    if by.is_empty() && found.is_empty() {
        found.push(Spent::default());
    }
    Ok(found)
}

fn bad(why: &str) -> StoreError {
    StoreError::BadQuery(why.to_owned())
}

impl<'r, R: Row> FromRow<'r, R> for Spent
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            values: read_values(row, MEASURES.len())?,
            calls: row.try_get("calls").or_else(|_| row.try_get(SENT))?,
            attempts: row.try_get("attempts")?,
            input: row.try_get(ALL_INPUT)?,
            output: row.try_get(ALL_OUTPUT)?,
            cost: Nanos(row.try_get("cost")?),
            unpriced: row.try_get("unpriced")?,
            unpriced_input: row.try_get("unpriced_input")?,
            unpriced_output: row.try_get("unpriced_output")?,
        })
    }
}
