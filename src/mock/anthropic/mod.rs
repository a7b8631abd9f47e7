//! Answers in the wire format of Anthropic's API: messages whole and streamed, counts of tokens and models, as its
//! reference and its SDKs have them. They are written here by hand: the mock is what the gateway's converters are
//! tested against, so that it must not be made with them.

mod event;
mod failure;
mod headers;
mod message;
mod saying;
mod stream;
mod version;

use serde_json::json;

use self::message::Message;
pub(super) use self::{
    failure::{error, error_event},
    headers::headers,
    stream::Stream,
    version::check_version,
};
use super::{
    ask::Ask,
    behaviour::LARGEST,
    endpoint::Endpoint,
    failure::Failure,
    record::Billed,
    reply::{Asked, Reply},
    saying::{Saying, id},
};

/// The models that are listed. Any other name is answered as well.
const MODELS: [&str; 3] = ["mock", "mock-large", "claude-opus-5-5"];

/// The answer to what was asked, and what it is billed for.
///
/// # Errors
/// What is wrong with the request.
pub(super) fn reply(asked: &Asked<'_>) -> Result<(Reply, Option<Billed>), Failure> {
    let script = asked.script;
    match asked.endpoint {
        Endpoint::Models(_) => return Ok((Reply::Whole(models().into(), false), None)),
        Endpoint::Model(_, model) => return Ok((Reply::Whole(model_object(model).to_string().into(), false), None)),
        _ => {}
    }
    let is_count = *asked.endpoint == Endpoint::CountTokens;
    let model = check(asked.ask, is_count)?;
    if is_count {
        let body = if script.error_in_200 {
            error(&Failure::scripted(script), asked.number)
        } else {
            json!({ "input_tokens": saying::input_tokens(asked.ask, script) }).to_string()
        };
        return Ok((Reply::whole(body.into(), script), None));
    }
    if asked.is_error() {
        let is_stream = asked.is_stream();
        let body = if is_stream { error_event(script) } else { error(&Failure::scripted(script), asked.number).into() };
        return Ok((Reply::Whole(body.into(), is_stream), None));
    }
    let saying = Saying::new(asked.ask, &saying::wanted(asked.ask), script, asked.number);
    if saying.said(script) + saying.thought() > LARGEST {
        return Err(Failure::bad_request(format!("The answer would be larger than {LARGEST} bytes."), None));
    }
    let message = Message::new(asked, saying, model);
    let billed = Billed {
        id: Some(message.id.clone()),
        prompt_tokens: message.usage.total_input(),
        completion_tokens: message.usage.output_tokens,
    };
    if asked.is_stream() {
        return Ok((Reply::Message(Stream(message)), Some(billed)));
    }
    let body = message.whole().map_err(|error| Failure::bad_request(error.to_string(), None).with_status(500))?;
    Ok((Reply::whole(body, script), Some(billed)))
}

/// The model of a request that has what it must have, in the API's words where it has not.
fn check(ask: &Ask<'_>, is_count: bool) -> Result<String, Failure> {
    let wrong = |message: &str| Failure::bad_request(message, None);
    let model = ask.model.clone().ok_or_else(|| wrong("model: Field required"))?;
    let messages = ask.messages.ok_or_else(|| wrong("messages: Field required"))?;
    let messages: Vec<serde_json::Value> =
        serde_json::from_str(messages.get()).map_err(|_| wrong("messages: Input should be a valid list"))?;
    if messages.is_empty() {
        return Err(wrong("messages: at least one message is required"));
    }
    if is_count {
        return Ok(model);
    }
    let most = ask.max_tokens.ok_or_else(|| wrong("max_tokens: Field required"))?;
    let most: u64 = most.get().parse().map_err(|_| wrong("max_tokens: Input should be a valid integer"))?;
    if most == 0 {
        return Err(wrong("max_tokens: Input should be greater than or equal to 1"));
    }
    Ok(model)
}

fn models() -> String {
    let (first, last) = (MODELS.first(), MODELS.last());
    json!({ "data": MODELS.map(model_object), "has_more": false, "first_id": first, "last_id": last }).to_string()
}

fn model_object(id: &str) -> serde_json::Value {
    json!({ "type": "model", "id": id, "display_name": id, "created_at": "2026-01-01T00:00:00Z" })
}
