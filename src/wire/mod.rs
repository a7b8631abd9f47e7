//! What bytes mean. Pure: no I/O and no clock.

pub mod anthropic;
pub mod conversation;
pub mod envelope;
pub mod json;
pub mod openai_chat;
mod pieces;
pub mod sse;
pub mod tap;
pub mod translate;

pub use pieces::Pieces;
