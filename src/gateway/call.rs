//! One call: the client's bytes, and the few facts about them that the gateway needs.

use std::{
    net::IpAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Snapshot, aside, files::Files, headers};
use crate::{
    accounting::Asked,
    auth::Principal,
    error::Error,
    providers::Operation,
    types::RequestId,
    wire::{
        conversation::Format,
        envelope::{Envelope, Kind, Malformed, Problem, Value},
    },
};

/// What the HTTP edge hands over.
#[derive(Debug)]
pub struct Arrival {
    pub id: RequestId,
    pub operation: Operation,
    pub principal: Arc<Principal>,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub client: IpAddr,
    /// When the request head was read.
    pub arrived: Instant,
}

/// One call on its way. The envelope is never consumed: every attempt starts from the client's own bytes.
#[derive(Debug)]
pub struct Call {
    pub id: RequestId,
    pub operation: Operation,
    pub principal: Arc<Principal>,
    pub headers: HeaderMap,
    pub client: IpAddr,
    pub arrived: Instant,
    pub snapshot: Arc<Snapshot>,
    pub envelope: Envelope,
    /// The model as the client named it.
    pub model: String,
    pub stream: bool,
    /// Whether the client asked for usage in its stream.
    pub asked_usage: bool,
    /// Whether it asked for the cost beside it.
    pub asked_cost: bool,
    /// How many answers were asked for: `n` for each prompt.
    pub choices: u32,
    /// What counting its tokens needs.
    pub asked: Asked,
    /// What it names by URL, as far as it has been fetched.
    pub(super) files: Files,
    /// Whether replicas have been asked for the thinking that its client could not send back.
    pub(super) asked_replicas: AtomicBool,
}

impl Call {
    /// Reads what must be known of the body.
    ///
    /// # Errors
    /// 400 with the field at fault, for a body that no provider could make sense of.
    pub fn open(snapshot: Arc<Snapshot>, arrival: Arrival) -> Result<Self, Error> {
        let Arrival { id, operation, principal, headers, body, client, arrived } = arrival;
        let envelope = Envelope::parse(body).map_err(|malformed| unparsable(&malformed))?;
        let model = model(&envelope)?;
        let stream = flag(&envelope, "stream")? && operation.streams();
        // Anthropic's streams always tell it.
        let asked_usage = operation.format() == Format::Anthropic || asks_usage(&envelope)?;
        let asked_cost = stream && headers::says_yes(&headers, &headers::names::INCLUDE_COST);
        let choices = choices(&envelope, operation)?.saturating_mul(prompts(&envelope, operation));
        check_input(&envelope, operation)?;
        let asked = Asked::of(&envelope);
        if envelope.bytes().len() > aside::SMALL {
            // Where quotas want to know, it is known: this is done aside, and what comes later is not.
            asked.at_most();
        }
        let call = Self {
            id,
            operation,
            principal,
            headers,
            client,
            arrived,
            snapshot,
            envelope,
            model,
            stream,
            asked_usage,
            asked_cost,
            choices,
            asked,
            files: Files::default(),
            asked_replicas: AtomicBool::new(false),
        };
        Ok(call)
    }
}

fn unparsable(malformed: &Malformed) -> Error {
    let status = StatusCode::BAD_REQUEST;
    match &malformed.problem {
        Problem::Utf8 => {
            Error::client(status, "invalid_utf8", format!("The request body is not valid UTF-8: {malformed}."))
        }
        Problem::NotAnObject => {
            Error::client(status, "invalid_json", format!("The request body must be a JSON object: {malformed}."))
        }
        Problem::Duplicate(name) => {
            // A member's name may be as long as a body.
            let name = &name[..name.floor_char_boundary(MAX_NAME)];
            let message = format!("The member `{name}` appears more than once; send it once.");
            Error::bad_field("duplicate_field", name.to_owned(), message)
        }
        _ => Error::client(status, "invalid_json", format!("The request body is not valid JSON: {malformed}.")),
    }
}

/// Longer than any real name of a model or a member, in bytes; keeps logs and error messages bounded.
const MAX_NAME: usize = 256;

fn model(envelope: &Envelope) -> Result<String, Error> {
    let missing = || {
        Error::bad_field(
            "missing_model",
            "model",
            "The request names no model; add a `model` member. GET /v1/models lists the models.",
        )
    };
    let value = envelope.get("model").ok_or_else(missing)?;
    if value.kind == Kind::Null {
        return Err(missing());
    }
    let name = match value.as_str() {
        Some(name) => name,
        None if value.kind == Kind::String => {
            let message = "The name of the model holds an escaped half of a character (a lone surrogate).";
            return Err(Error::bad_field("invalid_model", "model", message));
        }
        None => return Err(wrong_type("model", "a string", value)),
    };
    if name.trim().is_empty() {
        return Err(missing());
    }
    if name.len() > MAX_NAME {
        return Err(Error::bad_field("invalid_model", "model", "The name of the model is longer than 256 bytes."));
    }
    Ok(name.into_owned())
}

fn flag(envelope: &Envelope, name: &'static str) -> Result<bool, Error> {
    match envelope.get(name) {
        None => Ok(false),
        Some(value) if value.is_null() => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong_type(name, "true or false", value)),
    }
}

fn asks_usage(envelope: &Envelope) -> Result<bool, Error> {
    const NAME: &str = "stream_options";
    let Some(value) = envelope.get(NAME).filter(|value| !value.is_null()) else { return Ok(false) };
    if value.kind != Kind::Object {
        return Err(wrong_type(NAME, "an object", value));
    }
    let inner = envelope.bytes().slice_ref(value.raw);
    let options = Envelope::parse(inner).map_err(|malformed| unparsable(&malformed))?;
    flag(&options, "include_usage")
}

fn choices(envelope: &Envelope, operation: Operation) -> Result<u32, Error> {
    match envelope.get("n").filter(|_| operation.format() == Format::OpenAiChat) {
        None => Ok(1),
        Some(value) if value.is_null() => Ok(1),
        Some(value) => value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .ok_or_else(|| Error::bad_field("invalid_type", "n", "`n` must be a whole number, and at least 1.")),
    }
}

/// How many prompts a completion has: a list of texts, or of lists of tokens, is a batch; a list of tokens is one prompt.
fn prompts(envelope: &Envelope, operation: Operation) -> u32 {
    let Some(prompt) = envelope.get("prompt").filter(|_| operation == Operation::Completion) else { return 1 };
    let batch = prompt.items().take_while(|item| matches!(item.kind, Kind::String | Kind::Array)).count();
    u32::try_from(batch.max(1)).unwrap_or(u32::MAX)
}

/// The member that carries the input must be there and of a possible type; what is in it is the provider's to judge.
fn check_input(envelope: &Envelope, operation: Operation) -> Result<(), Error> {
    let (name, wanted, kinds): (_, _, &[Kind]) = match operation {
        // `prompt` in place of `messages` is an extension of some aggregators.
        Operation::Chat if envelope.get("messages").is_none() && envelope.get("prompt").is_some() => return Ok(()),
        Operation::Chat | Operation::Messages | Operation::CountTokens => {
            ("messages", "an array of messages", &[Kind::Array])
        }
        Operation::Embedding => ("input", "a string or an array", &[Kind::String, Kind::Array]),
        // OpenAI lets a completion start from nothing.
        Operation::Completion => return Ok(()),
    };
    match envelope.get(name) {
        None => {
            Err(Error::bad_field("missing_field", name, format!("The request has no `{name}`; it must be {wanted}.")))
        }
        Some(value) if !kinds.contains(&value.kind) => Err(wrong_type(name, wanted, value)),
        Some(_) => Ok(()),
    }
}

fn wrong_type(name: &'static str, wanted: &str, value: Value<'_>) -> Error {
    let got = match value.kind {
        Kind::String => "a string",
        Kind::Number => "a number",
        Kind::Object => "an object",
        Kind::Array => "an array",
        Kind::True | Kind::False => "a boolean",
        Kind::Null => "null",
    };
    Error::bad_field("invalid_type", name, format!("`{name}` must be {wanted}, but is {got}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_prompts_is_as_many_answers() {
        let cases = [
            (r#"{"prompt":"a"}"#, 1),
            (r#"{"prompt":["a","b","c"]}"#, 3),
            (r#"{"prompt":[[1,2],[3]]}"#, 2),
            (r#"{"prompt":[1,2,3]}"#, 1),
            (r#"{"prompt":[]}"#, 1),
            (r#"{"prompt":null}"#, 1),
            ("{}", 1),
        ];
        for (body, expected) in cases {
            let envelope = Envelope::parse(Bytes::from_static(body.as_bytes())).unwrap();
            assert_eq!(prompts(&envelope, Operation::Completion), expected, "{body}");
            assert_eq!(prompts(&envelope, Operation::Chat), 1, "{body}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_name_is_said_in_a_few_words() {
        let name = "ä".repeat(100_000);
        let body = format!(r#"{{"{name}":1,"{name}":2}}"#);
        let error = Envelope::parse(body.into()).map_err(|malformed| unparsable(&malformed)).unwrap_err();
        assert_eq!((error.code, error.message.len() < 400), ("duplicate_field", true));
        let envelope = Envelope::parse(Bytes::from_static(br#"{"model":"\ud800"}"#)).unwrap();
        let error = model(&envelope).unwrap_err();
        assert_eq!(error.code, "invalid_model");
        assert!(error.message.contains("surrogate"), "{}", error.message);
    }
}
