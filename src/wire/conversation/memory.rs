//! Reasoning that a client does not send back. Providers refuse, or think worse in, a loop of tool calls whose
//! earlier thinking is missing, and clients of OpenAI's format have no place for signed thinking. So the thinking of a
//! reply is remembered under the ids of the calls it led to, and put back into the next request that has these calls.
//!
//! Pure functions over values that can be stored anywhere; how long, for whom and how much is the caller's to decide.

use super::{
    block::{Block, BlockKind, Issuer, UNSIGNED},
    event::{Delta, Event, StreamBlock},
    fields::{Path, write_list},
    request::{Request, Role, Turn},
    text::Text,
};
use crate::wire::{anthropic, json::Value};

/// Thinking that came right before a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memo {
    /// The call's id.
    pub call_id: String,
    /// Whether nothing but thinking came before it: such thinking opens its turn.
    pub first: bool,
    /// The thinking blocks as a JSON list in Anthropic's form, byte for byte what the provider said.
    pub blocks: Vec<u8>,
}

/// Gathers the thinking of one reply and the calls it led to, from events or from a whole turn.
#[derive(Debug)]
pub struct Recorder {
    /// Thinking that no call has followed yet.
    pending: Vec<Block<'static>>,
    /// Where the block that is open is in `pending`.
    open: Option<(usize, usize)>,
    memos: Vec<Memo>,
    /// How many bytes may be kept.
    room: usize,
    overflowed: bool,
}

impl Recorder {
    /// `max_bytes`: a reply that has more thinking than this is not remembered.
    pub fn new(max_bytes: usize) -> Self {
        Self { pending: Vec::new(), open: None, memos: Vec::new(), room: max_bytes, overflowed: false }
    }

    /// Looks at the next event of a reply.
    pub fn observe(&mut self, event: &Event<'_>) {
        if self.overflowed {
            return;
        }
        match event {
            Event::BlockStart { index, kind: StreamBlock::Thinking } => {
                let kind = BlockKind::Thinking { text: Text::default(), signature: None, issuer: Issuer::Unsigned };
                self.open = Some((*index, self.pending.len()));
                self.pending.push(Block::new(kind));
            }
            Event::BlockStart { kind: StreamBlock::RedactedThinking { data }, .. } => {
                self.spend(data.len());
                let kind = BlockKind::RedactedThinking { data: data.clone().into_owned(), issuer: Issuer::Anthropic };
                self.pending.push(Block::new(kind));
            }
            Event::BlockStart { kind: StreamBlock::ToolUse { id, .. }, .. } => self.call(id),
            Event::BlockDelta { index, delta } => self.delta(*index, delta),
            _ => {}
        }
    }

    /// Looks at the turn of a whole reply.
    pub fn observe_turn(&mut self, turn: &Turn<'_>) {
        for block in &turn.content.blocks {
            match &block.kind {
                BlockKind::Thinking { text, signature, .. } => {
                    self.spend(text.len() + signature.as_ref().map_or(0, Text::len));
                    self.pending.push(own(block));
                }
                BlockKind::RedactedThinking { data, .. } => {
                    self.spend(data.len());
                    self.pending.push(own(block));
                }
                BlockKind::ToolUse(call) => self.call(&call.id),
                _ => {}
            }
        }
    }

    /// What is to be remembered; nothing for a reply without calls or without thinking.
    pub fn finish(self) -> Vec<Memo> {
        if self.overflowed { Vec::new() } else { self.memos }
    }

    fn delta(&mut self, index: usize, delta: &Delta<'_>) {
        let Some((_, place)) = self.open.filter(|(open, _)| *open == index) else { return };
        let Some(Block { kind: BlockKind::Thinking { text, signature, .. }, .. }) = self.pending.get_mut(place) else {
            return;
        };
        let bytes = match delta {
            Delta::Thinking(more) => {
                text.push(more);
                more.len()
            }
            Delta::Signature(more) => {
                signature.get_or_insert_default().push(more);
                more.len()
            }
            _ => 0,
        };
        self.spend(bytes);
    }

    fn call(&mut self, id: &Text<'_>) {
        self.open = None;
        if self.pending.is_empty() {
            return;
        }
        let mut blocks = Vec::new();
        write_list(&mut blocks, self.pending.drain(..), |block, out| {
            anthropic::write_block(out, &block, anthropic::For::Client, None);
        });
        self.spend(id.len());
        self.memos.push(Memo { call_id: id.decode().into_owned(), first: self.memos.is_empty(), blocks });
    }

    fn spend(&mut self, bytes: usize) {
        match self.room.checked_sub(bytes) {
            Some(room) => self.room = room,
            None => {
                self.overflowed = true;
                self.pending.clear();
                self.open = None;
            }
        }
    }
}

/// The ids of the calls in turns that have no thinking: what a memory is to be asked for.
pub fn missing(request: &Request<'_>) -> Vec<String> {
    let turns = request.turns.iter().filter(|turn| lacks_thinking(turn));
    let calls = turns.flat_map(|turn| &turn.content.blocks).filter_map(|block| match &block.kind {
        BlockKind::ToolUse(call) => Some(call.id.decode().into_owned()),
        _ => None,
    });
    calls.collect()
}

/// Puts remembered thinking back where it came from: the first at the beginning of its turn, the rest right before
/// their calls. Turns that have thinking of their own stay as they are.
pub fn restore<'a>(request: &mut Request<'a>, memos: &'a [Memo]) {
    for turn in request.turns.iter_mut().filter(|turn| lacks_thinking(turn)) {
        for memo in memos {
            let blocks = &turn.content.blocks;
            let Some(at) = blocks.iter().position(|block| match &block.kind {
                BlockKind::ToolUse(call) => call.id == *memo.call_id.as_str(),
                _ => false,
            }) else {
                continue;
            };
            let at = if memo.first { 0 } else { at };
            turn.content.blocks.splice(at..at, blocks_of(memo));
            turn.content.plain = false;
        }
    }
}

/// Whether a request holds thinking, its client's own or put back.
pub fn holds_thinking(request: &Request<'_>) -> bool {
    request.turns.iter().any(|turn| turn.content.blocks.iter().any(Block::is_thinking))
}

fn lacks_thinking(turn: &Turn<'_>) -> bool {
    turn.role == Role::Assistant
        && !turn.content.blocks.iter().any(Block::is_thinking)
        && turn.content.blocks.iter().any(Block::is_tool_use)
}

/// The blocks of a memo; none if it is not what was stored.
fn blocks_of(memo: &Memo) -> Vec<Block<'_>> {
    let Ok(list) = Value::parse(&memo.blocks) else { return Vec::new() };
    let blocks = list.items().filter_map(|block| anthropic::read_block(block, &Path::ROOT).ok());
    blocks.filter(Block::is_thinking).collect()
}

fn own(block: &Block<'_>) -> Block<'static> {
    let kind = match &block.kind {
        BlockKind::Thinking { text, signature, issuer } => BlockKind::Thinking {
            text: text.clone().into_owned(),
            signature: signature.clone().map(Text::into_owned).filter(|signature| *signature != UNSIGNED),
            issuer: *issuer,
        },
        BlockKind::RedactedThinking { data, issuer } => {
            BlockKind::RedactedThinking { data: data.clone().into_owned(), issuer: *issuer }
        }
        _ => BlockKind::Text { text: Text::default(), citations: None },
    };
    Block::new(kind)
}
