//! Stretches of time that usage is shown by: hours, days and months of a time zone.
//!
//! The database does the grouping, so it must know which bucket a time lies in, and knows no zones. A zone's offset is
//! constant between two of its changes; over a range there are few of those, and they are written into the query. An
//! hour begins where the local minute is zero, and a day of 23 or 25 hours is what it is. Months are looked up in a
//! binary tree of their beginnings.

use std::fmt::Write;

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, date},
    tz::TimeZone,
};

use super::super::rollup::{DAY, HOUR};
use crate::store::StoreError;

/// The longest range that is divided, in milliseconds: two hundred years.
const MAX_RANGE: i64 = 200 * 366 * DAY;

/// How long the stretches are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    Hour,
    Day,
    Month,
}

/// The most hours that are looked up in the rows one by one: SQLite puts together at most 500 selects.
const MAX_CUTS: i64 = 400;

/// The buckets of a range of time.
pub(super) struct Buckets<'a> {
    /// `None`: the whole range is one.
    bucket: Option<Bucket>,
    zone: &'a TimeZone,
    from: i64,
    to: i64,
    /// Offsets from UTC in milliseconds, each with the time up to which it holds; the last holds to the end.
    offsets: Vec<(i64, i64)>,
}

impl Bucket {
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Month];

    /// The word used in the usage API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The bucket of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bucket| bucket.as_str() == word)
    }
}

impl<'a> Buckets<'a> {
    /// # Errors
    /// When the range is too long to be divided.
    pub(super) fn new(bucket: Option<Bucket>, zone: &'a TimeZone, from: i64, to: i64) -> Result<Self, StoreError> {
        let mut buckets = Self { bucket, zone, from, to, offsets: Vec::new() };
        if bucket.is_none() || from >= to {
            return Ok(buckets);
        }
        if to - from > MAX_RANGE {
            let why = "the range is too long to be divided into hours, days or months: ask for at most 200 years";
            return Err(StoreError::BadQuery(why.to_owned()));
        }
        let start = timestamp(from);
        let mut offset = i64::from(zone.to_offset(start).seconds()) * 1_000;
        for change in zone.following(start).take_while(|change| change.timestamp().as_millisecond() < to) {
            buckets.offsets.push((change.timestamp().as_millisecond(), offset));
            offset = i64::from(change.offset().seconds()) * 1_000;
        }
        buckets.offsets.push((to, offset));
        Ok(buckets)
    }

    /// Where the range and its buckets begin and end, in order; `None` when that cuts too many hours of UTC for sums by
    /// hour to be of use.
    pub(super) fn cuts(&self) -> Option<Vec<i64>> {
        let inner = match self.bucket {
            _ if self.are_whole_hours() => Vec::new(),
            None => Vec::new(),
            Some(Bucket::Hour) => return None,
            Some(Bucket::Day) if self.to - self.from > MAX_CUTS * DAY => return None,
            Some(Bucket::Day) => self.starts(|day| day.saturating_add(1.day())),
            Some(Bucket::Month) => self.months(),
        };
        let inner = inner.into_iter().filter(|cut| self.from < *cut && *cut < self.to);
        let cuts: Vec<i64> = [self.from].into_iter().chain(inner).chain([self.to]).collect();
        (cuts.len() as i64 <= MAX_CUTS).then_some(cuts)
    }

    /// Where the range and its buckets begin and end, in order, where these are long enough for sums by day to be of use.
    pub(super) fn long_cuts(&self) -> Option<Vec<i64>> {
        let inner = match self.bucket {
            None => Vec::new(),
            Some(Bucket::Month) => self.months(),
            Some(Bucket::Hour | Bucket::Day) => return None,
        };
        let inner = inner.into_iter().filter(|cut| self.from < *cut && *cut < self.to);
        let cuts: Vec<i64> = [self.from].into_iter().chain(inner).chain([self.to]).collect();
        (cuts.len() as i64 <= MAX_CUTS / 2).then_some(cuts)
    }

    /// Whether all of them begin and end with an hour of UTC, if the range does.
    fn are_whole_hours(&self) -> bool {
        self.offsets.iter().all(|(until, offset)| offset % HOUR == 0 && (until % HOUR == 0 || *until == self.to))
    }

    /// SQL for the number of the bucket that the time in `column` lies in. Numbers ascend with time.
    pub(super) fn number_of(&self, column: &str) -> String {
        match self.bucket {
            None => format!("cast({} as bigint)", self.from),
            Some(Bucket::Hour) if self.are_whole_hours() => format!("({column} - {column} % {HOUR})"),
            Some(Bucket::Hour) => format!("({column} - ({column} + {}) % {HOUR})", self.offset_at(column)),
            Some(Bucket::Day) => format!("(({column} + {}) / {DAY})", self.offset_at(column)),
            Some(Bucket::Month) => tree(column, &self.months()),
        }
    }

    /// When the bucket of this number begins, in Unix milliseconds.
    pub(super) fn start_of(&self, number: i64) -> i64 {
        match self.bucket {
            None | Some(Bucket::Hour | Bucket::Month) => number,
            Some(Bucket::Day) => {
                let day = i32::try_from(number).ok().and_then(|days| date(1970, 1, 1).checked_add(days.days()).ok());
                day.map_or(number * DAY, |day| start_of_day(day, self.zone))
            }
        }
    }

    fn offset_at(&self, column: &str) -> String {
        match self.offsets.as_slice() {
            [(_, only)] => format!("({only})"),
            [changes @ .., (_, last)] => {
                let mut sql = String::from("case");
                for (until, offset) in changes {
                    let _ = write!(sql, " when {column} < {until} then {offset}");
                }
                let _ = write!(sql, " else {last} end");
                sql
            }
            [] => "0".to_owned(),
        }
    }

    /// The beginnings of the months, from the one that `from` lies in.
    fn months(&self) -> Vec<i64> {
        self.starts(|day| day.first_of_month().saturating_add(1.month()))
    }

    /// The beginnings of buckets, from the one that `from` lies in; `next` is the day on which the next one begins.
    fn starts(&self, next: impl Fn(Date) -> Date) -> Vec<i64> {
        let first = timestamp(self.from).to_zoned(self.zone.clone()).date();
        let mut day = if self.bucket == Some(Bucket::Month) { first.first_of_month() } else { first };
        let mut starts = vec![start_of_day(day, self.zone)];
        loop {
            day = next(day);
            let start = start_of_day(day, self.zone);
            if start >= self.to {
                return starts;
            }
            starts.push(start);
        }
    }
}

/// The last of `starts` that is not after `column`.
fn tree(column: &str, starts: &[i64]) -> String {
    match starts {
        [] => "cast(0 as bigint)".to_owned(),
        [only] => format!("cast({only} as bigint)"),
        _ => {
            let (earlier, later) = starts.split_at(starts.len() / 2);
            let middle = later.first().copied().unwrap_or_default();
            format!("case when {column} < {middle} then {} else {} end", tree(column, earlier), tree(column, later))
        }
    }
}

/// Where a day has no midnight, because clocks are put forward then, it begins at the first time it has.
fn start_of_day(day: Date, zone: &TimeZone) -> i64 {
    day.to_zoned(zone.clone()).map_or(i64::MAX, |start| start.timestamp().as_millisecond())
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}
