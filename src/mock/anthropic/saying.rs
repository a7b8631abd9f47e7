//! What a request of Anthropic's API wants to hear, why the answer stops, and its usage.

use serde::Serialize;
use serde_json::Value;

use crate::mock::{
    ask::Ask,
    behaviour::{Behaviour, UsageMode},
    saying::{Saying, Wanted, tokens},
    schema,
};

/// `Usage` of the API. The counts of input are disjoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    /// Not in the usage at a stream's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<CacheCreation>,
    pub(super) output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
    /// Not in the usage at a stream's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

/// What the client insists on.
pub(super) fn wanted(ask: &Ask<'_>) -> Wanted {
    Wanted { structured: structured(ask), tool: insisted_tool(ask), call_prefix: "toolu_01" }
}

/// The reason to stop that goes with what is said, or the one of the script.
pub(super) fn stop_reason(saying: &Saying, script: &Behaviour) -> String {
    match script.finish_reason.as_deref() {
        // A script that was written for OpenAI's format means the same here.
        Some("stop") => "end_turn".into(),
        Some("length") => "max_tokens".into(),
        Some("tool_calls" | "function_call") => "tool_use".into(),
        Some("content_filter") => "refusal".into(),
        Some(reason) => reason.into(),
        None if !saying.tool_calls.is_empty() => "tool_use".into(),
        None if saying.refusal.is_some() => "refusal".into(),
        None => "end_turn".into(),
    }
}

/// All tokens of input: what the script reports, or an estimate.
pub(super) fn input_tokens(ask: &Ask<'_>, script: &Behaviour) -> u64 {
    let parts = [ask.system, ask.messages, ask.tools].into_iter().flatten();
    script.usage.prompt_tokens.unwrap_or_else(|| tokens(parts.map(|raw| raw.get().len() as u64).sum()))
}

impl Usage {
    /// What the script reports, or the estimates.
    pub(super) fn of(ask: &Ask<'_>, saying: &Saying, script: &Behaviour) -> Self {
        let read = script.usage.cached_tokens.unwrap_or(0);
        let written = script.usage.cache_creation_tokens.unwrap_or(0);
        let thinking = script.usage.reasoning_tokens.unwrap_or(tokens(saying.thought()));
        let output = script.usage.completion_tokens.unwrap_or_else(|| tokens(saying.said(script)) + thinking);
        Self {
            input_tokens: input_tokens(ask, script).saturating_sub(read).saturating_sub(written),
            cache_creation_input_tokens: written,
            cache_read_input_tokens: read,
            cache_creation: Some(CacheCreation { ephemeral_5m_input_tokens: written, ephemeral_1h_input_tokens: 0 }),
            output_tokens: output,
            output_tokens_details: (thinking > 0).then_some(OutputDetails { thinking_tokens: thinking }),
            service_tier: Some("standard"),
        }
    }

    /// Input of every kind.
    pub(super) fn total_input(&self) -> u64 {
        self.input_tokens.saturating_add(self.cache_creation_input_tokens).saturating_add(self.cache_read_input_tokens)
    }

    /// The usage of a whole answer.
    pub(super) fn of_whole(self, mode: UsageMode) -> Option<Self> {
        (mode != UsageMode::Never).then_some(self)
    }

    /// The usage at a stream's start, where the input is known and the output has just begun.
    pub(super) fn at_start(self, mode: UsageMode) -> Option<Self> {
        match mode {
            UsageMode::Never => None,
            UsageMode::WithFinish => Some(Self::default()),
            UsageMode::Asked | UsageMode::Always | UsageMode::EveryChunk => {
                Some(Self { output_tokens: self.output_tokens.min(1), output_tokens_details: None, ..self })
            }
        }
    }

    /// The usage at a stream's end.
    pub(super) fn at_end(self, mode: UsageMode) -> Option<Self> {
        (mode != UsageMode::Never).then_some(Self { cache_creation: None, service_tier: None, ..self })
    }
}

/// An instance of the format the client asked for, if it asked for one.
fn structured(ask: &Ask<'_>) -> Option<String> {
    let config: Value = serde_json::from_str(ask.output_config?.get()).ok()?;
    let format = config.get("format").filter(|format| format["type"] == "json_schema")?;
    Some(schema::instance(&format["schema"]).to_string())
}

/// The schema of a tool the client insists on being called, with its name.
fn insisted_tool(ask: &Ask<'_>) -> Option<(String, Value)> {
    let choice: Value = serde_json::from_str(ask.tool_choice?.get()).ok()?;
    let tools: Vec<Value> = serde_json::from_str(ask.tools?.get()).ok()?;
    let tool = match choice["type"].as_str()? {
        "any" => tools.first()?,
        "tool" => tools.iter().find(|tool| tool["name"] == choice["name"])?,
        _ => return None,
    };
    Some((tool["name"].as_str().unwrap_or_default().to_owned(), tool["input_schema"].clone()))
}
