//! How a call lies in its columns, and how it is read back.
//!
//! What is filtered, grouped or summed has a column. The rest of the receipt is one JSON array for a call and one for an
//! attempt: it costs less to write than a dozen columns, and a new detail needs no migration. It is not an object, because
//! the names would be half of all that is stored.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

use super::{AttemptRow, CallRow, LimitNote, LimitRow, Notes, Who, sums::read_usage};
use crate::types::{Nanos, Outcome, UsageSource};

/// The columns of `requests`.
pub(super) const REQUEST_COLUMNS: [&str; 13] = [
    "at",
    "id",
    "project",
    "key_id",
    "model",
    "operation",
    "outcome",
    "end_user",
    "tags",
    "workflow",
    "session",
    "step",
    "detail",
];

/// The columns of `attempts`.
pub(super) const ATTEMPT_COLUMNS: [&str; 29] = [
    "at",
    "id",
    "number",
    "is_last",
    "sent_at",
    "target",
    "provider",
    "upstream_model",
    "provider_key",
    "outcome",
    "usage_source",
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
    "detail",
];

/// What of a call has no column, in the order of its array; objects are read as well, as the first version wrote them.
/// New ones are added at the end: those that are missing, in rows of an older version, are as in a default.
#[derive(Default, Deserialize)]
#[serde(default)]
struct CallDetail<'a> {
    instance: Cow<'a, str>,
    requested: Cow<'a, str>,
    key_name: Cow<'a, str>,
    client: Option<Cow<'a, str>>,
    stream: bool,
    status: u16,
    error_code: Option<Cow<'a, str>>,
    finish_reason: Option<Cow<'a, str>>,
    first_output_ms: Option<u32>,
    duration_ms: u32,
    overhead_us: u32,
    bytes_in: u64,
    bytes_out: u64,
    // From here on only where a call has any of it.
    lossy: Option<Cow<'a, str>>,
    limits: Vec<LimitRow>,
    about: Vec<LimitNote>,
}

/// What of an attempt has no column, as with [`CallDetail`].
#[derive(Default, Deserialize)]
#[serde(default)]
struct AttemptDetail<'a> {
    status: Option<u16>,
    provider_id: Option<Cow<'a, str>>,
    price: Cow<'a, str>,
    service_tier: Option<Cow<'a, str>>,
    first_token_ms: Option<u32>,
    duration_ms: u32,
}

/// A call as it was read, without its attempts.
pub(super) struct StoredCall(pub CallRow);

/// An attempt as it was read, with the arrival and the id of its call.
pub(super) struct StoredAttempt {
    pub call: (i64, String),
    pub row: AttemptRow,
}

/// The tags as a JSON array; `None` when there are none.
pub(super) fn tags_text(call: &CallRow) -> Option<String> {
    (!call.who.tags.is_empty()).then(|| text_of(|json| to_json(&call.who.tags, json)))
}

/// 1 for the last attempt of a call, 0 for the others.
pub(super) fn is_last(call: &CallRow, attempt: &AttemptRow) -> i64 {
    call.attempts.last().is_some_and(|last| last.number == attempt.number).into()
}

/// Writes the details of a call, in the order of [`CallDetail`].
pub(super) fn call_detail(call: &CallRow, json: &mut Vec<u8>) {
    let detail = (
        &*call.instance,
        &*call.requested,
        &*call.who.key_name,
        call.client.as_deref(),
        call.stream,
        call.status,
        call.error_code.as_deref(),
        call.finish_reason.as_deref(),
        call.first_output_ms,
        call.duration_ms,
        call.overhead_us,
        call.bytes_in,
        call.bytes_out,
    );
    to_json(&detail, json);
    let Some(Notes { lossy, limits, about }) = call.notes.as_deref() else { return };
    // The array goes on.
    json.pop();
    let limits: Vec<_> = limits
        .iter()
        .map(|limit| {
            let LimitRow { quota, measure, limit, used, held, settled, refused } = limit;
            (&**quota, &**measure, limit, used, held, settled, refused)
        })
        .collect();
    json.push(b',');
    to_json(&lossy.as_deref(), json);
    json.push(b',');
    to_json(&limits, json);
    if !about.is_empty() {
        let about: Vec<_> = about.iter().map(|LimitNote { subject, would_refuse }| (subject, would_refuse)).collect();
        json.push(b',');
        to_json(&about, json);
    }
    json.push(b']');
}

/// Writes the details of an attempt, in the order of [`AttemptDetail`].
pub(super) fn attempt_detail(attempt: &AttemptRow, json: &mut Vec<u8>) {
    let detail = (
        attempt.status,
        attempt.provider_id.as_deref(),
        &*attempt.price,
        attempt.service_tier.as_deref(),
        attempt.first_token_ms,
        attempt.duration_ms,
    );
    to_json(&detail, json);
}

/// The text that `write` writes.
pub(super) fn text_of(write: impl FnOnce(&mut Vec<u8>)) -> String {
    /// Longer than most details.
    const USUAL: usize = 192;
    let mut json = Vec::with_capacity(USUAL);
    write(&mut json);
    String::from_utf8(json).unwrap_or_default()
}

impl<'r, R: Row> FromRow<'r, R> for StoredCall
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let id: String = row.try_get("id")?;
        let detail: String = row.try_get("detail")?;
        let detail: CallDetail = from_json(&id, &detail);
        let text = |column: &'static str| row.try_get::<String, _>(column);
        let optional = |column| row.try_get::<Option<String>, _>(column).map(|text| text.map(String::into_boxed_str));
        let tags: Option<String> = row.try_get("tags")?;
        let who = Who {
            project: text("project")?.into(),
            key_id: text("key_id")?.into(),
            key_name: detail.key_name.into(),
            end_user: optional("end_user")?,
            tags: tags.map(|tags| from_json(&id, &tags)).unwrap_or_default(),
            workflow: optional("workflow")?,
            session: optional("session")?,
            step: optional("step")?,
        };
        Ok(Self(CallRow {
            at: row.try_get("at")?,
            instance: detail.instance.into(),
            operation: text("operation")?.into(),
            requested: detail.requested.into(),
            model: text("model")?.into(),
            who,
            client: detail.client.map(Into::into),
            stream: detail.stream,
            status: detail.status,
            outcome: outcome(&id, &text("outcome")?),
            error_code: detail.error_code.map(Into::into),
            finish_reason: detail.finish_reason.map(Into::into),
            first_output_ms: detail.first_output_ms,
            duration_ms: detail.duration_ms,
            overhead_us: detail.overhead_us,
            bytes_in: detail.bytes_in,
            bytes_out: detail.bytes_out,
            attempts: Vec::new(),
            notes: Notes::new(detail.lossy.map(Into::into), detail.limits, detail.about),
            id: id.into(),
        }))
    }
}

impl<'r, R: Row> FromRow<'r, R> for StoredAttempt
where
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let id: String = row.try_get("id")?;
        let arrival: i64 = row.try_get("at")?;
        let detail: String = row.try_get("detail")?;
        let detail: AttemptDetail = from_json(&id, &detail);
        let text = |column: &'static str| row.try_get::<String, _>(column);
        let number = |column: &'static str| row.try_get::<i64, _>(column).map(|n| u16::try_from(n).unwrap_or(u16::MAX));
        let amount = |column| row.try_get::<Option<i64>, _>(column).map(|nanos| nanos.map(Nanos));
        let row = AttemptRow {
            number: number("number")?,
            at: row.try_get("sent_at")?,
            target: text("target")?.into(),
            provider: text("provider")?.into(),
            upstream_model: text("upstream_model")?.into(),
            provider_key: number("provider_key")?,
            outcome: outcome(&id, &text("outcome")?),
            status: detail.status,
            provider_id: detail.provider_id.map(Into::into),
            usage: read_usage(row)?,
            usage_source: usage_source(&id, &text("usage_source")?),
            cost: amount("cost")?,
            reported_cost: amount("reported_cost")?,
            price: detail.price.into(),
            service_tier: detail.service_tier.map(Into::into),
            first_token_ms: detail.first_token_ms,
            duration_ms: detail.duration_ms,
        };
        Ok(Self { call: (arrival, id), row })
    }
}

/// A word this version does not know, from a later one or an edit by hand, reads as "nobody knows".
pub(super) fn outcome(id: &str, word: &str) -> Outcome {
    Outcome::from_word(word).unwrap_or_else(|| {
        tracing::warn!(call = id, word, "the outcome of a stored call is not a word for one");
        Outcome::Lost
    })
}

/// A word this version does not know reads as "estimated": the figures are there, and not to be trusted.
pub(super) fn usage_source(id: &str, word: &str) -> UsageSource {
    UsageSource::from_word(word).unwrap_or_else(|| {
        tracing::warn!(call = id, word, "the source of a stored usage is not a word for one");
        UsageSource::Estimated
    })
}

/// These values are texts and numbers, which always have a JSON form.
fn to_json(value: &impl Serialize, json: &mut Vec<u8>) {
    let start = json.len();
    if serde_json::to_writer(&mut *json, value).is_err() {
        json.truncate(start);
    }
}

/// Details that cannot be read, because somebody edited them by hand, do not hide the row and its money.
fn from_json<'a, T: Deserialize<'a> + Default>(id: &str, text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(call = id, %error, "the details of a stored call cannot be read");
        T::default()
    })
}
