//! Sums by day, for comparing with what providers say.

use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::sql::Sql;
use crate::{
    store::{
        Db, StoreError,
        ledger::{
            stored::{outcome, usage_source},
            sums::read_usage,
        },
    },
    types::{Nanos, Outcome, Usage, UsageSource},
};

const DAY: i64 = 86_400_000;

/// What was sent to a provider on a day, for one model and one of its keys, as far as it ended in one way and its usage
/// came about in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayUsage {
    /// Midnight (UTC) of the day it was sent on, in Unix milliseconds.
    pub day: i64,
    pub provider: String,
    pub upstream_model: String,
    /// The place of the provider's key in its list, from 0.
    pub provider_key: u16,
    pub outcome: Outcome,
    pub usage_source: UsageSource,
    pub attempts: i64,
    /// How many of them were the last of their calls.
    pub calls: i64,
    /// How many have no known price.
    pub unpriced: i64,
    pub usage: Usage,
    pub cost: Nanos,
    pub reported_cost: Nanos,
}

/// What was sent to providers from `from` until before `to`, in Unix milliseconds, by the day (UTC) it was sent on, the
/// provider, its model and its key, and apart by outcome and source of usage. In this order.
///
/// # Errors
/// When the database cannot be read, and when a sum is beyond 63 bits.
pub async fn day_model_key(db: &Db, from: i64, to: i64) -> Result<Vec<DayUsage>, StoreError> {
    const GROUP: &str = "sent_at / 86400000, provider, upstream_model, provider_key, outcome, usage_source";
    let mut sql = Sql::default();
    sql.push("select sent_at / 86400000 as day, provider, upstream_model, provider_key, outcome, usage_source, ");
    sql.push("count(*) as attempts, cast(sum(is_last) as bigint) as calls, count(*) - count(cost) as unpriced, ");
    sql.push("cast(coalesce(sum(cost), 0) as bigint) as cost, ");
    sql.push("cast(coalesce(sum(reported_cost), 0) as bigint) as reported_cost");
    for (bucket, _) in Usage::default().buckets() {
        sql.push(&format!(", cast(sum({bucket}) as bigint) as {bucket}"));
    }
    // Attempts lie by the arrival of their call, which is a little earlier than they were sent.
    sql.push(" from attempts where at >= ").number(from.saturating_sub(DAY));
    sql.push(" and at < ").number(to.saturating_add(DAY));
    sql.push(" and sent_at >= ").number(from).push(" and sent_at < ").number(to);
    sql.push(" group by ").push(GROUP).push(" order by ").push(GROUP);
    sql.fetch(db).await
}

impl<'r, R: Row> FromRow<'r, R> for DayUsage
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let text = |column: &'static str| row.try_get::<String, _>(column);
        let number = |column: &'static str| row.try_get::<i64, _>(column);
        Ok(Self {
            day: number("day")? * DAY,
            provider: text("provider")?,
            upstream_model: text("upstream_model")?,
            provider_key: u16::try_from(number("provider_key")?).unwrap_or(u16::MAX),
            outcome: outcome("", &text("outcome")?),
            usage_source: usage_source("", &text("usage_source")?),
            attempts: number("attempts")?,
            calls: number("calls")?,
            unpriced: number("unpriced")?,
            usage: read_usage(row)?,
            cost: Nanos(number("cost")?),
            reported_cost: Nanos(number("reported_cost")?),
        })
    }
}
