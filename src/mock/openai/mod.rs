//! Answers in the wire format of the OpenAI API: chat completions, completions, embeddings and models, as its published
//! description has them. A reply is built from the request and a script, and knows nothing of sockets or clocks.

mod chat;
mod completion;
mod embedding;
mod failure;
mod headers;
mod saying;

use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

pub(super) use self::{
    chat::Stream as ChatStream, completion::Stream as CompletionStream, embedding::List, failure::error,
    headers::headers,
};
use self::{failure::missing, saying::Usage};
use super::{
    behaviour::{Behaviour, LARGEST, UsageMode},
    endpoint::Endpoint,
    failure::Failure,
    player::{Player, Stop},
    record::Billed,
    reply::{Asked, Reply},
    saying::{Saying, id},
};

const SERVICE_TIER: &str = "default";
const SYSTEM_FINGERPRINT: &str = "fp_44709d6fcb";
/// The most choices a request may ask for, as the API has it.
const MOST_CHOICES: u32 = 128;
/// The models that are listed. Any other name is answered as well.
const MODELS: [&str; 4] = ["mock", "mock-large", "gpt-5.5", "text-embedding-3-small"];

/// What an answer starts from.
pub(super) struct Start {
    id: String,
    created: u64,
    model: String,
    choices: u32,
    asks_for_usage: bool,
    finish_reason: String,
    usage: Usage,
    script: Arc<Behaviour>,
}

/// The answer to what was asked, and what it is billed for.
///
/// # Errors
/// What is wrong with the request.
pub(super) fn reply(asked: &Asked<'_>) -> Result<(Reply, Option<Billed>), Failure> {
    let Asked { endpoint, ask, script, .. } = asked;
    match endpoint {
        Endpoint::Models(_) => return Ok((Reply::Whole(models().into(), false), None)),
        Endpoint::Model(_, model) => return Ok((Reply::Whole(model_object(model).to_string().into(), false), None)),
        _ => {}
    }
    let model = ask.model.clone();
    let model = model.ok_or_else(|| Failure::bad_request("you must provide a model parameter", None))?;
    let choices = choices(asked)?;
    if asked.is_error() {
        let error = error(&Failure::scripted(script));
        let text = if asked.is_stream() { format!("data: {error}\n\n") } else { error };
        return Ok((Reply::Whole(text.into(), asked.is_stream()), None));
    }
    if **endpoint == Endpoint::Embeddings {
        let list = List::new(ask, &model, script)?;
        let billed = Billed { id: None, prompt_tokens: list.prompt_tokens, completion_tokens: 0 };
        let reply = if list.is_small() { Reply::whole(list.whole().into(), script) } else { Reply::Embeddings(list) };
        return Ok((reply, Some(billed)));
    }
    let saying = Saying::new(ask, &saying::wanted(ask), script, asked.number);
    if (saying.said(script) + saying.thought()).saturating_mul(u64::from(choices)) > LARGEST {
        return Err(Failure::bad_request(format!("The answer would be larger than {LARGEST} bytes."), Some("n")));
    }
    let start = start(asked, &saying, model, choices);
    let billed = Billed {
        id: Some(start.id.clone()),
        prompt_tokens: start.usage.prompt_tokens,
        completion_tokens: start.usage.completion_tokens,
    };
    let reply = match (endpoint, asked.is_stream()) {
        (Endpoint::Chat, true) => Reply::Chat(ChatStream { start, saying }),
        (Endpoint::Chat, false) => Reply::whole(chat::whole(&start, &saying).map_err(|e| unwritable(&e))?, script),
        (_, true) => Reply::Completion(CompletionStream { start, saying }),
        (_, false) => Reply::whole(completion::whole(&start, &saying).map_err(|e| unwritable(&e))?, script),
    };
    Ok((reply, Some(billed)))
}

/// The event that tells of an error within a stream.
pub(super) fn error_event(script: &Behaviour) -> Vec<u8> {
    format!("data: {}\n\n", error(&Failure::scripted(script))).into_bytes()
}

impl Start {
    /// What a chunk of a stream says about usage: nothing, `null` or numbers. `chunks` are out, and `is_end` marks the
    /// chunk with the last finish reason.
    fn usage_in_chunk(&self, chunks: u64, is_end: bool) -> Option<Option<Usage>> {
        match self.script.usage_mode {
            UsageMode::Asked if self.asks_for_usage => Some(None),
            UsageMode::Always => Some(None),
            UsageMode::WithFinish | UsageMode::EveryChunk if is_end => Some(Some(self.usage)),
            UsageMode::EveryChunk => Some(Some(self.usage.so_far(chunks))),
            UsageMode::Asked | UsageMode::Never | UsageMode::WithFinish => None,
        }
    }

    /// Whether the stream has a last chunk with usage and no choices.
    fn sends_usage_chunk(&self) -> bool {
        match self.script.usage_mode {
            UsageMode::Asked => self.asks_for_usage,
            UsageMode::Always => true,
            UsageMode::Never | UsageMode::EveryChunk | UsageMode::WithFinish => false,
        }
    }

    /// The end of a stream.
    async fn close(&self, player: &mut Player) -> Result<(), Stop> {
        if !self.script.omit_done {
            player.tail(b"data: [DONE]\n\n").await?;
        }
        if self.script.trailing_garbage {
            player.tail(b"data: {\"garbage\":\n\n").await?;
        }
        Ok(())
    }
}

fn start(asked: &Asked<'_>, saying: &Saying, model: String, choices: u32) -> Start {
    let Asked { ask, script, .. } = asked;
    let prefix = if *asked.endpoint == Endpoint::Chat { "chatcmpl-" } else { "cmpl-" };
    Start {
        id: script.answer_id.clone().unwrap_or_else(|| prefix.to_owned() + &id(asked.number, 29)),
        created: script.created.unwrap_or(asked.created),
        model,
        choices,
        asks_for_usage: ask.asks_for_usage(),
        finish_reason: saying::finish_reason(saying, script),
        usage: Usage::of(ask, saying, script, choices),
        script: Arc::clone(script),
    }
}

/// How many choices are asked for, of a request that has what it must have.
fn choices(asked: &Asked<'_>) -> Result<u32, Failure> {
    if *asked.endpoint == Endpoint::Chat && asked.ask.messages.is_none() {
        return Err(missing("messages"));
    }
    let choices = asked.ask.n.unwrap_or(1);
    if choices == 0 || choices > MOST_CHOICES {
        return Err(Failure::bad_request(format!("'n' must lie between 1 and {MOST_CHOICES}."), Some("n")));
    }
    Ok(choices)
}

/// A stream's event.
fn event(data: &impl Serialize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(384);
    frame.extend_from_slice(b"data: ");
    // Structs of strings and numbers always have a JSON form, and memory does not fail to be written.
    let _ = serde_json::to_writer(&mut frame, data);
    frame.extend_from_slice(b"\n\n");
    frame
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::bad_request(error.to_string(), None).with_status(500)
}

fn models() -> String {
    json!({ "object": "list", "data": MODELS.map(model_object) }).to_string()
}

fn model_object(id: &str) -> serde_json::Value {
    json!({ "id": id, "object": "model", "created": 1_700_000_000, "owned_by": "mock" })
}
