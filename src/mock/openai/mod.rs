//! Answers in the wire format of the OpenAI API: chat completions, completions, embeddings and models, as its published
//! description has them. A reply is built from the request and a script, and knows nothing of sockets or clocks.

mod ask;
mod chat;
mod completion;
mod embedding;
mod failure;
mod saying;
mod schema;
mod text;

use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::json;

pub(super) use self::{ask::Ask, failure::Failure};
use self::{
    embedding::List,
    saying::{Saying, Usage},
};
use super::{
    behaviour::{Behaviour, LARGEST, UsageMode},
    player::{Player, Stop},
    record::Billed,
};

const SERVICE_TIER: &str = "default";
const SYSTEM_FINGERPRINT: &str = "fp_44709d6fcb";
/// The most choices a request may ask for, as the API has it.
const MOST_CHOICES: u32 = 128;
/// The models that are listed. Any other name is answered as well.
const MODELS: [&str; 4] = ["mock", "mock-large", "gpt-5.5", "text-embedding-3-small"];

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Embeddings,
    Models,
    Model(String),
}

/// The answer to a request, ready to be sent or played.
pub(super) enum Reply {
    /// A body that is complete, and whether it is an event stream.
    Whole(Bytes, bool),
    Chat(chat::Stream),
    Completion(completion::Stream),
    Embeddings(List),
}

/// What an answer starts from.
pub(super) struct Start {
    id: String,
    created: u64,
    model: String,
    choices: u32,
    asks_for_usage: bool,
    script: Arc<Behaviour>,
}

impl Endpoint {
    /// Finds the endpoint by the end of the path, so that any prefix works as a base URL.
    pub(super) fn find(path: &str) -> Option<Self> {
        let path = path.trim_end_matches('/');
        if path.ends_with("/chat/completions") {
            Some(Self::Chat)
        } else if path.ends_with("/completions") {
            Some(Self::Completions)
        } else if path.ends_with("/embeddings") {
            Some(Self::Embeddings)
        } else if path.ends_with("/models") {
            Some(Self::Models)
        } else {
            let (_, model) = path.split_once("/models/")?;
            Some(Self::Model(percent_decode_str(model).decode_utf8_lossy().into_owned()))
        }
    }

    /// Whether it takes a request body.
    pub(super) fn is_post(&self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Embeddings)
    }
}

impl Reply {
    /// The answer to `ask`, and what it is billed for; `number` is the request's, `created` the time in Unix seconds.
    pub(super) fn new(
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        script: &Arc<Behaviour>,
        number: u64,
        created: u64,
    ) -> Result<(Self, Option<Billed>), Failure> {
        let model = match endpoint {
            Endpoint::Models => return Ok((Self::Whole(models().into(), false), None)),
            Endpoint::Model(model) => {
                return Ok((Self::Whole(model_object(model).to_string().into(), false), None));
            }
            _ => ask.model.clone().ok_or_else(|| Failure::bad_request("you must provide a model parameter", None))?,
        };
        let is_stream = (ask.stream.unwrap_or(false) || script.stream_always) && !script.ignore_stream;
        let start = start(endpoint, ask, script, number, created, model)?;
        if script.error_first && is_stream || script.error_in_200 {
            let error = Failure::scripted(script).json();
            let text = if is_stream { format!("data: {error}\n\n") } else { error };
            return Ok((Self::Whole(text.into(), is_stream), None));
        }
        if *endpoint == Endpoint::Embeddings {
            let list = List::new(ask, &start)?;
            let billed = Billed { id: None, prompt_tokens: list.prompt_tokens, completion_tokens: 0 };
            let reply = if list.is_small() { whole(list.whole().into(), script) } else { Self::Embeddings(list) };
            return Ok((reply, Some(billed)));
        }
        let saying = Saying::new(ask, script, number, start.choices);
        if saying.len().saturating_mul(u64::from(start.choices)) > LARGEST {
            return Err(Failure::bad_request(format!("The answer would be larger than {LARGEST} bytes."), Some("n")));
        }
        let billed = Billed {
            id: Some(start.id.clone()),
            prompt_tokens: saying.usage.prompt_tokens,
            completion_tokens: saying.usage.completion_tokens,
        };
        let reply = match (endpoint, is_stream) {
            (Endpoint::Chat, true) => Self::Chat(chat::Stream { start, saying }),
            (Endpoint::Chat, false) => whole(chat::whole(&start, &saying).map_err(|error| unwritable(&error))?, script),
            (_, true) => Self::Completion(completion::Stream { start, saying }),
            (_, false) => whole(completion::whole(&start, &saying).map_err(|error| unwritable(&error))?, script),
        };
        Ok((reply, Some(billed)))
    }

    pub(super) fn is_stream(&self) -> bool {
        matches!(self, Self::Whole(_, true) | Self::Chat(_) | Self::Completion(_))
    }

    /// Sends it through `player`.
    pub(super) async fn play(&self, player: &mut Player) -> Result<(), Stop> {
        match self {
            Self::Whole(body, _) => player.whole(body).await,
            Self::Chat(stream) => stream.play(player).await,
            Self::Completion(stream) => stream.play(player).await,
            Self::Embeddings(list) => list.play(player).await,
        }
    }
}

impl Start {
    /// What a chunk of a stream says about usage: nothing, `null` or numbers. `chunks` are out, and `is_end` marks the
    /// chunk with the last finish reason.
    fn usage_in_chunk(&self, usage: Usage, chunks: u64, is_end: bool) -> Option<Option<Usage>> {
        match self.script.usage_mode {
            UsageMode::Asked if self.asks_for_usage => Some(None),
            UsageMode::Always => Some(None),
            UsageMode::WithFinish | UsageMode::EveryChunk if is_end => Some(Some(usage)),
            UsageMode::EveryChunk => Some(Some(usage.so_far(chunks))),
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

/// The event that tells of an error within a stream.
pub(super) fn error_event(script: &Behaviour) -> Vec<u8> {
    format!("data: {}\n\n", Failure::scripted(script).json()).into_bytes()
}

/// A made-up identifier: the same for the same number, and looking random as the provider's do.
pub(super) fn id(number: u64, length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    (0..length).map(|_| random.alphanumeric()).collect()
}

fn start(
    endpoint: &Endpoint,
    ask: &Ask<'_>,
    script: &Arc<Behaviour>,
    number: u64,
    created: u64,
    model: String,
) -> Result<Start, Failure> {
    let prefix = match endpoint {
        Endpoint::Chat if ask.messages.is_none() => return Err(Failure::missing("messages")),
        Endpoint::Chat => "chatcmpl-",
        _ => "cmpl-",
    };
    let choices = ask.n.unwrap_or(1);
    if choices == 0 || choices > MOST_CHOICES {
        return Err(Failure::bad_request(format!("'n' must lie between 1 and {MOST_CHOICES}."), Some("n")));
    }
    Ok(Start {
        id: script.answer_id.clone().unwrap_or_else(|| prefix.to_owned() + &id(number, 29)),
        created: script.created.unwrap_or(created),
        model,
        choices,
        asks_for_usage: ask.asks_for_usage(),
        script: script.clone(),
    })
}

/// A whole body, with what the script does to it.
fn whole(body: Bytes, script: &Behaviour) -> Reply {
    let body = if script.invalid_json {
        body.slice(..body.len() / 2)
    } else if script.trailing_garbage {
        [&body[..], b"\n{\"garbage\":"].concat().into()
    } else {
        body
    };
    Reply::Whole(body, false)
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
