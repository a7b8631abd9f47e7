//! When a key stops working, as people write it.

use std::str::FromStr;

use anyhow::{Context, Result};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};

/// When a key stops working.
#[derive(Clone, Copy, Debug)]
pub enum Expires {
    Never,
    In(Span),
    At(Timestamp),
}

impl Expires {
    /// # Errors
    /// When the span leads beyond the calendar.
    pub(in crate::cli) fn resolve(self, now: Timestamp) -> Result<Option<Timestamp>> {
        match self {
            Self::Never => Ok(None),
            Self::At(at) => Ok(Some(at)),
            // In UTC, so that days and months can be added, and a day always has 24 hours.
            Self::In(span) => {
                let at = now.to_zoned(TimeZone::UTC).checked_add(span).context("the key would expire too far away")?;
                Ok(Some(at.timestamp()))
            }
        }
    }
}

impl FromStr for Expires {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("never") {
            return Ok(Self::Never);
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Self::At(at));
        }
        // The parser of dates would also take a time of day, and drop it.
        if text.len() == "2027-01-31".len()
            && let Ok(date) = text.parse::<Date>()
            && let Ok(midnight) = date.to_zoned(TimeZone::UTC)
        {
            return Ok(Self::At(midnight.timestamp()));
        }
        text.parse::<Span>().map(Self::In).map_err(|_| {
            "write a span (30d, 12h, 6mo), a date (2027-01-31), a time with its zone (2027-01-31T12:00:00Z), or never"
                .to_owned()
        })
    }
}
