//! Anthropic's messages to and from the neutral conversation: requests, whole replies, streams and errors.

pub mod betas;
mod block;
mod decode;
mod encode;
pub mod error;
pub mod grammar;
mod layout;
mod options;
mod parameters;
mod reply;
mod stream_in;
mod stream_out;
mod tools;
mod usage;

use super::conversation::{BadField, Block, Path};
use super::json::Value;

pub(in crate::wire) use block::{For, write_block, write_page};
pub use decode::decode_request;
pub(in crate::wire) use decode::thinking_setting;
pub use encode::{encode_count_request, encode_request};
pub use options::{EVERY_EFFORT, Options, SAMPLING, SamplingSupport, ThinkingSupport};
pub use reply::{decode_count, decode_reply, encode_count, encode_reply, reason_word};
pub use stream_in::Decoder;
pub(in crate::wire) use stream_in::broken;
pub use stream_out::{Encoder, cut_short};
pub use usage::{UsageReport, read_usage};

/// Reads one block that stands by itself.
pub(in crate::wire) fn read_block<'a>(value: Value<'a>, path: &Path<'_>) -> Result<Block<'a>, BadField> {
    block::read_block(value, path, 0)
}
