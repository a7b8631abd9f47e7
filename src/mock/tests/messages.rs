//! What is said in Anthropic's format, held against its grammar.

use bytes::Bytes;

use super::*;
use crate::wire::{
    anthropic::grammar::{Ending, Grammar},
    sse::FrameReader,
};

pub(super) const VERSION: &str = "anthropic-version: 2023-06-01\r\n";

impl Server {
    /// Posts a message with some members added.
    pub(super) async fn message(&self, more: Value) -> Arrived {
        self.call("POST", "/v1/messages", VERSION, &message(more).to_string()).await
    }
}

pub(super) fn message(more: Value) -> Value {
    let mut body = chat(more);
    body["max_tokens"] = 100.into();
    body
}

/// Holds a stream against the grammar; says how it ended and what text there was.
pub(super) fn checked(arrived: &Arrived) -> Result<(Ending, String), String> {
    let (mut frames, mut grammar) = (FrameReader::new(8 << 20), Grammar::default());
    frames.push(Bytes::copy_from_slice(&arrived.body));
    while let Some(frame) = frames.next().map_err(|_| "a frame is too long")? {
        grammar.check(&frame)?;
    }
    Ok((grammar.ending(), grammar.text().to_owned()))
}

fn clean(text: &str) -> Result<(Ending, String), String> {
    Ok((Ending::Clean, text.to_owned()))
}

/// The events of a stream.
pub(super) fn events(arrived: &Arrived) -> Vec<Value> {
    let text = arrived.text();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

pub(super) fn kinds(arrived: &Arrived) -> Vec<String> {
    events(arrived).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

fn joined(events: &[Value], index: u64, key: &str) -> String {
    let own = events.iter().filter(|event| event["type"] == "content_block_delta" && event["index"] == index);
    own.filter_map(|event| event["delta"][key].as_str()).collect()
}

#[tokio::test]
async fn a_whole_message_has_the_form_of_the_api() {
    let server = Server::start().await;
    let arrived = server.message(json!({})).await;
    let answer = arrived.json();
    assert_eq!((arrived.status, arrived.header("content-type")), (200, Some("application/json")));
    assert!(arrived.header("request-id").unwrap().starts_with("req_01") && arrived.header("x-request-id").is_none());
    assert_eq!(arrived.header("anthropic-ratelimit-requests-remaining"), Some("3999"));
    assert!(arrived.header("anthropic-ratelimit-output-tokens-reset").unwrap().ends_with('Z'));
    assert!(answer["id"].as_str().unwrap().starts_with("msg_01"));
    assert_eq!(
        (&answer["type"], &answer["role"], &answer["model"]),
        (&json!("message"), &json!("assistant"), &json!("m"))
    );
    assert_eq!(answer["content"], json!([{ "type": "text", "text": "You said: Hello there" }]));
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    assert_eq!(answer["usage"]["output_tokens"], 6);
    let billed = server.mock.requests()[0].billed().cloned().unwrap();
    assert_eq!((billed.id.as_deref(), billed.completion_tokens), (answer["id"].as_str(), 6));
    assert_eq!(Some(billed.prompt_tokens), answer["usage"]["input_tokens"].as_u64());
}

#[tokio::test]
async fn a_streamed_message_has_the_form_of_the_api() {
    let server = Server::start().await;
    let arrived = server.message(json!({ "stream": true })).await;
    assert_eq!(arrived.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(checked(&arrived), clean("You said: Hello there"));
    let expected = ["message_start", "content_block_start", "ping", "content_block_delta"];
    assert_eq!(kinds(&arrived)[..4], expected);
    let events = events(&arrived);
    assert_eq!(
        events[1],
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } })
    );
    let delta = json!({ "type": "text_delta", "text": "You" });
    assert_eq!(events[3], json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
    let [stopped, end, stop] = &events[events.len() - 3..] else { panic!("three events") };
    assert_eq!(*stopped, json!({ "type": "content_block_stop", "index": 0 }));
    assert_eq!(end["delta"], json!({ "stop_reason": "end_turn", "stop_sequence": null, "stop_details": null }));
    assert_eq!((&end["usage"]["output_tokens"], stop), (&json!(6), &json!({ "type": "message_stop" })));
}

#[tokio::test]
async fn every_stream_without_a_fault_obeys_the_grammar() {
    let calls = json!([{ "name": "f", "arguments": { "a": "a long argument, for several pieces" } }, { "name": "g" }]);
    let hello = "You said: Hello there";
    let cases = [
        (json!({}), hello),
        (json!({ "text": "" }), ""),
        (json!({ "text": "a b", "chunks": 7 }), "a b"),
        (json!({ "chunks": 3, "chunk_text": "ä" }), "äää"),
        (json!({ "chunks": 0 }), ""),
        (json!({ "reasoning": "let me think", "text": "so" }), "so"),
        (json!({ "reasoning": "hm", "redacted_reasoning": "ENCRYPTED" }), hello),
        (json!({ "tool_calls": calls }), ""),
        (json!({ "tool_calls": calls, "text": "I look", "reasoning": "hm" }), "I look"),
        (json!({ "tool_calls": calls, "frame_bytes": 3 }), "xxx"),
        (json!({ "refusal": "I will not." }), "I will not."),
        (json!({ "refusal": "No.", "text": "Yes", "frame_bytes": 2 }), "xxNo.Yes"),
        (json!({ "finish_reason": "length" }), hello),
        (json!({ "empty": true }), ""),
        (json!({ "preamble": 3, "comments": true }), hello),
        (json!({ "frame_bytes": 1 << 20, "text": "" }), &"x".repeat(1 << 20)),
        (json!({ "split": 3, "text": "grüß Gott" }), "grüß Gott"),
        (json!({ "split_random": 4 }), hello),
        (json!({ "coalesce": true }), hello),
        (json!({ "line_ending": "crlf" }), hello),
        (json!({ "bom": true, "line_ending": "cr" }), hello),
        (json!({ "usage": { "prompt_tokens": 9, "cached_tokens": 9 } }), hello),
        (json!({ "usage_mode": "every_chunk" }), hello),
        (json!({ "end_after_chunk": 99, "hang_after_chunks": 99 }), hello),
    ];
    let server = Server::start().await;
    for (script, text) in cases {
        let arrived = server.message(streamed(script.clone())).await;
        assert!(arrived.is_complete, "{script}");
        assert_eq!(checked(&arrived), clean(text), "{script}");
    }
    for model in ["mock-tools", "mock-reasoning", "mock-refusal"] {
        let arrived = server.message(json!({ "model": model, "stream": true })).await;
        assert_eq!(checked(&arrived).unwrap().0, Ending::Clean, "{model}");
    }
}

#[tokio::test]
async fn thinking_is_signed_and_comes_before_the_text() {
    let server = Server::start().await;
    let script = json!({ "reasoning": "a b", "signature": "SIGNED", "redacted_reasoning": "DATA", "text": "c" });
    let whole = server.message(json!({ "mock": script })).await.json();
    let content = json!([
        { "type": "redacted_thinking", "data": "DATA" },
        { "type": "thinking", "thinking": "a b", "signature": "SIGNED" },
        { "type": "text", "text": "c" },
    ]);
    assert_eq!((&whole["content"], &whole["usage"]["output_tokens_details"]["thinking_tokens"]), (&content, &json!(1)));
    let events = events(&server.message(streamed(script)).await);
    assert_eq!(joined(&events, 1, "thinking") + &joined(&events, 1, "signature"), "a bSIGNED");
    let made = server.message(json!({ "model": "mock-reasoning" })).await.json();
    assert!(made["content"][0]["signature"].as_str().unwrap().len() > 100);
}

#[tokio::test]
async fn calls_are_blocks_in_a_row() {
    let calls = json!([
        { "name": "first", "arguments": { "a": "a long argument, for several pieces" }, "id": "toolu_mine" },
        { "name": "second", "arguments": "{\"not\": \"closed" },
        { "name": "third" },
    ]);
    let server = Server::start().await;
    let whole = server.message(json!({ "mock": { "tool_calls": calls } })).await.json();
    let first = json!({ "type": "tool_use", "id": "toolu_mine", "name": "first",
        "input": { "a": "a long argument, for several pieces" } });
    assert_eq!((&whole["content"][0], &whole["stop_reason"]), (&first, &json!("tool_use")));
    assert_eq!(
        (&whole["content"][1]["input"], &whole["content"][2]["input"]),
        (&json!("{\"not\": \"closed"), &json!({}))
    );
    assert!(whole["content"][1]["id"].as_str().unwrap().starts_with("toolu_01"));
    let arrived = server.message(streamed(json!({ "tool_calls": calls }))).await;
    let events = events(&arrived);
    let starts: Vec<&Value> = events.iter().filter(|event| event["type"] == "content_block_start").collect();
    let begun = json!({ "type": "tool_use", "id": "toolu_mine", "name": "first", "input": {} });
    assert_eq!((starts.len(), &starts[0]["content_block"]), (3, &begun));
    assert_eq!(joined(&events, 0, "partial_json"), r#"{"a":"a long argument, for several pieces"}"#);
    assert_eq!(joined(&events, 1, "partial_json"), "{\"not\": \"closed");
    assert_eq!(joined(&events, 2, "partial_json"), "{}");
}

#[tokio::test]
async fn what_the_client_insists_on_is_given_in_a_message() {
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
    let server = Server::start().await;
    let tools = json!([{ "name": "e", "input_schema": {} }, { "name": "f", "input_schema": schema }]);
    let named = json!({ "tools": tools, "tool_choice": { "type": "tool", "name": "f" } });
    let answer = server.message(named).await.json();
    assert_eq!((&answer["content"][0]["name"], &answer["content"][0]["input"]), (&json!("f"), &json!({ "n": 1 })));
    let any = server.message(json!({ "tools": tools, "tool_choice": { "type": "any" } })).await.json();
    assert_eq!(any["content"][0]["name"], "e");
    let auto = server.message(json!({ "tools": tools, "tool_choice": { "type": "auto" } })).await.json();
    assert_eq!(auto["stop_reason"], "end_turn");
    let format = json!({ "format": { "type": "json_schema", "schema": schema } });
    let answer = server.message(json!({ "output_config": format })).await.json();
    assert_eq!(answer["content"][0]["text"], r#"{"n":1}"#);
    let results = json!([{ "type": "tool_result", "tool_use_id": "a", "content": "42" }]);
    let turns = json!([{ "role": "user", "content": [{ "type": "text", "text": "Sum" }] },
        { "role": "assistant", "content": "" }, { "role": "user", "content": results }]);
    let answer = server.message(json!({ "messages": turns })).await.json();
    assert_eq!(answer["content"][0]["text"], "You said: Sum");
}

#[tokio::test]
async fn reasons_to_stop_are_the_apis() {
    let server = Server::start().await;
    let cases = [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("tool_calls", "tool_use"),
        ("content_filter", "refusal"),
        ("pause_turn", "pause_turn"),
        ("stop_sequence", "stop_sequence"),
    ];
    for (scripted, reason) in cases {
        let more = json!({ "stop_sequences": ["END", "STOP"], "mock": { "finish_reason": scripted } });
        let answer = server.message(more).await.json();
        assert_eq!(answer["stop_reason"], reason);
        let sequence = if reason == "stop_sequence" { json!("END") } else { Value::Null };
        assert_eq!((&answer["stop_sequence"], answer["stop_details"].is_object()), (&sequence, reason == "refusal"));
    }
}

#[tokio::test]
async fn usage_is_disjoint_and_comes_at_the_start_and_at_the_end() {
    let server = Server::start().await;
    let usage = json!({ "prompt_tokens": 100, "cached_tokens": 60, "cache_creation_tokens": 30,
        "completion_tokens": 40, "reasoning_tokens": 25 });
    let whole = server.message(json!({ "mock": { "usage": usage } })).await.json();
    let expected = json!({ "input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 60,
        "cache_creation": { "ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0 }, "output_tokens": 40,
        "output_tokens_details": { "thinking_tokens": 25 }, "service_tier": "standard" });
    assert_eq!(whole["usage"], expected);
    // For each mode: input and output at the start, and at the end.
    let (some, null) = (|count: u64| json!(count), Value::Null);
    let cases = [
        ("asked", [some(10), some(1), some(10), some(40)]),
        ("always", [some(10), some(1), some(10), some(40)]),
        ("every_chunk", [some(10), some(1), some(10), some(40)]),
        ("with_finish", [some(0), some(0), some(10), some(40)]),
        ("never", [null.clone(), null.clone(), null.clone(), null]),
    ];
    for (mode, expected) in cases {
        let events = events(&server.message(streamed(json!({ "usage": usage, "usage_mode": mode }))).await);
        let (start, end) = (&events[0]["message"]["usage"], &events[events.len() - 2]["usage"]);
        let found = [start, end].map(|usage| [usage["input_tokens"].clone(), usage["output_tokens"].clone()]);
        assert_eq!(found.as_flattened(), expected, "{mode}");
    }
    let billed: Vec<_> = server.mock.requests().iter().filter_map(|request| request.billed().cloned()).collect();
    assert_eq!(billed.len(), 6);
    assert!(billed.iter().all(|billed| (billed.prompt_tokens, billed.completion_tokens) == (100, 40)));
}
