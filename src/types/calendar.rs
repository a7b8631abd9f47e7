//! Dates, times and zones as people write them: in a query, on the command line.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::{
    Timestamp,
    civil::Date,
    tz::{self, TimeZone},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::nearest;

/// A moment: a date, which is its midnight in some zone, or an instant with an offset (RFC 3339).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Moment {
    Date(Date),
    Instant(Timestamp),
}

/// A time zone by its IANA name, such as `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(pub TimeZone);

impl Moment {
    /// The instant; a date begins at its midnight in `zone`, or at the first moment it has there.
    ///
    /// # Errors
    /// For a date at the edge of the calendar, with a sentence.
    pub fn at(self, zone: &Zone) -> Result<Timestamp, String> {
        match self {
            Self::Instant(at) => Ok(at),
            Self::Date(date) => date
                .to_zoned(zone.0.clone())
                .map(|midnight| midnight.timestamp())
                .map_err(|_| format!("{date} is outside of the calendar")),
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The parser of dates would also take a time of day, and drop it.
        if text.len() == "2026-11-30".len()
            && let Ok(date) = text.parse::<Date>()
        {
            return Ok(Self::Date(date));
        }
        // In a query an offset's `+` that was not escaped has become a space.
        let plus = match text.rsplit_once(' ') {
            Some((time, offset)) if time.contains('T') => Cow::Owned(format!("{time}+{offset}")),
            _ => Cow::Borrowed(text),
        };
        plus.parse::<Timestamp>().map(Self::Instant).map_err(|_| {
            format!(
                "`{}` is neither a date nor a time with its offset; write 2026-11-30, 2026-11-30T12:00:00Z or \
                 2026-11-30T12:00:00+01:00",
                shown(text)
            )
        })
    }
}

impl Zone {
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The zone's name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(zone) = TimeZone::get(text)
            && zone.iana_name().is_some_and(|name| name != "Etc/Unknown")
        {
            return Ok(Self(zone));
        }
        let names: Vec<String> = tz::db().available().map(|name| name.to_string()).collect();
        let near = nearest(text, names.iter().map(String::as_str));
        let near = near.map(|name| format!(" Did you mean `{name}`?")).unwrap_or_default();
        Err(format!("`{}` is no time zone; write an IANA name such as Europe/Berlin or UTC.{near}", shown(text)))
    }
}

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A date (its midnight in the zone of the query) or a time with its offset (RFC 3339).",
            "examples": ["2026-11-30", "2026-11-30T12:00:00Z"],
        })
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A time zone by its IANA name.",
            "examples": ["UTC", "Europe/Berlin"],
        })
    }
}

/// The beginning of what somebody wrote, fit for a message of one line.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_date_in_a_zone_or_an_instant() {
        let cases = [
            ("2026-11-30", "UTC", "2026-11-30T00:00:00Z"),
            ("2026-11-30", "Europe/Berlin", "2026-11-29T23:00:00Z"),
            ("2026-07-01", "europe/berlin", "2026-06-30T22:00:00Z"),
            // The clocks of Cairo skip this midnight.
            ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00Z"),
            ("2026-11-30T12:00:00+01:00", "Asia/Tokyo", "2026-11-30T11:00:00Z"),
            ("2026-11-30T12:00:00 01:00", "UTC", "2026-11-30T11:00:00Z"),
            ("2026-11-30T12:00:00.5Z", "UTC", "2026-11-30T12:00:00.5Z"),
        ];
        for (text, zone, at) in cases {
            let found = text.parse::<Moment>().unwrap().at(&zone.parse().unwrap());
            assert_eq!(found, Ok(at.parse().unwrap()), "{text} {zone}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-02-30", "2026-11-30T12:00:00", "20261130", "1e9", "2026-11"] {
            assert!(text.parse::<Moment>().unwrap_err().contains("2026-11-30T12:00:00Z"), "{text}");
        }
    }

    #[test]
    fn a_zone_is_a_name_that_exists() {
        assert_eq!("Europe/Berlin".parse::<Zone>().unwrap().name(), "Europe/Berlin");
        assert_eq!("UTC".parse::<Zone>().unwrap().name(), "UTC");
        for text in ["", "+01:00", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Etc/Unknown", "a\u{0}b"] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
        let error = "Europe/Berlim".parse::<Zone>().unwrap_err();
        assert!(error.contains("Did you mean `Europe/Berlin`?"), "{error}");
        let error = "x\n".repeat(1000).parse::<Zone>().unwrap_err();
        assert!(error.len() < 250 && !error.contains('\n'), "{error}");
    }
}
