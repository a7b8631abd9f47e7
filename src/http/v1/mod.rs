//! The OpenAI API.

pub(super) mod inference;
pub(super) mod models;
mod recorded;
