//! Chat completions to and from the neutral conversation: requests, whole replies and streams.

mod decode;
mod encode;
mod message;
mod parameters;
mod part;
mod reply;
mod reply_message;
mod same_message;
mod stream_in;
mod stream_out;
mod tool_name;
mod tools;
mod write_message;

pub use decode::decode_request;
pub use encode::{CacheMarks, Options, ReasoningField, encode_request};
pub use parameters::{BesideTools, Sampled};
pub(super) use reply::write_usage;
pub use reply::{decode_reply, encode_reply, reason_word};
pub use stream_in::Decoder;
pub use stream_out::Encoder;
