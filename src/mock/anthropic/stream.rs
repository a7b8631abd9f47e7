//! `POST /v1/messages` as a stream. Blocks come one after the other; parallel calls are blocks in a row.
//!
//! Content chunks are the deltas that carry text, thinking or arguments, and the starts of calls, which carry names.
//! The other events frame them: faults that count chunks strike before these too, but they are neither counted nor
//! delayed.

use super::{
    event::{Delta, Event},
    message::{Block, Input, Message},
};
use crate::mock::{
    player::{Player, Stop},
    saying::Call,
    text::Text,
};

/// A message as a stream.
pub(in crate::mock) struct Stream(pub(super) Message);

impl Stream {
    /// Plays it.
    pub(in crate::mock) async fn play(&self, player: &mut Player) -> Result<(), Stop> {
        let message = &self.0;
        player.preamble(&Event::MessageStart { message: message.begun() }.frame()).await?;
        for _ in 0..message.script.preamble {
            player.preamble(&Event::Ping.frame()).await?;
        }
        let mut out = Out { player, index: 0, is_garbled: message.script.invalid_json };
        if let Some(data) = message.redacted() {
            out.open(Block::RedactedThinking { data }).await?;
            out.close().await?;
        }
        if let Some(thinking) = &message.saying.reasoning {
            out.thinking(thinking, &message.signature).await?;
        }
        let mut filler = message.script.frame_bytes.map(|bytes| "x".repeat(bytes as usize));
        for text in message.texts() {
            out.text(filler.take().as_deref(), Some(text)).await?;
        }
        if filler.is_some() {
            out.text(filler.as_deref(), None).await?;
        }
        for call in &message.saying.tool_calls {
            out.call(call).await?;
        }
        let usage = message.usage.at_end(message.script.usage_mode);
        out.player.tail(&Event::MessageDelta { delta: message.end(), usage }.frame()).await?;
        if !message.script.omit_done {
            out.player.tail(&Event::MessageStop.frame()).await?;
        }
        if message.script.trailing_garbage {
            out.player.tail(b"event: content_block_delta\ndata: {\"garbage\":\n\n").await?;
        }
        Ok(())
    }
}

/// Writes the blocks of one stream.
struct Out<'a> {
    player: &'a mut Player,
    /// The number of the block that is open or comes next.
    index: u64,
    /// The next content chunk breaks off.
    is_garbled: bool,
}

impl Out<'_> {
    async fn thinking(&mut self, thinking: &Text, signature: &str) -> Result<(), Stop> {
        self.open(Block::Thinking { thinking: "".into(), signature: "" }).await?;
        for piece in thinking.pieces() {
            self.delta(Delta::Thinking { thinking: piece }).await?;
        }
        let delta = Delta::Signature { signature };
        self.player.tail(&Event::ContentBlockDelta { index: self.index, delta }.frame()).await?;
        self.close().await
    }

    async fn text(&mut self, filler: Option<&str>, text: Option<&Text>) -> Result<(), Stop> {
        self.open(Block::Text { text: "".into() }).await?;
        for text in filler.into_iter().chain(text.into_iter().flat_map(Text::pieces)) {
            self.delta(Delta::Text { text }).await?;
        }
        self.close().await
    }

    async fn call(&mut self, call: &Call) -> Result<(), Stop> {
        let block = Block::ToolUse { id: &call.id, name: &call.name, input: Input::Empty {} };
        self.content(&Event::ContentBlockStart { index: self.index, content_block: block }).await?;
        // The API opens the arguments with an empty piece.
        let delta = Delta::InputJson { partial_json: "" };
        self.player.tail(&Event::ContentBlockDelta { index: self.index, delta }.frame()).await?;
        for piece in call.arguments().pieces() {
            self.delta(Delta::InputJson { partial_json: piece }).await?;
        }
        self.close().await
    }

    /// Begins a block; behind the first one, the API pings.
    async fn open(&mut self, block: Block<'_>) -> Result<(), Stop> {
        self.player.tail(&Event::ContentBlockStart { index: self.index, content_block: block }.frame()).await?;
        if self.index == 0 { self.player.tail(&Event::Ping.frame()).await } else { Ok(()) }
    }

    async fn delta(&mut self, delta: Delta<'_>) -> Result<(), Stop> {
        self.content(&Event::ContentBlockDelta { index: self.index, delta }).await
    }

    async fn content(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        let mut frame = event.frame();
        if std::mem::take(&mut self.is_garbled) {
            frame.truncate(frame.len() / 2);
            frame.extend_from_slice(b"\n\n");
        }
        self.player.content(&frame).await
    }

    async fn close(&mut self) -> Result<(), Stop> {
        self.player.tail(&Event::ContentBlockStop { index: self.index }.frame()).await?;
        self.index += 1;
        Ok(())
    }
}
