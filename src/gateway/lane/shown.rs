//! What a client sees of a failure, in its own format: SDKs choose their exception by it.

use bytes::Bytes;
use http::StatusCode;

use super::Lane;
use crate::{
    telemetry::Outcome,
    wire::{
        anthropic,
        conversation::Format,
        openai_chat::{self, ErrorClass, ProviderError, error::shown_status},
    },
};

const COMMENT: &[u8] = b": keepalive\n\n";
const PING: &[u8] = b"event: ping\ndata: {\"type\":\"ping\"}\n\n";

/// The status of an error that a provider wrapped in a 200, where its class says more than [`Failure`]'s table does: an
/// overloaded Claude says so in the first event of a stream.
///
/// [`Failure`]: crate::gateway::failure::Failure
pub(in crate::gateway) fn status_in_band(client: Format, class: ErrorClass) -> Option<StatusCode> {
    let is_anthropic = client == Format::Anthropic;
    match class {
        ErrorClass::NotFound | ErrorClass::TooLarge | ErrorClass::Overloaded => {}
        ErrorClass::QuotaExhausted if is_anthropic => {}
        _ => return None,
    }
    let shown = if is_anthropic { anthropic::error::shown(class).1 } else { shown_status(class) };
    StatusCode::from_u16(shown).ok()
}

/// A provider's answer with this status and body, as the client sees it. What is in the client's shape already passes
/// untouched; across formats the status becomes the one by which the client's SDKs know the failure.
pub(in crate::gateway) fn refusal(
    lane: Lane,
    status: StatusCode,
    said: &ProviderError,
    raw: Bytes,
    request_id: &str,
) -> (StatusCode, Bytes) {
    let or = |shown: u16| StatusCode::from_u16(shown).unwrap_or(status);
    match (lane.client, lane.is_pass()) {
        (Format::OpenAiChat, true) if openai_chat::is_error_object(&raw) => (status, raw),
        (Format::OpenAiChat, true) => (status, openai_chat::render_provider(said)),
        (Format::OpenAiChat, false) => (or(shown_status(said.class)), openai_chat::render_translated(said)),
        (Format::Anthropic, true) if anthropic::error::is_error_object(&raw) => (status, raw),
        (Format::Anthropic, true) => (status, anthropic::error::render_provider(said, Some(request_id))),
        (Format::Anthropic, false) => {
            (or(anthropic::error::shown(said.class).1), anthropic::error::render_provider(said, Some(request_id)))
        }
    }
}

/// The last event of a stream that failed.
pub(in crate::gateway) fn error_event(client: Format, outcome: Outcome, message: &str) -> Bytes {
    let (class, code) = match outcome {
        Outcome::TimeoutTotal | Outcome::TimeoutBetweenChunks => (ErrorClass::Timeout, "upstream_timeout"),
        Outcome::Malformed => (ErrorClass::Server, "upstream_malformed"),
        Outcome::RefusedByGateway => (ErrorClass::Overloaded, "gateway_shutting_down"),
        _ => (ErrorClass::Server, "upstream_cut"),
    };
    match client {
        Format::OpenAiChat => openai_chat::render_event(message, "upstream_error", code),
        Format::Anthropic => anthropic::error::render_event(class, message),
    }
}

/// What is sent in silence, so that nobody takes the connection for dead.
pub(in crate::gateway) fn keepalive(client: Format) -> Bytes {
    Bytes::from_static(match client {
        Format::OpenAiChat => COMMENT,
        Format::Anthropic => PING,
    })
}
