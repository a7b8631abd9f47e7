//! The grammar of Anthropic's streams, as strict as its SDKs and clients are: a checker for tests and fuzzing.
//!
//! `message_start` (content_block_start content_block_delta* content_block_stop)* message_delta+ message_stop, with
//! pings anywhere; or an `error` at any place, and nothing behind it. Blocks are numbered from 0 and one is open at a
//! time; deltas fit their block; the arguments of a call are an object; a signature comes last in its block; there
//! are tokens of input from the start; the reason to stop is `tool_use` exactly if a tool is to be called.

use crate::wire::{
    conversation::Text,
    json::{Kind, Value},
    sse::Frame,
};

/// Follows one stream.
#[derive(Debug, Default)]
pub struct Grammar {
    phase: Phase,
    open: Option<Open>,
    blocks: u64,
    called: bool,
    text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Within,
    Delta,
    Ended,
    Failed,
}

#[derive(Debug)]
struct Open {
    kind: String,
    json: String,
    signed: bool,
}

/// Blocks whose deltas are all known.
const KNOWN: &[&str] = &["text", "thinking", "redacted_thinking", "tool_use"];

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Clean,
    Error,
    /// It did not.
    Missing,
}

impl Grammar {
    /// Checks the next frame; says what is wrong with it.
    pub fn check(&mut self, frame: &Frame) -> Result<(), String> {
        let Some(data) = frame.data() else { return Ok(()) };
        if matches!(self.phase, Phase::Ended | Phase::Failed) {
            return Err("something follows the end".to_owned());
        }
        let value = Value::parse(&data).map_err(|malformed| malformed.to_string())?;
        let kind = text(value, "type")?;
        if frame.event() != Some(kind.as_bytes()) {
            return Err(format!("the event is not named `{kind}`"));
        }
        match (&*kind, self.phase) {
            ("ping", Phase::Within | Phase::Delta) => Ok(()),
            ("error", _) => self.error(value),
            ("message_start", Phase::Before) => self.start(value),
            ("content_block_start", Phase::Within) => self.open(value),
            ("content_block_delta", Phase::Within) => self.delta(value),
            ("content_block_stop", Phase::Within) => self.close(value),
            ("message_delta", Phase::Within | Phase::Delta) if self.open.is_none() => self.stop(value),
            ("message_stop", Phase::Delta) => {
                self.phase = Phase::Ended;
                Ok(())
            }
            (kind, phase) => Err(format!("`{kind}` is out of place in {phase:?}")),
        }
    }

    pub fn ending(&self) -> Ending {
        match self.phase {
            Phase::Ended => Ending::Clean,
            Phase::Failed => Ending::Error,
            _ => Ending::Missing,
        }
    }

    /// All the text of text blocks.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn error(&mut self, event: Value<'_>) -> Result<(), String> {
        let error = event.get("error").ok_or("an error without `error`")?;
        text(error, "type")?;
        text(error, "message")?;
        self.phase = Phase::Failed;
        Ok(())
    }

    fn start(&mut self, event: Value<'_>) -> Result<(), String> {
        let message = event.get("message").ok_or("no message")?;
        if text(message, "id")?.is_empty() || text(message, "model")?.is_empty() {
            return Err("no id or no model".to_owned());
        }
        if text(message, "type")? != "message" || text(message, "role")? != "assistant" {
            return Err("not an assistant's message".to_owned());
        }
        let is_fresh = message.get("content").is_some_and(|content| content.raw == b"[]")
            && message.get("stop_reason").is_some_and(|reason| reason.is_null());
        if !is_fresh {
            return Err("the message has content or a reason to stop already".to_owned());
        }
        let usage = message.get("usage").ok_or("no usage")?;
        let input = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"];
        let input: u64 = input.iter().filter_map(|name| usage.get(name)?.as_u64()).sum();
        count(usage, "input_tokens")?;
        count(usage, "output_tokens")?;
        if input == 0 {
            return Err("no tokens of input".to_owned());
        }
        self.phase = Phase::Within;
        Ok(())
    }

    fn open(&mut self, event: Value<'_>) -> Result<(), String> {
        if self.open.is_some() {
            return Err("a block begins within another".to_owned());
        }
        if count(event, "index")? != self.blocks {
            return Err(format!("the block's index is not {}", self.blocks));
        }
        self.blocks += 1;
        let block = event.get("content_block").ok_or("no block")?;
        let kind = text(block, "type")?;
        match &*kind {
            "text" if !text(block, "text")?.is_empty() => return Err("a text begins with text".to_owned()),
            "thinking" => drop(text(block, "thinking")?),
            "redacted_thinking" if text(block, "data")?.is_empty() => return Err("no data".to_owned()),
            "tool_use" => {
                let id = text(block, "id")?;
                if id.is_empty() || text(block, "name")?.is_empty() {
                    return Err("a call without an id or a name".to_owned());
                }
                if block.get("input").is_none_or(|input| input.raw != b"{}") {
                    return Err("a call begins with input".to_owned());
                }
                self.called = true;
            }
            _ => {}
        }
        self.open = Some(Open { kind, json: String::new(), signed: false });
        Ok(())
    }

    fn delta(&mut self, event: Value<'_>) -> Result<(), String> {
        let index = count(event, "index")?;
        let Some(open) = self.open.as_mut().filter(|_| index + 1 == self.blocks) else {
            return Err("a delta for a block that is not open".to_owned());
        };
        let delta = event.get("delta").ok_or("no delta")?;
        let kind = text(delta, "type")?;
        if open.signed && kind != "signature_delta" {
            return Err("a delta behind the signature".to_owned());
        }
        match (&*kind, &*open.kind) {
            ("text_delta", "text") => self.text.push_str(&text(delta, "text")?),
            ("citations_delta", "text") => drop(delta.get("citation").ok_or("no citation")?),
            ("thinking_delta", "thinking") => drop(text(delta, "thinking")?),
            ("signature_delta", "thinking") => {
                text(delta, "signature")?;
                open.signed = true;
            }
            ("input_json_delta", "tool_use") => {
                open.json.push_str(&text(delta, "partial_json")?);
            }
            // More kinds of blocks may come, with deltas of their own.
            (_, block) if !KNOWN.contains(&block) => {}
            (delta, block) => return Err(format!("`{delta}` in a block of the type `{block}`")),
        }
        Ok(())
    }

    fn close(&mut self, event: Value<'_>) -> Result<(), String> {
        let open = self.open.take().ok_or("no block is open")?;
        if count(event, "index")? + 1 != self.blocks {
            return Err("another block is open".to_owned());
        }
        if open.kind == "thinking" && !open.signed {
            return Err("thinking without a signature".to_owned());
        }
        Ok(())
    }

    fn stop(&mut self, event: Value<'_>) -> Result<(), String> {
        let usage = event.get("usage").ok_or("no usage")?;
        count(usage, "output_tokens")?;
        let delta = event.get("delta").ok_or("no delta")?;
        let reason = text(delta, "stop_reason")?;
        if delta.get("stop_sequence").is_none_or(|stop| !matches!(stop.kind, Kind::Null | Kind::String)) {
            return Err("no stop sequence".to_owned());
        }
        match (&*reason, self.called) {
            ("tool_use", false) => return Err("a call is announced and there is none".to_owned()),
            ("end_turn" | "stop_sequence", true) => return Err("there are calls, and the turn is over".to_owned()),
            ("", _) => return Err("no reason".to_owned()),
            _ => {}
        }
        self.phase = Phase::Delta;
        Ok(())
    }
}

fn text(value: Value<'_>, name: &str) -> Result<String, String> {
    value.get(name).and_then(spoken).ok_or_else(|| format!("no text `{name}`"))
}

/// The text of a string. Half of a character in two escapes is carried as it came, since clients' readers of JSON take it.
pub(in crate::wire) fn spoken(value: Value<'_>) -> Option<String> {
    simdutf8::basic::from_utf8(value.raw).ok()?;
    Text::of(value).map(|text| text.decode().into_owned())
}

fn count(value: Value<'_>, name: &str) -> Result<u64, String> {
    value.get(name).and_then(|count| count.as_u64()).ok_or_else(|| format!("no count `{name}`"))
}
