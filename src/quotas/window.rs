//! The stretch of time that a quota counts in at a moment.

use std::sync::{Mutex, PoisonError};

use jiff::{Timestamp, Unit, Zoned, ZonedRound, civil::Weekday, tz::TimeZone};

use super::settings::{Span, WindowSettings};
use crate::shared;

/// In which time a quota counts.
#[derive(Debug)]
pub(super) enum Window {
    /// Whatever was taken and not given back.
    Slots,
    /// The time just past, in milliseconds.
    Rolling(u64),
    Calendar(Calendar),
}

/// A stretch of the calendar in a zone. The one that holds now is remembered: it changes once in an hour at most.
#[derive(Debug)]
pub(super) struct Calendar {
    span: Span,
    zone: TimeZone,
    now: Mutex<Period>,
}

/// From the first millisecond to the one after the last, Unix time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) starts: u64,
    pub(super) ends: u64,
}

impl Window {
    /// `None` counts what is under way.
    pub(super) fn new(settings: Option<&WindowSettings>) -> Self {
        match settings {
            None => Self::Slots,
            Some(WindowSettings::Rolling(period, _)) => {
                Self::Rolling(u64::try_from(period.0.as_millis()).unwrap_or(u64::MAX))
            }
            Some(WindowSettings::Calendar(span, zone)) => {
                Self::Calendar(Calendar { span: *span, zone: zone.0.clone(), now: Mutex::default() })
            }
        }
    }

    /// The window that counters are told, and the beginning of the period that is part of their names (0: none is).
    pub(super) fn at(&self, unix_millis: u64) -> (shared::Window, u64) {
        match self {
            Self::Slots => (shared::Window::Slots, 0),
            Self::Rolling(millis) => (shared::Window::Rolling { millis: *millis }, 0),
            Self::Calendar(calendar) => {
                let period = calendar.at(unix_millis);
                (shared::Window::Period { ends: period.ends }, period.starts)
            }
        }
    }

    /// Whether what was consumed more than an hour ago may count.
    pub(super) fn is_long(&self) -> bool {
        const HOUR: u64 = 3_600_000;
        match self {
            Self::Slots => false,
            Self::Rolling(millis) => *millis > HOUR,
            Self::Calendar(_) => true,
        }
    }

    /// Since when what was consumed counts.
    pub(super) fn since(&self, unix_millis: u64) -> Option<u64> {
        match self {
            Self::Slots => None,
            Self::Rolling(millis) => Some(unix_millis.saturating_sub(*millis)),
            Self::Calendar(calendar) => Some(calendar.at(unix_millis).starts),
        }
    }
}

impl Calendar {
    fn at(&self, unix_millis: u64) -> Period {
        // Whole in each of its states, whatever a panic interrupts.
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !(now.starts..now.ends).contains(&unix_millis) {
            *now = period(self.span, &self.zone, unix_millis);
        }
        *now
    }
}

/// The hour, day, week or month of `zone` that a moment lies in. Where the clocks are put forward or back, a day has 23
/// or 25 hours, and one whose midnight is skipped begins at the first moment that it has.
pub(super) fn period(span: Span, zone: &TimeZone, unix_millis: u64) -> Period {
    let at = i64::try_from(unix_millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let found = at.and_then(|at| bounds(span, &at.to_zoned(zone.clone())).ok());
    // Beyond the calendar: a period that holds for ever.
    let (starts, ends) = found.unwrap_or((0, u64::MAX));
    Period { starts, ends }
}

fn bounds(span: Span, now: &Zoned) -> Result<(u64, u64), jiff::Error> {
    use jiff::ToSpan;
    let (starts, ends) = match span {
        Span::Hour => {
            // An hour of the clock: where an offset is no whole hour, or changes by half of one, as the clock shows it.
            let starts = now.round(ZonedRound::new().smallest(Unit::Minute).mode(jiff::RoundMode::Trunc))?;
            let starts = starts.checked_sub(i64::from(now.minute()).minutes())?;
            let ends = starts.checked_add(1.hour())?;
            (starts, ends)
        }
        // By the date: the same hour tomorrow may be one that the clocks skip, and what comes next is the day after.
        Span::Day => {
            let next = now.date().tomorrow()?;
            (first_moment(now.date(), now.time_zone())?, first_moment(next, now.time_zone())?)
        }
        Span::Week => {
            let days = now.weekday().since(Weekday::Monday);
            let monday = now.date().checked_sub(i64::from(days).days())?;
            let next = monday.checked_add(7.days())?;
            (first_moment(monday, now.time_zone())?, first_moment(next, now.time_zone())?)
        }
        Span::Month => {
            let first = now.date().first_of_month();
            let next = first.checked_add(1.month())?;
            (first_moment(first, now.time_zone())?, first_moment(next, now.time_zone())?)
        }
    };
    let millis = |at: &Zoned| u64::try_from(at.timestamp().as_millisecond()).unwrap_or_default();
    Ok((millis(&starts), millis(&ends)))
}

/// The first moment of a day: its midnight, or what comes next where the clocks skip that.
fn first_moment(date: jiff::civil::Date, zone: &TimeZone) -> Result<Zoned, jiff::Error> {
    date.to_zoned(zone.clone())?.start_of_day()
}

#[cfg(test)]
mod tests {
    use jiff::{civil::date, tz};
    use proptest::prelude::*;

    use super::*;

    fn millis(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().unsigned_abs()
    }

    #[test]
    fn a_period_is_the_calendars() {
        let cases = [
            (Span::Hour, "UTC", "2026-11-30T20:15:01Z", "2026-11-30T20:00:00Z", "2026-11-30T21:00:00Z"),
            (Span::Hour, "Asia/Kathmandu", "2026-11-30T20:20:00Z", "2026-11-30T20:15:00Z", "2026-11-30T21:15:00Z"),
            (Span::Day, "UTC", "2026-11-30T23:59:59.999Z", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"),
            (Span::Day, "Europe/Berlin", "2026-11-30T23:30:00Z", "2026-11-30T23:00:00Z", "2026-12-01T23:00:00Z"),
            // Days of 23 and of 25 hours.
            (Span::Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            (Span::Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            // A day whose midnight is skipped.
            (Span::Day, "Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
            // The evening before one whose last hour is skipped, and that day.
            (Span::Day, "America/Nuuk", "2033-03-26T01:59:59.999Z", "2033-03-25T02:00:00Z", "2033-03-26T02:00:00Z"),
            (Span::Day, "America/Nuuk", "2033-03-26T02:00:00Z", "2033-03-26T02:00:00Z", "2033-03-27T01:00:00Z"),
            (Span::Week, "UTC", "2026-12-02T12:00:00Z", "2026-11-30T00:00:00Z", "2026-12-07T00:00:00Z"),
            (Span::Week, "America/New_York", "2026-11-02T04:59:59Z", "2026-10-26T04:00:00Z", "2026-11-02T05:00:00Z"),
            (Span::Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Span::Month, "Europe/Berlin", "2026-10-31T23:00:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
            (Span::Month, "Pacific/Auckland", "2026-11-30T20:00:00Z", "2026-11-30T11:00:00Z", "2026-12-31T11:00:00Z"),
        ];
        for (span, zone, now, starts, ends) in cases {
            let found = period(span, &TimeZone::get(zone).unwrap(), millis(now));
            assert_eq!(found, Period { starts: millis(starts), ends: millis(ends) }, "{span:?} of {zone} at {now}");
        }
    }

    #[test]
    fn the_period_that_is_remembered_ends() {
        let settings: WindowSettings = "hour".parse().unwrap();
        let window = Window::new(Some(&settings));
        let hour = 3_600_000;
        let at = millis("2026-11-30T20:00:00Z");
        for (now, starts) in [(at, at), (at + hour - 1, at), (at + hour, at + hour), (at + 5, at)] {
            assert_eq!(window.at(now).1, starts);
        }
    }

    proptest! {
        /// In every zone, at any time: periods follow each other without gaps, hold their moment, and begin where the
        /// local clock says so.
        #[test]
        fn periods_tile_the_time_of_every_zone(seconds in 1_577_836_800_u64..2_208_988_800, pick in 0_usize..10_000) {
            let names: Vec<String> = tz::db().available().map(|name| name.to_string()).collect();
            let zone = TimeZone::get(&names[pick % names.len()]).unwrap();
            let now = seconds * 1_000;
            for span in Span::ALL {
                let found = period(span, &zone, now);
                prop_assert!((found.starts..found.ends).contains(&now), "{span:?}");
                let next = period(span, &zone, found.ends);
                let before = period(span, &zone, found.starts - 1);
                if span != Span::Hour {
                    prop_assert_eq!(next.starts, found.ends);
                    prop_assert_eq!(before.ends, found.starts);
                    // Only a moment that the clocks skip may stand for midnight.
                    let starts = Timestamp::from_millisecond(found.starts as i64).unwrap().to_zoned(zone.clone());
                    prop_assert_eq!(&starts, &starts.start_of_day().unwrap());
                    prop_assert!(span != Span::Month || starts.day() == 1);
                    prop_assert!(span != Span::Week || starts.weekday() == Weekday::Monday);
                } else {
                    prop_assert_eq!(found.ends - found.starts, 3_600_000);
                }
                for inside in [found.starts, found.starts + (found.ends - found.starts) / 2, found.ends - 1] {
                    let same = period(span, &zone, inside);
                    prop_assert!(span == Span::Hour || same == found, "{span:?}: {inside}");
                }
            }
        }
    }

    #[test]
    fn a_date_at_the_edge_of_time_still_has_a_period() {
        let _ = date(9999, 12, 31);
        assert_eq!(period(Span::Month, &TimeZone::UTC, u64::MAX), Period { starts: 0, ends: u64::MAX });
    }
}
