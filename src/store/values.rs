//! How values that no column type fits are written into text and whole numbers.

use jiff::Timestamp;

pub(super) fn to_json(texts: &[String]) -> String {
    serde_json::Value::from(texts).to_string()
}

/// A list that cannot be read, because somebody edited the table by hand, is empty: it grants nothing.
pub(super) fn from_json(id: &str, text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(id, %error, "a stored list cannot be read: it counts as empty");
        Vec::new()
    })
}

/// Milliseconds outside of what a date can hold mean the nearest date.
pub(super) fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(if millis < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
