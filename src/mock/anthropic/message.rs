//! `POST /v1/messages`: `Message` of the API.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    id,
    saying::{Usage, stop_reason},
};
use crate::mock::{
    behaviour::Behaviour,
    reply::Asked,
    saying::{Call, Saying},
    text::Text,
};

/// The length of a made-up signature.
const SIGNATURE: usize = 200;

/// A message that is ready to be written, whole or as a stream.
pub(in crate::mock) struct Message {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) saying: Saying,
    pub(super) signature: String,
    pub(super) stop_reason: String,
    pub(super) stop_sequence: Option<String>,
    pub(super) usage: Usage,
    pub(super) script: Arc<Behaviour>,
}

/// `Message` as it is written; at the start of a stream without content and without a reason to stop.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    #[serde(flatten)]
    end: End<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// Why a message has ended.
#[derive(Default, Serialize)]
pub(super) struct End<'a> {
    stop_reason: Option<&'a str>,
    stop_sequence: Option<&'a str>,
    stop_details: Option<StopDetails>,
}

/// `RefusalStopDetails` of the API.
#[derive(Serialize)]
pub(super) struct StopDetails {
    r#type: &'static str,
    category: Option<&'static str>,
    explanation: Option<&'static str>,
}

/// A block of content.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Thinking { thinking: Cow<'a, str>, signature: &'a str },
    RedactedThinking { data: &'a str },
    Text { text: Cow<'a, str> },
    ToolUse { id: &'a str, name: &'a str, input: Input<'a> },
}

/// The arguments of a call.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Input<'a> {
    Json(Box<RawValue>),
    /// Arguments that are not JSON have no form here but that of a string.
    Text(&'a str),
    /// An object without members, as a stream begins with it.
    Empty {},
}

impl Message {
    /// The message that says this.
    pub(super) fn new(asked: &Asked<'_>, saying: Saying, model: String) -> Self {
        let (ask, script, number) = (asked.ask, asked.script, asked.number);
        let stop_reason = stop_reason(&saying, script);
        let sequences = ask.stop_sequences.filter(|_| stop_reason == "stop_sequence");
        let sequences = sequences.and_then(|raw| serde_json::from_str::<Vec<String>>(raw.get()).ok());
        Self {
            id: script.answer_id.clone().unwrap_or_else(|| format!("msg_01{}", id(number, 22))),
            model,
            signature: script.signature.clone().unwrap_or_else(|| id(number.wrapping_mul(137), SIGNATURE)),
            stop_sequence: sequences.and_then(|sequences| sequences.into_iter().next()),
            stop_reason,
            usage: Usage::of(ask, &saying, script),
            saying,
            script: Arc::clone(script),
        }
    }

    /// The message as one object.
    pub(super) fn whole(&self) -> Result<Bytes, serde_json::Error> {
        let usage = self.usage.of_whole(self.script.usage_mode);
        let written = self.written(self.blocks(), self.end(), usage);
        serde_json::to_vec(&written).map(Bytes::from)
    }

    /// The message as a stream begins with it.
    pub(super) fn begun(&self) -> Written<'_> {
        self.written(Vec::new(), End::default(), self.usage.at_start(self.script.usage_mode))
    }

    /// Why it ends.
    pub(super) fn end(&self) -> End<'_> {
        let details = StopDetails { r#type: "refusal", category: None, explanation: None };
        End {
            stop_reason: Some(&self.stop_reason),
            stop_sequence: self.stop_sequence.as_deref(),
            stop_details: (self.stop_reason == "refusal").then_some(details),
        }
    }

    /// The data of a redacted block of thinking, if there is one.
    pub(super) fn redacted(&self) -> Option<&str> {
        self.script.redacted_reasoning.as_deref().filter(|_| !self.script.empty)
    }

    /// The texts of text blocks. A refusal is one: what tells it from other texts is the reason to stop.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        let texts = [&self.saying.refusal, &self.saying.text].into_iter().flatten();
        texts.filter(|_| !self.script.empty)
    }

    fn written<'a>(&'a self, content: Vec<Block<'a>>, end: End<'a>, usage: Option<Usage>) -> Written<'a> {
        Written { id: &self.id, r#type: "message", role: "assistant", model: &self.model, content, end, usage }
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        blocks.extend(self.redacted().map(|data| Block::RedactedThinking { data }));
        let thinking = self.saying.reasoning.as_ref().map(Text::whole);
        blocks.extend(thinking.map(|thinking| Block::Thinking { thinking, signature: &self.signature }));
        let filler = self.script.frame_bytes.map(|bytes| "x".repeat(bytes as usize));
        let mut texts: Vec<Cow<'_, str>> = self.texts().map(Text::whole).collect();
        match (filler, texts.first_mut()) {
            (Some(filler), Some(first)) => *first = Cow::Owned(filler + first),
            (Some(filler), None) => texts.push(Cow::Owned(filler)),
            (None, _) => {}
        }
        blocks.extend(texts.into_iter().map(|text| Block::Text { text }));
        for call in &self.saying.tool_calls {
            blocks.push(Block::ToolUse { id: &call.id, name: &call.name, input: input(call) });
        }
        blocks
    }
}

fn input(call: &Call) -> Input<'_> {
    RawValue::from_string(call.arguments.clone()).map_or(Input::Text(&call.arguments), Input::Json)
}
