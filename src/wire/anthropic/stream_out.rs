//! Writing a stream for a client of Anthropic's format. The format knows one open block at a time: blocks that begin
//! while another is open are held back until that one has ended, and so is whatever comes for them.

use std::collections::VecDeque;

use super::{
    block::write_page,
    error::write_error,
    reply::{estimate, reason_word, write_id, write_model},
    usage::write_usage,
};
use crate::{
    types::Usage,
    wire::{
        anthropic::stream_in::broken,
        conversation::{
            Delta, Event, Losses, ReplyOptions, StopReason, StreamBlock, Text, Tier, UNSIGNED, write_number, write_word,
        },
    },
};

/// Turns events into the frames of one streamed reply.
#[derive(Debug)]
pub struct Encoder {
    request_id: String,
    model: Option<String>,
    max_held: usize,
    phase: Phase,
    open: Option<Open>,
    /// Blocks that wait for their turn, in the order they began.
    waiting: VecDeque<Waiting>,
    /// How many bytes the waiting blocks hold.
    held: usize,
    /// How many blocks were written.
    blocks: u64,
    called: bool,
    refused: bool,
    usage: Usage,
    /// Whether the provider has stated it; else it is an estimate.
    stated: bool,
    /// How many bytes were said.
    said: u64,
    tier: Option<Tier>,
    reason: StopReason,
    sequence: Option<Text<'static>>,
    losses: Losses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Within,
    Ended,
}

/// The block being written.
#[derive(Debug)]
struct Open {
    index: usize,
    /// Thinking that has no signature yet.
    unsigned: bool,
}

#[derive(Debug)]
struct Waiting {
    index: usize,
    kind: StreamBlock<'static>,
    deltas: Vec<Delta<'static>>,
    stopped: bool,
}

impl Encoder {
    pub fn new(options: &ReplyOptions<'_>) -> Self {
        Self {
            request_id: options.request_id.to_owned(),
            model: options.model.map(str::to_owned),
            max_held: options.max_held,
            phase: Phase::Before,
            open: None,
            waiting: VecDeque::new(),
            held: 0,
            blocks: 0,
            called: false,
            refused: false,
            usage: estimate(options),
            stated: false,
            said: 0,
            tier: None,
            reason: StopReason::EndTurn,
            sequence: None,
            losses: Losses::default(),
        }
    }

    /// Appends the frames of an event to `out`. After the last event nothing is written.
    pub fn write(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.phase == Phase::Ended {
            return;
        }
        match event {
            Event::Start { id, model, tier } => {
                self.tier = tier;
                self.start(id.as_ref(), model.as_ref(), out);
            }
            Event::BlockStart { index, kind } => self.begin_block(index, kind, out),
            Event::BlockDelta { index, delta } => self.delta(index, delta, out),
            Event::BlockStop { index } => self.end_block(index, out),
            Event::Usage(usage) => {
                self.usage = usage;
                self.stated = true;
            }
            Event::Stop(stop) => {
                self.reason = stop.reason;
                self.sequence = stop.sequence.map(Text::into_owned);
            }
            Event::End => self.end(out),
            Event::Error(error) => {
                self.phase = Phase::Ended;
                out.extend_from_slice(b"event: error\ndata: ");
                write_error(out, &error, None);
                out.extend_from_slice(b"\n\n");
            }
            // A comment: events begin with `message_start`.
            Event::Ping if self.phase == Phase::Before => out.extend_from_slice(b": ping\n\n"),
            Event::Ping => out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n"),
            Event::Extension { name } => self.losses.note(name, "the client's format has no such thing"),
        }
    }

    /// What could not be said so far.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Whether the last frame was written.
    pub fn ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, out: &mut Vec<u8>) {
        if self.phase != Phase::Before {
            return;
        }
        self.phase = Phase::Within;
        let options =
            ReplyOptions { request_id: &self.request_id, model: self.model.as_deref(), ..ReplyOptions::default() };
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
        write_id(out, id, &options);
        out.extend_from_slice(b",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        write_model(out, model, &options);
        out.extend_from_slice(b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
        write_usage(out, &self.usage, self.tier);
        out.extend_from_slice(b"}}\n\n");
    }

    fn begin_block(&mut self, index: usize, kind: StreamBlock<'_>, out: &mut Vec<u8>) {
        self.start(None, None, out);
        if self.open.is_none() {
            return self.open_block(index, &kind, out);
        }
        let kind = owned_block(kind);
        self.waiting.push_back(Waiting { index, kind, deltas: Vec::new(), stopped: false });
        // What a block costs before it says anything.
        self.hold(256, out);
    }

    fn open_block(&mut self, index: usize, kind: &StreamBlock<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":");
        write_number(out, self.blocks);
        out.extend_from_slice(b",\"content_block\":");
        match kind {
            StreamBlock::Text | StreamBlock::Refusal => out.extend_from_slice(b"{\"type\":\"text\",\"text\":\"\"}"),
            StreamBlock::Thinking => {
                out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}");
            }
            StreamBlock::RedactedThinking { data } => {
                out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
                data.write(out);
                out.push(b'}');
            }
            StreamBlock::ToolUse { id, name } => {
                out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":");
                id.write(out);
                out.extend_from_slice(b",\"name\":");
                name.write(out);
                out.extend_from_slice(b",\"input\":{}}");
            }
            StreamBlock::Other { native, .. } => native.write(out),
        }
        out.extend_from_slice(b"}\n\n");
        self.blocks += 1;
        self.called |= matches!(kind, StreamBlock::ToolUse { .. });
        self.refused |= matches!(kind, StreamBlock::Refusal);
        self.open = Some(Open { index, unsigned: matches!(kind, StreamBlock::Thinking) });
    }

    fn delta(&mut self, index: usize, delta: Delta<'_>, out: &mut Vec<u8>) {
        self.said += delta_len(&delta) as u64;
        if let Some(open) = self.open.as_mut().filter(|open| open.index == index) {
            open.unsigned &= !matches!(delta, Delta::Signature(_));
            return self.write_delta(&delta, out);
        }
        let Some(block) = self.waiting.iter_mut().find(|block| block.index == index) else { return };
        let size = delta_len(&delta);
        match (block.deltas.last_mut(), delta) {
            (Some(Delta::Json(held)), Delta::Json(more)) | (Some(Delta::Text(held)), Delta::Text(more)) => {
                held.push(&more);
            }
            (_, delta) => block.deltas.push(owned_delta(delta)),
        }
        self.hold(size, out);
    }

    fn write_delta(&self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":");
        write_number(out, self.blocks.saturating_sub(1));
        out.extend_from_slice(b",\"delta\":");
        let (head, text) = match delta {
            Delta::Text(text) => (&b"{\"type\":\"text_delta\",\"text\":"[..], text),
            Delta::Thinking(text) => (&b"{\"type\":\"thinking_delta\",\"thinking\":"[..], text),
            Delta::Signature(text) => (&b"{\"type\":\"signature_delta\",\"signature\":"[..], text),
            Delta::Json(text) => (&b"{\"type\":\"input_json_delta\",\"partial_json\":"[..], text),
            Delta::Citation(citation) => {
                out.extend_from_slice(b"{\"type\":\"citations_delta\",\"citation\":");
                citation.write(out);
                return out.extend_from_slice(b"}}\n\n");
            }
            Delta::Page { url, title } => {
                out.extend_from_slice(b"{\"type\":\"citations_delta\",\"citation\":");
                write_page(out, url, title);
                return out.extend_from_slice(b"}}\n\n");
            }
            Delta::Other { native } => {
                native.write(out);
                return out.extend_from_slice(b"}\n\n");
            }
        };
        out.extend_from_slice(head);
        text.write(out);
        out.extend_from_slice(b"}}\n\n");
    }

    fn end_block(&mut self, index: usize, out: &mut Vec<u8>) {
        if self.open.as_ref().is_some_and(|open| open.index == index) {
            self.close(out);
            self.promote(out);
        } else if let Some(block) = self.waiting.iter_mut().find(|block| block.index == index) {
            block.stopped = true;
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        if open.unsigned {
            self.write_delta(&Delta::Signature(Text::literal(UNSIGNED)), out);
        }
        out.extend_from_slice(b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":");
        write_number(out, self.blocks.saturating_sub(1));
        out.extend_from_slice(b"}\n\n");
    }

    /// Writes waiting blocks, up to one that has not ended yet.
    fn promote(&mut self, out: &mut Vec<u8>) {
        while let Some(block) = self.waiting.pop_front() {
            self.open_block(block.index, &block.kind, out);
            for delta in block.deltas {
                self.delta(block.index, delta, out);
            }
            if !block.stopped {
                return;
            }
            self.close(out);
        }
        self.held = 0;
    }

    fn hold(&mut self, bytes: usize, out: &mut Vec<u8>) {
        self.held += bytes;
        if self.held > self.max_held {
            self.write(Event::Error(broken("The provider's blocks overlap by more than can be held.")), out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.start(None, None, out);
        while self.open.is_some() {
            self.close(out);
            self.promote(out);
        }
        if !self.stated {
            self.usage.output = self.said.div_ceil(4);
        }
        let reason = if self.refused { StopReason::Refusal } else { self.reason.with_calls(self.called) };
        out.extend_from_slice(b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":");
        write_word(out, reason_word(reason));
        out.extend_from_slice(b",\"stop_sequence\":");
        match &self.sequence {
            Some(sequence) => sequence.write(out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"},\"usage\":");
        write_usage(out, &self.usage, self.tier);
        out.extend_from_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        self.phase = Phase::Ended;
    }
}

fn owned_block(kind: StreamBlock<'_>) -> StreamBlock<'static> {
    match kind {
        StreamBlock::Text => StreamBlock::Text,
        StreamBlock::Refusal => StreamBlock::Refusal,
        StreamBlock::Thinking => StreamBlock::Thinking,
        StreamBlock::RedactedThinking { data } => StreamBlock::RedactedThinking { data: data.into_owned() },
        StreamBlock::ToolUse { id, name } => StreamBlock::ToolUse { id: id.into_owned(), name: name.into_owned() },
        StreamBlock::Other { kind, native } => {
            StreamBlock::Other { kind: kind.into_owned(), native: native.into_owned() }
        }
    }
}

fn owned_delta(delta: Delta<'_>) -> Delta<'static> {
    match delta {
        Delta::Text(text) => Delta::Text(text.into_owned()),
        Delta::Thinking(text) => Delta::Thinking(text.into_owned()),
        Delta::Signature(text) => Delta::Signature(text.into_owned()),
        Delta::Json(text) => Delta::Json(text.into_owned()),
        Delta::Citation(raw) => Delta::Citation(raw.into_owned()),
        Delta::Page { url, title } => Delta::Page { url: url.into_owned(), title: title.into_owned() },
        Delta::Other { native } => Delta::Other { native: native.into_owned() },
    }
}

fn delta_len(delta: &Delta<'_>) -> usize {
    match delta {
        Delta::Text(text) | Delta::Thinking(text) | Delta::Signature(text) | Delta::Json(text) => text.len(),
        Delta::Citation(raw) | Delta::Other { native: raw } => raw.bytes().len() + 64,
        Delta::Page { url, title } => url.len() + title.len() + 64,
    }
}

/// The end of a stream that is broken off here: what a model says that has reached its output limit. `open` are the blocks
/// that have not ended; `unsigned` is one of them, thinking whose signature has not come and never will.
pub fn cut_short(open: &[usize], unsigned: Option<usize>, output_tokens: u64) -> bytes::Bytes {
    let mut text = String::new();
    for index in open {
        if unsigned == Some(*index) {
            text.push_str(&format!(
                "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\
                 \"delta\":{{\"type\":\"signature_delta\",\"signature\":\"{UNSIGNED}\"}}}}\n\n"
            ));
        }
        text.push_str(&format!(
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{index}}}\n\n"
        ));
    }
    text.push_str(&format!(
        "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"max_tokens\",\
         \"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{output_tokens}}}}}\n\n\
         event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
    ));
    text.into()
}
