//! What a request of the OpenAI API wants to hear, and the usage of the answer.

use serde::Serialize;
use serde_json::Value;

use crate::mock::{
    ask::Ask,
    behaviour::{Behaviour, UsageMode},
    saying::{Saying, Wanted, echo, tokens},
    schema,
};

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

/// What the client insists on.
pub(super) fn wanted(ask: &Ask<'_>) -> Wanted {
    Wanted { structured: structured(ask), tool: insisted_tool(ask), call_prefix: "call_" }
}

/// The finish reason that goes with what is said.
pub(super) fn finish_reason(saying: &Saying, script: &Behaviour) -> String {
    match &script.finish_reason {
        Some(reason) => reason.clone(),
        None if saying.tool_calls.is_empty() => "stop".into(),
        None => "tool_calls".into(),
    }
}

impl Usage {
    /// What the script reports for an answer of `choices` choices, or the estimates.
    pub(super) fn of(ask: &Ask<'_>, saying: &Saying, script: &Behaviour, choices: u32) -> Self {
        let prompt =
            [ask.messages, ask.prompt, ask.tools].into_iter().flatten().map(|raw| raw.get().len() as u64).sum();
        let visible = tokens(saying.said(script)) * u64::from(choices);
        let reasoning = script.usage.reasoning_tokens.unwrap_or(tokens(saying.thought()));
        let prompt = script.usage.prompt_tokens.unwrap_or(tokens(prompt));
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

/// An instance of the format the client asked for, if it asked for one.
fn structured(ask: &Ask<'_>) -> Option<String> {
    let format: Value = serde_json::from_str(ask.response_format?.get()).ok()?;
    match format["type"].as_str()? {
        "json_schema" => Some(schema::instance(&format["json_schema"]["schema"]).to_string()),
        "json_object" => Some(serde_json::json!({ "answer": echo(ask) }).to_string()),
        _ => None,
    }
}

/// The schema of a function the client insists on being called, with its name.
fn insisted_tool(ask: &Ask<'_>) -> Option<(String, Value)> {
    let choice: Value = serde_json::from_str(ask.tool_choice?.get()).ok()?;
    let tools: Vec<Value> = serde_json::from_str(ask.tools?.get()).ok()?;
    let wanted = choice["function"]["name"].as_str();
    if wanted.is_none() && choice != "required" {
        return None;
    }
    let tool = tools.iter().map(|tool| &tool["function"]).find(|function| match wanted {
        Some(name) => function["name"] == name,
        None => function.is_object(),
    })?;
    Some((tool["name"].as_str().unwrap_or_default().to_owned(), tool["parameters"].clone()))
}
