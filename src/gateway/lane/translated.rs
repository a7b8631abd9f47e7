//! The request of the translate lane.

use std::borrow::Cow;

use http::StatusCode;

use super::{
    Lane, Prepared,
    target::{follows, knows_schemas, target},
};
use crate::{
    error::Error,
    gateway::{
        Call, Gateway,
        betas::{self, Sent},
        failure::Failure,
        files::Missing,
        names, params,
    },
    routing::{Candidate, settings::Lossy},
    wire::{
        conversation::{
            BadField, Format, Losses, OutputFormat, UNSIGNED,
            fetch::{self, Wanted},
            memory,
        },
        envelope::Envelope,
        translate,
    },
};

/// What comes of the attempt to translate a call.
#[derive(Debug)]
pub(in crate::gateway) enum Translated {
    Request(Box<Prepared>),
    /// These have to be fetched first.
    Wanting(Vec<Wanted>),
}

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
) -> Result<Translated, Failure> {
    let outlet = call.snapshot.outlet(&candidate.target);
    let mut request = translate::decode_request(lane.client, call.envelope.bytes()).map_err(|bad| unread(&bad))?;
    let memos = gateway.memory.recall(&call.principal.id, &memory::missing(&request), gateway.clock.now());
    memory::restore(&mut request, &memos);
    let schemas = !gateway.schemas.refuses(&candidate.name(), gateway.clock.now());
    let target = target(lane.upstream, candidate, outlet, schemas);
    let wants_schema = matches!(request.output, Some(OutputFormat::JsonSchema { .. }));
    let tries_schema = schemas && wants_schema && knows_schemas(lane.upstream, candidate).is_none();
    // In the pass lane the provider is sent what the client sent.
    let wanted = if lane.is_pass() { Vec::new() } else { fetch::pending(&request, follows(&target)) };
    let files = match call.files.of(&wanted) {
        Ok(files) => files,
        Err(Missing::Unfetched(wanted)) => {
            may_fetch(call, candidate, &wanted)?;
            return Ok(Translated::Wanting(wanted));
        }
        Err(Missing::Refused { path, why }) => return Err(unfetched(path, &why)),
    };
    fetch::fill(&mut request, &files);
    let encoded = translate::encode_request(&request, &target);
    // The encoder's own bytes: they are valid.
    let envelope = Envelope::parse(encoded.body).map_err(|malformed| {
        let message = "The request could not be written in the provider's format.";
        let error = Error::gateway(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message);
        Failure::request(error.with_cause(malformed.to_string()))
    })?;
    let own = beta(lane, envelope.bytes());
    let Sent { header, edits, losses } = betas::sent(call, &candidate.target.provider, lane, &envelope, own);
    let (mut all, undo) = (encoded.losses, encoded.undo);
    all.extend(losses);
    if is_strict(call, candidate) && !all.is_empty() {
        return Err(inexpressible(candidate, &all));
    }
    let body =
        params::adjusted(&envelope, candidate, lane, edits, call.principal.max_tokens).map_err(Failure::request)?;
    Ok(Translated::Request(Box::new(Prepared { body, losses: all, undo, tries_schema, beta: header })))
}

/// Whether a call is refused rather than made with losses: as its model says, or the client itself.
pub(in crate::gateway) fn is_strict(call: &Call, candidate: &Candidate) -> bool {
    let asked = call.headers.get(&names::LOSSY).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"strict"));
    asked || candidate.target.lossy == Lossy::Strict
}

/// Whether a call that could pass holds thinking that nobody has signed: a model of another format thought it, earlier
/// in the conversation, and Anthropic refuses it. Such a request is written anew without it.
pub(in crate::gateway) fn holds_unsigned(call: &Call, lane: Lane) -> bool {
    lane.upstream == Format::Anthropic && memchr::memmem::find(call.envelope.bytes(), UNSIGNED.as_bytes()).is_some()
}

/// Files by id are a beta of Anthropic's, and refused without its header. A quotation mark inside a text is escaped, so
/// that this is the name of a member wherever it stands.
fn beta(lane: Lane, body: &[u8]) -> Option<&'static str> {
    let names_a_file =
        lane.upstream == Format::Anthropic && !lane.is_pass() && memchr::memmem::find(body, b"\"file_id\":").is_some();
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

/// Whether these files may be fetched for this call.
fn may_fetch(call: &Call, candidate: &Candidate, wanted: &[Wanted]) -> Result<(), Failure> {
    let settings = call.snapshot.fetcher.settings();
    let refused = |wanted: &Wanted, message: String| {
        let mut error = Error::client(StatusCode::BAD_REQUEST, "url_not_supported", message);
        error.param = Some(wanted.path.clone().into());
        Err(Failure::elsewhere(error))
    };
    match (settings.enabled, wanted) {
        (false, [first, ..]) => {
            let provider = &candidate.target.provider.name;
            let path = &first.path;
            refused(
                first,
                format!(
                    "`{path}`: `{provider}` takes no URL here, and this gateway fetches none; send the bytes instead."
                ),
            )
        }
        (true, wanted) if wanted.len() > settings.max_files => {
            let most = settings.max_files;
            let beyond = &wanted[most];
            refused(
                beyond,
                format!("`{}`: more than {most} files would have to be fetched for this call.", beyond.path),
            )
        }
        _ => Ok(()),
    }
}

fn unfetched(path: String, why: &str) -> Failure {
    let message = format!("What `{path}` names cannot be sent to the provider: {why}.");
    let mut error = Error::client(StatusCode::BAD_REQUEST, "url_not_fetched", message);
    error.param = Some(path.into());
    Failure::elsewhere(error)
}

/// A call that must not be made with losses.
pub(in crate::gateway) fn inexpressible(candidate: &Candidate, losses: &Losses) -> Failure {
    let named: Vec<String> = losses.iter().map(|loss| format!("`{}` ({})", loss.path, loss.why)).collect();
    let message = format!(
        "The request cannot be expressed in the format of `{}` without loss, and losses are refused here: {}.",
        candidate.target.provider.name,
        named.join(", ")
    );
    let mut error = Error::client(StatusCode::BAD_REQUEST, "lossy_translation", message);
    error.param = losses.iter().next().map(|loss| loss.path.clone().into());
    Failure::elsewhere(error)
}
