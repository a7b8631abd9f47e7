//! Every field of a request with a value of another type, one at a time; every value of a reply likewise.

use serde_json::{Value, json};

use super::*;

/// A request with every field that the gateway reads.
fn whole_openai() -> Value {
    json!({
        "model": "m",
        "messages": [
            { "role": "system", "content": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }] },
            { "role": "developer", "content": "d" },
            { "role": "user", "content": [
                { "type": "text", "text": "t" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
                { "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } },
                { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA" } },
            ] },
            { "role": "assistant", "content": "a", "tool_calls": [
                { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{}" } },
                { "id": "c2", "type": "custom", "custom": { "name": "g", "input": "x" } },
            ] },
            { "role": "tool", "tool_call_id": "c1", "content": [{ "type": "text", "text": "r" }] },
            { "role": "assistant", "refusal": "no", "content": [{ "type": "refusal", "refusal": "no" }] },
        ],
        "tools": [
            { "type": "function", "function": { "name": "f", "description": "d", "parameters": { "type": "object" }, "strict": true } },
            { "type": "custom", "custom": { "name": "g", "description": "d" } },
        ],
        "tool_choice": { "type": "function", "function": { "name": "f" } },
        "parallel_tool_calls": true,
        "response_format": { "type": "json_schema", "json_schema": { "name": "n", "description": "d", "schema": { "type": "object" }, "strict": true } },
        "temperature": 1.0,
        "top_p": 0.5,
        "top_k": 5,
        "max_completion_tokens": 10,
        "max_tokens": 10,
        "stop": ["a"],
        "reasoning_effort": "low",
        "service_tier": "auto",
        "user": "u",
        "safety_identifier": "u",
        "stream": true,
        "stream_options": { "include_usage": true },
        "n": 1,
        "web_search_options": { "user_location": { "type": "approximate", "approximate": { "city": "c", "country": "c", "region": "r", "timezone": "t" } } },
        "cache_control": { "type": "ephemeral" },
    })
}

/// The same for Anthropic's format.
fn whole_anthropic() -> Value {
    json!({
        "model": "m",
        "max_tokens": 10,
        "system": [{ "type": "text", "text": "s", "cache_control": { "type": "ephemeral" } }],
        "messages": [
            { "role": "user", "content": [
                { "type": "text", "text": "t" },
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "AAAA" } },
                { "type": "image", "source": { "type": "url", "url": "https://e.com/a.png" } },
                { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "d" }, "title": "t", "context": "c" },
                { "type": "document", "source": { "type": "content", "content": [{ "type": "text", "text": "x" }] } },
                { "type": "document", "source": { "type": "file", "file_id": "file_1" } },
                { "type": "search_result", "title": "t", "source": "s", "content": [{ "type": "text", "text": "x" }] },
            ] },
            { "role": "assistant", "content": [
                { "type": "thinking", "thinking": "t", "signature": "s" },
                { "type": "redacted_thinking", "data": "d" },
                { "type": "text", "text": "t", "citations": [] },
                { "type": "tool_use", "id": "i", "name": "f", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "tool_use_id": "i", "content": [{ "type": "text", "text": "x" }], "is_error": true, "cache_control": { "type": "ephemeral" } },
            ] },
        ],
        "tools": [
            { "name": "f", "description": "d", "input_schema": { "type": "object" }, "strict": true, "cache_control": { "type": "ephemeral" } },
            { "type": "web_search_20250305", "name": "web_search" },
        ],
        "tool_choice": { "type": "tool", "name": "f", "disable_parallel_tool_use": true },
        "thinking": { "type": "enabled", "budget_tokens": 2000 },
        "output_config": { "effort": "low", "format": { "type": "json_schema", "schema": { "type": "object" } } },
        "temperature": 1.0,
        "top_p": 0.5,
        "top_k": 5,
        "stop_sequences": ["a"],
        "service_tier": "auto",
        "metadata": { "user_id": "u" },
        "stream": true,
        "cache_control": { "type": "ephemeral" },
    })
}

/// What the gateway carries without reading it: whoever gets it judges it.
const CARRIED: &[&str] = &[
    ".parameters",
    ".schema",
    ".input_schema",
    "cache_control.",
    ".filename",
    ".user_location.type",
    // Read for its words, as far as there are any.
    "[6].title",
    "[6].source",
    "[6].content",
    // Of a text document; nothing depends on it.
    ".source.media_type",
];

/// Every place in a document, in the spelling of errors.
fn places(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    let mut visit = |name: String, pointer: String, value: &Value| {
        found.push((name.clone(), pointer));
        let mut inner = Vec::new();
        places(value, &name, &mut inner);
        let (_, base) = found.last().cloned().unwrap();
        found.extend(inner.into_iter().map(|(name, pointer)| (name, base.clone() + &pointer)));
    };
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let dotted = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                visit(dotted, format!("/{name}"), value);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                visit(format!("{path}[{index}]"), format!("/{index}"), value);
            }
        }
        _ => {}
    }
}

/// Values of every type but the one that is there.
fn others(value: &Value) -> Vec<Value> {
    let all = [json!(true), json!(-1.5), json!("?"), json!(["?"]), json!({ "?": 1 })];
    all.into_iter().filter(|other| std::mem::discriminant(other) != std::mem::discriminant(value)).collect()
}

/// Where another type is right as well.
fn is_right(path: &str, value: &Value) -> bool {
    match path {
        // One text stands for a list with it; numbers and words have one spelling each.
        "stop" | "system" => value.is_string(),
        // Some clients send a bare string for a part with a text, or for the object with a URL, and arguments as an object.
        path if path.ends_with(".content") => value.is_string() || value.is_array() && path.starts_with("messages"),
        path if path.ends_with(".image_url") => value.is_string(),
        path if path.ends_with(".arguments") => value.is_object(),
        path if path.ends_with(']') => value.is_string() && path.contains(".content["),
        _ => false,
    }
}

#[test]
fn a_field_of_another_type_is_refused_by_its_path() {
    let mut wrong = Vec::new();
    for (format, whole) in [(Format::OpenAiChat, whole_openai()), (Format::Anthropic, whole_anthropic())] {
        let text = whole.to_string();
        decode_request(format, text.as_bytes()).unwrap();
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        assert!(all.len() > 100, "{}", all.len());
        for (path, pointer) in all {
            if CARRIED.iter().any(|carried| path.contains(carried) || path.ends_with(carried.trim_end_matches('.')))
                && !path.ends_with("cache_control")
            {
                continue;
            }
            for other in others(whole.pointer(&pointer).unwrap()) {
                if is_right(&path, &other) {
                    continue;
                }
                let mut changed = whole.clone();
                *changed.pointer_mut(&pointer).unwrap() = other.clone();
                match decode_request(format, changed.to_string().as_bytes()) {
                    Ok(_) => wrong.push(format!("{format:?}: {path} = {other} is taken")),
                    // The value itself, or something that is missing in it or beside it.
                    Err(bad) if bad.path.starts_with(&path) || is_beside(&path, &bad.path) => {}
                    Err(bad) => wrong.push(format!("{format:?}: {path} = {other} is said of {bad}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// A type that is not known makes its neighbours unknown.
fn is_beside(path: &str, said: &str) -> bool {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    name == "type" && said.starts_with(parent)
}

/// Whether a whole reply is what clients rely on.
fn is_reply(format: Format, reply: &Value) -> Result<(), String> {
    let need = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {reply}")) };
    match format {
        Format::OpenAiChat => {
            let choice = &reply["choices"][0];
            let message = &choice["message"];
            need(
                reply["id"].is_string() && reply["object"] == "chat.completion" && reply["model"].is_string(),
                "head",
            )?;
            need(message["role"] == "assistant", "role")?;
            need(message["content"].is_string() || message["content"].is_null(), "content")?;
            let calls = message["tool_calls"].as_array().map_or(&[][..], Vec::as_slice);
            for call in calls {
                let is_function = call["function"]["name"].is_string() && call["function"]["arguments"].is_string();
                let is_custom = call["custom"]["name"].is_string() && call["custom"]["input"].is_string();
                need(call["id"].as_str().is_some_and(|id| !id.is_empty()) && (is_function || is_custom), "call")?;
            }
            let reason = choice["finish_reason"].as_str().unwrap_or_default();
            need(["stop", "length", "tool_calls", "content_filter"].contains(&reason), "reason")?;
            need(calls.is_empty() || reason != "stop", "calls and a clean stop")
        }
        Format::Anthropic => {
            need(reply["id"].is_string() && reply["type"] == "message" && reply["model"].is_string(), "head")?;
            for block in reply["content"].as_array().ok_or("no content")? {
                let fine = match block["type"].as_str().unwrap_or_default() {
                    "text" => block["text"].is_string(),
                    "thinking" => block["thinking"].is_string() && block["signature"].is_string(),
                    "tool_use" => block["id"].is_string() && block["name"].is_string() && block["input"].is_object(),
                    kind => !kind.is_empty(),
                };
                need(fine, "block")?;
            }
            need(reply["stop_reason"].is_string(), "reason")?;
            need(reply["usage"]["input_tokens"].is_u64() && reply["usage"]["output_tokens"].is_u64(), "usage")
        }
    }
}

#[test]
fn a_reply_with_a_value_of_another_type_is_an_error_or_a_whole_reply() {
    let mut wrong = Vec::new();
    let (mut refused, mut written) = (0, 0);
    for (name, from, text) in REPLIES {
        let whole: Value = serde_json::from_str(text).unwrap();
        let mut all = Vec::new();
        places(&whole, "", &mut all);
        for (path, pointer) in all {
            let missing = (path.clone() + " left out", None);
            let others = others(whole.pointer(&pointer).unwrap()).into_iter().chain([Value::Null]);
            let others = others.map(|other| (format!("{path} = {other}"), Some(other)));
            for (what, other) in others.chain([missing]) {
                let mut changed = whole.clone();
                match other {
                    Some(other) => *changed.pointer_mut(&pointer).unwrap() = other,
                    None => {
                        let (parent, name) = pointer.rsplit_once('/').unwrap();
                        match changed.pointer_mut(parent).unwrap() {
                            Value::Object(members) => drop(members.remove(name)),
                            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
                            _ => {}
                        }
                    }
                }
                let body = changed.to_string();
                let Ok(reply) = decode_reply(*from, body.as_bytes(), &Undo::default()) else {
                    refused += 1;
                    continue;
                };
                written += 1;
                let to = if *from == Format::OpenAiChat { Format::Anthropic } else { Format::OpenAiChat };
                let out = encode_reply(to, &reply, &options(), &mut Losses::default());
                let out: Value = serde_json::from_slice(&out).unwrap();
                if let Err(problem) = is_reply(to, &out) {
                    wrong.push(format!("{name}: {what}: {problem}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused > 50 && written > 100, "{refused} {written}");
}
