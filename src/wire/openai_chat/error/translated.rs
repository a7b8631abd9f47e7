//! A failure at a provider of another format, shown to OpenAI's clients: its SDKs choose their exception by the
//! status, and programs read `code`.

use bytes::Bytes;

use super::{ErrorClass, ProviderError, render_provider};

/// The status that shows a failure of this class.
pub fn shown_status(class: ErrorClass) -> u16 {
    match class {
        ErrorClass::BadRequest | ErrorClass::ContextLength | ErrorClass::ContentPolicy => 400,
        ErrorClass::Authentication => 401,
        ErrorClass::Permission => 403,
        ErrorClass::NotFound => 404,
        ErrorClass::TooLarge => 413,
        // OpenAI reports a used-up quota with the status of a rate limit.
        ErrorClass::RateLimited | ErrorClass::QuotaExhausted => 429,
        ErrorClass::Server | ErrorClass::Unknown => 500,
        ErrorClass::Overloaded => 503,
        ErrorClass::Timeout => 504,
    }
}

/// The code that programs look for, where OpenAI has one.
fn code(class: ErrorClass) -> Option<&'static str> {
    Some(match class {
        ErrorClass::ContextLength => "context_length_exceeded",
        ErrorClass::ContentPolicy => "content_policy_violation",
        ErrorClass::Authentication => "invalid_api_key",
        ErrorClass::NotFound => "model_not_found",
        ErrorClass::RateLimited => "rate_limit_exceeded",
        ErrorClass::QuotaExhausted => "insufficient_quota",
        _ => return None,
    })
}

/// A failure at a provider of another format, in OpenAI's words; the report as it was is under `error.metadata.raw`.
pub fn render_translated(error: &ProviderError) -> Bytes {
    let mut shown = error.clone();
    shown.kind = Some(error.class.kind().to_owned());
    shown.code = error.code.clone().or_else(|| code(error.class).map(str::to_owned));
    render_provider(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_errors_are_shown_in_openais_words() {
        let body = br#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#;
        let error = crate::wire::anthropic::error::classify(400, body);
        assert_eq!(shown_status(error.class), 400);
        let shown = render_translated(&error);
        let begin = r#"{"error":{"message":"prompt is too long: 210000 tokens > 200000 maximum","type":"invalid_request_error","param":null,"code":"context_length_exceeded","metadata":"#;
        assert!(shown.starts_with(begin.as_bytes()), "{shown:?}");
        let body = br#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let error = crate::wire::anthropic::error::classify(529, body);
        assert_eq!(shown_status(error.class), 503);
        assert!(render_translated(&error).starts_with(
            br#"{"error":{"message":"Overloaded","type":"service_unavailable_error","param":null,"code":null"#
        ));
    }
}
