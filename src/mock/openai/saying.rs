//! What an answer says, before it takes the form of one object or of a stream.

use serde::Serialize;
use serde_json::Value;

use super::{Ask, id, schema, text::Text};
use crate::mock::behaviour::{Behaviour, UsageMode};

/// How much of the user's message is echoed, in characters.
const ECHO: usize = 2_000;

/// The content of an answer.
#[derive(Debug)]
pub(super) struct Saying {
    pub(super) reasoning: Option<Text>,
    pub(super) refusal: Option<Text>,
    /// `None` when the answer consists of tool calls or a refusal.
    pub(super) text: Option<Text>,
    pub(super) tool_calls: Vec<Call>,
    pub(super) finish_reason: String,
    pub(super) usage: Usage,
    length: u64,
}

/// A tool call, ready to be sent.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// `CompletionUsage` of the OpenAI API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
    pub(super) total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl Saying {
    /// What `script` says to `ask`; `choices` of them are given.
    pub(super) fn new(ask: &Ask<'_>, script: &Behaviour, number: u64, choices: u32) -> Self {
        let tool_calls = if script.empty { Vec::new() } else { calls(ask, script, number) };
        let refusal = script.refusal.clone().map(Text::Words).filter(|_| !script.empty);
        let text = text(ask, script, tool_calls.is_empty() && refusal.is_none());
        let reasoning = script.reasoning.clone().map(Text::Words).filter(|_| !script.empty);
        let finish_reason = match &script.finish_reason {
            Some(reason) => reason.clone(),
            None if tool_calls.is_empty() => "stop".into(),
            None => "tool_calls".into(),
        };
        let prompt =
            [ask.messages, ask.prompt, ask.tools].into_iter().flatten().map(|raw| raw.get().len() as u64).sum();
        let said = [&text, &refusal].into_iter().flatten().map(Text::len).sum::<u64>()
            + tool_calls.iter().map(|call| (call.name.len() + call.arguments.len()) as u64).sum::<u64>()
            + u64::from(script.frame_bytes.unwrap_or(0));
        let thought = reasoning.as_ref().map_or(0, Text::len);
        let usage = Usage::scripted(script, tokens(prompt), tokens(said) * u64::from(choices), tokens(thought));
        Self { reasoning, refusal, text, tool_calls, finish_reason, usage, length: said + thought }
    }

    /// The length of one choice in bytes.
    pub(super) fn len(&self) -> u64 {
        self.length
    }
}

impl Usage {
    /// What the script reports, or the estimates.
    pub(super) fn scripted(script: &Behaviour, prompt: u64, visible: u64, reasoning: u64) -> Self {
        let reasoning = script.usage.reasoning_tokens.unwrap_or(reasoning);
        let prompt = script.usage.prompt_tokens.unwrap_or(prompt);
        let completion = script.usage.completion_tokens.unwrap_or(visible + reasoning);
        Self {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt.saturating_add(completion),
            prompt_tokens_details: PromptDetails {
                cached_tokens: script.usage.cached_tokens.unwrap_or(0),
                audio_tokens: 0,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: reasoning,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }

    /// The usage once `chunks` chunks are out: a running total that never exceeds the final one.
    pub(super) fn so_far(self, chunks: u64) -> Self {
        let completion = chunks.min(self.completion_tokens);
        let mut details = self.completion_tokens_details;
        details.reasoning_tokens = details.reasoning_tokens.min(completion);
        Self {
            completion_tokens: completion,
            total_tokens: self.prompt_tokens.saturating_add(completion),
            completion_tokens_details: details,
            ..self
        }
    }

    /// The usage of a whole answer.
    pub(super) fn of_whole(self, mode: UsageMode) -> Option<Self> {
        (mode != UsageMode::Never).then_some(self)
    }
}

/// Four bytes are about a token.
pub(super) fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

fn text(ask: &Ask<'_>, script: &Behaviour, is_wanted: bool) -> Option<Text> {
    if script.empty {
        return Some(Text::Words(String::new()));
    }
    let unit = || script.chunk_text.clone().unwrap_or_else(|| "word ".into());
    match (&script.text, script.chunks) {
        (Some(text), Some(chunks)) => Some(Text::Parts(text.clone(), chunks)),
        (Some(text), None) => Some(Text::Words(text.clone())),
        (None, Some(chunks)) => Some(Text::Repeat(unit(), chunks)),
        (None, None) if script.chunk_text.is_some() => Some(Text::Repeat(unit(), 8)),
        (None, None) if is_wanted => Some(Text::Words(structured(ask).unwrap_or_else(|| echo(ask)))),
        (None, None) => None,
    }
}

/// An instance of the format the client asked for, if it asked for one.
fn structured(ask: &Ask<'_>) -> Option<String> {
    let format: Value = serde_json::from_str(ask.response_format?.get()).ok()?;
    match format["type"].as_str()? {
        "json_schema" => Some(schema::instance(&format["json_schema"]["schema"]).to_string()),
        "json_object" => Some(serde_json::json!({ "answer": echo(ask) }).to_string()),
        _ => None,
    }
}

fn echo(ask: &Ask<'_>) -> String {
    let said = match ask.prompt {
        Some(prompt) => serde_json::from_str::<String>(prompt.get()).ok(),
        None => ask.last_user_text(),
    };
    match said {
        Some(said) => format!("You said: {}", said.chars().take(ECHO).collect::<String>()),
        None => "This is an answer of the mock provider.".into(),
    }
}

fn calls(ask: &Ask<'_>, script: &Behaviour, number: u64) -> Vec<Call> {
    let made = |index: usize| format!("call_{}", id(number.wrapping_mul(131).wrapping_add(index as u64), 24));
    if script.tool_calls.is_empty() && script.text.is_none() && script.refusal.is_none() {
        let insisted = ask.insisted_tool();
        return insisted
            .map(|(name, schema)| Call { id: made(0), name, arguments: schema::instance(&schema).to_string() })
            .into_iter()
            .collect();
    }
    let written = |arguments: &Value| match arguments {
        Value::String(text) => text.clone(),
        Value::Null => "{}".into(),
        value => value.to_string(),
    };
    let scripted = script.tool_calls.iter().enumerate();
    scripted
        .map(|(index, call)| Call {
            id: call.id.clone().unwrap_or_else(|| made(index)),
            name: call.name.clone(),
            arguments: written(&call.arguments),
        })
        .collect()
}
