//! What bytes mean. Pure: no I/O and no clock.

pub mod envelope;
pub mod openai_chat;
pub mod sse;
