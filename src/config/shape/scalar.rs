//! One scalar: what its text means where it stands.

use std::net::SocketAddr;

use jiff::{Timestamp, civil::Date};
use serde_json::{Number, Value};

use super::allowed::Allowed;
use crate::{
    catalog::{Factor, Rate, Window},
    config::{
        complaint::{quoted, suggestion},
        tree::is_null,
    },
    types::{AddressRange, Period, Size},
};

/// The text of a scalar and how it came about.
pub(super) struct Scalar<'t> {
    pub text: &'t str,
    /// Written without quotes.
    pub plain: bool,
    /// A variable was filled in.
    pub filled: bool,
    /// It must not be shown.
    pub hidden: bool,
}

/// What is wrong with a scalar.
pub(super) struct Problem {
    pub message: String,
    pub help: Option<String>,
}

impl Scalar<'_> {
    /// The value where `allowed` holds.
    pub(super) fn read(&self, allowed: &Allowed<'_>) -> Result<Value, Problem> {
        // `expires: ${EXPIRES:-}`: a setting that may be left out is left out. Text and secrets may be empty text.
        if self.filled && self.text.is_empty() && allowed.null && (allowed.string.is_none() || is_formatted(allowed)) {
            return Ok(Value::Null);
        }
        if !allowed.words.is_empty() {
            return self.word(&allowed.words);
        }
        if allowed.string.is_some() && is_formatted(allowed) {
            return self.formatted(allowed);
        }
        if allowed.string.is_some() {
            return Ok(Value::String(self.text.to_owned()));
        }
        if !self.plain && !self.filled && allowed.takes_scalars() {
            let message = format!("expected {}, found text in quotes", allowed.describe());
            return Err(Problem { message, help: Some("remove the quotes".into()) });
        }
        if allowed.boolean {
            return self.boolean();
        }
        match (allowed.integer, allowed.number) {
            (Some(schema), _) => self.integer(schema),
            (None, Some(schema)) => self.number(schema),
            (None, None) => Err(Problem { message: String::new(), help: None }),
        }
    }

    /// The value where any JSON is allowed, by YAML's core schema (1.2.2, §10.3.2).
    pub(super) fn untyped(&self) -> Result<Value, Problem> {
        let text = self.text;
        if !self.plain || (self.filled && text.is_empty()) {
            return Ok(Value::String(text.to_owned()));
        }
        if is_null(text) {
            return Ok(Value::Null);
        }
        if let Some(value) = truth(text) {
            return Ok(Value::Bool(value));
        }
        if let Some(number) = whole(text) {
            let narrow = i64::try_from(number).map(Number::from).or_else(|_| u64::try_from(number).map(Number::from));
            if let Ok(number) = narrow {
                return Ok(Value::Number(number));
            }
        }
        let unsigned = text.trim_start_matches(['-', '+']).to_ascii_lowercase();
        if matches!(unsigned.as_str(), ".inf" | ".nan") {
            return Err(Problem { message: format!("JSON has no number {}", self.shown()), help: None });
        }
        match real(text) {
            Some(number) => Ok(number),
            None => Ok(Value::String(text.to_owned())),
        }
    }

    /// The text, if it may be shown: a variable may hold a secret that was meant for another place.
    fn shown(&self) -> String {
        match (self.filled, self.hidden) {
            (true, _) => "the content of the variable".to_owned(),
            (false, true) => "what is written here".to_owned(),
            (false, false) => quoted(self.text),
        }
    }

    fn word(&self, words: &[&str]) -> Result<Value, Problem> {
        if words.contains(&self.text) {
            return Ok(Value::String(self.text.to_owned()));
        }
        let message = format!("{} is not one of the words that are known here", self.shown());
        Err(Problem { message, help: suggestion(self.text, words) })
    }

    /// Text that is written in a certain way.
    fn formatted(&self, allowed: &Allowed<'_>) -> Result<Value, Problem> {
        let text = self.text.trim();
        let (understood, what) = match allowed.format() {
            Some("period") => (text.parse::<Period>().is_ok(), "a duration"),
            Some("size") => (text.parse::<Size>().is_ok(), "a size"),
            Some("dollars") => (text.parse::<Rate>().is_ok(), "a price"),
            Some("factor") => (text.parse::<Factor>().is_ok(), "a factor"),
            Some("hours") => (text.parse::<Window>().is_ok(), "a span of hours"),
            Some("date") => (text.parse::<Date>().is_ok(), "a day"),
            Some("date-time") => (text.parse::<Timestamp>().is_ok(), "a time"),
            Some("address-range") => (text.parse::<AddressRange>().is_ok(), "an address or a range of them"),
            _ => (text.parse::<SocketAddr>().is_ok(), "an address and port"),
        };
        if understood {
            return Ok(Value::String(text.to_owned()));
        }
        let message = format!("{} is not {what}", self.shown());
        Err(Problem { message, help: Some(format!("write {}", allowed.describe())) })
    }

    fn boolean(&self) -> Result<Value, Problem> {
        let help = match self.text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" | "1" => Some("write `true`"),
            "no" | "off" | "n" | "0" => Some("write `false`"),
            _ => None,
        };
        truth(self.text).map(Value::Bool).ok_or_else(|| Problem {
            message: format!("expected true or false, found {}", self.shown()),
            help: help.map(str::to_owned),
        })
    }

    fn integer(&self, schema: &Value) -> Result<Value, Problem> {
        let Some(number) = whole(self.text.trim()) else {
            let plain = self.text.replace(['_', ','], "");
            let help = whole(&plain).filter(|_| !self.filled).map(|_| format!("write {plain}"));
            return Err(Problem { message: format!("expected a whole number, found {}", self.shown()), help });
        };
        let widest = match schema.get("format").and_then(Value::as_str) {
            Some("uint8") => i128::from(u8::MAX),
            Some("uint16") => i128::from(u16::MAX),
            Some("uint32") => i128::from(u32::MAX),
            _ => i128::from(i64::MAX),
        };
        let bound = |name| schema.get(name).and_then(Value::as_f64).map(|bound| bound as i128);
        let (least, most) = (bound("minimum").unwrap_or(i128::MIN), bound("maximum").unwrap_or(widest).min(widest));
        if number < least {
            return Err(Problem { message: format!("{number} is too small"), help: Some(format!("at least {least}")) });
        }
        match i64::try_from(number) {
            Ok(small) if number <= most => Ok(Value::Number(small.into())),
            _ => Err(Problem { message: format!("{number} is too large"), help: Some(format!("at most {most}")) }),
        }
    }

    fn number(&self, schema: &Value) -> Result<Value, Problem> {
        let text = self.text.trim();
        let value =
            real(text).or_else(|| whole(text).and_then(|number| Number::from_f64(number as f64)).map(Value::Number));
        let Some(number) = value.as_ref().and_then(Value::as_f64) else {
            return Err(Problem { message: format!("expected a number, found {}", self.shown()), help: None });
        };
        let bound = |name| schema.get(name).and_then(Value::as_f64);
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            return Err(Problem { message: format!("{text} is too small"), help: Some(format!("at least {least}")) });
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            return Err(Problem { message: format!("{text} is too large"), help: Some(format!("at most {most}")) });
        }
        Ok(Value::from(number))
    }
}

/// Whether the text that belongs here is more than plain text or a secret.
fn is_formatted(allowed: &Allowed<'_>) -> bool {
    matches!(
        allowed.format(),
        Some(
            "period"
                | "size"
                | "date-time"
                | "socket-address"
                | "address-range"
                | "dollars"
                | "factor"
                | "hours"
                | "date"
        )
    )
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// `12`, `-12`, `0o14`, `0xc`.
fn whole(text: &str) -> Option<i128> {
    let digits = |text: &str, radix| {
        (!text.is_empty() && text.chars().all(|c| c.is_digit(radix))).then(|| i128::from_str_radix(text, radix).ok())?
    };
    if let Some(text) = text.strip_prefix("0x") {
        return digits(text, 16);
    }
    if let Some(text) = text.strip_prefix("0o") {
        return digits(text, 8);
    }
    match text.strip_prefix('-') {
        Some(text) => digits(text, 10).map(|number| -number),
        None => digits(text.strip_prefix('+').unwrap_or(text), 10),
    }
}

/// `1.5`, `.5`, `1e3`, `-2`: a finite number.
fn real(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
    if !numeric || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    Number::from_f64(text.parse().ok()?).map(Value::Number)
}
