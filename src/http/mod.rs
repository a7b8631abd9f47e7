//! wip
pub mod settings;
