//! Writing a stream of chat completion chunks.

use super::{
    reply::{final_reason, reason_word, tier_word, write_id, write_model, write_usage},
    reply_message::{Annotation, page_of, write_annotation},
};
use crate::{
    types::Usage,
    wire::{
        conversation::{
            Delta, Event, Losses, ReplyOptions, StopReason, StreamBlock, Text, Tier, write_list, write_number,
            write_word,
        },
        openai_chat::render_translated,
    },
};

/// Turns events into the frames of one streamed reply.
#[derive(Debug)]
pub struct Encoder {
    request_id: String,
    model: Option<String>,
    created: u64,
    stream_usage: bool,
    /// What every chunk begins with, up to its delta; empty before the first.
    head: Vec<u8>,
    /// The blocks that are open.
    open: Vec<Open>,
    calls: u64,
    /// How many characters of content were written: annotations count them.
    characters: usize,
    usage: Option<Usage>,
    tier: Option<Tier>,
    reason: Option<StopReason>,
    finished: bool,
    ended: bool,
    losses: Losses,
}

#[derive(Debug)]
struct Open {
    index: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text {
        start: usize,
        /// The pages cited, written when the block's end is known.
        pages: Vec<(Text<'static>, Text<'static>)>,
    },
    Refusal,
    Thinking,
    Call {
        number: u64,
        /// Whether there were any arguments.
        any: bool,
    },
    /// It has no counterpart.
    Silent,
}

/// A text with more citations than this has the rest of them left out.
const MAX_PAGES: usize = 1024;

impl Encoder {
    pub fn new(options: &ReplyOptions<'_>) -> Self {
        Self {
            request_id: options.request_id.to_owned(),
            model: options.model.map(str::to_owned),
            created: options.created,
            stream_usage: options.stream_usage,
            head: Vec::new(),
            open: Vec::new(),
            calls: 0,
            characters: 0,
            usage: None,
            tier: None,
            reason: None,
            finished: false,
            ended: false,
            losses: Losses::default(),
        }
    }

    /// Appends the frames of an event to `out`. After the last event nothing is written.
    pub fn write(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { id, model, tier } => {
                self.tier = tier;
                self.start(id.as_ref(), model.as_ref(), out);
            }
            Event::BlockStart { index, kind } => self.begin_block(index, &kind, out),
            Event::BlockDelta { index, delta } => self.delta(index, &delta, out),
            Event::BlockStop { index } => self.end_block(index, out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => {
                if stop.reason == StopReason::Pause {
                    self.losses.note("stop_reason", "the client's format knows no paused turns");
                }
                self.reason = Some(stop.reason);
                self.write_finish(out);
            }
            Event::End => self.end(out),
            Event::Error(error) => {
                self.ended = true;
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&render_translated(&error));
                out.extend_from_slice(b"\n\n");
            }
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::Extension { name } => self.losses.note(name, "the client's format has no such thing"),
        }
    }

    /// What could not be said so far.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Whether the last frame was written.
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, out: &mut Vec<u8>) {
        if !self.head.is_empty() {
            return;
        }
        let head = &mut self.head;
        head.extend_from_slice(b"data: {\"id\":");
        write_id(head, id, &self.request_id);
        head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        write_number(head, self.created);
        head.extend_from_slice(b",\"model\":");
        write_model(head, model, self.model.as_deref());
        if let Some(tier) = self.tier {
            head.extend_from_slice(b",\"service_tier\":");
            write_word(head, tier_word(tier));
        }
        head.extend_from_slice(b",\"choices\":[");
        self.chunk(out, |out| out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\""));
    }

    /// One chunk with this delta.
    fn chunk(&self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":{");
        write(out);
        out.extend_from_slice(b"},\"finish_reason\":null}]}\n\n");
    }

    fn begin_block(&mut self, index: usize, kind: &StreamBlock<'_>, out: &mut Vec<u8>) {
        self.start(None, None, out);
        let kind = match kind {
            StreamBlock::Text => Kind::Text { start: self.characters, pages: Vec::new() },
            StreamBlock::Refusal => Kind::Refusal,
            StreamBlock::Thinking => Kind::Thinking,
            StreamBlock::ToolUse { id, name } => {
                let number = self.calls;
                self.calls += 1;
                self.chunk(out, |out| {
                    out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                    write_number(out, number);
                    out.extend_from_slice(b",\"id\":");
                    id.write(out);
                    out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
                    name.write(out);
                    out.extend_from_slice(b",\"arguments\":\"\"}}]");
                });
                Kind::Call { number, any: false }
            }
            // Nothing a client could use; the gateway's memory keeps it.
            StreamBlock::RedactedThinking { .. } => Kind::Silent,
            StreamBlock::Other { kind, .. } => {
                self.losses.note(kind.decode(), "a kind of content that the client's format lacks");
                Kind::Silent
            }
        };
        self.open.push(Open { index, kind });
    }

    fn delta(&mut self, index: usize, delta: &Delta<'_>, out: &mut Vec<u8>) {
        let Some(place) = self.open.iter().position(|open| open.index == index) else { return };
        match (&mut self.open[place].kind, delta) {
            (Kind::Text { .. }, Delta::Text(text)) => {
                self.characters += text.decode().chars().count();
                self.member(out, "content", text);
            }
            (Kind::Text { pages, .. }, Delta::Citation(citation)) => match page_of(citation.value()) {
                Some((url, title)) if pages.len() < MAX_PAGES => pages.push((url.into_owned(), title.into_owned())),
                Some(_) => {}
                None => self.losses.note("citations", "a citation of something else than a web page"),
            },
            (Kind::Text { pages, .. }, Delta::Page { url, title }) if pages.len() < MAX_PAGES => {
                pages.push((url.clone().into_owned(), title.clone().into_owned()));
            }
            (Kind::Refusal, Delta::Text(text)) => self.member(out, "refusal", text),
            (Kind::Thinking, Delta::Thinking(text)) if !text.is_empty() => self.member(out, "reasoning_content", text),
            (Kind::Call { number, any }, Delta::Json(text)) if !text.is_empty() => {
                *any = true;
                let number = *number;
                self.arguments(out, number, text);
            }
            _ => {}
        }
    }

    fn member(&self, out: &mut Vec<u8>, name: &str, text: &Text<'_>) {
        self.chunk(out, |out| {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            text.write(out);
        });
    }

    fn arguments(&self, out: &mut Vec<u8>, number: u64, text: &Text<'_>) {
        self.chunk(out, |out| {
            out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
            write_number(out, number);
            out.extend_from_slice(b",\"function\":{\"arguments\":");
            text.write(out);
            out.extend_from_slice(b"}}]");
        });
    }

    fn end_block(&mut self, index: usize, out: &mut Vec<u8>) {
        let Some(place) = self.open.iter().position(|open| open.index == index) else { return };
        match self.open.remove(place).kind {
            // No arguments are an empty object: clients parse them.
            Kind::Call { number, any: false } => self.arguments(out, number, &Text::literal("{}")),
            Kind::Text { start, pages } if !pages.is_empty() => {
                let end = self.characters;
                self.chunk(out, |out| {
                    out.extend_from_slice(b"\"annotations\":");
                    let annotations = pages.into_iter().map(|(url, title)| Annotation { url, title, start, end });
                    write_list(out, annotations, |annotation, out| write_annotation(out, &annotation));
                });
            }
            _ => {}
        }
    }

    fn write_finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.start(None, None, out);
        while let Some(index) = self.open.first().map(|open| open.index) {
            self.end_block(index, out);
        }
        let reason = final_reason(self.reason.unwrap_or_default(), self.calls > 0);
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":{},\"finish_reason\":\"");
        out.extend_from_slice(reason_word(reason).as_bytes());
        out.extend_from_slice(b"\"}]}\n\n");
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.write_finish(out);
        if let Some(usage) = self.usage.filter(|_| self.stream_usage) {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            write_usage(out, &usage);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        self.ended = true;
    }
}
