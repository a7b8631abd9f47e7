//! Errors in the shape of the OpenAI API.

use serde_json::json;

use crate::mock::failure::Failure;

/// A parameter that must be there is not.
pub(super) fn missing(param: &'static str) -> Failure {
    let message = format!("Missing required parameter: '{param}'.");
    Failure { code: Some("missing_required_parameter".into()), ..Failure::bad_request(message, Some(param)) }
}

/// The error's JSON text.
pub(in crate::mock) fn error(failure: &Failure) -> String {
    let (kind, code, message) = usual(failure.like);
    let kind = failure.kind.as_deref().unwrap_or(kind);
    let code = failure.code.as_deref().or(code);
    let message = failure.message.as_deref().unwrap_or(message);
    json!({ "error": { "message": message, "type": kind, "param": failure.param, "code": code } }).to_string()
}

/// The type, the code and the message that come with a status.
fn usual(status: u16) -> (&'static str, Option<&'static str>, &'static str) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
        402 => ("insufficient_quota", Some("insufficient_quota"), "Your balance is exhausted."),
        403 => ("invalid_request_error", None, "You are not allowed to do this."),
        404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
        408 => ("server_error", None, "The request timed out."),
        413 => ("invalid_request_error", None, "The request is too large."),
        429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached. Please try again later."),
        503 => ("server_error", None, "The engine is currently overloaded, please try again later."),
        400..=499 => ("invalid_request_error", None, "The request is not valid."),
        _ => ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    }
}
