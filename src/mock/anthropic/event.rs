//! The events of a stream: `RawMessageStreamEvent` of the API.

use serde::Serialize;

use super::{
    message::{Block, End, Written},
    saying::Usage,
};

/// An event of a stream.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    MessageStart {
        message: Written<'a>,
    },
    Ping,
    ContentBlockStart {
        index: u64,
        content_block: Block<'a>,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta<'a>,
    },
    ContentBlockStop {
        index: u64,
    },
    MessageDelta {
        delta: End<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        usage: Option<Usage>,
    },
    MessageStop,
}

/// What is added to a block.
#[derive(Serialize)]
#[serde(tag = "type")]
pub(super) enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

impl Event<'_> {
    /// The event as a frame of the stream.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(256);
        frame.extend_from_slice(b"event: ");
        frame.extend_from_slice(self.name().as_bytes());
        frame.extend_from_slice(b"\ndata: ");
        // Structs of strings and numbers always have a JSON form, and memory does not fail to be written.
        let _ = serde_json::to_writer(&mut frame, self);
        frame.extend_from_slice(b"\n\n");
        frame
    }

    fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::Ping => "ping",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }
}
