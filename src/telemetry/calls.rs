//! One line per call: what was asked, who answered, how it ended, what it took.
//!
//! The line is written once, when the call is settled. It holds no prompt, no answer and no key, only names and
//! numbers; what a client chose freely (the model it asked for) is cut to [`MAX_TEXT`] and escaped.

use std::{
    fmt,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use serde::{Serialize, Serializer};

use super::{Outcome, lines::Lines, logging, settings::Settings};
use crate::types::{Nanos, RequestId, Usage};

/// The longest text of a client's choosing that a line repeats, in bytes.
pub const MAX_TEXT: usize = 256;

/// One attempt, as the line lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptNote {
    /// The target's label.
    pub target: Arc<str>,
    pub outcome: Outcome,
}

/// What a call's line says.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "message", rename = "call")]
pub struct CallLine<'a> {
    /// When the call ended, in Unix milliseconds; written as RFC 3339.
    #[serde(rename = "timestamp", serialize_with = "rfc3339")]
    pub unix_millis: u64,
    #[serde(serialize_with = "displayed")]
    pub request_id: RequestId,
    /// The caller's key by id and name, never the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<&'a str>,
    pub project: &'a str,
    /// What the client says the call is a part of.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_cut")]
    pub workflow: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_cut")]
    pub session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_cut")]
    pub step: Option<&'a str>,
    pub operation: &'static str,
    /// The model as the client named it; empty when it named none.
    #[serde(serialize_with = "cut")]
    pub model: &'a str,
    /// The target that answered, by its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'a str>,
    /// The model as the provider was asked for it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_cut")]
    pub upstream_model: Option<&'a str>,
    pub stream: bool,
    /// The status the client was sent; 499 when it hung up before.
    pub status: u16,
    pub outcome: Outcome,
    /// The stable code of the error the client was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    /// Every attempt in order.
    pub attempts: Attempts<'a>,
    /// What all attempts consumed; `None` when nothing was sent, or providers refused before they worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "spent")]
    pub usage: Option<Usage>,
    /// Some of it was counted or estimated here, because no provider reported it.
    #[serde(rename = "usage_estimated", skip_serializing_if = "is_false")]
    pub usage_is_ours: bool,
    /// What all attempts cost, in dollars, or `unknown`; `None` when there was none.
    #[serde(rename = "cost_usd", skip_serializing_if = "Option::is_none", serialize_with = "dollars")]
    pub cost: Option<Option<Nanos>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_cut")]
    pub finish_reason: Option<&'a str>,
    /// What could not be said in the other side's format, by its places.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_cut")]
    pub lossy: Option<&'a str>,
    /// From the call's arrival to its first real output; written in milliseconds.
    #[serde(rename = "ttft_ms", skip_serializing_if = "Option::is_none", serialize_with = "some_millis")]
    pub ttft: Option<Duration>,
    /// From the call's arrival to its end; written in milliseconds.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// The gateway's own share of it; written in milliseconds.
    #[serde(rename = "overhead_ms", serialize_with = "millis")]
    pub overhead: Duration,
    /// Body bytes read from the client.
    pub bytes_in: u64,
    /// Body bytes handed to the client's connection.
    pub bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<&'a str>,
}

/// The attempts of a call, written as a list of `target:outcome`.
#[derive(Clone, Copy, Debug)]
pub struct Attempts<'a>(pub &'a [AttemptNote]);

/// Writes the lines, in the format of the log. Cheap to clone; costs nothing when call lines are off.
#[derive(Clone, Debug)]
pub struct CallLog {
    lines: Option<Lines>,
    json: bool,
}

impl CallLog {
    /// A log into `lines`, as `settings` say.
    pub fn new(settings: &Settings, lines: &Lines) -> Self {
        let lines = settings.calls.then(|| lines.clone());
        Self { lines, json: logging::is_json(settings.format) }
    }

    /// A log that says nothing.
    pub fn off() -> Self {
        Self { lines: None, json: false }
    }

    /// Appends the line of a call that has ended. Never blocks on whoever reads the log.
    pub fn line(&self, line: &CallLine<'_>) {
        let Some(lines) = &self.lines else { return };
        lines.append(|out| if self.json { json(line, out) } else { text(line, out) });
    }
}

fn json(line: &CallLine<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    Ok(serde_json::to_writer(out, line)?)
}

/// The line for people: what matters first, absent things left out.
fn text(line: &CallLine<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    let CallLine { status, outcome, operation, bytes_in, bytes_out, .. } = *line;
    write!(out, "{} CALL {status} {} {operation} {}", Moment(line.unix_millis), outcome.as_str(), Plain(line.model))?;
    if let Some(target) = line.target {
        write!(out, " -> {target}")?;
    }
    if line.attempts.0.len() > 1 || line.target.is_none() {
        for (index, note) in line.attempts.0.iter().enumerate() {
            write!(out, "{}{note}", if index == 0 { " tried=" } else { "," })?;
        }
    }
    write!(out, " {:.1}ms", Millis(line.duration))?;
    if let Some(ttft) = line.ttft {
        write!(out, " ttft={:.1}ms", Millis(ttft))?;
    }
    write!(out, " own={:.2}ms", Millis(line.overhead))?;
    if let Some(usage) = &line.usage {
        let about = if line.usage_is_ours { "~" } else { "" };
        write!(out, " tokens={about}{}+{}", usage.total_input(), usage.total_output())?;
    }
    match line.cost {
        Some(Some(cost)) => write!(out, " cost=${cost}")?,
        Some(None) => write!(out, " cost=unknown")?,
        None => {}
    }
    let stream = if line.stream { " stream" } else { "" };
    write!(out, " bytes={bytes_in}+{bytes_out}{stream}")?;
    let words = [
        ("finish", line.finish_reason),
        ("lossy", line.lossy),
        ("error", line.error),
        ("key", line.key_name.or(line.key_id)),
    ];
    for (name, value) in words {
        if let Some(value) = value {
            write!(out, " {name}={}", Plain(value))?;
        }
    }
    if let Some(client) = line.client {
        write!(out, " client={client}")?;
    }
    write!(out, " id={}", line.request_id)
}

/// A moment in Unix milliseconds, shown as RFC 3339.
struct Moment(u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => f.write_str("-"),
        }
    }
}

/// A span of time in milliseconds, shown with as many decimals as asked for.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&(self.0.as_secs_f64() * 1e3), f)
    }
}

/// Text that someone else chose, on a line of its own making: cut, and control characters escaped.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match shortened(self.0) {
            "" => f.write_str("-"),
            text if text.contains(|c: char| c.is_control() || c.is_whitespace()) => write!(f, "{text:?}"),
            text => f.write_str(text),
        }
    }
}

impl fmt::Display for AttemptNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.target, self.outcome.as_str())
    }
}

impl Serialize for Attempts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Displayed))
    }
}

struct Displayed<'a>(&'a AttemptNote);

impl Serialize for Displayed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}

/// The longest beginning of `text` that is not longer than [`MAX_TEXT`].
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

pub(super) fn rfc3339<S: Serializer>(unix_millis: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Moment(*unix_millis))
}

pub(super) fn displayed<S: Serializer>(value: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn cut<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(shortened(text))
}

fn some_cut<S: Serializer>(text: &Option<&str>, serializer: S) -> Result<S::Ok, S::Error> {
    text.map(shortened).serialize(serializer)
}

/// The buckets with something in them; input and output always.
fn spent<S: Serializer>(usage: &Option<Usage>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(usage) = usage else { return serializer.serialize_none() };
    let shown = |(name, count): &(&str, u64)| *count > 0 || matches!(*name, "input" | "output");
    serializer.collect_map(usage.buckets().into_iter().filter(shown))
}

/// A number, whose digits are exact up to nine million dollars; or the word for one that nobody knows.
#[expect(clippy::ref_option, reason = "serde passes what it serialises by reference")]
fn dollars<S: Serializer>(cost: &Option<Option<Nanos>>, serializer: S) -> Result<S::Ok, S::Error> {
    match cost.flatten() {
        Some(cost) => serializer.serialize_f64(cost.as_dollars()),
        None => serializer.serialize_str("unknown"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it looks at by reference")]
pub(super) fn is_false(value: &bool) -> bool {
    !value
}

/// Milliseconds, to the microsecond.
fn millis<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_micros() as f64 / 1e3)
}

fn some_millis<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    millis(&span.unwrap_or_default(), serializer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{
            lines::tests::{Page, counter},
            settings::Format,
        },
        *,
    };

    fn attempts() -> [AttemptNote; 2] {
        [("openai/gpt-5.5", Outcome::RateLimited), ("azure/gpt-5.5", Outcome::Ok)]
            .map(|(target, outcome)| AttemptNote { target: target.into(), outcome })
    }

    fn sample<'a>(model: &'a str, attempts: &'a [AttemptNote]) -> CallLine<'a> {
        CallLine {
            unix_millis: 1_700_000_000_123,
            request_id: RequestId::new(1_700_000_000_000),
            key_id: Some("k1"),
            key_name: None,
            project: "default",
            workflow: Some("nightly"),
            session: None,
            step: None,
            operation: "chat",
            model,
            target: Some("azure/gpt-5.5"),
            upstream_model: Some("gpt-5.5"),
            stream: true,
            status: 200,
            outcome: Outcome::Ok,
            error: None,
            attempts: Attempts(attempts),
            usage: Some(Usage { input: 11, output: 7, ..Usage::default() }),
            usage_is_ours: false,
            cost: Some(Some(Nanos(375_000))),
            finish_reason: Some("stop"),
            lossy: Some("logit_bias"),
            ttft: Some(Duration::from_micros(300_250)),
            duration: Duration::from_millis(1_500),
            overhead: Duration::from_micros(85),
            bytes_in: 1_024,
            bytes_out: 4_096,
            client: Some("192.0.2.1"),
        }
    }

    fn written(format: Format, line: &CallLine<'_>) -> String {
        let page = Page::default();
        let lines = Lines::new(page.clone(), counter()).unwrap();
        CallLog::new(&Settings { format, ..Settings::default() }, &lines).line(line);
        lines.flush(Duration::from_secs(5));
        page.text()
    }

    #[test]
    fn a_call_is_one_json_object() {
        let attempts = attempts();
        let line = sample("assistant", &attempts);
        let text = written(Format::Json, &line);
        assert_eq!(text.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "message": "call", "timestamp": "2023-11-14T22:13:20.123Z", "request_id": line.request_id.to_string(),
            "key_id": "k1", "project": "default", "workflow": "nightly", "operation": "chat", "model": "assistant", "target": "azure/gpt-5.5",
            "upstream_model": "gpt-5.5", "stream": true, "status": 200, "outcome": "ok",
            "attempts": ["openai/gpt-5.5:rate_limited", "azure/gpt-5.5:ok"],
            "usage": {"input": 11, "output": 7}, "cost_usd": 0.000375,
            "finish_reason": "stop", "lossy": "logit_bias", "ttft_ms": 300.25, "duration_ms": 1500.0, "overhead_ms": 0.085,
            "bytes_in": 1024, "bytes_out": 4096, "client": "192.0.2.1",
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_call_is_one_readable_line() {
        let attempts = attempts();
        let line = sample("assistant", &attempts);
        let expected = format!(
            "2023-11-14T22:13:20.123Z CALL 200 ok chat assistant -> azure/gpt-5.5 \
             tried=openai/gpt-5.5:rate_limited,azure/gpt-5.5:ok 1500.0ms ttft=300.2ms own=0.09ms tokens=11+7 \
             cost=$0.000375 bytes=1024+4096 stream finish=stop lossy=logit_bias key=k1 client=192.0.2.1 id={}\n",
            line.request_id
        );
        assert_eq!(written(Format::Text, &line), expected);
    }

    #[test]
    fn what_nobody_reported_and_what_nobody_knows_is_marked() {
        let line = CallLine { usage_is_ours: true, cost: Some(None), ..sample("m", &[]) };
        let read: serde_json::Value = serde_json::from_str(&written(Format::Json, &line)).unwrap();
        assert_eq!((&read["usage_estimated"], &read["cost_usd"]), (&json!(true), &json!("unknown")));
        assert!(written(Format::Text, &line).contains(" tokens=~11+7 cost=unknown "));
        let line = CallLine { cost: None, ..sample("m", &[]) };
        assert!(!written(Format::Json, &line).contains("cost") && !written(Format::Text, &line).contains("cost"));
    }

    #[test]
    fn what_a_client_named_neither_breaks_the_line_nor_fills_the_log() {
        let name = format!("a\n2023 CALL 200 ok{}", "é".repeat(10_000));
        for format in [Format::Json, Format::Text] {
            let text = written(format, &sample(&name, &[]));
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.len() < 1_500, "{}", text.len());
        }
    }

    #[test]
    fn call_lines_can_be_off() {
        let page = Page::default();
        let lines = Lines::new(page.clone(), counter()).unwrap();
        let log = CallLog::new(&Settings { calls: false, ..Settings::default() }, &lines);
        log.line(&sample("m", &[]));
        CallLog::off().line(&sample("m", &[]));
        lines.flush(Duration::from_secs(5));
        assert_eq!(page.text(), "");
    }
}
