//! The grammar of streams of chat completion chunks, as strict as OpenAI's SDKs and their users are: a checker for
//! tests and fuzzing.
//!
//! Chunks of one id and model; the role comes first and once; a call is introduced with its id, type and name, in the
//! order of its index, and only then has arguments; the reason to stop comes once, is
//! `tool_calls` exactly if a tool is to be called, and nothing is said behind it; then token counts at most once,
//! without choices; then `[DONE]`. Or an `error` at any place, and nothing behind it.

use crate::wire::{
    anthropic::grammar::spoken,
    json::{Kind, Value},
    sse::Frame,
};

pub use crate::wire::anthropic::grammar::Ending;

/// Follows one stream of one alternative.
#[derive(Debug, Default)]
pub struct Grammar {
    phase: Phase,
    id: Option<String>,
    calls: Vec<String>,
    text: String,
    has_usage: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Within,
    Finished,
    Ended,
    Failed,
}

impl Grammar {
    /// Checks the next frame; says what is wrong with it.
    pub fn check(&mut self, frame: &Frame) -> Result<(), String> {
        let Some(data) = frame.data() else { return Ok(()) };
        if matches!(self.phase, Phase::Ended | Phase::Failed) {
            return Err("something follows the end".to_owned());
        }
        if frame.event().is_some() {
            return Err("chunks have no event names".to_owned());
        }
        if frame.is_done() {
            if self.phase != Phase::Finished {
                return Err("the end came without a reason".to_owned());
            }
            self.phase = Phase::Ended;
            return Ok(());
        }
        let chunk = Value::parse(&data).map_err(|malformed| malformed.to_string())?;
        if let Some(error) = chunk.get("error") {
            error.get("message").and_then(spoken).ok_or("an error without a message")?;
            self.phase = Phase::Failed;
            return Ok(());
        }
        self.chunk(chunk)
    }

    pub fn ending(&self) -> Ending {
        match self.phase {
            Phase::Ended => Ending::Clean,
            Phase::Failed => Ending::Error,
            _ => Ending::Missing,
        }
    }

    /// All the content.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The arguments of the calls.
    pub fn calls(&self) -> &[String] {
        &self.calls
    }

    fn chunk(&mut self, chunk: Value<'_>) -> Result<(), String> {
        let id = text(chunk, "id").filter(|id| !id.is_empty()).ok_or("no id")?;
        if *self.id.get_or_insert_with(|| id.clone()) != id {
            return Err("the id changed".to_owned());
        }
        if text(chunk, "object").is_none_or(|object| object != "chat.completion.chunk") {
            return Err("not a chunk".to_owned());
        }
        text(chunk, "model").ok_or("no model")?;
        chunk.get("created").and_then(|created| created.as_u64()).ok_or("no time")?;
        let choices = chunk.get("choices").filter(|choices| choices.kind == Kind::Array).ok_or("no choices")?;
        if let Some(usage) = chunk.get("usage").filter(|usage| !usage.is_null()) {
            if std::mem::replace(&mut self.has_usage, true) || self.phase != Phase::Finished {
                return Err("token counts out of place".to_owned());
            }
            for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
                usage.get(name).and_then(|count| count.as_u64()).ok_or("a count is missing")?;
            }
            return if choices.items().next().is_none() { Ok(()) } else { Err("choices beside counts".to_owned()) };
        }
        let mut choices = choices.items();
        let choice = choices.next().ok_or("a chunk of nothing")?;
        if choices.next().is_some() || choice.get("index").and_then(|index| index.as_u64()) != Some(0) {
            return Err("more than one alternative".to_owned());
        }
        self.choice(choice)
    }

    fn choice(&mut self, choice: Value<'_>) -> Result<(), String> {
        let delta = choice.get("delta").filter(|delta| delta.kind == Kind::Object).ok_or("no delta")?;
        if self.phase == Phase::Finished {
            return Err("something is said behind the reason to stop".to_owned());
        }
        match (self.phase, delta.get("role")) {
            (Phase::Before, None) => return Err("the role does not come first".to_owned()),
            (Phase::Within, Some(_)) => return Err("a second role".to_owned()),
            _ => self.phase = Phase::Within,
        }
        if let Some(content) = delta.get("content").filter(|content| !content.is_null()) {
            self.text.push_str(&spoken(content).ok_or("content that is no text")?);
        }
        for name in ["reasoning_content", "refusal"] {
            if delta.get(name).is_some_and(|text| !matches!(text.kind, Kind::String | Kind::Null)) {
                return Err(format!("`{name}` is no text"));
            }
        }
        for call in delta.get("tool_calls").into_iter().flat_map(|calls| calls.items()) {
            self.call(call)?;
        }
        let Some(reason) = text(choice, "finish_reason") else { return Ok(()) };
        match (&*reason, self.calls.is_empty()) {
            ("tool_calls", true) => return Err("a call is announced and there is none".to_owned()),
            ("stop", false) => return Err("there are calls, and the turn is over".to_owned()),
            ("stop" | "length" | "content_filter" | "tool_calls", _) => {}
            (word, _) => return Err(format!("no such reason: `{word}`")),
        }
        self.phase = Phase::Finished;
        Ok(())
    }

    fn call(&mut self, call: Value<'_>) -> Result<(), String> {
        let index = call.get("index").and_then(|index| index.as_u64()).ok_or("a call without an index")?;
        let index = usize::try_from(index).map_err(|_| "an index out of range")?;
        let function = call.get("function").ok_or("a call without a function")?;
        if index == self.calls.len() {
            let named = [text(call, "id"), text(function, "name")];
            if named.iter().any(|text| text.as_ref().is_none_or(String::is_empty)) {
                return Err("a call begins without an id or a name".to_owned());
            }
            if text(call, "type").is_none_or(|kind| kind != "function") {
                return Err("a call begins without a type".to_owned());
            }
            self.calls.push(String::new());
        } else if index > self.calls.len() || call.get("id").is_some() {
            return Err("a call is out of order, or introduced twice".to_owned());
        }
        self.calls[index].push_str(&text(function, "arguments").ok_or("a call without arguments")?);
        Ok(())
    }
}

fn text(value: Value<'_>, name: &str) -> Option<String> {
    spoken(value.get(name)?)
}
