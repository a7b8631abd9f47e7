//! Who we call: the vendors that speak OpenAI's formats, a row each.

pub mod vendor;
pub mod vendors;
