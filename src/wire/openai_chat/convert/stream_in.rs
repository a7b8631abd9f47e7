//! Reading a stream of chat completion chunks. The format has no blocks: a block begins with the first piece of its
//! kind and ends where another kind begins. Calls may be interleaved; a call has ended when its arguments are a whole
//! JSON value and something else begins, or when the reply ends.

use super::reply::{read_reason, read_tier, stopped};
use crate::wire::{
    anthropic::broken,
    conversation::{Delta, Event, Stop, StreamBlock, Text, Undo},
    json::{Kind, Value},
    openai_chat::{classify, read_usage},
    sse::Frame,
};

/// Turns the frames of one streamed reply into events. After `End` or `Error` nothing follows.
#[derive(Debug)]
pub struct Decoder {
    request_id: String,
    undo: Undo,
    started: bool,
    ended: bool,
    /// The words being said: what they are, and the block's index.
    said: Option<(Said, usize)>,
    calls: Vec<Call>,
    /// How many blocks there were: the index of the next.
    blocks: usize,
    finished: bool,
    anything: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Text,
    Thinking,
    Refusal,
}

/// One call, from its first piece on.
#[derive(Debug)]
struct Call {
    /// The provider's index. Some give every call the same one and tell them apart by id.
    number: u64,
    id: Option<String>,
    /// The block's index, once the call's name is known.
    block: Option<usize>,
    /// Arguments that came before the name.
    early: Text<'static>,
    open: bool,
    json: JsonEnd,
}

/// A reply with more calls than this is taken for nonsense.
const MAX_CALLS: usize = 512;
/// How much of a call's arguments may come before its name, in bytes.
const MAX_EARLY: usize = 1 << 20;

type Each<'e> = dyn FnMut(Event<'_>) + 'e;

impl Decoder {
    /// `request_id`: the ids of calls that come without one are made from it. `undo` comes with the encoded request.
    pub fn new(request_id: &str, undo: &Undo) -> Self {
        Self {
            request_id: request_id.to_owned(),
            undo: undo.clone(),
            started: false,
            ended: false,
            said: None,
            calls: Vec::new(),
            blocks: 0,
            finished: false,
            anything: false,
        }
    }

    /// Reads the next frame and hands its events to `each`.
    pub fn read(&mut self, frame: &Frame, each: &mut Each<'_>) {
        if self.ended {
            return;
        }
        let Some(data) = frame.data() else { return each(Event::Ping) };
        match data.trim_ascii() {
            b"" => each(Event::Ping),
            b"[DONE]" => self.done(each),
            report if frame.event() == Some(b"error") => {
                self.ended = true;
                each(Event::Error(classify(200, report)));
            }
            chunk => {
                if let Err(problem) = self.read_chunk(chunk, each) {
                    self.ended = true;
                    each(Event::Error(broken(problem)));
                }
            }
        }
    }

    /// At the end of the connection. Some providers leave `[DONE]` out: a reply whose end was announced is whole.
    pub fn finish(&mut self, each: &mut Each<'_>) {
        if self.ended {
            return;
        }
        self.ended = true;
        each(if self.finished {
            Event::End
        } else {
            Event::Error(broken("The provider ended the stream before it was complete."))
        });
    }

    /// Whether the last event was handed out.
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn done(&mut self, each: &mut Each<'_>) {
        self.ended = true;
        if !self.finished && !self.anything {
            return each(Event::Error(broken("The provider ended the stream without an answer.")));
        }
        if !self.finished {
            self.stop(Stop::default(), each);
        }
        each(Event::End);
    }

    fn read_chunk(&mut self, data: &[u8], each: &mut Each<'_>) -> Result<(), &'static str> {
        if simdutf8::basic::from_utf8(data).is_err() {
            return Err("A chunk of the stream is not valid UTF-8.");
        }
        let chunk = Value::parse(data).map_err(|_| "A chunk of the stream is not valid JSON.")?;
        if chunk.kind != Kind::Object {
            return Err("A chunk of the stream is not a JSON object.");
        }
        let (mut id, mut model, mut choices, mut usage, mut error, mut tier) = (None, None, None, None, None, None);
        for (name, value) in chunk.members() {
            match name.bytes().as_ref() {
                b"id" => id = Text::of(value),
                b"model" => model = Text::of(value),
                b"choices" => choices = Some(value),
                b"usage" => usage = Some(value),
                b"error" => error = Some(value),
                b"service_tier" => tier = Text::of(value).and_then(|tier| read_tier(&tier)),
                _ => {}
            }
        }
        if error.is_some_and(|error| !error.is_empty()) {
            self.ended = true;
            each(Event::Error(classify(200, data)));
            return Ok(());
        }
        if !std::mem::replace(&mut self.started, true) {
            each(Event::Start { id, model, tier });
        }
        for choice in choices.into_iter().flat_map(|choices| choices.items()) {
            self.read_choice(choice, each)?;
        }
        if let Some(usage) = usage.filter(|usage| usage.kind == Kind::Object).and_then(|usage| read_usage(usage.raw)) {
            each(Event::Usage(usage));
        }
        Ok(())
    }

    fn read_choice(&mut self, choice: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        let (mut delta, mut reason, mut stopped_by) = (None, None, None);
        for (name, value) in choice.members() {
            match name.bytes().as_ref() {
                b"index" if value.as_u64() != Some(0) => {
                    each(Event::Extension { name: "choices" });
                    return Ok(());
                }
                b"delta" => delta = Some(value),
                b"stop_reason" => stopped_by = Text::of(value),
                b"finish_reason" => reason = Text::of(value).filter(|reason| !reason.is_empty()),
                _ => {}
            }
        }
        if let Some(delta) = delta {
            self.read_delta(delta, each)?;
        }
        if let Some(reason) = reason.filter(|_| !self.finished) {
            self.stop(stopped(read_reason(&reason.decode()), stopped_by), each);
        }
        Ok(())
    }

    fn read_delta(&mut self, delta: Value<'_>, each: &mut Each<'_>) -> Result<(), &'static str> {
        let (mut thinking, mut content, mut refusal) = (None, None, None);
        let (mut calls, mut function, mut annotations) = (None, None, None);
        for (name, value) in delta.members() {
            match name.bytes().as_ref() {
                b"reasoning_content" => thinking = Text::of(value).or(thinking),
                b"reasoning" if thinking.is_none() => thinking = Text::of(value),
                b"content" => content = Some(value),
                b"refusal" => refusal = Text::of(value),
                b"tool_calls" => calls = Some(value),
                b"function_call" => function = Some(value).filter(|value| value.kind == Kind::Object),
                b"annotations" => annotations = Some(value),
                b"audio" if !value.is_empty() => each(Event::Extension { name: "audio" }),
                _ => {}
            }
        }
        if let Some(thinking) = thinking {
            self.say(Said::Thinking, thinking, each);
        }
        if let Some(content) = content {
            self.read_content(content, each);
        }
        if let Some(refusal) = refusal {
            self.say(Said::Refusal, refusal, each);
        }
        for annotation in annotations.into_iter().flat_map(|annotations| annotations.items()) {
            self.annotate(annotation, each);
        }
        for call in calls.into_iter().flat_map(|calls| calls.items()) {
            self.read_call(call, call.get("function"), each)?;
        }
        if let Some(function) = function {
            self.read_call(function, Some(function), each)?;
        }
        Ok(())
    }

    /// Content is a string; Mistral's reasoning models send parts.
    fn read_content(&mut self, content: Value<'_>, each: &mut Each<'_>) {
        if let Some(text) = Text::of(content) {
            return self.say(Said::Text, text, each);
        }
        for part in content.items() {
            if let Some(text) = part.get("text").and_then(Text::of) {
                self.say(Said::Text, text, each);
            }
            for piece in part.get("thinking").into_iter().flat_map(|thinking| thinking.items()) {
                if let Some(text) = piece.get("text").and_then(Text::of) {
                    self.say(Said::Thinking, text, each);
                }
            }
        }
    }

    fn say(&mut self, what: Said, text: Text<'_>, each: &mut Each<'_>) {
        if text.is_empty() || self.finished {
            return;
        }
        self.anything = true;
        let index = match self.said {
            Some((said, index)) if said == what => index,
            _ => {
                self.close_said(each);
                self.close_calls(false, each);
                let kind = match what {
                    Said::Text => StreamBlock::Text,
                    Said::Thinking => StreamBlock::Thinking,
                    Said::Refusal => StreamBlock::Refusal,
                };
                let index = self.begin(kind, each);
                self.said = Some((what, index));
                index
            }
        };
        let delta = if what == Said::Thinking { Delta::Thinking(text) } else { Delta::Text(text) };
        each(Event::BlockDelta { index, delta });
    }

    fn annotate(&mut self, annotation: Value<'_>, each: &mut Each<'_>) {
        let Some((Said::Text, index)) = self.said else { return };
        let page = annotation.get("url_citation").unwrap_or(annotation);
        let text = |name| page.get(name).and_then(Text::of);
        if let Some(url) = text("url") {
            each(Event::BlockDelta { index, delta: Delta::Page { url, title: text("title").unwrap_or_default() } });
        }
    }

    fn begin(&mut self, kind: StreamBlock<'_>, each: &mut Each<'_>) -> usize {
        let index = self.blocks;
        self.blocks += 1;
        each(Event::BlockStart { index, kind });
        index
    }

    fn read_call(
        &mut self,
        call: Value<'_>,
        function: Option<Value<'_>>,
        each: &mut Each<'_>,
    ) -> Result<(), &'static str> {
        if self.finished {
            return Ok(());
        }
        self.anything = true;
        let text = |value: Option<Value<'_>>, name: &str| {
            let text = value?.get(name).and_then(|value| value.as_str().map(std::borrow::Cow::into_owned));
            text.filter(|text| !text.is_empty())
        };
        let place = self.find_call(call.get("index").and_then(|index| index.as_u64()), text(Some(call), "id"))?;
        let arguments = function.and_then(|function| function.get("arguments"));
        let arguments = match arguments {
            Some(object) if object.kind == Kind::Object => Some(Text::new(&String::from_utf8_lossy(object.raw))),
            Some(value) => Text::of(value).filter(|text| !text.is_empty()),
            None => None,
        };
        if self.calls[place].block.is_none() {
            match text(function, "name") {
                Some(name) => self.name_call(place, &name, each),
                None => {
                    if let Some(arguments) = arguments {
                        self.calls[place].early.push(&arguments);
                    }
                    let too_long = self.calls[place].early.len() > MAX_EARLY;
                    return if too_long { Err("A call has no name.") } else { Ok(()) };
                }
            }
        }
        let call = &mut self.calls[place];
        if let (Some(arguments), Some(index), true) = (arguments, call.block, call.open) {
            call.json.feed(&arguments);
            each(Event::BlockDelta { index, delta: Delta::Json(arguments) });
        }
        Ok(())
    }

    /// Which call a piece belongs to; a new one if it is none of those that are known.
    fn find_call(&mut self, number: Option<u64>, id: Option<String>) -> Result<usize, &'static str> {
        let same_id = |call: &Call| id.is_some() && call.id == id;
        let known = match (number, &id) {
            (_, Some(_)) if self.calls.iter().any(same_id) => self.calls.iter().rposition(same_id),
            // The same number with another id is another call.
            (Some(number), Some(_)) => {
                self.calls.iter().rposition(|call| call.number == number && call.id.is_none() && call.block.is_none())
            }
            (Some(number), None) => self.calls.iter().rposition(|call| call.number == number),
            (None, Some(_)) => None,
            (None, None) => self.calls.len().checked_sub(1),
        };
        if let Some(place) = known {
            let call = &mut self.calls[place];
            call.id = call.id.take().or(id);
            return Ok(place);
        }
        if self.calls.len() >= MAX_CALLS {
            return Err("The reply has too many calls.");
        }
        let number = number.unwrap_or(self.calls.len() as u64);
        let early = Text::default();
        self.calls.push(Call { number, id, block: None, early, open: false, json: JsonEnd::default() });
        Ok(self.calls.len() - 1)
    }

    /// With its name a call becomes a block.
    fn name_call(&mut self, place: usize, name: &str, each: &mut Each<'_>) {
        self.close_said(each);
        self.close_calls(false, each);
        let made = || format!("call_{}_{place}", self.request_id);
        let id = Text::new(&self.calls[place].id.clone().unwrap_or_else(made));
        let name = self.undo.name(Text::new(name));
        let index = self.begin(StreamBlock::ToolUse { id, name }, each);
        let call = &mut self.calls[place];
        call.block = Some(index);
        call.open = true;
        let early = std::mem::take(&mut call.early);
        if !early.is_empty() {
            call.json.feed(&early);
            each(Event::BlockDelta { index, delta: Delta::Json(early) });
        }
    }

    fn close_said(&mut self, each: &mut Each<'_>) {
        if let Some((_, index)) = self.said.take() {
            each(Event::BlockStop { index });
        }
    }

    /// Ends the calls whose arguments are whole, or all of them.
    fn close_calls(&mut self, all: bool, each: &mut Each<'_>) {
        for call in &mut self.calls {
            if let (Some(index), true) = (call.block, call.open && (all || call.json.complete())) {
                call.open = false;
                each(Event::BlockStop { index });
            }
        }
    }

    fn stop(&mut self, stop: Stop<'_>, each: &mut Each<'_>) {
        self.finished = true;
        self.close_said(each);
        self.close_calls(true, each);
        each(Event::Stop(stop));
    }
}

/// Finds the end of a JSON object that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
struct JsonEnd {
    depth: u32,
    in_string: bool,
    escaped: bool,
    complete: bool,
}

impl JsonEnd {
    fn feed(&mut self, piece: &Text<'_>) {
        for byte in piece.decode().bytes() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.complete = self.depth == 0;
                }
                _ => {}
            }
        }
    }

    fn complete(self) -> bool {
        self.complete
    }
}
