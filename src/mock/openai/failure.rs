//! Errors in the shape of the OpenAI API.

use serde_json::json;

use crate::mock::behaviour::Behaviour;

/// An error as the provider tells it.
#[derive(Clone, Debug)]
pub(in crate::mock) struct Failure {
    pub(in crate::mock) status: u16,
    kind: String,
    code: Option<String>,
    param: Option<&'static str>,
    message: String,
}

impl Failure {
    /// What the provider usually says with a status.
    pub(in crate::mock) fn usual(status: u16) -> Self {
        let (kind, code, message) = match status {
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
        };
        Self { status, kind: kind.into(), code: code.map(Into::into), param: None, message: message.into() }
    }

    /// What the script says, completed by what is usual.
    pub(in crate::mock) fn scripted(script: &Behaviour) -> Self {
        let usual = Self::usual(script.status.filter(|status| *status >= 400).unwrap_or(500));
        Self {
            status: script.status.unwrap_or(200),
            kind: script.error_type.clone().unwrap_or(usual.kind),
            code: script.error_code.clone().or(usual.code),
            message: script.message.clone().unwrap_or(usual.message),
            param: None,
        }
    }

    pub(in crate::mock) fn bad_request(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self { message: message.into(), param, ..Self::usual(400) }
    }

    pub(in crate::mock) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(in crate::mock) fn missing(param: &'static str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self { code: Some("missing_required_parameter".into()), ..Self::bad_request(message, Some(param)) }
    }

    pub(in crate::mock) fn not_found(message: String) -> Self {
        Self::bad_request(message, None).with_status(404)
    }

    /// The error's JSON text.
    pub(in crate::mock) fn json(&self) -> String {
        let Self { kind, code, param, message, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } }).to_string()
    }
}
