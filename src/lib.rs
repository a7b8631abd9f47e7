//! Switchboard: a self-hosted, OpenAI-compatible LLM gateway. The modules, in reading order.

pub mod error;
pub mod providers;
pub mod types;
pub mod wire;
