//! What is summed over calls: the measures of roll-ups and of usage queries, in one order for both.

use sqlx::{ColumnIndex, Decode, Row, Type};

use super::{AttemptRow, CallRow};
use crate::types::{Nanos, Outcome, Usage, UsageSource};

/// The columns of the measures, in the order in which [`Sums::values`] gives them.
pub(super) const MEASURES: [&str; 25] = [
    "calls",
    "attempts",
    "errors",
    "failed_attempts",
    "unpriced",
    "unpriced_input",
    "unpriced_output",
    "estimated",
    "cost",
    "reported_cost",
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "image_input",
    "output",
    "reasoning",
    "audio_output",
    "image_output",
    "searches",
    "tool_calls",
    "images",
    "millis",
    "characters",
];

/// The measures that come before the buckets of usage.
const BEFORE_USAGE: usize = 10;

/// Sums over some calls and their attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls. One with several attempts counts once, at its last attempt.
    pub calls: i64,
    /// Dispatches to providers.
    pub attempts: i64,
    /// Calls that failed: they ended neither well nor by the client's own hanging up.
    pub errors: i64,
    /// Attempts that failed, whatever became of their calls.
    pub failed_attempts: i64,
    /// Attempts whose price is not known. Their cost is missing from `cost`.
    pub unpriced: i64,
    /// Input tokens of those attempts, in all buckets.
    pub unpriced_input: i64,
    /// Output tokens of those attempts, in all buckets.
    pub unpriced_output: i64,
    /// Attempts whose usage was counted or estimated here, because the provider did not say.
    pub estimated: i64,
    /// What the attempts cost by the catalogue.
    pub cost: Nanos,
    /// What the providers say they cost, where they say so.
    pub reported_cost: Nanos,
    pub usage: Usage,
}

impl Sums {
    /// What `attempt` adds. `ends` is the call whose last attempt it is.
    pub(super) fn of_attempt(attempt: &AttemptRow, ends: Option<&CallRow>) -> Self {
        let unpriced = |tokens: u64| if attempt.cost.is_none() { signed(tokens) } else { 0 };
        Self {
            calls: i64::from(ends.is_some()),
            attempts: 1,
            errors: i64::from(ends.is_some_and(|call| failed(call.outcome))),
            failed_attempts: i64::from(failed(attempt.outcome)),
            unpriced: i64::from(attempt.cost.is_none()),
            unpriced_input: unpriced(attempt.usage.total_input()),
            unpriced_output: unpriced(attempt.usage.total_output()),
            estimated: i64::from(matches!(attempt.usage_source, UsageSource::Counted | UsageSource::Estimated)),
            cost: attempt.cost.unwrap_or_default(),
            reported_cost: attempt.reported_cost.unwrap_or_default(),
            usage: attempt.usage,
        }
    }

    /// What a call adds that was never sent to a provider.
    pub(super) fn of_unsent(call: &CallRow) -> Self {
        Self { calls: 1, errors: i64::from(failed(call.outcome)), ..Self::default() }
    }

    /// The measures in the order of [`MEASURES`].
    pub(super) fn values(&self) -> [i64; MEASURES.len()] {
        let mut values = [0; MEASURES.len()];
        let before: [i64; BEFORE_USAGE] = [
            self.calls,
            self.attempts,
            self.errors,
            self.failed_attempts,
            self.unpriced,
            self.unpriced_input,
            self.unpriced_output,
            self.estimated,
            self.cost.0,
            self.reported_cost.0,
        ];
        let usage = self.usage.buckets().map(|(_, count)| signed(count));
        for (value, measure) in values.iter_mut().zip(before.into_iter().chain(usage)) {
            *value = measure;
        }
        values
    }

    /// Reads the measures from the columns of a row that are named after them.
    pub(super) fn read<'r, R: Row>(row: &'r R) -> Result<Self, sqlx::Error>
    where
        &'static str: ColumnIndex<R>,
        i64: Decode<'r, R::Database> + Type<R::Database>,
    {
        Ok(Self {
            calls: row.try_get("calls")?,
            attempts: row.try_get("attempts")?,
            errors: row.try_get("errors")?,
            failed_attempts: row.try_get("failed_attempts")?,
            unpriced: row.try_get("unpriced")?,
            unpriced_input: row.try_get("unpriced_input")?,
            unpriced_output: row.try_get("unpriced_output")?,
            estimated: row.try_get("estimated")?,
            cost: Nanos(row.try_get("cost")?),
            reported_cost: Nanos(row.try_get("reported_cost")?),
            usage: read_usage(row)?,
        })
    }

    /// Adds up what two groups consumed.
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.attempts += other.attempts;
        self.errors += other.errors;
        self.failed_attempts += other.failed_attempts;
        self.unpriced += other.unpriced;
        self.unpriced_input += other.unpriced_input;
        self.unpriced_output += other.unpriced_output;
        self.estimated += other.estimated;
        self.cost += other.cost;
        self.reported_cost += other.reported_cost;
        self.usage += other.usage;
    }
}

/// Reads the buckets of usage from the columns of a row that are named after them.
pub(super) fn read_usage<'r, R: Row>(row: &'r R) -> Result<Usage, sqlx::Error>
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let read = |column: &'static str| row.try_get::<i64, _>(column).map(|count| u64::try_from(count).unwrap_or(0));
    Ok(Usage {
        input: read("input")?,
        cache_read: read("cache_read")?,
        cache_write: read("cache_write")?,
        cache_write_1h: read("cache_write_1h")?,
        audio_input: read("audio_input")?,
        image_input: read("image_input")?,
        output: read("output")?,
        reasoning: read("reasoning")?,
        audio_output: read("audio_output")?,
        image_output: read("image_output")?,
        searches: read("searches")?,
        tool_calls: read("tool_calls")?,
        images: read("images")?,
        millis: read("millis")?,
        characters: read("characters")?,
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Neither well nor by the client's own hanging up. The queries over rows say the same in SQL.
const fn failed(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Ok | Outcome::ClientCancel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_measures_are_the_buckets_of_usage() {
        let buckets = Usage::default().buckets().map(|(name, _)| name);
        assert_eq!(MEASURES[BEFORE_USAGE..], buckets);
    }
}
