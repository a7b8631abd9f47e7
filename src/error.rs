//! The gateway's one error for clients. Whoever makes it answers three questions: whose fault is it, may the client
//! try again, and what may the client hear. Causes go to the log, never to the client.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

/// Whose fault a failed call is. Metrics and logs are cut by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be served as it was sent.
    Client,
    /// A provider failed.
    Upstream,
    /// The gateway itself failed, is full, or is wrongly configured.
    Gateway,
}

/// A failed call, as the client will hear of it.
#[derive(Debug)]
pub struct Error {
    pub fault: Fault,
    pub status: StatusCode,
    /// A stable, documented word: `model_not_found`, `body_too_large`, …
    pub code: &'static str,
    /// A sentence that says what is wrong and what to do.
    pub message: Cow<'static, str>,
    /// The request field at fault, where there is one.
    pub param: Option<Cow<'static, str>>,
    /// The message repeats what a provider said, who may repeat the prompt in turn: it is for the client alone, and never
    /// for the log.
    pub quotes_provider: bool,
    /// `false` tells the client's SDK not to try again by itself (`x-should-retry: false`).
    pub retryable: bool,
    /// How long the client should wait before it tries again (`Retry-After`).
    pub retry_after: Option<Duration>,
    /// Why, for the log.
    pub cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The client's fault: it will fail the same way if sent again unchanged.
    pub fn client(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Fault::Client, status, code, message, false)
    }

    /// A 400 that names the field at fault.
    pub fn bad_field(
        code: &'static str,
        param: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let mut error = Self::client(StatusCode::BAD_REQUEST, code, message);
        error.param = Some(param.into());
        error
    }

    /// A provider's fault; worth another try.
    pub fn upstream(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Fault::Upstream, status, code, message, true)
    }

    /// The gateway's own fault; worth another try.
    pub fn gateway(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Fault::Gateway, status, code, message, true)
    }

    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// The gateway has as many calls in flight as it may have.
    pub fn full() -> Self {
        Self::gateway(
            StatusCode::SERVICE_UNAVAILABLE,
            "gateway_full",
            "The gateway has as many calls in flight as `server.max_in_flight` allows. Try again in a moment.",
        )
        .with_retry_after(Duration::from_secs(1))
    }

    fn new(
        fault: Fault,
        status: StatusCode,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        retryable: bool,
    ) -> Self {
        Self {
            fault,
            status,
            code,
            message: message.into(),
            param: None,
            quotes_provider: false,
            retryable,
            retry_after: None,
            cause: None,
        }
    }

    /// The `type` of OpenAI's error object for this status.
    pub fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            503 => "service_unavailable_error",
            504 => "timeout_error",
            _ => "api_error",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
