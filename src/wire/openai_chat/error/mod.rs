//! Errors: what a provider's report means, and how ours are written. Providers that speak OpenAI's format agree on
//! little when it comes to failing, so reports are read in every shape seen (`report`), and what they mean is looked
//! up in a table (`rules`).

mod render;
mod report;
mod rules;

pub use render::{render, render_event, render_provider};

use crate::wire::json::{Kind, Value};

use report::Report;

/// A failure as a provider reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    pub class: ErrorClass,
    /// The HTTP status, or for a report inside a success the status it names.
    pub status: Option<u16>,
    pub code: Option<String>,
    /// OpenAI's `type`.
    pub kind: Option<String>,
    /// The provider's words.
    pub message: String,
    pub param: Option<String>,
    /// The report as it came, up to 4 KiB of it. Empty if there was none.
    pub raw: String,
}

/// What a failure means for what to do next. Retrying, falling back and blaming the target hang on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    BadRequest,
    Authentication,
    Permission,
    NotFound,
    RateLimited,
    /// Money or credits are used up: waiting a little will not help.
    QuotaExhausted,
    /// The conversation is longer than the model takes.
    ContextLength,
    /// A content filter refused the request.
    ContentPolicy,
    Overloaded,
    Server,
    Timeout,
    /// The body is larger than the provider takes.
    TooLarge,
    Unknown,
}

impl ErrorClass {
    /// The class as a word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unknown => "unknown",
        }
    }

    /// OpenAI's `type` for a report that has none.
    pub fn kind(self) -> &'static str {
        match self {
            Self::BadRequest | Self::NotFound | Self::ContextLength | Self::ContentPolicy | Self::TooLarge => {
                "invalid_request_error"
            }
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::RateLimited => "rate_limit_error",
            Self::QuotaExhausted => "insufficient_quota",
            Self::Overloaded => "service_unavailable_error",
            Self::Timeout => "timeout_error",
            Self::Server | Self::Unknown => "api_error",
        }
    }
}

/// Reads the body of an answer with this status: anything from OpenAI's error object to a proxy's HTML page.
pub fn classify(status: u16, body: &[u8]) -> ProviderError {
    let report = Report::read(body);
    let status = if status >= 400 { Some(status) } else { report.status };
    finish(status, report, body)
}

/// Reads a report that came with a status of success: in a stream or as a whole body.
pub(super) fn classify_in_band(body: &[u8]) -> ProviderError {
    classify(200, body)
}

/// Whether a body is already in OpenAI's shape, `{"error":{"message":…}}`, and can be passed on untouched.
pub fn is_error_object(body: &[u8]) -> bool {
    let Ok(document) = Value::parse(body) else { return false };
    let Some(error) = document.get("error") else { return false };
    simdutf8::basic::from_utf8(body).is_ok() && error.get("message").is_some_and(|text| text.kind == Kind::String)
}

/// Whether a body is an error report in an array, as Gemini's compatible endpoint sends it.
pub(super) fn is_listed_error(body: &[u8]) -> bool {
    Value::parse(body).is_ok_and(|list| list.items().next().is_some_and(|first| first.get("error").is_some()))
}

fn finish(status: Option<u16>, report: Report<'_>, body: &[u8]) -> ProviderError {
    let class = rules::class(status, &report);
    let message = match report.message {
        Some(message) => message.into_owned(),
        None => match status {
            Some(status) => format!("the provider answered with status {status} and no explanation"),
            None => "the provider reported an error without an explanation".to_owned(),
        },
    };
    ProviderError {
        class,
        status,
        code: report.code.map(Into::into),
        kind: report.kind.map(Into::into),
        message,
        param: report.param.map(Into::into),
        raw: report::excerpt(body),
    }
}
