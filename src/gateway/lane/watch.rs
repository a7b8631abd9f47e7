//! Streams: what must be known of each frame, and what the client gets for it.
//!
//! The pass lane of OpenAI's formats looks no further into a frame than it must. Everywhere else frames are read into
//! events: in Anthropic's pass lane only to be looked at, in the translate lane to be written anew.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    Lane,
    whole::{MAX_THINKING, reason_word, reply_options, shape},
};
use crate::{
    gateway::{
        Call, Gateway,
        memory::{Memory, Owner},
    },
    types::{Clock, Usage},
    wire::{
        anthropic,
        conversation::{Delta, Event, Format, Losses, Stop, StopReason, StreamBlock, Text, Undo, memory::Recorder},
        openai_chat::{ProviderError, Said, Seen, Stated, StreamObserver},
        sse::Frame,
        translate::StreamTranslator,
    },
};

/// Looks at the frames of one stream.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the usual one is the large one, and a stream is boxed as a whole")]
pub(in crate::gateway) enum Watch {
    /// OpenAI's formats, passed on.
    Plain(StreamObserver),
    Events(Box<Events>),
}

/// How a stream stands when the provider's connection has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Closed {
    /// It is complete.
    Complete,
    /// It is complete, but for the mark of its end.
    Unmarked,
    /// It broke off. The client has still to be told.
    Cut,
    /// It broke off, and the client's last event says so.
    Told,
}

/// A stream that is read into events.
#[derive(Debug)]
pub(in crate::gateway) struct Events {
    flow: Flow,
    upstream: Format,
    heard: Heard,
    /// Said once it was seen: after it nothing counts.
    failed: bool,
    clock: Clock,
}

#[derive(Debug)]
enum Flow {
    Pass(anthropic::Decoder),
    Translated(Box<Translated>),
}

#[derive(Debug)]
struct Translated {
    translator: StreamTranslator,
    /// What the frames so far became, and has not been taken.
    out: Vec<u8>,
    recorder: Option<Recorder>,
    memory: Arc<Memory>,
    owner: Owner,
}

/// What was heard of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub stated: Stated,
    pub said: Said,
    pub has_output: bool,
    pub finish_reason: Option<&'static str>,
    ended: bool,
    /// It was ended here, and not by its provider.
    is_cut: bool,
    /// Blocks that have begun and not ended.
    open: SmallVec<[usize; 2]>,
    /// The thinking that has begun last, until it is signed.
    unsigned: Option<usize>,
    /// What the frame at hand was.
    frame: Kind,
    error: Option<ProviderError>,
}

/// What a frame was, the more important the later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    #[default]
    Silent,
    Usage,
    Preamble,
    Output,
}

impl Watch {
    /// For a stream in this lane. `undo` comes with the request.
    pub fn new(gateway: &Gateway, call: &Call, lane: Lane, undo: &Undo) -> Self {
        if let Some(shape) = shape(lane) {
            return Self::Plain(StreamObserver::new(shape, call.choices));
        }
        let flow = if lane.is_pass() {
            Flow::Pass(anthropic::Decoder::new(undo))
        } else {
            let mut buffer = [0; ulid::ULID_LEN];
            let options = reply_options(gateway, call, call.id.text(&mut buffer));
            Flow::Translated(Box::new(Translated {
                translator: StreamTranslator::new(lane.upstream, lane.client, undo, &options),
                out: Vec::new(),
                recorder: Some(Recorder::new(MAX_THINKING)),
                memory: gateway.memory.clone(),
                owner: gateway.memory.owner(&call.principal.id, &call.headers),
            }))
        };
        let (heard, clock) = (Heard::default(), gateway.clock.clone());
        Self::Events(Box::new(Events { flow, upstream: lane.upstream, heard, failed: false, clock }))
    }

    /// Looks at the next frame.
    pub fn see(&mut self, frame: &Frame) -> Seen {
        match self {
            Self::Plain(observer) => observer.observe(frame),
            Self::Events(events) => events.see(frame),
        }
    }

    /// What the client gets for the frames seen so far, where that is not the frames themselves.
    pub fn written(&mut self) -> Option<Bytes> {
        match self {
            Self::Events(events) => match &mut events.flow {
                Flow::Translated(translated) => Some(std::mem::take(&mut translated.out).into()),
                Flow::Pass(_) => None,
            },
            Self::Plain(_) => None,
        }
    }

    /// What could not be said of the answer so far.
    pub fn losses(&self) -> Losses {
        match self {
            Self::Events(events) => match &events.flow {
                Flow::Translated(translated) => translated.translator.losses().clone(),
                Flow::Pass(_) => Losses::default(),
            },
            Self::Plain(_) => Losses::default(),
        }
    }

    /// Whether everything has been said.
    pub fn finished(&self) -> bool {
        match self {
            Self::Plain(observer) => observer.finished(),
            Self::Events(events) => events.heard.ended,
        }
    }

    /// Whether its last event was written, as far as frames were read into events.
    pub fn ended(&self) -> bool {
        matches!(self, Self::Events(events) if events.heard.ended)
    }

    /// Whether frames pass as they came.
    pub fn is_pass(&self) -> bool {
        !matches!(self, Self::Events(events) if matches!(events.flow, Flow::Translated(_)))
    }

    /// The provider's connection has come to its end.
    pub fn close(&mut self) -> Closed {
        match self {
            // Some providers leave `[DONE]` out. With every answer finished the stream is whole.
            Self::Plain(observer) if observer.finished() => Closed::Unmarked,
            Self::Plain(_) => Closed::Cut,
            Self::Events(events) => events.close(),
        }
    }

    pub fn stated(&self) -> &Stated {
        match self {
            Self::Plain(observer) => observer.stated(),
            Self::Events(events) => &events.heard.stated,
        }
    }

    /// What the provider states beside the answer. Asked for again, it is gone.
    pub fn take_stated(&mut self) -> Stated {
        match self {
            Self::Plain(observer) => observer.take_stated(),
            Self::Events(events) => events.heard.take_stated(),
        }
    }

    /// What was said so far.
    pub fn said(&self) -> &Said {
        match self {
            Self::Plain(observer) => observer.said(),
            Self::Events(events) => &events.heard.said,
        }
    }

    /// What was said so far. Asked for again, it is gone.
    pub fn take_said(&mut self) -> Said {
        match self {
            Self::Plain(observer) => observer.take_said(),
            Self::Events(events) => std::mem::take(&mut events.heard.said),
        }
    }

    /// How much was said so far, in bytes as they are spelt in JSON.
    pub fn spoken(&self) -> u64 {
        match self {
            Self::Plain(observer) => observer.spoken(),
            Self::Events(events) => events.heard.said.bytes(),
        }
    }

    /// Ends the answer here, as a model does that has reached its output limit: what the client gets for it. `usage` is
    /// told if its format tells it at the end.
    pub fn cut(&mut self, usage: Option<&Usage>) -> Bytes {
        match self {
            Self::Plain(observer) => observer.cut(usage),
            Self::Events(events) => events.cut(usage),
        }
    }

    pub fn finish_reason(&self) -> Option<&str> {
        match self {
            Self::Plain(observer) => observer.finish_reason(),
            Self::Events(events) => events.heard.finish_reason,
        }
    }
}

impl Events {
    fn see(&mut self, frame: &Frame) -> Seen {
        self.heard.frame = Kind::Silent;
        let (heard, upstream) = (&mut self.heard, self.upstream);
        if let Some(data) = frame.data() {
            heard.stated.read_terms(&data);
        }
        match &mut self.flow {
            Flow::Pass(decoder) => decoder.read(frame, &mut |event| heard.note(upstream, &event)),
            Flow::Translated(translated) => {
                let Translated { translator, out, recorder, .. } = &mut **translated;
                translator.frame(frame, out, &mut |event| {
                    heard.note(upstream, event);
                    recorder.iter_mut().for_each(|recorder| recorder.observe(event));
                });
            }
        }
        self.seen()
    }

    fn seen(&mut self) -> Seen {
        if let Some(error) = self.heard.error.take() {
            self.failed = true;
            return Seen::Error(error);
        }
        if self.heard.ended {
            self.remember();
        }
        match self.heard.frame {
            Kind::Output => Seen::Output,
            _ if self.heard.ended => Seen::Done,
            Kind::Preamble if self.heard.has_output => Seen::Output,
            Kind::Preamble => Seen::Preamble,
            Kind::Usage => Seen::UsageOnly,
            Kind::Silent => Seen::Silent,
        }
    }

    fn close(&mut self) -> Closed {
        if self.heard.ended {
            return Closed::Complete;
        }
        let (heard, upstream) = (&mut self.heard, self.upstream);
        let Flow::Translated(translated) = &mut self.flow else { return Closed::Cut };
        let Translated { translator, out, recorder, .. } = &mut **translated;
        translator.finish(out, &mut |event| {
            heard.note(upstream, event);
            recorder.iter_mut().for_each(|recorder| recorder.observe(event));
        });
        if !self.heard.ended {
            return if self.failed || self.heard.error.is_some() { Closed::Told } else { Closed::Cut };
        }
        self.remember();
        Closed::Complete
    }

    fn cut(&mut self, usage: Option<&Usage>) -> Bytes {
        let open = std::mem::take(&mut self.heard.open);
        let stop = Stop { reason: StopReason::MaxTokens, sequence: None };
        let (heard, upstream) = (&mut self.heard, self.upstream);
        heard.stop(upstream, stop.reason);
        heard.is_cut = true;
        match &mut self.flow {
            Flow::Pass(_) => anthropic::cut_short(&open, heard.unsigned, heard.said.bytes().div_ceil(4)),
            Flow::Translated(translated) => {
                let Translated { translator, out, .. } = &mut **translated;
                for index in open {
                    translator.inject(Event::BlockStop { index }, out);
                }
                if let Some(usage) = usage {
                    translator.inject(Event::Usage(*usage), out);
                }
                translator.inject(Event::Stop(stop), out);
                translator.inject(Event::End, out);
                std::mem::take(out).into()
            }
        }
    }

    /// Keeps the thinking that led to calls, once.
    fn remember(&mut self) {
        let Flow::Translated(translated) = &mut self.flow else { return };
        let Some(recorder) = translated.recorder.take() else { return };
        translated.memory.remember(&translated.owner, recorder.finish(), self.clock.now());
    }
}

impl Heard {
    fn note(&mut self, upstream: Format, event: &Event<'_>) {
        let kind = match event {
            Event::Start { id, .. } => {
                self.begin(id.as_ref());
                Kind::Preamble
            }
            Event::BlockStart { index, kind } => {
                self.open.push(*index);
                self.unsigned = matches!(kind, StreamBlock::Thinking).then_some(*index);
                self.block(kind)
            }
            Event::BlockDelta { delta, .. } => self.delta(delta),
            Event::Usage(usage) => {
                self.stated.usage = Some(*usage);
                Kind::Usage
            }
            Event::Stop(stop) => {
                self.stop(upstream, stop.reason);
                if self.has_output { Kind::Output } else { Kind::Preamble }
            }
            Event::End => {
                self.ended = true;
                Kind::Silent
            }
            Event::Error(error) => {
                self.error = Some(error.clone());
                Kind::Silent
            }
            Event::BlockStop { index } => {
                self.open.retain(|open| open != index);
                Kind::Preamble
            }
            Event::Extension { .. } => Kind::Preamble,
            Event::Ping => Kind::Silent,
        };
        self.frame = self.frame.max(kind);
    }

    fn block(&mut self, kind: &StreamBlock<'_>) -> Kind {
        match kind {
            StreamBlock::Text | StreamBlock::Refusal | StreamBlock::Thinking => return Kind::Preamble,
            StreamBlock::ToolUse { name, .. } => self.said(name),
            StreamBlock::RedactedThinking { .. } | StreamBlock::Other { .. } => {}
        }
        self.has_output = true;
        Kind::Output
    }

    fn delta(&mut self, delta: &Delta<'_>) -> Kind {
        match delta {
            Delta::Text(text) | Delta::Json(text) => self.said(text),
            Delta::Thinking(text) => self.thought(text),
            Delta::Signature(_) => self.unsigned = None,
            Delta::Citation(_) | Delta::Page { .. } | Delta::Other { .. } => {}
        }
        if self.has_output { Kind::Output } else { Kind::Preamble }
    }

    pub(super) fn begin(&mut self, id: Option<&Text<'_>>) {
        /// A longer id is cut, in bytes.
        const LONGEST: usize = 128;
        let id = id.map(Text::decode).filter(|id| !id.is_empty());
        self.stated.id = id.map(|id| id[..id.floor_char_boundary(LONGEST)].into());
    }

    pub(super) fn said(&mut self, text: &Text<'_>) {
        self.has_output |= !text.is_empty();
        self.said.hear(text.spelling());
    }

    pub(super) fn thought(&mut self, text: &Text<'_>) {
        self.has_output |= !text.is_empty();
        self.said.overhear(text.spelling());
    }

    pub(super) fn stop(&mut self, upstream: Format, reason: StopReason) {
        self.finish_reason = Some(reason_word(upstream, reason));
        // An answer cut off at its first token, or withheld, is still the answer.
        self.has_output |= !matches!(reason, StopReason::EndTurn | StopReason::StopSequence | StopReason::Other);
    }

    /// Anthropic counts the output at the beginning and at the end. What broke off between them has said more than the
    /// first count has.
    fn take_stated(&mut self) -> Stated {
        let mut stated = std::mem::take(&mut self.stated);
        let broke_off = self.finish_reason.is_none() || self.is_cut;
        if let Some(usage) = stated.usage.as_mut().filter(|_| broke_off) {
            let rough = |bytes: u64| bytes.div_ceil(4);
            usage.output = usage.output.max(rough(self.said.text.bytes()));
            usage.reasoning = usage.reasoning.max(rough(self.said.reasoning.bytes()));
        }
        stated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{openai_chat::Shape, sse::FrameReader};

    macro_rules! recorded {
        ($($format:ident $name:literal),* $(,)?) => {
            &[$((Format::$format, $name, include_str!(concat!("../../wire/translate/fixtures/stream_", $name, ".sse")))),*]
        };
    }

    const RECORDED: &[(Format, &str, &str)] = recorded![
        Anthropic "anthropic_tools",
        Anthropic "anthropic_search",
        Anthropic "anthropic_refusal",
        Anthropic "anthropic_error",
        Anthropic "anthropic_json",
        OpenAiChat "openai_text",
        OpenAiChat "openai_parallel",
        OpenAiChat "openai_index_zero",
        OpenAiChat "openai_reasoning",
        OpenAiChat "openai_refusal",
        OpenAiChat "openai_citation",
        OpenAiChat "openai_length",
        OpenAiChat "openai_error",
    ];

    fn passing(format: Format) -> Watch {
        let flow = Flow::Pass(anthropic::Decoder::new(&Undo::default()));
        let (heard, clock) = (Heard::default(), Clock::held());
        match format {
            Format::OpenAiChat => Watch::Plain(StreamObserver::new(Shape::Chat, 1)),
            Format::Anthropic => {
                Watch::Events(Box::new(Events { flow, upstream: format, heard, failed: false, clock }))
            }
        }
    }

    /// How a stream in the pass lane stands when the connection ends after these bytes; `None` for an error that the
    /// provider itself has told.
    fn stands(format: Format, bytes: &[u8]) -> Option<Closed> {
        let (mut watch, mut reader) = (passing(format), FrameReader::new(1 << 20));
        reader.push(Bytes::copy_from_slice(bytes));
        let mut seen = Vec::new();
        while let Some(frame) = reader.next().unwrap() {
            seen.push(watch.see(&frame));
        }
        seen.extend(reader.take_rest().map(|frame| watch.see(&frame)));
        let failed = seen.iter().any(|seen| matches!(seen, Seen::Error(_) | Seen::Malformed(_)));
        (!failed)
            .then(|| if seen.iter().any(|seen| matches!(seen, Seen::Done)) { Closed::Complete } else { watch.close() })
    }

    #[test]
    fn a_recorded_stream_that_passes_and_is_cut_anywhere_is_never_complete() {
        for (format, name, text) in RECORDED {
            // What makes it complete: the last event, or every answer's reason to stop.
            let complete = match format {
                Format::Anthropic => text.find("\"message_stop\"}").map(|at| at + "\"message_stop\"}".len()),
                Format::OpenAiChat => text.find("\"finish_reason\":\"").map(|at| at + text[at..].find('\n').unwrap()),
            };
            let complete = complete.filter(|_| !name.ends_with("error")).unwrap_or(usize::MAX);
            for cut in 0..text.len().min(complete) {
                let stands = stands(*format, &text.as_bytes()[..cut]);
                assert!(matches!(stands, None | Some(Closed::Cut)), "{name} cut at {cut}: {stands:?}");
            }
            let whole = stands(*format, text.as_bytes());
            let expected = (!name.ends_with("error")).then_some(Closed::Complete);
            assert_eq!(whole, expected, "{name}");
        }
    }
}
