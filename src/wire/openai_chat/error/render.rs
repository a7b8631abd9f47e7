//! Writing errors the way OpenAI does: `{"error":{"message","type","param","code"}}`.

use bytes::Bytes;
use serde::Serialize;

use super::ProviderError;
use crate::error::Error;

#[derive(Serialize)]
struct Body<'a> {
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata<'a>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    /// What the provider really sent.
    raw: &'a str,
}

/// One of the gateway's own errors.
pub fn render(error: &Error) -> Bytes {
    json(ErrorObject {
        message: &error.message,
        kind: error.kind(),
        param: error.param.as_deref(),
        code: Some(error.code),
        metadata: None,
    })
}

/// A provider's error that came in a shape of the provider's own: its words in OpenAI's shape, and the report as it
/// was, up to 4 KiB of it, under `error.metadata.raw`.
pub fn render_provider(error: &ProviderError) -> Bytes {
    json(ErrorObject {
        message: &error.message,
        kind: error.kind.as_deref().unwrap_or_else(|| error.class.kind()),
        param: error.param.as_deref(),
        code: error.code.as_deref(),
        metadata: (!error.raw.is_empty()).then_some(Metadata { raw: &error.raw }),
    })
}

/// An error inside a stream, as a whole event.
pub fn render_event(message: &str, kind: &str, code: &str) -> Bytes {
    let body = json(ErrorObject { message, kind, param: None, code: Some(code), metadata: None });
    [b"data: ", body.as_ref(), b"\n\n"].concat().into()
}

fn json(error: ErrorObject<'_>) -> Bytes {
    // Writing strings to memory does not fail.
    serde_json::to_vec(&Body { error }).unwrap_or_default().into()
}
