//! The request of the translate lane.

use std::borrow::Cow;

use http::StatusCode;

use super::{
    Lane, Prepared,
    target::{follows, target},
};
use crate::{
    error::Error,
    gateway::{Call, Gateway, failure::Failure, params},
    routing::{Candidate, settings::Lossy},
    wire::{
        conversation::{BadField, Format, Losses, UNSIGNED, fetch, memory},
        envelope::Envelope,
        translate,
    },
};

/// Writes the call in the provider's format. What the client could not send back of earlier reasoning is put back
/// first, from memory.
///
/// # Errors
/// [`Failure`] with a 400 that names the field at fault: what is no request in the client's own format, what the
/// target would have to be sent as bytes, and, where the model's policy is strict, what cannot be said.
pub(in crate::gateway) fn translated(
    gateway: &Gateway,
    call: &Call,
    candidate: &Candidate,
    lane: Lane,
) -> Result<Prepared, Failure> {
    let outlet = call.snapshot.outlet(&candidate.target);
    let mut request = translate::decode_request(lane.client, call.envelope.bytes()).map_err(|bad| unread(&bad))?;
    let memos = gateway.memory.recall(&call.principal.id, &memory::missing(&request), gateway.clock.now());
    memory::restore(&mut request, &memos);
    let target = target(lane.upstream, candidate, outlet);
    if let Some(pending) = fetch::pending(&request, follows(&target)).first() {
        return Err(unfetched(candidate, &pending.url));
    }
    let encoded = translate::encode_request(&request, &target);
    if candidate.target.lossy == Lossy::Strict && !encoded.losses.is_empty() {
        return Err(inexpressible(candidate, &encoded.losses));
    }
    // The encoder's own bytes: they are valid.
    let envelope = Envelope::parse(encoded.body).map_err(|malformed| {
        let message = "The request could not be written in the provider's format.";
        let error = Error::gateway(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message);
        Failure::request(error.with_cause(malformed.to_string()))
    })?;
    let body = params::adjusted(&envelope, candidate, lane, call.principal.max_tokens).map_err(Failure::request)?;
    let beta = beta(lane, envelope.bytes());
    Ok(Prepared { body, losses: encoded.losses, undo: encoded.undo, beta })
}

/// Whether a call that could pass holds thinking that nobody has signed: a model of another format thought it, earlier
/// in the conversation, and Anthropic refuses it. Such a request is written anew without it.
pub(in crate::gateway) fn holds_unsigned(call: &Call, lane: Lane) -> bool {
    lane.upstream == Format::Anthropic && memchr::memmem::find(call.envelope.bytes(), UNSIGNED.as_bytes()).is_some()
}

/// Files by id are a beta of Anthropic's, and refused without its header. A quotation mark inside a text is escaped, so
/// that this is the name of a member wherever it stands.
fn beta(lane: Lane, body: &[u8]) -> Option<&'static str> {
    let names_a_file = lane.upstream == Format::Anthropic && memchr::memmem::find(body, b"\"file_id\":").is_some();
    names_a_file.then_some("files-api-2025-04-14")
}

fn unread(bad: &BadField) -> Failure {
    let message = if bad.path.is_empty() {
        format!("The request cannot be read: {}.", bad.problem)
    } else {
        format!("`{}` {}.", bad.path, bad.problem)
    };
    let mut error = Error::client(StatusCode::BAD_REQUEST, "invalid_request", message);
    error.param = (!bad.path.is_empty()).then(|| Cow::Owned(bad.path.clone()));
    Failure::elsewhere(error)
}

/// Something named by URL that this target has to be sent as bytes.
fn unfetched(candidate: &Candidate, url: &str) -> Failure {
    let url = &url[..url.floor_char_boundary(200)];
    let message = format!(
        "`{}` takes no documents by URL; send the bytes of {url} in the request instead.",
        candidate.target.provider.name
    );
    Failure::elsewhere(Error::client(StatusCode::BAD_REQUEST, "url_not_supported", message))
}

fn inexpressible(candidate: &Candidate, losses: &Losses) -> Failure {
    let named: Vec<String> = losses.iter().map(|loss| format!("`{}` ({})", loss.path, loss.why)).collect();
    let message = format!(
        "The request cannot be expressed in the format of `{}` without loss, and this model refuses losses: {}.",
        candidate.target.provider.name,
        named.join(", ")
    );
    let mut error = Error::client(StatusCode::BAD_REQUEST, "lossy_translation", message);
    error.param = losses.iter().next().map(|loss| loss.path.clone().into());
    Failure::elsewhere(error)
}
