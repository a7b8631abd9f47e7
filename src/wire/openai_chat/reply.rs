//! Reading whole answers without building a tree: embeddings run to a hundred megabytes.

use crate::{
    types::Usage,
    wire::json::{Kind, Malformed, Problem},
};

use super::{Answer, ProviderError, Shape, error};

/// What the gateway wants to know of a whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub usage: Option<Usage>,
    /// Whether it says anything at all; an answer that does not is a failure.
    pub has_output: bool,
    /// Why the first alternative ended.
    pub finish_reason: Option<String>,
    /// Which model the provider says has answered.
    pub model: Option<String>,
}

/// Why a body with a status of success is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BadReply {
    #[error("the provider's reply is empty")]
    Empty,
    #[error("the provider's reply is not a JSON object: {0}")]
    NotJson(Malformed),
    #[error("the provider's reply is an error report: {}", .0.message)]
    Error(ProviderError),
    #[error("the provider's reply has no {0}")]
    WrongShape(&'static str),
}

/// Reads a whole answer with a status of success.
pub fn read_reply(shape: Shape, body: &[u8]) -> Result<Reply, BadReply> {
    if body.trim_ascii().is_empty() {
        return Err(BadReply::Empty);
    }
    let answer = match Answer::read(body) {
        Ok(answer) => answer,
        Err(Malformed { problem: Problem::NotAnObject, .. }) if error::is_listed_error(body) => {
            return Err(BadReply::Error(error::classify_in_band(body)));
        }
        Err(malformed) => return Err(BadReply::NotJson(malformed)),
    };
    if simdutf8::basic::from_utf8(body).is_err() {
        return Err(BadReply::NotJson(Malformed::new(Problem::Utf8, 0, body)));
    }
    if answer.is_error() {
        return Err(BadReply::Error(error::classify_in_band(body)));
    }
    let mut reply = Reply {
        usage: answer.usage(),
        model: answer.model.and_then(|model| model.as_str()).map(Into::into),
        ..Reply::default()
    };
    if shape == Shape::Embedding {
        let data = answer.data.filter(|data| data.kind == Kind::Array).ok_or(BadReply::WrongShape("`data` array"))?;
        reply.has_output = data.raw.get(1..).is_some_and(|inside| inside.trim_ascii_start() != b"]");
        return Ok(reply);
    }
    if answer.choices.is_none_or(|choices| choices.kind != Kind::Array) {
        return Err(BadReply::WrongShape("`choices` array"));
    }
    for choice in answer.choices() {
        reply.has_output |= choice.has_output;
        if reply.finish_reason.is_none() {
            reply.finish_reason = choice.finish_reason.map(Into::into);
        }
    }
    Ok(reply)
}
