//! What one answer of the mock shall be like: its content, its pace and everything that can be wrong with it.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::types::Period;

/// No scripted text, frame, repetition or answer is larger than this many bytes.
pub(super) const LARGEST: u64 = 256 << 20;

/// A script for an answer. Every field is optional, and all of them can be combined. The empty script is a plain,
/// correct, immediate answer.
///
/// A *content chunk* is a stream event that carries output: text, reasoning, refusal or a part of a tool call. Fields
/// that count chunks count these only. In an answer that is not streamed, a fault that counts chunks strikes at the
/// middle of the body. Fields that count bytes count those of the body as sent, after compression.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Tells apart scripts that are otherwise equal, where requests are counted (`fail_first`, `rate`).
    pub name: Option<String>,

    // What is said.
    /// The text of the answer. Unset: an echo of the last user message.
    pub text: Option<String>,
    /// The number of content chunks the text is sent in. Without `text`, `chunk_text` is repeated that often.
    pub chunks: Option<u32>,
    /// The text of each content chunk.
    pub chunk_text: Option<String>,
    /// Reasoning sent before the text: as `reasoning_content`, or as a thinking block.
    pub reasoning: Option<String>,
    /// The signature of a thinking block. Unset: made from the request's number.
    pub signature: Option<String>,
    /// The data of a redacted thinking block before the text. Anthropic's format alone has them.
    pub redacted_reasoning: Option<String>,
    /// Tool calls; in a stream of OpenAI's format, the parts of parallel calls are interleaved.
    pub tool_calls: Vec<ToolCall>,
    /// A refusal in place of the text.
    pub refusal: Option<String>,
    /// Overrides the finish reason. In Anthropic's format, OpenAI's reasons become the corresponding ones.
    pub finish_reason: Option<String>,
    /// The tokens reported. Unset ones are estimated at four bytes each.
    pub usage: UsageScript,
    /// When a stream reports usage.
    pub usage_mode: UsageMode,
    /// How many embeddings are returned, whatever the number of inputs: a way to large answers.
    pub embedding_count: Option<u32>,
    /// The length of embeddings when the request names none; 8 by default.
    pub embedding_dimensions: Option<u32>,
    /// The `id` of the answer, for comparing answers byte by byte. Unset: made from the request's number.
    pub answer_id: Option<String>,
    /// The `created` time of the answer in Unix seconds, for comparing answers byte by byte.
    pub created: Option<u64>,
    /// Headers to add to the response, or to replace in it.
    pub headers: BTreeMap<String, String>,

    // What kind of answer it is.
    /// The status. From 400 on the answer is an error in the provider's shape.
    pub status: Option<u16>,
    /// The `type` of the error. Unset: the usual one for the status.
    pub error_type: Option<String>,
    /// The `code` of the error, in Anthropic's format its `details.error_code`. Unset: the usual one for the status.
    pub error_code: Option<String>,
    /// The message of the error.
    pub message: Option<String>,
    /// Seconds in a `retry-after` header.
    pub retry_after: Option<u64>,
    /// Writes `retry-after` as an HTTP date, not as seconds.
    pub retry_after_date: bool,
    /// Milliseconds in a `retry-after-ms` header.
    pub retry_after_ms: Option<u64>,
    /// The whole body, as it is.
    pub body: Option<String>,
    /// Overrides the `content-type` header.
    pub content_type: Option<String>,
    /// An HTML page in place of JSON, as a proxy in between would send.
    pub html: bool,
    /// A correct answer without any output.
    pub empty: bool,
    /// A body of zero bytes.
    pub empty_body: bool,
    /// JSON that breaks off: the body, or in a stream the first content chunk.
    pub invalid_json: bool,
    /// Status 200 with an error object as body, or as the only event of a stream.
    pub error_in_200: bool,
    /// A stream whose first event is an error.
    pub error_first: bool,
    /// An error event after that many content chunks; the stream then ends.
    pub error_after_chunks: Option<u32>,
    /// Answers a request for a stream with one JSON object.
    pub ignore_stream: bool,
    /// Answers every request with a stream.
    pub stream_always: bool,

    // When it comes.
    /// Waits before the response head.
    #[serde(serialize_with = "as_text")]
    pub delay: Option<Period>,
    /// Waits between the head and the first content chunk.
    #[serde(serialize_with = "as_text")]
    pub first_chunk_delay: Option<Period>,
    /// Waits before each further content chunk.
    #[serde(serialize_with = "as_text")]
    pub chunk_delay: Option<Period>,
    /// Never answers; the connection stays open.
    pub hang: bool,
    /// Falls silent after that many content chunks; the connection stays open.
    pub hang_after_chunks: Option<u32>,

    // How its bytes travel.
    /// Resets the TCP connection (RST).
    pub reset: Option<Reset>,
    /// Closes the connection (FIN) after that many bytes of the body, without an end; on HTTP/2 resets the stream.
    pub cut_at_byte: Option<u64>,
    /// Ends the body correctly after that many content chunks, though the stream is not finished.
    pub end_after_chunk: Option<u32>,
    /// Leaves out the closing `data: [DONE]` or `message_stop`.
    pub omit_done: bool,
    /// Sends the body in pieces of that many bytes, each a network write of its own.
    pub split: Option<u32>,
    /// Sends the body in pieces of 1 to 64 bytes; the seed decides which.
    pub split_random: Option<u64>,
    /// Lets chunks that are ready together share a network write. Unset: each chunk is its own.
    pub coalesce: bool,
    /// How the lines of a stream end.
    pub line_ending: LineEnding,
    /// A byte order mark before a stream.
    pub bom: bool,
    /// A comment (`: ping`) before each content chunk.
    pub comments: bool,
    /// That many further chunks before any output which name the role alone; in Anthropic's format, pings.
    pub preamble: u32,
    /// One more content chunk, the first, with a text of that many bytes.
    pub frame_bytes: Option<u32>,
    /// Bytes after the end that are no part of the answer.
    pub trailing_garbage: bool,
    /// Compresses the body, whatever the client accepts.
    pub encoding: Option<Encoding>,
    /// What the `content-length` of a body that is not streamed says.
    pub content_length: ContentLength,

    // Which requests it strikes. Others get the same answer without `delay` and without anything wrong in it.
    /// Only the first n requests fail: with what the script says, or status 500.
    pub fail_first: Option<u64>,
    /// Only every n-th request fails.
    pub rate: Option<Rate>,
    /// Requests fail at random, with this probability from 0 to 1.
    pub probability: Option<f64>,

    // What holds for the whole mock; read from the default behaviour only.
    /// The API keys that are accepted. Empty: any, or none. These are test data, not secrets.
    pub require_key: Vec<String>,
    /// `false`: requests are not kept for inspection.
    pub record: Option<bool>,
}

/// A call of a tool in a scripted answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments: a JSON value, or a string that is sent as it is, valid JSON or not.
    pub arguments: Value,
    /// The call's id. Unset: made from the request's number.
    pub id: Option<String>,
}

/// Token counts of a scripted answer, as the provider reports them (`prompt_tokens` includes cached ones,
/// `completion_tokens` includes reasoning). In Anthropic's format, where the counts of input are disjoint, what is cached
/// is taken from `prompt_tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsageScript {
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub cached_tokens: Option<u64>,
    /// Input written to the cache; reported in Anthropic's format only.
    pub cache_creation_tokens: Option<u64>,
    pub reasoning_tokens: Option<u64>,
}

/// When a stream reports usage. Anthropic's API is not asked for it: its streams report it at their start and at their
/// end, and so they do in the modes `asked`, `always` and `every_chunk`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub enum UsageMode {
    /// As OpenAI: a last chunk without choices, if `stream_options.include_usage` asked for it.
    #[default]
    Asked,
    /// That last chunk, asked for or not.
    Always,
    /// No usage, not even in a whole answer.
    Never,
    /// A running total in every chunk.
    EveryChunk,
    /// In the chunk with the finish reason; in Anthropic's format, counts of zero before.
    WithFinish,
}

/// Where the TCP connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// Before the response head.
    BeforeHead,
    /// After the head, before the body.
    AfterHead,
    /// After that many bytes of the body.
    AtByte(u64),
    /// After that many content chunks.
    AfterChunk(u32),
}

/// The line ending of a stream; the format allows all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineEnding {
    #[default]
    Lf,
    Crlf,
    Cr,
}

/// A content encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Gzip,
    Br,
    Zstd,
    Deflate,
}

/// What the `content-length` header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentLength {
    /// The truth.
    #[default]
    Right,
    /// Ten bytes more than come.
    Long,
    /// Half of what the body has; the rest is not sent.
    Short,
    /// No such header; the body is chunked.
    Absent,
}

/// Every n-th request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    pub every: u64,
}

impl Behaviour {
    /// Reads a script from its JSON text.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let behaviour: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        behaviour.check()?;
        Ok(behaviour)
    }

    /// An answer with a status, and nothing else said about it.
    pub fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// An answer with a text, and nothing else said about it.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Says what in the script cannot be done.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        if let Some(status) = self.status.filter(|status| !(200..=599).contains(status)) {
            return Err(format!("`status` is {status}; it must lie between 200 and 599"));
        }
        if self.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            return Err("`probability` must lie between 0 and 1".into());
        }
        if self.rate.is_some_and(|rate| rate.every == 0) || self.split == Some(0) {
            return Err("`rate.every` and `split` must be at least 1".into());
        }
        let repeated =
            u64::from(self.chunks.unwrap_or(0)) * self.chunk_text.as_ref().map_or(0, |text| text.len() as u64);
        if repeated > LARGEST || self.frame_bytes.is_some_and(|bytes| u64::from(bytes) > LARGEST) {
            return Err(format!("`chunks` × `chunk_text` and `frame_bytes` may be {LARGEST} bytes at most"));
        }
        if u64::from(self.chunks.unwrap_or(0)) > LARGEST / 64 || u64::from(self.preamble) > LARGEST / 64 {
            return Err(format!("`chunks` and `preamble` may be {} at most", LARGEST / 64));
        }
        if self.embedding_dimensions.is_some_and(|n| n == 0 || n > 65_536) {
            return Err("`embedding_dimensions` must lie between 1 and 65536".into());
        }
        for (name, value) in self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .chain(self.content_type.iter().map(|value| ("content-type", value)))
        {
            if name.parse::<HeaderName>().is_err() || value.parse::<HeaderValue>().is_err() {
                return Err(format!("`{name}: {value}` is not a valid header"));
            }
        }
        Ok(())
    }

    /// Whether only some of the requests fail.
    pub(super) fn is_conditional(&self) -> bool {
        self.fail_first.is_some() || self.rate.is_some() || self.probability.is_some()
    }

    /// The script for a request that fails: what the script says, or status 500 when it says nothing harmful.
    pub(super) fn failing(&self) -> Self {
        if *self == self.calm() { Self { status: Some(500), ..self.clone() } } else { self.clone() }
    }

    /// The script for a request that is spared: the same answer, with neither `delay` nor anything wrong in it.
    pub(super) fn calm(&self) -> Self {
        Self {
            status: None,
            error_type: None,
            error_code: None,
            message: None,
            retry_after: None,
            retry_after_date: false,
            retry_after_ms: None,
            body: None,
            content_type: None,
            html: false,
            empty: false,
            empty_body: false,
            invalid_json: false,
            error_in_200: false,
            error_first: false,
            error_after_chunks: None,
            ignore_stream: false,
            stream_always: false,
            delay: None,
            hang: false,
            hang_after_chunks: None,
            reset: None,
            cut_at_byte: None,
            end_after_chunk: None,
            omit_done: false,
            trailing_garbage: false,
            content_length: ContentLength::Right,
            ..self.clone()
        }
    }
}

impl Encoding {
    /// The value of the `content-encoding` header.
    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        })
    }
}

/// A duration as it is read, so that a script which was shown can be sent back.
fn as_text<S: Serializer>(period: &Option<Period>, serializer: S) -> Result<S::Ok, S::Error> {
    match period {
        Some(period) => serializer.collect_str(&format_args!("{}ms", period.0.as_secs_f64() * 1e3)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_every_form_of_a_field_and_survives_being_written() {
        let text = r#"{"status":429,"retry_after":2,"delay":"1.5s","reset":{"at_byte":10},"encoding":"br",
            "tool_calls":[{"name":"f","arguments":{"a":1}}],"rate":{"every":3},"usage_mode":"every_chunk"}"#;
        let script = Behaviour::from_json(text).unwrap();
        assert_eq!((script.status, script.reset), (Some(429), Some(Reset::AtByte(10))));
        assert_eq!(Behaviour::from_json(&serde_json::to_string(&script).unwrap()).unwrap(), script);
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        let cases = [
            (r#"{"staus":500}"#, "staus"),
            (r#"{"status":99}"#, "`status` is 99"),
            (r#"{"probability":2}"#, "probability"),
            (r#"{"split":0}"#, "split"),
            (r#"{"headers":{"a b":"c"}}"#, "a b"),
            (r#"{"content_type":"\n"}"#, "content-type"),
            (
                r#"{"chunks":4000000,"chunk_text":"0123456789012345678901234567890123456789012345678901234567890123456789"}"#,
                "chunk_text",
            ),
            (r#"{"delay":"fast"}"#, "duration"),
        ];
        for (text, part) in cases {
            let error = Behaviour::from_json(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_failing_request_fails_even_when_the_script_names_no_fault() {
        assert_eq!(Behaviour::default().failing().status, Some(500));
        let hang = Behaviour { hang: true, ..Behaviour::default() };
        assert_eq!(hang.failing(), hang);
        assert_eq!(hang.calm(), Behaviour::default());
    }
}
