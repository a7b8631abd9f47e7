//! What sums are made from: the roll-ups, the rows, or both.
//!
//! Where a roll-up has every dimension that is asked for, whole hours come from it, and whole days where there is one by
//! day. An hour that is cut, by the range or
//! by a midnight of a zone whose offset is no whole hour, comes from the rows. Else everything comes from the rows, which
//! is slower, and reaches back only as far as rows are kept: for sessions, for dimensions that no roll-up has together,
//! such as tags and end users, and for hours of a zone whose offset is no whole hour.

use std::ops::Range;

use sqlx::{ColumnIndex, Decode, Row, Type};

use super::{
    buckets::Buckets,
    dimension::{Dimension, Wanted, filter_call, tags_of_request},
    sql::Sql,
};
use crate::store::{
    Db,
    ledger::rollup::{DAY, HOUR, Rollup},
};

/// The most dimensions that sums are grouped by.
pub(super) const MAX_DIMENSIONS: usize = 3;

/// The columns of the values that sums are grouped by, in their order.
pub(super) const VALUES: [&str; MAX_DIMENSIONS] = ["d0", "d1", "d2"];

/// A measure that no column has: all tokens of the input.
pub(super) const ALL_INPUT: &str = "all_input";
/// A measure that no column has: all tokens of the output.
pub(super) const ALL_OUTPUT: &str = "all_output";

/// A measure that no column has: calls that were sent to a provider.
pub(super) const SENT: &str = "sent";

/// Sums over calls, as a question.
pub(super) struct Summed<'a> {
    /// At most [`MAX_DIMENSIONS`].
    pub(super) by: &'a [Dimension],
    pub(super) wanted: &'a [Wanted<'a>],
    pub(super) buckets: &'a Buckets<'a>,
    /// Columns of the roll-ups, [`ALL_INPUT`], [`ALL_OUTPUT`] and [`SENT`].
    pub(super) measures: &'static [&'static str],
}

/// What a part of the answer is summed from.
enum Part {
    /// The hours or days of a range, but for those that are left out.
    Rollup(Rollup, Range<i64>, Vec<i64>),
    Rows(Range<i64>),
}

/// The values of a row's dimensions, of which there are as many as columns beside the bucket and the measures.
pub(super) fn read_values<'r, R: Row>(row: &'r R, measures: usize) -> Result<Vec<String>, sqlx::Error>
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    let count = row.len().saturating_sub(measures + 1);
    VALUES.into_iter().take(count).map(|value| row.try_get(value)).collect()
}

impl Summed<'_> {
    /// The columns of a group: the bucket and the values of its dimensions.
    pub(super) fn key(&self) -> String {
        ["bucket"].into_iter().chain(VALUES.into_iter().take(self.by.len())).collect::<Vec<_>>().join(", ")
    }

    /// Writes the select up to where its conditions on groups would follow; `group by` is left to the caller.
    pub(super) fn select(&self, sql: &mut Sql, db: &Db, range: Range<i64>) {
        sql.push("select ").push(&self.key());
        for measure in self.measures {
            sql.push(&format!(", cast(sum({measure}) as bigint) as {measure}"));
        }
        sql.push(" from (");
        for (index, part) in self.parts(range).iter().enumerate() {
            sql.push(if index == 0 { "" } else { " union all " });
            match part {
                Part::Rollup(rollup, hours, without) => {
                    self.select_rollup(sql, *rollup);
                    let time = rollup.time();
                    sql.push(&format!(" and {time} >= ")).number(hours.start);
                    sql.push(&format!(" and {time} < ")).number(hours.end);
                    without.iter().for_each(|one| {
                        sql.push(&format!(" and {time} <> ")).number(*one);
                    });
                }
                Part::Rows(part) => self.select_rows(sql, db, part),
            }
        }
        sql.push(") as parts");
    }

    /// The parts that make up the range. An hour that the range or a bucket cuts comes from the rows, where only a
    /// roll-up's whole hours can be had.
    fn parts(&self, range: Range<i64>) -> Vec<Part> {
        let (Some(rollup), Some(cuts)) = (self.rollup(), self.buckets.cuts()) else {
            return vec![Part::Rows(range)];
        };
        let cut_hours = cut(&cuts, HOUR);
        let rows = cut_hours.iter().map(|hour| Part::Rows(range.start.max(*hour)..range.end.min(hour + HOUR)));
        let mut parts: Vec<Part> = rows.collect();
        let by_hour = |hours| Part::Rollup(rollup, hours, cut_hours.clone());
        match (self.daily(rollup), self.buckets.long_cuts()) {
            (Some(daily), Some(cuts)) => {
                let cut_days = cut(&cuts, DAY);
                let hours = cut_days.iter().map(|day| range.start.max(*day) / HOUR * HOUR..range.end.min(day + DAY));
                parts.extend(hours.map(by_hour));
                parts.push(Part::Rollup(daily, range.start / DAY * DAY..range.end, cut_days));
            }
            _ => parts.push(by_hour(range.start / HOUR * HOUR..range.end)),
        }
        parts
    }

    /// The roll-up by day in place of `rollup`, if it has every dimension of the question, and tells calls that were sent
    /// from others where that is asked.
    fn daily(&self, rollup: Rollup) -> Option<Rollup> {
        let tells = |daily: &Rollup| daily.tells_sent() || !self.measures.contains(&SENT);
        rollup
            .by_day()
            .filter(tells)
            .filter(|daily| self.dimensions().all(|dimension| dimension.in_rollup(*daily).is_some()))
    }

    fn dimensions(&self) -> impl Iterator<Item = Dimension> {
        self.by.iter().copied().chain(self.wanted.iter().map(|(dimension, _)| *dimension))
    }

    /// The roll-up that has every dimension of the question.
    fn rollup(&self) -> Option<Rollup> {
        // Calls of two tags would count twice, though they are asked for once.
        let any_of_tags =
            self.wanted.iter().any(|(dimension, values)| *dimension == Dimension::Tag && values.len() > 1);
        if any_of_tags && !self.by.contains(&Dimension::Tag) {
            return None;
        }
        let has_all = |rollup: &Rollup| {
            self.dimensions().all(|dimension| dimension.in_rollup(*rollup).is_some())
                && (rollup.tells_sent() || !self.measures.contains(&SENT))
        };
        Rollup::BY_HOUR.into_iter().find(has_all)
    }

    fn select_rollup(&self, sql: &mut Sql, rollup: Rollup) {
        sql.push("select ").push(&self.buckets.number_of(rollup.time())).push(" as bucket");
        for (dimension, value) in self.by.iter().zip(VALUES) {
            sql.push(&format!(", {} as {value}", dimension.in_rollup(rollup).unwrap_or("''")));
        }
        for measure in self.measures {
            sql.push(&format!(", {} as {measure}", of_rollup(measure)));
        }
        sql.push(" from ").push(rollup.table()).push(" where true");
        for (dimension, values) in self.wanted {
            if let Some(column) = dimension.in_rollup(rollup) {
                sql.push(" and ").one_of(column, values);
            }
        }
        // Calls that name only one of the two are in it with an empty text for the other.
        for dimension in self.by.iter().filter(|one| matches!(one, Dimension::Workflow | Dimension::Step)) {
            sql.push(" and ").push(dimension.in_rollup(rollup).unwrap_or("''")).push(" <> ''");
        }
    }

    fn select_rows(&self, sql: &mut Sql, db: &Db, part: &Range<i64>) {
        sql.push("select ").push(&self.buckets.number_of("r.at")).push(" as bucket");
        for (dimension, value) in self.by.iter().zip(VALUES) {
            sql.push(&format!(", {} as {value}", dimension.in_rows(db)));
        }
        for measure in self.measures {
            sql.push(&format!(", {} as {measure}", of_row(measure)));
        }
        // The range is said twice, because no database concludes it for the attempts from the join.
        sql.push(" from requests r left join attempts a on a.at = r.at and a.id = r.id");
        sql.push(" and a.at >= ").number(part.start).push(" and a.at < ").number(part.end);
        if self.by.contains(&Dimension::Tag) {
            sql.push(" cross join ").push(tags_of_request(db));
        }
        sql.push(" where r.at >= ").number(part.start).push(" and r.at < ").number(part.end);
        for column in self.by.iter().filter_map(|dimension| dimension.optional()) {
            sql.push(" and ").push(column).push(" is not null");
        }
        for filter in self.wanted {
            let (dimension, values) = filter;
            if dimension.is_of_attempt() || self.by.contains(dimension) {
                sql.push(" and ").one_of(dimension.in_rows(db), values);
            } else {
                filter_call(sql, db, filter);
            }
        }
    }
}

/// The hours or days, by their `length`, that are cut in two at one of `cuts`.
fn cut(cuts: &[i64], length: i64) -> Vec<i64> {
    let mut cut: Vec<i64> = cuts.iter().filter(|at| *at % length != 0).map(|at| at - at % length).collect();
    cut.dedup();
    cut
}

/// All tokens of one direction: the sum of the columns of its buckets.
macro_rules! input {
    ($table:literal) => {
        concat!(
            "(",
            $table,
            "input + ",
            $table,
            "cache_read + ",
            $table,
            "cache_write + ",
            $table,
            "cache_write_1h + ",
            $table,
            "audio_input + ",
            $table,
            "image_input)"
        )
    };
}
macro_rules! output {
    ($table:literal) => {
        concat!("(", $table, "output + ", $table, "reasoning + ", $table, "audio_output + ", $table, "image_output)")
    };
}

/// A measure in the columns of a roll-up.
fn of_rollup(measure: &'static str) -> &'static str {
    match measure {
        // A call that was sent nowhere has no target.
        SENT => "case when target = '' then 0 else calls end",
        ALL_INPUT => input!(""),
        ALL_OUTPUT => output!(""),
        column => column,
    }
}

/// What a request (`r`) joined with one of its attempts (`a`), or with none, adds to a measure. The same as
/// [`crate::store::ledger::Sums`] in SQL.
fn of_row(measure: &str) -> String {
    match measure {
        "calls" => "coalesce(a.is_last, 1)".to_owned(),
        SENT => "coalesce(a.is_last, 0)".to_owned(),
        "attempts" => "case when a.id is null then 0 else 1 end".to_owned(),
        "errors" => "case when r.outcome in ('ok', 'client_cancel') then 0 else coalesce(a.is_last, 1) end".to_owned(),
        "failed_attempts" => {
            "case when a.id is null or a.outcome in ('ok', 'client_cancel') then 0 else 1 end".to_owned()
        }
        "unpriced" => "case when a.id is not null and a.cost is null then 1 else 0 end".to_owned(),
        "unpriced_input" => unpriced(input!("a.")),
        "unpriced_output" => unpriced(output!("a.")),
        "estimated" => "case when a.usage_source in ('counted', 'estimated') then 1 else 0 end".to_owned(),
        ALL_INPUT => concat!("coalesce(", input!("a."), ", 0)").to_owned(),
        ALL_OUTPUT => concat!("coalesce(", output!("a."), ", 0)").to_owned(),
        column => format!("coalesce(a.{column}, 0)"),
    }
}

fn unpriced(tokens: &str) -> String {
    format!("case when a.id is not null and a.cost is null then {tokens} else 0 end")
}
