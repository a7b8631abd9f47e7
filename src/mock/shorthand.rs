//! Model names that are scripts: the easiest way to ask for trouble from any client.

use super::{behaviour::Behaviour, endpoint::Format};

/// A model name and the script it stands for.
pub(super) struct Shorthand {
    pub(super) name: &'static str,
    pub(super) script: &'static str,
    pub(super) meaning: &'static str,
}

/// Names whose script is another where the answer is in Anthropic's format: its API says the same in other words.
const IN_ANTHROPIC: &[(&str, &str)] = &[
    ("mock-quota", r#"{"status":402,"message":"Your credit balance is too low to access the Anthropic API."}"#),
    ("mock-context-length", r#"{"status":400,"message":"prompt is too long: 8200 tokens > 8192 maximum"}"#),
    ("mock-content-filter", r#"{"status":400,"message":"Output blocked by content filtering policy"}"#),
];

/// All model names that stand for a script, besides `mock-status-NNN`.
#[rustfmt::skip]
pub(super) const SHORTHANDS: &[Shorthand] = &[
    Shorthand { name: "mock-rate-limited", script: r#"{"status":429,"retry_after":1}"#, meaning: "429, to be retried after one second" },
    Shorthand { name: "mock-quota", script: r#"{"status":429,"error_type":"insufficient_quota","error_code":"insufficient_quota","message":"You exceeded your current quota."}"#, meaning: "429 that no retry will cure" },
    Shorthand { name: "mock-context-length", script: r#"{"status":400,"error_code":"context_length_exceeded","message":"This model's maximum context length is 8192 tokens."}"#, meaning: "400, the prompt is too long" },
    Shorthand { name: "mock-content-filter", script: r#"{"status":400,"error_code":"content_policy_violation","message":"The request was rejected by the safety system."}"#, meaning: "400, the prompt is refused" },
    Shorthand { name: "mock-slow", script: r#"{"delay":"3s"}"#, meaning: "three seconds to the response head" },
    Shorthand { name: "mock-slow-stream", script: r#"{"chunk_delay":"200ms"}"#, meaning: "a chunk each 200 ms" },
    Shorthand { name: "mock-hang", script: r#"{"hang":true}"#, meaning: "never answers" },
    Shorthand { name: "mock-stall", script: r#"{"hang_after_chunks":2}"#, meaning: "falls silent in the middle" },
    Shorthand { name: "mock-reset", script: r#"{"reset":"before_head"}"#, meaning: "connection reset before the head" },
    Shorthand { name: "mock-reset-mid", script: r#"{"reset":{"after_chunk":2}}"#, meaning: "connection reset in the middle" },
    Shorthand { name: "mock-cut", script: r#"{"cut_at_byte":300}"#, meaning: "connection closed in the middle" },
    Shorthand { name: "mock-end-early", script: r#"{"end_after_chunk":2}"#, meaning: "correct end of the body, unfinished stream" },
    Shorthand { name: "mock-no-done", script: r#"{"omit_done":true}"#, meaning: "a stream without [DONE] or message_stop" },
    Shorthand { name: "mock-empty", script: r#"{"empty":true}"#, meaning: "200 without output" },
    Shorthand { name: "mock-empty-body", script: r#"{"empty_body":true}"#, meaning: "200 with zero bytes" },
    Shorthand { name: "mock-invalid-json", script: r#"{"invalid_json":true}"#, meaning: "JSON that breaks off" },
    Shorthand { name: "mock-html", script: r#"{"html":true}"#, meaning: "200 with an HTML page" },
    Shorthand { name: "mock-error-first", script: r#"{"error_first":true}"#, meaning: "a stream whose first event is an error" },
    Shorthand { name: "mock-error-mid", script: r#"{"error_after_chunks":2}"#, meaning: "a stream with an error in the middle" },
    Shorthand { name: "mock-gzip", script: r#"{"encoding":"gzip"}"#, meaning: "a compressed answer" },
    Shorthand { name: "mock-huge", script: r#"{"frame_bytes":1048576}"#, meaning: "a chunk of 1 MiB" },
    Shorthand { name: "mock-tools", script: r#"{"tool_calls":[{"name":"get_weather","arguments":{"city":"Paris"}},{"name":"get_time","arguments":{"zone":"Europe/Paris"}}]}"#, meaning: "two parallel tool calls" },
    Shorthand { name: "mock-reasoning", script: r#"{"reasoning":"Let me think about that."}"#, meaning: "reasoning before the answer" },
    Shorthand { name: "mock-refusal", script: r#"{"refusal":"I cannot help with that."}"#, meaning: "a refusal" },
];

/// The script that `model` stands for, if it is one. A provider's prefix (`openai/mock-hang`) does no harm.
pub(super) fn script(model: &str, format: Format) -> Option<Result<Behaviour, String>> {
    let name = model.rsplit('/').next().unwrap_or(model);
    if !name.starts_with("mock-") {
        return None;
    }
    if let Some(status) = name.strip_prefix("mock-status-") {
        let behaviour = status.parse().map(Behaviour::status).map_err(|_| format!("`{status}` is not a status"));
        return Some(behaviour.and_then(|behaviour| behaviour.check().map(|()| behaviour)));
    }
    let shorthand = SHORTHANDS.iter().find(|shorthand| shorthand.name == name)?;
    let other = IN_ANTHROPIC.iter().find(|(other, _)| format == Format::Anthropic && *other == name);
    Some(Behaviour::from_json(other.map_or(shorthand.script, |(_, script)| script)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shorthand_is_a_valid_script() {
        for shorthand in SHORTHANDS {
            for format in [Format::OpenAi, Format::Anthropic] {
                assert!(script(shorthand.name, format).unwrap().is_ok(), "{}", shorthand.name);
            }
        }
        assert!(IN_ANTHROPIC.iter().all(|(name, _)| SHORTHANDS.iter().any(|shorthand| shorthand.name == *name)));
        let script = |name| script(name, Format::OpenAi);
        assert_eq!(script("openai/mock-status-503").unwrap().unwrap().status, Some(503));
        assert!(script("mock-status-9").unwrap().is_err() && script("mock-status-x").unwrap().is_err());
        assert!(script("mock").is_none() && script("mock-large").is_none() && script("gpt-5.5").is_none());
    }
}
