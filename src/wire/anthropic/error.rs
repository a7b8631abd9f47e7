//! Errors in Anthropic's shape: `{"type":"error","error":{"type","message"},"request_id"}`. Reports are read by the
//! same tables as everyone's, since proxies before Anthropic answer in every shape; what is said here is how a failure
//! is shown so that Anthropic's SDKs raise the right exception, which they choose by status.

use bytes::Bytes;

use crate::{
    error::Error,
    wire::{
        conversation::write_word,
        json::{Value, push_quoted},
        openai_chat::{ErrorClass, ProviderError},
    },
};

/// Reads the body of an answer with this status, or an `error` event with the status 200.
pub fn classify(status: u16, body: &[u8]) -> ProviderError {
    let mut error = crate::wire::openai_chat::classify(status, body);
    if let Some(class) = error.kind.as_deref().and_then(class_of)
        && matches!(error.class, ErrorClass::Unknown | ErrorClass::Server | ErrorClass::BadRequest)
    {
        error.class = class;
    }
    error
}

/// What each of Anthropic's types means, unless the message is more exact.
fn class_of(kind: &str) -> Option<ErrorClass> {
    Some(match kind {
        "invalid_request_error" => ErrorClass::BadRequest,
        "authentication_error" => ErrorClass::Authentication,
        "billing_error" => ErrorClass::QuotaExhausted,
        "permission_error" => ErrorClass::Permission,
        "not_found_error" => ErrorClass::NotFound,
        "request_too_large" => ErrorClass::TooLarge,
        "rate_limit_error" => ErrorClass::RateLimited,
        "timeout_error" => ErrorClass::Timeout,
        "api_error" => ErrorClass::Server,
        "overloaded_error" => ErrorClass::Overloaded,
        _ => return None,
    })
}

/// The type and the status that show a failure of this class: by the status the SDKs choose their exception.
pub fn shown(class: ErrorClass) -> (&'static str, u16) {
    match class {
        ErrorClass::BadRequest | ErrorClass::ContextLength | ErrorClass::ContentPolicy => {
            ("invalid_request_error", 400)
        }
        ErrorClass::Authentication => ("authentication_error", 401),
        ErrorClass::QuotaExhausted => ("billing_error", 402),
        ErrorClass::Permission => ("permission_error", 403),
        ErrorClass::NotFound => ("not_found_error", 404),
        ErrorClass::TooLarge => ("request_too_large", 413),
        ErrorClass::RateLimited => ("rate_limit_error", 429),
        ErrorClass::Server | ErrorClass::Unknown => ("api_error", 500),
        ErrorClass::Timeout => ("timeout_error", 504),
        ErrorClass::Overloaded => ("overloaded_error", 529),
    }
}

/// The type for one of the gateway's own errors, by its status.
pub fn kind_of_status(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

/// One of the gateway's own errors.
pub fn render(error: &Error, request_id: Option<&str>) -> Bytes {
    let mut message = String::new();
    if error.code == CONTEXT_LENGTH {
        push_too_long(&mut message, &error.message);
    }
    if let Some(param) = error.param.as_deref().filter(|param| !error.message.contains(*param)) {
        message.push_str(param);
        message.push_str(": ");
    }
    message.push_str(&error.message);
    let mut out = Vec::new();
    write(&mut out, kind_of_status(error.status.as_u16()), &message, request_id);
    out.into()
}

/// A provider's error, in whatever shape it came.
pub fn render_provider(error: &ProviderError, request_id: Option<&str>) -> Bytes {
    let mut out = Vec::new();
    write_error(&mut out, error, request_id);
    out.into()
}

/// An error inside a stream, as a whole event.
pub fn render_event(class: ErrorClass, message: &str) -> Bytes {
    let mut out = b"event: error\ndata: ".to_vec();
    write(&mut out, shown(class).0, message, None);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// Whether a body is already in this shape and can be passed on untouched.
pub fn is_error_object(body: &[u8]) -> bool {
    let Ok(document) = Value::parse(body) else { return false };
    let is_error = document.get("type").is_some_and(|kind| kind.raw == b"\"error\"");
    let error = document.get("error");
    let has = |name| error.and_then(|error| error.get(name)?.as_str()).is_some();
    is_error && has("type") && has("message")
}

pub(super) fn write_error(out: &mut Vec<u8>, error: &ProviderError, request_id: Option<&str>) {
    let kind = error.kind.as_deref().filter(|kind| class_of(kind).is_some_and(|class| class == error.class));
    let mut message = String::new();
    if error.class == ErrorClass::ContextLength {
        push_too_long(&mut message, &error.message);
    }
    message.push_str(&error.message);
    write(out, kind.unwrap_or(shown(error.class).0), &message, request_id);
}

/// The code of [`ErrorClass::ContextLength`] in other formats.
const CONTEXT_LENGTH: &str = "context_length_exceeded";

/// This format has no code for a conversation that is too long. Programs, Claude Code among them, know one by these
/// words, and go on with a shorter one.
fn push_too_long(out: &mut String, message: &str) {
    const TOO_LONG: &str = "prompt is too long";
    if !message.contains(TOO_LONG) && !message.contains("exceed context limit") {
        out.push_str(TOO_LONG);
        out.push_str(": ");
    }
}

fn write(out: &mut Vec<u8>, kind: &str, message: &str, request_id: Option<&str>) {
    out.extend_from_slice(b"{\"type\":\"error\",\"error\":{\"type\":");
    write_word(out, kind);
    out.extend_from_slice(b",\"message\":");
    push_quoted(out, message);
    out.push(b'}');
    if let Some(id) = request_id {
        out.extend_from_slice(b",\"request_id\":");
        push_quoted(out, id);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use ErrorClass as Class;

    use super::*;

    /// Reports as Anthropic and the platforms before it have sent them.
    const RECORDED: &[(u16, &str, Class)] = &[
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"req_1"}"#,
            Class::ContextLength,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length or `max_tokens` and try again"}}"#,
            Class::ContextLength,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0.tool_result.content.0.text.text: Field required"}}"#,
            Class::BadRequest,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
            Class::QuotaExhausted,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#,
            Class::QuotaExhausted,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#,
            Class::Permission,
        ),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes"}}"#,
            Class::BadRequest,
        ),
        (403, r#"{"type":"error","error":{"type":"forbidden","message":"Request not allowed"}}"#, Class::Permission),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#,
            Class::ContentPolicy,
        ),
        (
            401,
            r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
            Class::Authentication,
        ),
        (
            402,
            r#"{"type":"error","error":{"type":"billing_error","message":"There is an issue with your billing."}}"#,
            Class::QuotaExhausted,
        ),
        (
            403,
            r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#,
            Class::Permission,
        ),
        (404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}"#, Class::NotFound),
        (
            413,
            r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
            Class::TooLarge,
        ),
        (
            429,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 40,000 input tokens per minute."}}"#,
            Class::RateLimited,
        ),
        (500, r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#, Class::Server),
        (504, r#"{"type":"error","error":{"type":"timeout_error","message":"Request timed out"}}"#, Class::Timeout),
        (529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Class::Overloaded),
        (200, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Class::Overloaded),
        (200, r#"{"type":"error","error":{"type":"api_error","message":"x"}}"#, Class::Server),
        (200, r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#, Class::QuotaExhausted),
    ];

    #[test]
    fn recorded_reports_are_classified_and_shown_with_their_own_type() {
        for (status, body, class) in RECORDED {
            let error = classify(*status, body.as_bytes());
            assert_eq!(error.class, *class, "{status} {body}");
            let shown = render_provider(&error, Some("req_x"));
            assert!(is_error_object(&shown), "{shown:?}");
        }
    }

    #[test]
    fn every_class_has_the_status_by_which_the_sdks_choose_their_exception() {
        for (class, kind, status) in [
            (Class::BadRequest, "invalid_request_error", 400),
            (Class::ContextLength, "invalid_request_error", 400),
            (Class::Authentication, "authentication_error", 401),
            (Class::Permission, "permission_error", 403),
            (Class::NotFound, "not_found_error", 404),
            (Class::TooLarge, "request_too_large", 413),
            (Class::RateLimited, "rate_limit_error", 429),
            (Class::Overloaded, "overloaded_error", 529),
            (Class::Server, "api_error", 500),
            (Class::Timeout, "timeout_error", 504),
        ] {
            assert_eq!(shown(class), (kind, status));
        }
    }

    #[test]
    fn errors_of_other_formats_are_written_in_anthropics_shape() {
        let foreign = crate::wire::openai_chat::classify(
            429,
            br#"{"error":{"message":"Slow \"down\"","type":"requests","code":"rate_limit_exceeded"}}"#,
        );
        assert_eq!(
            render_provider(&foreign, Some("req_1")),
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"Slow \"down\""},"request_id":"req_1"}"#
        );
        let own = Error::bad_field("bad_request", "messages[0].role", "must be `user`.");
        assert_eq!(
            render(&own, None),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages[0].role: must be `user`."}}"#
        );
        assert!(!is_error_object(br#"{"error":{"message":"x"}}"#));
    }
}
