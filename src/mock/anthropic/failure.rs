//! Errors in the shape of Anthropic's API, whole and as an event of a stream.

use serde_json::{Value, json};

use super::id;
use crate::mock::{behaviour::Behaviour, failure::Failure};

/// The error's JSON text in the answer to the request with this number.
pub(in crate::mock) fn error(failure: &Failure, number: u64) -> String {
    json!({ "type": "error", "error": object(failure), "request_id": request_id(number) }).to_string()
}

/// The event that tells of an error within a stream.
pub(in crate::mock) fn error_event(script: &Behaviour) -> Vec<u8> {
    let error = json!({ "type": "error", "error": object(&Failure::scripted(script)) });
    format!("event: error\ndata: {error}\n\n").into_bytes()
}

/// The id of a request, in a header and in errors.
pub(super) fn request_id(number: u64) -> String {
    format!("req_01{}", id(number, 22))
}

fn object(failure: &Failure) -> Value {
    let status = if failure.status >= 400 { failure.status } else { failure.like };
    let (kind, message) = usual(status);
    let kind = failure.kind.as_deref().unwrap_or(kind);
    let message = failure.message.as_deref().unwrap_or(message);
    let mut object = json!({ "type": kind, "message": message });
    if let Some(code) = &failure.code {
        object["details"] = json!({ "error_code": code });
    }
    object
}

/// The type and the message that come with a status.
fn usual(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low to access the Anthropic API."),
        403 => ("permission_error", "Your API key does not have permission to use the specified resource."),
        404 => ("not_found_error", "The requested resource could not be found."),
        409 => ("conflict_error", "The request conflicts with another one."),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "Number of request tokens has exceeded your per-minute rate limit."),
        504 => ("timeout_error", "The request timed out."),
        529 => ("overloaded_error", "Overloaded"),
        400..=499 => ("invalid_request_error", "The request is not valid."),
        _ => ("api_error", "Internal server error"),
    }
}
