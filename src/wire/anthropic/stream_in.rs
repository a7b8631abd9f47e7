//! Reading a stream of Anthropic's: `message_start`, blocks one after the other, `message_delta`, `message_stop`. Servers
//! that speak its format may send several calls at once; their blocks are told apart by their indices.

use smallvec::SmallVec;

use super::{
    error::classify,
    reply::read_reason,
    usage::{UsageReport, read_tier},
};
use crate::wire::{
    conversation::{Delta, Event, JSON_TOOL, Raw, Stop, StopReason, StreamBlock, Text, Undo},
    json::{Kind, Value},
    openai_chat::{ErrorClass, ProviderError},
    sse::Frame,
};

/// Turns the frames of one streamed reply into events. After `End` or `Error` nothing follows.
#[derive(Debug)]
pub struct Decoder {
    json_tool: bool,
    phase: Phase,
    /// The blocks that are open, in the order in which they began.
    open: SmallVec<[Opened; 1]>,
    /// How many blocks there were: the index of the next.
    blocks: usize,
    called: bool,
    usage: UsageReport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Within,
    /// `message_delta` was read.
    Stopped,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    /// Thinking whose signature has come: nothing more is thought.
    Signed,
    /// Thinking that nobody can read.
    Sealed,
    Call,
    /// A call of the tool for JSON output, shown as text.
    Json,
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    /// Its index at the provider.
    number: u64,
    /// Its index among the blocks that were read.
    index: usize,
    kind: Open,
}

/// The most blocks that may be open at once.
const MAX_OPEN: usize = 256;

type Each<'e> = dyn FnMut(Event<'_>) + 'e;

impl Decoder {
    /// `undo` comes with the encoded request.
    pub fn new(undo: &Undo) -> Self {
        Self {
            json_tool: undo.json_tool,
            phase: Phase::Before,
            open: SmallVec::new(),
            blocks: 0,
            called: false,
            usage: UsageReport::default(),
        }
    }

    /// Reads the next frame and hands its events to `each`.
    pub fn read(&mut self, frame: &Frame, each: &mut Each<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        let Some(data) = frame.data() else { return each(Event::Ping) };
        if data.is_empty() {
            return each(Event::Ping);
        }
        if let Err(problem) = self.read_data(&data, each) {
            self.phase = Phase::Ended;
            each(Event::Error(broken(problem)));
        }
    }

    /// At the end of the connection: an error unless the reply has ended.
    pub fn finish(&mut self, each: &mut Each<'_>) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Ended;
            each(Event::Error(broken("The provider ended the stream before it was complete.")));
        }
    }

    /// Whether the last event was handed out.
    pub fn ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn read_data(&mut self, data: &[u8], each: &mut Each<'_>) -> Result<(), &'static str> {
        if simdutf8::basic::from_utf8(data).is_err() {
            return Err("An event of the stream is not valid UTF-8.");
        }
        let event = Value::parse(data).map_err(|_| "An event of the stream is not valid JSON.")?;
        let kind = event.get("type").ok_or("An event of the stream has no type.")?;
        match kind.raw {
            b"\"message_start\"" => self.start(event, each),
            b"\"content_block_start\"" => self.open(event, each),
            b"\"content_block_delta\"" => self.delta(event, each),
            b"\"content_block_stop\"" => self.close(event, each),
            b"\"message_delta\"" => self.stop(event, each),
            b"\"message_stop\"" if self.phase == Phase::Stopped => {
                self.phase = Phase::Ended;
                each(Event::End);
                Ok(())
            }
            b"\"message_stop\"" => Err("The stream ended without a reason."),
            b"\"ping\"" => {
                each(Event::Ping);
                Ok(())
            }
            b"\"error\"" => {
                self.phase = Phase::Ended;
                each(Event::Error(classify(200, data)));
                Ok(())
            }
            // More kinds may come: the format's versioning says so.
            _ => Ok(()),
        }
    }

    fn start(&mut self, event: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        if self.phase != Phase::Before {
            return Err("The stream began twice.");
        }
        self.phase = Phase::Within;
        let message = event.get("message").ok_or("`message_start` has no message.")?;
        let text = |name| message.get(name).and_then(Text::of);
        let tier = message.get("usage").and_then(read_tier);
        each(Event::Start { id: text("id"), model: text("model"), tier });
        if let Some(usage) = message.get("usage") {
            self.report(usage, each);
        }
        Ok(())
    }

    fn report(&mut self, usage: Value<'_>, each: &mut Each<'_>) {
        self.usage.add(usage);
        if let Some(usage) = self.usage.usage() {
            each(Event::Usage(usage));
        }
    }

    fn open(&mut self, event: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        if self.phase != Phase::Within || self.open.len() == MAX_OPEN {
            return Err("A block of the stream begins out of turn.");
        }
        let number = event.get("index").and_then(|index| index.as_u64()).ok_or("A block has no index.")?;
        if self.open.iter().any(|block| block.number == number) {
            return Err("A block of the stream begins twice.");
        }
        let block = event.get("content_block").ok_or("`content_block_start` has no block.")?;
        let (open, kind) = self.kind_of(block)?;
        let index = self.blocks;
        self.blocks += 1;
        self.called |= open == Open::Call;
        each(Event::BlockStart { index, kind });
        let open = first_words(block, open, &mut |delta| each(Event::BlockDelta { index, delta }));
        self.open.push(Opened { number, index, kind: open });
        Ok(())
    }

    /// What a block is that begins.
    fn kind_of<'b>(&self, block: Value<'b>) -> Result<(Open, StreamBlock<'b>), &'static str> {
        let text = |name| block.get(name).and_then(Text::of).filter(|text| !text.is_empty());
        let kind = text("type").ok_or("A block has no type.")?;
        Ok(match &*kind.decode() {
            "text" => (Open::Text, StreamBlock::Text),
            "thinking" => (Open::Thinking, StreamBlock::Thinking),
            "redacted_thinking" => {
                let data = text("data").ok_or("A block lacks its data.")?;
                (Open::Sealed, StreamBlock::RedactedThinking { data })
            }
            "tool_use" => {
                let name = text("name").ok_or("A call has no name.")?;
                if self.json_tool && name == JSON_TOOL {
                    (Open::Json, StreamBlock::Text)
                } else {
                    (Open::Call, StreamBlock::ToolUse { id: text("id").ok_or("A call has no id.")?, name })
                }
            }
            _ => (Open::Other, StreamBlock::Other { kind: kind.clone(), native: Raw::of(block) }),
        })
    }

    fn delta(&mut self, event: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        let (mut number, mut delta) = (None, None);
        for (name, value) in event.members() {
            if name == *"index" {
                number = value.as_u64();
            } else if name == *"delta" {
                delta = Some(value);
            }
        }
        let Some(block) = self.open.iter_mut().find(|block| Some(block.number) == number) else {
            return Err("A delta of the stream is for a block that is not open.");
        };
        let delta = delta.filter(|delta| delta.kind == Kind::Object).ok_or("A delta of the stream is empty.")?;
        let index = block.index;
        let kind = delta.get("type").map_or(&b""[..], |kind| kind.raw);
        let text = |name| delta.get(name).and_then(Text::of).ok_or("A delta of the stream has no text.");
        let delta = match (kind, block.kind) {
            (b"\"text_delta\"", Open::Text) => Delta::Text(text("text")?),
            (b"\"thinking_delta\"", Open::Thinking) => Delta::Thinking(text("thinking")?),
            (b"\"signature_delta\"", Open::Thinking | Open::Signed) => {
                block.kind = Open::Signed;
                Delta::Signature(text("signature")?)
            }
            (b"\"input_json_delta\"", Open::Call) => Delta::Json(text("partial_json")?),
            (b"\"input_json_delta\"", Open::Json) => Delta::Text(text("partial_json")?),
            (b"\"citations_delta\"", Open::Text) => {
                Delta::Citation(Raw::of(delta.get("citation").ok_or("A delta of the stream has no citation.")?))
            }
            (_, Open::Other) if kind.len() > 2 => Delta::Other { native: Raw::of(delta) },
            (b"\"text_delta\"" | b"\"thinking_delta\"" | b"\"signature_delta\"" | b"\"input_json_delta\"", _) => {
                return Err("A delta of the stream does not fit its block.");
            }
            // More kinds may come.
            _ => return Ok(()),
        };
        each(Event::BlockDelta { index, delta });
        Ok(())
    }

    fn close(&mut self, event: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        let number = event.get("index").and_then(|index| index.as_u64());
        let Some(at) = self.open.iter().position(|block| Some(block.number) == number) else {
            return Err("A block of the stream ends that is not open.");
        };
        each(Event::BlockStop { index: self.open.remove(at).index });
        Ok(())
    }

    fn stop(&mut self, event: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        if self.phase == Phase::Before || !self.open.is_empty() {
            return Err("`message_delta` came out of turn.");
        }
        if let Some(usage) = event.get("usage") {
            self.report(usage, each);
        }
        let delta = event.get("delta").ok_or("`message_delta` has no delta.")?;
        let Some(word) = delta.get("stop_reason").and_then(Text::of) else { return Ok(()) };
        if self.phase == Phase::Stopped {
            return Ok(());
        }
        self.phase = Phase::Stopped;
        let mut reason = read_reason(&word.decode());
        if self.json_tool {
            reason = reason.with_calls(self.called);
        }
        if reason == StopReason::Pause {
            each(Event::Extension { name: "pause_turn" });
        }
        each(Event::Stop(Stop { reason, sequence: delta.get("stop_sequence").and_then(Text::of) }));
        Ok(())
    }
}

/// A block may begin with something in it. Tells what the block is after that.
fn first_words(block: Value<'_>, open: Open, say: &mut dyn FnMut(Delta<'_>)) -> Open {
    let text = |name| block.get(name).and_then(Text::of).filter(|text| !text.is_empty());
    match open {
        Open::Text => {
            if let Some(text) = text("text") {
                say(Delta::Text(text));
            }
        }
        Open::Thinking => {
            if let Some(text) = text("thinking") {
                say(Delta::Thinking(text));
            }
            if let Some(signature) = text("signature") {
                say(Delta::Signature(signature));
                return Open::Signed;
            }
        }
        Open::Call | Open::Json => {
            if let Some(input) = block.get("input").filter(|input| input.members().next().is_some()) {
                let input = Text::new(&String::from_utf8_lossy(input.raw));
                say(if open == Open::Json { Delta::Text(input) } else { Delta::Json(input) });
            }
        }
        Open::Signed | Open::Sealed | Open::Other => {}
    }
    open
}

/// The provider did not keep to its format.
pub(in crate::wire) fn broken(message: &str) -> ProviderError {
    ProviderError {
        class: ErrorClass::Server,
        status: None,
        code: None,
        kind: None,
        message: message.to_owned(),
        param: None,
        raw: "".into(),
    }
}
