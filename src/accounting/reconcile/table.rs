//! A provider's figures as a CSV table with a line of headers.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{BadExport, Decimal, Export, Figure, Tokens};
use crate::types::nearest;

/// The columns that are understood, and the headers that each is known by. Letters may be large or small, and spaces
/// stand for underscores.
pub const COLUMNS: [(&str, &[&str]); 11] = [
    ("day", &["day", "date", "start_time_iso", "start_time", "starting_at", "usage_date_utc"]),
    ("model", &["model", "model_version"]),
    ("key", &["key", "api_key_id", "api_key"]),
    ("calls", &["calls", "requests", "num_model_requests"]),
    (
        "input_tokens",
        &["input_tokens", "input_uncached_tokens", "uncached_input_tokens", "usage_input_tokens_no_cache"],
    ),
    ("cached_tokens", &["cached_tokens", "input_cached_tokens", "cache_read_tokens", "cache_read_input_tokens"]),
    ("cache_write_tokens", &["cache_write_tokens", "cache_creation_input_tokens"]),
    ("audio_input_tokens", &["audio_input_tokens", "input_audio_tokens"]),
    ("output_tokens", &["output_tokens", "usage_output_tokens"]),
    ("audio_output_tokens", &["audio_output_tokens", "output_audio_tokens"]),
    ("cost", &["cost", "cost_usd", "amount", "amount_value"]),
];

/// Reads a table. `named` maps columns of [`COLUMNS`] to headers that are not among theirs; `is_inclusive` says that the
/// input tokens include the cached ones.
///
/// # Errors
/// The place at which the text is no such table, and what was expected there.
pub fn read_table(text: &str, named: &BTreeMap<String, String>, is_inclusive: bool) -> Result<Export, BadExport> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|error| broken(&error))?.clone();
    let columns = Columns::find(&headers, named)?;
    let mut export = Export::default();
    for record in reader.records() {
        let record = record.map_err(|error| broken(&error))?;
        export.figures.push(Row { columns: &columns, record: &record }.figure(is_inclusive)?);
    }
    Ok(export)
}

/// At which place each column stands.
struct Columns(BTreeMap<&'static str, usize>);

impl Columns {
    fn find(headers: &csv::StringRecord, named: &BTreeMap<String, String>) -> Result<Self, BadExport> {
        let plain = |header: &str| header.trim_start_matches('\u{feff}').to_ascii_lowercase().replace([' ', '-'], "_");
        let headers: Vec<String> = headers.iter().map(plain).collect();
        let at_top = |message| BadExport { line: 1, column: 1, message };
        let mut found = BTreeMap::new();
        for (column, known) in COLUMNS {
            let place = match named.get(column) {
                Some(name) => {
                    let place = headers.iter().position(|header| *header == plain(name));
                    let place = place.ok_or_else(|| {
                        let near = nearest(&plain(name), headers.iter().map(String::as_str));
                        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                        at_top(format!("there is no header `{name}`, which was named for `{column}`{near}"))
                    })?;
                    Some(place)
                }
                None => known.iter().find_map(|known| headers.iter().position(|header| header == known)),
            };
            found.extend(place.map(|place| (column, place)));
        }
        if !found.contains_key("day") {
            let message = format!("expected a header `day` or `date`, and found: {}", headers.join(", "));
            return Err(at_top(message));
        }
        if !["cost", "input_tokens", "output_tokens"].iter().any(|column| found.contains_key(column)) {
            let message = format!("expected a header `cost` or `input_tokens`, and found: {}", headers.join(", "));
            return Err(at_top(message));
        }
        Ok(Self(found))
    }
}

/// One line of the table.
struct Row<'a> {
    columns: &'a Columns,
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    fn figure(&self, is_inclusive: bool) -> Result<Figure, BadExport> {
        let day = self.text("day").ok_or_else(|| self.bad("day", "expected a day such as 2026-11-30"))?;
        let day = read_day(day).ok_or_else(|| self.bad("day", "expected a day such as 2026-11-30"))?;
        let count = |column| self.count(column).map(Option::unwrap_or_default);
        let told = ["input_tokens", "output_tokens", "cached_tokens"].iter().any(|column| self.text(column).is_some());
        let cache_read = count("cached_tokens")?;
        let input = count("input_tokens")?;
        let input = if is_inclusive { input.checked_sub(cache_read) } else { Some(input) };
        let tokens = Tokens {
            input: input
                .ok_or_else(|| self.bad("input_tokens", "expected no fewer than the cached ones among them"))?,
            cache_read,
            cache_write: count("cache_write_tokens")?,
            audio_input: count("audio_input_tokens")?,
            output: count("output_tokens")?,
            audio_output: count("audio_output_tokens")?,
        };
        let cost = self.text("cost").map(|text| {
            let amount = Decimal::parse(text.trim_start_matches('$')).and_then(|decimal| decimal.amount(9));
            amount.ok_or_else(|| self.bad("cost", "expected an amount in US dollars such as 12.50"))
        });
        Ok(Figure {
            day,
            model: self.text("model").map(str::to_owned),
            key: self.text("key").map(str::to_owned),
            calls: self.count("calls")?,
            tokens: told.then_some(tokens),
            cost: cost.transpose()?,
        })
    }

    /// What stands in a column; `None` if there is no such column, or nothing in it.
    fn text(&self, column: &str) -> Option<&str> {
        self.columns.0.get(column).and_then(|place| self.record.get(*place)).filter(|text| !text.is_empty())
    }

    fn count(&self, column: &'static str) -> Result<Option<u64>, BadExport> {
        let read = |text: &str| text.parse().map_err(|_| self.bad(column, "expected a whole number"));
        self.text(column).map(read).transpose()
    }

    /// A complaint about a column. Its place is that of the field; CSV readers count fields, not characters.
    fn bad(&self, column: &str, expected: &str) -> BadExport {
        let place = self.columns.0.get(column).copied().unwrap_or(0);
        let found: String =
            self.record.get(place).unwrap_or("").chars().take(40).flat_map(char::escape_debug).collect();
        let line = self.record.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(usize::MAX));
        BadExport {
            line,
            column: place + 1,
            message: format!("{expected} in the field `{column}`, and found `{found}`"),
        }
    }
}

/// A date, a time with its offset, or Unix seconds.
fn read_day(text: &str) -> Option<Date> {
    let in_utc = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let seconds = || text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    if text.len() == "2026-11-30".len()
        && let Ok(date) = text.parse::<Date>()
    {
        return Some(date);
    }
    text.parse::<Timestamp>().ok().or_else(seconds).map(in_utc)
}

fn broken(error: &csv::Error) -> BadExport {
    let line = error.position().map_or(1, |position| usize::try_from(position.line()).unwrap_or(usize::MAX));
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("expected {expected_len} fields as in the headers, and found {len}")
        }
        csv::ErrorKind::Utf8 { .. } => "expected UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    BadExport { line, column: 1, message }
}
