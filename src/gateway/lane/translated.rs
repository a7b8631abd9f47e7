//! The request of the translate lane.

use std::{borrow::Cow, collections::HashSet, sync::atomic::Ordering::Relaxed};

use http::StatusCode;
use smallvec::SmallVec;

use super::{
    Lane, Prepared,
    target::{binds_thinking, follows, knows_schemas, target},
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
    routing::{Candidate, OUTPUT_CAP, settings::Lossy},
    wire::{
        anthropic::betas::{FILES, THINKING_BINDING},
        conversation::{
            BadField, Format, Losses, OutputFormat, Request, UNSIGNED,
            fetch::{self, Wanted},
            memory::{self, Memo},
        },
        envelope::Envelope,
        openai_chat::convert::ReasoningField,
        translate,
    },
};

/// What comes of the attempt to translate a call.
#[derive(Debug)]
pub(in crate::gateway) enum Translated {
    Request(Box<Prepared>),
    /// These have to be fetched first.
    Wanting(Vec<Wanted>),
    /// Replicas may know the thinking that led to these calls, and have to be asked first.
    Forgotten(Vec<String>),
}

/// Makes the request for the provider: the client's own with a few edits in the pass lane, else one written anew.
///
/// # Errors
/// As [`translated`].
pub(in crate::gateway) fn prepared(
    gateway: &Gateway,
    call: &Call,
    candidate: &Candidate,
    lane: Lane,
) -> Result<Translated, Failure> {
    if !lane.is_pass() || holds_unsigned(call, lane) {
        return translated(gateway, call, candidate, lane);
    }
    let Sent { header, edits, losses } = betas::sent(call, &candidate.target.provider, lane, &call.envelope, &[]);
    if is_strict(call, candidate) && !losses.is_empty() {
        return Err(inexpressible(candidate, &losses));
    }
    let body = params::body_for(call, candidate, lane, edits).map_err(Failure::request)?;
    Ok(Translated::Request(Box::new(Prepared::passed(body, losses, header))))
}

/// Writes the call in the provider's format. What the client could not send back of earlier reasoning is put back
/// first, from memory.
///
/// # Errors
/// [`Failure`] with a 400 that names the field at fault: what is no request in the client's own format, what the
/// target would have to be sent as bytes, and, where the model's policy is strict, what cannot be said.
fn translated(gateway: &Gateway, call: &Call, candidate: &Candidate, lane: Lane) -> Result<Translated, Failure> {
    let outlet = call.snapshot.outlet(&candidate.target);
    let mut request = translate::decode_request(lane.client, call.envelope.bytes()).map_err(|bad| unread(&bad))?;
    if !lane.is_pass() {
        check(&request, call, candidate).map_err(|bad| unread(&bad))?;
    }
    // Thinking that is bound to its conversation has no place where the model shall not think.
    let has_place =
        lane.upstream != Format::Anthropic || !request.reasoning.is_off() || !binds_thinking(&candidate.upstream_model);
    let missing = if has_place { memory::missing(&request) } else { Vec::new() };
    let memos = gateway.memory.recall(&call.principal.id, &missing, gateway.clock.now());
    if memos.len() < missing.len() && may_ask(gateway, call, candidate, lane) {
        return Ok(Translated::Forgotten(without(missing, &memos)));
    }
    memory::restore(&mut request, &memos);
    let schemas = !gateway.schemas.refuses(&candidate.name(), gateway.clock.now());
    let mut target = target(lane.upstream, candidate, outlet, schemas);
    if !lane.is_pass() && memory::holds_thinking(&request) {
        drop_unfitting(&mut target, candidate);
    }
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
    let own = own_betas(lane, &target, envelope.bytes());
    let Sent { header, edits, losses } = betas::sent(call, &candidate.target.provider, lane, &envelope, &own);
    let (mut all, undo) = (encoded.losses, encoded.undo);
    all.extend(losses);
    if is_strict(call, candidate) && !all.is_empty() {
        return Err(inexpressible(candidate, &all));
    }
    let body =
        params::adjusted(&envelope, candidate, lane, edits, call.principal.max_tokens).map_err(Failure::request)?;
    Ok(Translated::Request(Box::new(Prepared { body, losses: all, undo, tries_schema, beta: header })))
}

/// Whether replicas are to be asked for thinking: once for each call, and for a provider that takes it back.
fn may_ask(gateway: &Gateway, call: &Call, candidate: &Candidate, lane: Lane) -> bool {
    let takes =
        lane.upstream == Format::Anthropic || candidate.target.provider.quirks.reasoning != ReasoningField::None;
    !lane.is_pass() && takes && gateway.memory.can_ask() && !call.asked_replicas.swap(true, Relaxed)
}

/// The calls of which nothing is remembered.
fn without(mut calls: Vec<String>, memos: &[Memo]) -> Vec<String> {
    let known: HashSet<&str> = memos.iter().map(|memo| memo.call_id.as_str()).collect();
    calls.retain(|call| !known.contains(call.as_str()));
    calls
}

/// Whether a call is refused rather than made with losses: as its model says, or the client itself.
fn is_strict(call: &Call, candidate: &Candidate) -> bool {
    let asked = call.headers.get(&names::LOSSY).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"strict"));
    asked || candidate.target.lossy == Lossy::Strict
}

/// Whether a call that could pass holds thinking that nobody has signed: a model of another format thought it, earlier
/// in the conversation, and Anthropic refuses it. Such a request is written anew without it.
fn holds_unsigned(call: &Call, lane: Lane) -> bool {
    lane.upstream == Format::Anthropic && memchr::memmem::find(call.envelope.bytes(), UNSIGNED.as_bytes()).is_some()
}

/// The betas of Anthropic's that a request needs: what they gate is refused without them. A quotation mark inside a text is
/// escaped, so that this is the name of a member wherever it stands.
fn own_betas(lane: Lane, target: &translate::Target<'_>, body: &[u8]) -> SmallVec<[&'static str; 2]> {
    let mut own = SmallVec::new();
    if let translate::Target::Anthropic(options) = target
        && !lane.is_pass()
    {
        let has = |member: &[u8]| memchr::memmem::find(body, member).is_some();
        own.extend(has(b"\"file_id\":").then_some(FILES));
        own.extend((options.drop_unfitting && has(b"\"block_binding\":")).then_some(THINKING_BINDING));
    }
    own
}

/// Newer Claude models refuse a call whose thinking is not where it was thought. Clients of other formats do not know that they
/// are bound to it: they cut a conversation short, or tell the time in its system prompt. Then the call goes on without.
fn drop_unfitting(target: &mut translate::Target<'_>, candidate: &Candidate) {
    if let translate::Target::Anthropic(options) = target {
        options.drop_unfitting =
            binds_thinking(&candidate.upstream_model) && candidate.target.provider.betas.takes(THINKING_BINDING);
    }
}

/// What the client's own format demands, and the provider's might not miss.
fn check(request: &Request<'_>, call: &Call, candidate: &Candidate) -> Result<(), BadField> {
    let bad = |path: &str, problem: &'static str| Err(BadField { path: path.to_owned(), problem: problem.into() });
    if request.turns.is_empty() && request.system.blocks.is_empty() {
        return bad("messages", "must have at least one message");
    }
    let params = &candidate.target.params;
    let is_cap = |name: &str| OUTPUT_CAP.contains(&name);
    let is_capped = request.max_tokens.is_some()
        || call.principal.max_tokens.is_some()
        || params.defaults.iter().any(|(name, _)| is_cap(name))
        || params.ceilings.iter().any(|(name, ..)| is_cap(name))
        || params.overrides.iter().any(|(name, _)| is_cap(name));
    if request.format == Format::Anthropic && !is_capped {
        return bad("max_tokens", "is missing");
    }
    Ok(())
}

/// A request that is none in its client's own format.
pub(in crate::gateway) fn unread(bad: &BadField) -> Failure {
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
fn inexpressible(candidate: &Candidate, losses: &Losses) -> Failure {
    let named: Vec<String> = losses.iter().map(|loss| format!("`{}` ({})", loss.path, loss.why)).collect();
    let message = format!(
        "The request cannot be expressed in the format of `{}` without loss, and losses are refused here (by `lossy: strict` of the gateway or the \
         model, or by the call's own `x-switchboard-lossy`): {}.",
        candidate.target.provider.name,
        named.join(", ")
    );
    let mut error = Error::client(StatusCode::BAD_REQUEST, "lossy_translation", message);
    error.param = losses.iter().next().map(|loss| loss.path.clone().into());
    Failure::elsewhere(error)
}
