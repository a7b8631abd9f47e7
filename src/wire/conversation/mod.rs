//! The neutral form of a conversation, between any two wire formats. A request is instructions, turns of ordered
//! blocks, tools and parameters; a reply is a turn and why it ended; a streamed reply is events.
//!
//! Each format has a decoder into this form and an encoder out of it. Two rules hold for all of them:
//!
//! - *Lossless within a format.* Reading and writing the same format gives the same document, member for member in
//!   the same order, numbers and texts in their own spelling. What has no home here stays in a `Rest`, or is kept as
//!   it came (`native`).
//! - *Declared across formats.* What the target cannot say is named in [`Losses`].
//!
//! Everything borrows from the document that was read; nothing is unescaped that is only carried along. One turn is
//! one message of the source, so that a loss or an error can name its place.

mod block;
mod effort;
mod event;
pub mod fetch;
mod fields;
mod loss;
pub mod memory;
mod reply;
mod request;
pub mod schema;
mod text;

pub use block::{Block, BlockKind, Content, Input, Issuer, Place, Source, ToolResult, ToolUse, UNSIGNED};
pub use effort::{budget_of, effort_of};
pub use event::{Delta, Event, StreamBlock};
pub use fields::{BadField, Path, Rest};
pub(in crate::wire) use fields::{Fields, Wrote, write_list, write_object};
pub use loss::{Encoded, JSON_TOOL, Loss, Losses, Undo};
pub use reply::{BadReply, Reply, ReplyOptions, Stop, StopReason, Tier};
pub use request::{
    Format, OutputFormat, Reasoning, Request, Role, Sampling, Thinking, Tool, ToolChoice, ToolKind, Turn, WebSearch,
};
pub use text::{Raw, Text};
pub(in crate::wire) use text::{write_number, write_word};

use super::json::Value;

/// Reads a document as JSON in UTF-8.
pub(in crate::wire) fn document(body: &[u8]) -> Result<Value<'_>, BadField> {
    if simdutf8::basic::from_utf8(body).is_err() {
        return Err(BadField { path: String::new(), problem: "the body is not valid UTF-8".to_owned() });
    }
    Value::parse(body).map_err(|malformed| BadField { path: String::new(), problem: malformed.to_string() })
}
