//! Anthropic's messages: in the pass lane, and translated in both directions, whole and streamed, to the end and not.

use serde_json::{Value, json};
use switchboard::{
    telemetry::Outcome,
    types::UsageSource,
    wire::{
        anthropic,
        anthropic::grammar::Ending,
        openai_chat,
        sse::{Frame, FrameReader},
    },
};

use crate::harness::*;

pub const CLAUDE: &str = "kind: anthropic";
pub const MESSAGES: &str = "/v1/messages";
pub const CHAT: &str = "/v1/chat/completions";

/// One try for each call.
pub const ONCE: &str = "retries: { max_attempts: 1 }";

/// What Claude says when it is asked for two tools at once.
pub const CLAUDE_WHOLE: &str = r#"{"id":"msg_01","type":"message","role":"assistant","model":"claude-opus-4-8","content":[{"type":"thinking","thinking":"Both at once.","signature":"c2lnbmF0dXJlLW9m"},{"type":"text","text":"Looking."},{"type":"tool_use","id":"toolu_1","name":"weather","input":{"city":"Oslo"}},{"type":"tool_use","id":"toolu_2","name":"weather","input":{"city":"Rome"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":9,"cache_read_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":4},"output_tokens":40}}"#;

/// The same, streamed.
const CLAUDE_EVENTS: &[(&str, &str)] = &[
    (
        "message_start",
        r#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-opus-4-8","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":9,"cache_read_input_tokens":100,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":4},"output_tokens":1}}}"#,
    ),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
    ),
    ("ping", r#"{"type": "ping"}"#),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Both at once."}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"c2lnbmF0dXJlLW9m"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
    ("content_block_start", r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Looking."}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":1}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"weather","input":{}}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"city\":"}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\"Oslo\"}"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":2}"#),
    (
        "content_block_start",
        r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_2","name":"weather","input":{}}}"#,
    ),
    (
        "content_block_delta",
        r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"city\":\"Rome\"}"}}"#,
    ),
    ("content_block_stop", r#"{"type":"content_block_stop","index":3}"#),
    (
        "message_delta",
        r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":40}}"#,
    ),
    ("message_stop", r#"{"type":"message_stop"}"#),
];

/// What a model of OpenAI's format says when it is asked for two tools at once.
const OPEN_WHOLE: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1790000000,"model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"Looking.","refusal":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}},{"id":"call_2","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":134,"completion_tokens":40,"total_tokens":174,"prompt_tokens_details":{"cached_tokens":100},"completion_tokens_details":{"reasoning_tokens":10}}}"#;

/// The same, streamed, with the calls interleaved.
const OPEN_CHUNKS: &[&str] = &[
    r#""choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"content":"Look"},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"content":"ing."},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_2","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\"city\":"}}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"Oslo\"}"}}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"\"Rome\"}"}}]},"finish_reason":null}]"#,
    r#""choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]"#,
    r#""choices":[],"usage":{"prompt_tokens":134,"completion_tokens":40,"total_tokens":174,"prompt_tokens_details":{"cached_tokens":100},"completion_tokens_details":{"reasoning_tokens":10}}"#,
];

pub fn claude_stream() -> String {
    CLAUDE_EVENTS.iter().map(|(event, data)| format!("event: {event}\ndata: {data}\n\n")).collect()
}

fn open_stream() -> String {
    let chunk = |chunk: &&str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,\"model\":\"gpt-x\",{chunk}}}\n\n"
        )
    };
    OPEN_CHUNKS.iter().map(chunk).chain(["data: [DONE]\n\n".to_owned()]).collect()
}

pub fn http(status: u16, kind: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\nrequest-id: req_theirs\r\nanthropic-ratelimit-requests-remaining: 7\r\n\r\n{body}"
    )
}

pub fn whole(body: &str) -> String {
    http(200, "application/json", body)
}

/// A stream whose end is the end of the connection.
pub fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{body}")
}

/// Answers the next request, and gives its head and its body.
pub async fn play(upstream: &RawUpstream, answer: impl AsRef<[u8]>) -> (String, Value) {
    let mut exchange = upstream.accept().await;
    exchange.send(answer).await;
    let (head, body) = exchange.request.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap())
}

pub fn asked(client: &str, is_stream: bool) -> String {
    let mut body = if client == MESSAGES {
        json!({ "model": MODEL, "max_tokens": 500, "system": "Be brief.", "messages": [{ "role": "user", "content": "Weather?" }],
            "tools": [{ "name": "weather", "input_schema": { "type": "object", "properties": { "city": { "type": "string" } } } }] })
    } else {
        json!({ "model": MODEL, "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "Weather?" }],
            "tools": [{ "type": "function", "function": { "name": "weather", "parameters": { "type": "object", "properties": { "city": { "type": "string" } } } } }] })
    };
    if is_stream {
        body["stream"] = true.into();
    }
    body.to_string()
}

fn frames(body: &[u8]) -> Vec<Frame> {
    let mut reader = FrameReader::new(1 << 20);
    reader.push(bytes::Bytes::copy_from_slice(body));
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// Checks a stream against the grammar of its client's format; gives how it ended and its text.
pub fn checked(client: &str, body: &[u8]) -> (Ending, String) {
    let wrong = |problem: String| panic!("{problem}:\n{}", String::from_utf8_lossy(body));
    if client == MESSAGES {
        let mut grammar = anthropic::grammar::Grammar::default();
        frames(body).iter().for_each(|frame| grammar.check(frame).unwrap_or_else(wrong));
        (grammar.ending(), grammar.text().to_owned())
    } else {
        let mut grammar = openai_chat::grammar::Grammar::default();
        frames(body).iter().for_each(|frame| grammar.check(frame).unwrap_or_else(wrong));
        (grammar.ending(), grammar.text().to_owned())
    }
}

#[tokio::test]
async fn messages_pass_byte_for_byte_where_the_provider_speaks_them() {
    for is_stream in [false, true] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
        let sent = if is_stream { claude_stream() } else { CLAUDE_WHOLE.to_owned() };
        let answer = if is_stream { stream(&sent) } else { whole(&sent) };
        // Odd spelling is kept; the key comes as Anthropic's SDKs send it.
        let body = format!(
            r#"{{ "max_tokens":5e2,"model": "m","messages":[{{"role":"user","content":"\u0041"}}],"stream":{is_stream},"x":[1.0] }}"#
        );
        let headers = [
            ("authorization", "none"),
            ("x-api-key", KEY),
            ("anthropic-beta", "one,two"),
            ("anthropic-version", "2023-06-01"),
        ];
        let (heard, exchange) = tokio::join!(gate.post(MESSAGES, body.clone(), &headers), upstream.accept_and(&answer));
        assert_eq!((heard.status, heard.text()), (200, sent));
        let (head, request) = exchange.split_once("\r\n\r\n").unwrap();
        assert_eq!(request, body.replace("\"m\"", "\"up\""));
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/messages http/1.1\r\n"), "{head}");
        for line in ["x-api-key: up-key-a", "anthropic-version: 2023-06-01", "anthropic-beta: one,two"] {
            assert!(head.contains(&format!("\r\n{line}")), "{line}: {head}");
        }
        assert!(!head.contains("authorization") && !head.contains(KEY), "{head}");
        assert_eq!(heard.header("request-id"), heard.header("x-request-id"));
        if !is_stream {
            assert_eq!(heard.header("anthropic-ratelimit-requests-remaining"), "7");
            assert_eq!(heard.header("x-upstream-request-id"), "req_theirs");
        }
        gate.unseen(1);
        let (_, rows) = gate.finish_books().await;
        let attempt = &rows[0].attempts[0];
        let usage = attempt.usage;
        assert_eq!((usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h), (25, 100, 5, 4));
        assert_eq!((usage.output, attempt.usage_source), (40, UsageSource::Reported));
        assert_eq!(
            (attempt.provider_id.as_deref(), rows[0].finish_reason.as_deref()),
            (Some("msg_01"), Some("tool_use"))
        );
    }
}

#[tokio::test]
async fn clients_of_anthropic_reach_models_of_openais_format() {
    for is_stream in [false, true] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream("a", upstream.address).start().await;
        let answer = if is_stream { stream(&open_stream()) } else { whole(OPEN_WHOLE) };
        let (heard, (head, request)) =
            tokio::join!(gate.post("/messages", asked(MESSAGES, is_stream), &[]), play(&upstream, &answer));
        assert_eq!(heard.status, 200, "{}", heard.text());
        assert!(head.starts_with("POST /v1/chat/completions "), "{head}");
        assert_eq!((&request["model"], &request["max_tokens"]), (&json!("up"), &json!(500)));
        assert_eq!(request["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        assert_eq!(request["tools"][0]["function"]["name"], "weather");
        assert_eq!(request["stream_options"]["include_usage"], if is_stream { json!(true) } else { Value::Null });
        let calls: Vec<(String, Value)> = if is_stream {
            assert_eq!(checked(MESSAGES, &heard.body), (Ending::Clean, "Looking.".to_owned()));
            claude_calls(&heard.body)
        } else {
            let message = heard.json();
            assert_eq!(
                (&message["stop_reason"], &message["content"][0]["text"]),
                (&json!("tool_use"), &json!("Looking."))
            );
            let blocks = message["content"].as_array().unwrap()[1..].iter();
            blocks.map(|block| (block["id"].as_str().unwrap().to_owned(), block["input"].clone())).collect()
        };
        let expected =
            [("call_1".to_owned(), json!({ "city": "Oslo" })), ("call_2".to_owned(), json!({ "city": "Rome" }))];
        assert_eq!(calls, expected);
        gate.unseen(1);
        let (_, rows) = gate.finish_books().await;
        let usage = rows[0].attempts[0].usage;
        assert_eq!((usage.input, usage.cache_read, usage.output, usage.reasoning), (34, 100, 30, 10));
        assert_eq!((rows[0].outcome, rows[0].finish_reason.as_deref()), (Outcome::Ok, Some("tool_calls")));
    }
}

/// The calls of a stream of Anthropic's, put together.
fn claude_calls(body: &[u8]) -> Vec<(String, Value)> {
    let events = frames(body).into_iter().map(|frame| serde_json::from_slice::<Value>(&frame.data().unwrap()).unwrap());
    let mut calls: Vec<(u64, String, String)> = Vec::new();
    for event in events {
        let index = event["index"].as_u64().unwrap_or(0);
        if event["content_block"]["type"] == "tool_use" {
            calls.push((index, event["content_block"]["id"].as_str().unwrap().to_owned(), String::new()));
        }
        if let Some(json) = event["delta"]["partial_json"].as_str() {
            calls.iter_mut().find(|call| call.0 == index).unwrap().2.push_str(json);
        }
    }
    calls.into_iter().map(|(_, id, json)| (id, serde_json::from_str(&json).unwrap())).collect()
}

#[tokio::test]
async fn clients_of_openai_reach_claude() {
    for is_stream in [false, true] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
        let answer = if is_stream { stream(&claude_stream()) } else { whole(CLAUDE_WHOLE) };
        let (heard, (head, request)) = tokio::join!(
            gate.post(CHAT, asked(CHAT, is_stream), &[("openai-beta", "x"), ("anthropic-beta", "y")]),
            play(&upstream, &answer)
        );
        assert_eq!(heard.status, 200, "{}", heard.text());
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/messages ") && head.contains("\r\nanthropic-version: 2023-06-01"), "{head}");
        assert!(!head.contains("-beta"), "{head}");
        assert_eq!((&request["model"], &request["max_tokens"]), (&json!("up"), &json!(4096)));
        assert_eq!(request["tools"][0]["name"], "weather");
        if is_stream {
            assert_eq!(checked(CHAT, &heard.body), (Ending::Clean, "Looking.".to_owned()));
            let text = heard.text();
            assert!(text.contains("toolu_1") && text.contains("toolu_2") && !text.contains("\"usage\":{"), "{text}");
        } else {
            let choice = &heard.json()["choices"][0];
            assert_eq!(
                (&choice["finish_reason"], &choice["message"]["content"]),
                (&json!("tool_calls"), &json!("Looking."))
            );
            assert_eq!(choice["message"]["tool_calls"][1]["function"]["arguments"], r#"{"city":"Rome"}"#);
            let usage = &heard.json()["usage"];
            assert_eq!(
                (&usage["prompt_tokens"], &usage["prompt_tokens_details"]["cached_tokens"]),
                (&json!(134), &json!(100))
            );
        }
        gate.unseen(1);
        let (_, rows) = gate.finish_books().await;
        let usage = rows[0].attempts[0].usage;
        assert_eq!((usage.input, usage.cache_read, usage.cache_write, usage.cache_write_1h), (25, 100, 5, 4));
        assert_eq!((usage.output, rows[0].finish_reason.as_deref()), (40, Some("tool_use")));
    }
}

#[tokio::test]
async fn errors_of_a_provider_are_shown_in_the_clients_format_with_the_status_its_sdks_go_by() {
    const TOO_LONG: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"},"request_id":"req_1"}"#;
    const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    const LIMITED: &str =
        r#"{"error":{"message":"Rate limit reached","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;
    const NO_QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    // The client's path, the provider's kind, what it answers; the status the client gets, and the type or code.
    let cases = [
        (MESSAGES, CLAUDE, 400, TOO_LONG, 400, "invalid_request_error"),
        (MESSAGES, CLAUDE, 529, OVERLOADED, 529, "overloaded_error"),
        (MESSAGES, "", 429, LIMITED, 429, "rate_limit_error"),
        (MESSAGES, "", 429, NO_QUOTA, 402, "billing_error"),
        (MESSAGES, "", 500, "<html>", 500, "api_error"),
        (CHAT, CLAUDE, 400, TOO_LONG, 400, "context_length_exceeded"),
        (CHAT, CLAUDE, 529, OVERLOADED, 503, "service_unavailable_error"),
        (CHAT, "", 429, LIMITED, 429, "rate_limit_exceeded"),
    ];
    for (client, kind, said, body, status, word) in cases {
        for is_stream in [false, true] {
            let upstream = RawUpstream::listen().await;
            let gate = Gate::build().upstream_with("a", upstream.address, kind).config(ONCE).start().await;
            let answer = http(said, "application/json", body);
            let (heard, _) = tokio::join!(gate.post(client, asked(client, is_stream), &[]), play(&upstream, &answer));
            let error = &heard.json()["error"];
            let found = if client == MESSAGES || error["code"].is_null() { &error["type"] } else { &error["code"] };
            assert_eq!(
                (heard.status, found.as_str().unwrap_or_default()),
                (status, word),
                "{client} {kind} {said}: {}",
                heard.text()
            );
            assert_eq!(heard.json()["type"] == "error", client == MESSAGES);
            if client == MESSAGES && kind == CLAUDE {
                assert_eq!(heard.text(), body, "what is in the client's shape passes");
            }
            gate.unseen(1);
            let (_, rows) = gate.finish_books().await;
            assert_eq!(rows[0].attempts[0].status, Some(said), "the ledger has the provider's own status");
        }
    }
}

#[tokio::test]
async fn the_gateways_own_errors_are_in_the_clients_format() {
    let gate = Gate::build().mock("a").start().await;
    let cases = [
        ("{", 400, "invalid_request_error"),
        (r#"{"model":"m"}"#, 400, "invalid_request_error"),
        (r#"{"model":"nothing","max_tokens":1,"messages":[]}"#, 404, "not_found_error"),
        (
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
            400,
            "invalid_request_error",
        ),
    ];
    for (body, status, kind) in cases {
        let heard = gate.post(MESSAGES, body, &[]).await;
        let error = heard.json();
        assert_eq!(
            (heard.status, &error["type"], &error["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{body}"
        );
        assert_eq!(error["request_id"], heard.header("request-id"));
        // Nothing of these settles but the last, which had been admitted.
        if status == 404 || !body.contains("content") {
            gate.not_admitted();
        }
    }
    let heard = gate.post(MESSAGES, asked(MESSAGES, false), &[("authorization", "Bearer wrong-key-0123456789")]).await;
    assert_eq!((heard.status, &heard.json()["error"]["type"]), (401, &json!("authentication_error")));
    gate.not_admitted();
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_anywhere_never_ends_cleanly() {
    for (client, kind, text) in
        [(MESSAGES, CLAUDE, claude_stream()), (MESSAGES, "", open_stream()), (CHAT, CLAUDE, claude_stream())]
    {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, kind).config(ONCE).start().await;
        // The last event of Anthropic's streams and OpenAI's reason to stop make a stream complete.
        let whole = if kind == CLAUDE { text.len() - 2 } else { text.find("\"choices\":[],").unwrap() - 110 };
        let mut calls = 0;
        for cut in (0..whole).step_by(13) {
            let answer = stream(&text[..cut]);
            let (heard, _) = tokio::join!(gate.post(client, asked(client, true), &[]), play(&upstream, &answer));
            calls += 1;
            if heard.status == 200 {
                assert_eq!(checked(client, &heard.body).0, Ending::Error, "{client} {kind} at {cut}: {}", heard.text());
            } else {
                assert_eq!(heard.status, 502, "{client} {kind} at {cut}: {}", heard.text());
            }
        }
        gate.unseen(calls);
        let (_, rows) = gate.finish_books().await;
        assert!(rows.iter().all(|row| row.outcome != Outcome::Ok), "{client} {kind}");
        if kind == CLAUDE {
            // What was counted at the beginning holds, and what was said since is added to it.
            let cut = rows.iter().filter(|row| row.finish_reason.is_none());
            let usages = cut.map(|row| row.attempts[0].usage).filter(|usage| usage.input == 25);
            let most = usages.map(|usage| (usage.cache_read, usage.output)).max();
            assert!(most.is_some_and(|(cached, output)| cached == 100 && output > 10), "{most:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_torn_after_its_answers_end_does_not_end_cleanly() {
    let text = open_stream();
    let usage = text[..text.find("\"choices\":[],").unwrap()].rfind("data:").unwrap();
    for client in [MESSAGES, CHAT] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, "").config(ONCE).start().await;
        let (mut torn, mut calls) = (0, 0);
        for cut in (usage..text.len()).step_by(5).chain([text.len()]) {
            let answer = stream(&text[..cut]);
            let (heard, _) = tokio::join!(gate.post(client, asked(client, true), &[]), play(&upstream, &answer));
            calls += 1;
            let last = text[..cut].rsplit('\n').next().unwrap();
            let is_whole = last.is_empty() || last == "data: [DONE]" || last.ends_with("}}");
            torn += usize::from(!is_whole);
            let ending = checked(client, &heard.body).0;
            assert_eq!(ending, if is_whole { Ending::Clean } else { Ending::Error }, "{client} at {cut}: {last}");
        }
        assert!(torn > 20, "{torn}");
        gate.unseen(calls);
        let (_, rows) = gate.finish_books().await;
        assert_eq!(rows.iter().filter(|row| row.outcome == Outcome::Cut).count(), torn);
    }
}

#[tokio::test]
async fn a_fallback_that_speaks_another_format_starts_from_the_clients_own_bytes() {
    for (client, path) in [(CHAT, "POST /v1/chat/completions "), (MESSAGES, "POST /v1/messages ")] {
        for is_stream in [false, true] {
            let (claude, open) = (RawUpstream::listen().await, RawUpstream::listen().await);
            let targets = if client == CHAT { "[claude/up, open/m]" } else { "[open/up, claude/m]" };
            let gate = Gate::build()
                .upstream_with("claude", claude.address, CLAUDE)
                .upstream("open", open.address)
                .config(&format!("models: {{ m: {{ targets: {targets} }} }}"))
                .start()
                .await;
            let failure = http(
                529,
                "application/json",
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            );
            let (first, second) = if client == CHAT { (&claude, &open) } else { (&open, &claude) };
            let answer = match (client == CHAT, is_stream) {
                (true, false) => whole(OPEN_WHOLE),
                (true, true) => stream(&open_stream()),
                (false, false) => whole(CLAUDE_WHOLE),
                (false, true) => stream(&claude_stream()),
            };
            // A member of the client's own format that the other does not have.
            let body = asked(client, is_stream).replacen('{', r#"{"own_member":[1.0],"#, 1);
            let (heard, _, exchange) =
                tokio::join!(gate.post(client, body.clone(), &[]), play(first, &failure), second.accept_and(&answer));
            assert_eq!(heard.status, 200, "{}", heard.text());
            assert!(exchange.starts_with(path), "{exchange}");
            let request: Value = serde_json::from_str(exchange.split_once("\r\n\r\n").unwrap().1).unwrap();
            let mut expected: Value = serde_json::from_str(&body).unwrap();
            if client == CHAT && is_stream {
                expected["stream_options"] = json!({ "include_usage": true });
            }
            assert_eq!(request, expected);
            assert_eq!((heard.header("x-switchboard-attempts"), heard.header("x-switchboard-lossy")), ("2", ""));
            if is_stream {
                assert_eq!(checked(client, &heard.body).0, Ending::Clean);
            }
            gate.unseen(2);
            gate.finish().await;
        }
    }
}

#[tokio::test]
async fn tokens_are_counted_by_the_provider_or_estimated() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build()
        .upstream_with("claude", upstream.address, CLAUDE)
        .mock("open")
        .config("models: { m: { targets: [claude/up] }, o: { targets: [open/up] } }")
        .start()
        .await;
    let path = "/v1/messages/count_tokens";
    let answer = whole(r#"{"input_tokens":2095}"#);
    let (heard, (head, _)) = tokio::join!(gate.post(path, asked(MESSAGES, false), &[]), play(&upstream, &answer));
    assert_eq!((heard.status, heard.text().as_str()), (200, r#"{"input_tokens":2095}"#));
    assert!(head.starts_with("POST /v1/messages/count_tokens ") && heard.header("x-switchboard-estimated").is_empty());
    // A provider without the endpoint is as good as none.
    let (heard, _) =
        tokio::join!(gate.post(path, asked(MESSAGES, false), &[]), play(&upstream, http(404, "text/plain", "")));
    assert_eq!((heard.status, heard.header("x-switchboard-estimated")), (200, "true"));
    let long =
        json!({ "model": "o", "system": "word ".repeat(1_000), "messages": [{ "role": "user", "content": "Hi" }] });
    let heard = gate.post(path, long.to_string(), &[]).await;
    let count = heard.json()["input_tokens"].as_u64().unwrap();
    assert_eq!((heard.status, heard.header("x-switchboard-estimated")), (200, "true"));
    assert!((1_000..1_600).contains(&count), "{count}");
    gate.unseen(2);
    let (_, rows) = gate.finish_books().await;
    assert!(rows.iter().all(|row| row.cost().is_none_or(|cost| cost.0 == 0)), "counting is free");
    assert_eq!((rows.len(), rows.iter().filter(|row| row.attempts.is_empty()).count()), (3, 1));
    assert_eq!(&*rows[0].operation, "count_tokens");
}

#[tokio::test]
async fn signed_thinking_comes_back_although_the_client_cannot_send_it() {
    let key = "{ name: other, value: other-key-0123456789, models: [\"*\"] }";
    for is_stream in [false, true] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).key(key).start().await;
        let answer = if is_stream { stream(&claude_stream()) } else { whole(CLAUDE_WHOLE) };
        _ = tokio::join!(gate.post(CHAT, asked(CHAT, is_stream), &[]), play(&upstream, &answer));
        let call = |id: &str, city: &str| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}") } });
        let mut turn: Value = serde_json::from_str(&asked(CHAT, false)).unwrap();
        let more = json!([
            { "role": "assistant", "content": "Looking.", "tool_calls": [call("toolu_1", "Oslo"), call("toolu_2", "Rome")] },
            { "role": "tool", "tool_call_id": "toolu_1", "content": "rain" },
            { "role": "tool", "tool_call_id": "toolu_2", "content": "sun" },
        ]);
        turn["messages"].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
        let (_, (_, request)) =
            tokio::join!(gate.post(CHAT, turn.to_string(), &[]), play(&upstream, whole(CLAUDE_WHOLE)));
        let thinking = json!({ "type": "thinking", "thinking": "Both at once.", "signature": "c2lnbmF0dXJlLW9m" });
        assert_eq!(request["messages"][1]["content"][0], thinking, "{request}");
        let headers = [("authorization", "Bearer other-key-0123456789")];
        let (_, (_, request)) =
            tokio::join!(gate.post(CHAT, turn.to_string(), &headers), play(&upstream, whole(CLAUDE_WHOLE)));
        assert!(!request.to_string().contains("c2lnbmF0dXJlLW9m"), "another key's thinking: {request}");
        gate.unseen(3);
        gate.finish().await;
    }
}

#[tokio::test]
async fn what_cannot_be_said_is_declared_or_refused() {
    let policies = [
        ("lossy: declare\n", "", "", 200),
        ("lossy: strict\n", "", "", 400),
        ("", ", lossy: strict", "", 400),
        ("lossy: strict\n", ", lossy: declare", "", 200),
        // What the call itself asks for; it cannot ask for less.
        ("", ", lossy: declare", "Strict", 400),
        ("", ", lossy: strict", "declare", 400),
    ];
    for (of_all, own, asked_for, status) in policies {
        for is_stream in [false, true] {
            let upstream = RawUpstream::listen().await;
            let model = format!("{of_all}models: {{ m: {{ targets: [a/claude-opus-4-8]{own} }} }}");
            let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).config(&model).start().await;
            let body = asked(CHAT, is_stream).replacen('{', r#"{"logit_bias":{"1":2},"#, 1);
            let headers = [("x-switchboard-lossy", asked_for)];
            let call = gate.post(CHAT, body, &headers);
            if status == 200 {
                let answer = if is_stream { stream(&claude_stream()) } else { whole(CLAUDE_WHOLE) };
                let (heard, (_, request)) = tokio::join!(call, play(&upstream, &answer));
                assert_eq!((heard.status, heard.header("x-switchboard-lossy")), (200, "logit_bias"));
                assert!(request.get("logit_bias").is_none());
            } else {
                let heard = call.await;
                assert_eq!((heard.status, heard.code().as_str()), (400, "lossy_translation"), "{}", heard.text());
                assert!(heard.json()["error"]["message"].as_str().unwrap().contains("`logit_bias`"));
            }
            gate.unseen(1);
            gate.finish().await;
        }
    }
}

#[tokio::test]
async fn silence_is_filled_in_the_clients_format_and_too_much_of_it_is_an_error_event() {
    for (client, kind, head, filler) in [
        (MESSAGES, "", &open_stream()[..900], "event: ping\n"),
        (MESSAGES, CLAUDE, &claude_stream()[..1_200], "event: ping\n"),
        (CHAT, CLAUDE, &claude_stream()[..1_200], ": keepalive\n"),
    ] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, kind).start().await;
        let request = gate.request(client, asked(client, true), &[]);
        let (response, mut exchange) = tokio::join!(request.send(), async {
            let mut exchange = upstream.accept().await;
            exchange.begin_stream().await;
            exchange.send(head).await;
            exchange
        });
        let mut live = Live::of(response.unwrap());
        let mut text = live.next().await.map(|bytes| bytes.to_vec()).unwrap();
        for _ in 0..400 {
            gate.advance(secs(1)).await;
            text.extend(live.ready().await.into_bytes());
            if String::from_utf8_lossy(&text).contains("error") {
                break;
            }
        }
        assert!(String::from_utf8_lossy(&text).contains(filler), "{client} {kind}");
        assert_eq!(checked(client, &text).0, Ending::Error, "{client} {kind}");
        exchange.closed().await;
        drop(live);
        gate.unseen(1);
        let (_, rows) = gate.finish_books().await;
        assert_eq!(rows[0].outcome, Outcome::TimeoutBetweenChunks);
    }
}

#[tokio::test]
async fn a_document_that_cannot_be_sent_is_refused_and_never_left_out() {
    let gate = Gate::build().mock("a").config("fetch: { enabled: false }").start().await;
    let document = json!({ "type": "document", "source": { "type": "url", "url": "https://example.com/a.pdf" } });
    let body = json!({ "model": MODEL, "max_tokens": 5, "messages": [{ "role": "user", "content": [document] }] });
    let heard = gate.post(MESSAGES, body.to_string(), &[]).await;
    assert_eq!((heard.status, &heard.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert!(heard.text().contains("messages[0].content[0].source.url"), "{}", heard.text());
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn a_client_of_openais_that_asks_for_usage_in_its_stream_gets_it() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
    let body = asked(CHAT, true).replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
    let (heard, _) = tokio::join!(gate.post(CHAT, body, &[]), play(&upstream, stream(&claude_stream())));
    assert_eq!(checked(CHAT, &heard.body).0, Ending::Clean);
    let events = heard.events();
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!((&last["usage"]["prompt_tokens"], &last["usage"]["completion_tokens"]), (&json!(134), &json!(40)));
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn a_provider_that_says_nothing_or_fails_before_its_first_word_costs_the_client_nothing() {
    let empty: String = CLAUDE_EVENTS[..1]
        .iter()
        .chain(&CLAUDE_EVENTS[16..])
        .map(|(event, data)| format!("event: {event}\ndata: {}\n\n", data.replace("tool_use", "end_turn")))
        .collect();
    let overloaded = format!(
        "{}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n",
        empty.split_inclusive("\n\n").next().unwrap()
    );
    for (failure, outcome) in [(empty, Outcome::Empty), (overloaded, Outcome::UpstreamError)] {
        for client in [CHAT, MESSAGES] {
            let (first, second) = (RawUpstream::listen().await, RawUpstream::listen().await);
            let gate = Gate::build()
                .upstream_with("a", first.address, CLAUDE)
                .upstream_with("b", second.address, CLAUDE)
                .config("models: { m: { targets: [a/up, b/up] } }")
                .start()
                .await;
            let (heard, _, _) = tokio::join!(
                gate.post(client, asked(client, true), &[]),
                play(&first, stream(&failure)),
                play(&second, stream(&claude_stream()))
            );
            assert_eq!((heard.status, checked(client, &heard.body).0), (200, Ending::Clean));
            gate.unseen(2);
            let (_, rows) = gate.finish_books().await;
            assert_eq!(rows[0].attempts[0].outcome, outcome, "{client}");
        }
    }
}

#[tokio::test]
async fn a_file_by_its_id_comes_with_the_header_that_it_needs() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
    let file = json!({ "type": "file", "file": { "file_id": "file_011" } });
    let body =
        chat(json!({ "messages": [{ "role": "user", "content": [file, { "type": "text", "text": "Read." }] }] }));
    let (heard, (head, request)) =
        tokio::join!(gate.post(CHAT, body.to_string(), &[]), play(&upstream, whole(CLAUDE_WHOLE)));
    assert_eq!(heard.status, 200);
    assert_eq!(request["messages"][0]["content"][0]["source"], json!({ "type": "file", "file_id": "file_011" }));
    assert!(head.to_ascii_lowercase().contains("\r\nanthropic-beta: files-api-2025-04-14\r\n"), "{head}");
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn thinking_of_another_model_does_not_reach_claude_in_the_pass_lane() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
    let thinking = |signature: &str| json!({ "type": "thinking", "thinking": "Hm.", "signature": signature });
    let text = json!({ "type": "text", "text": "Yes." });
    let body = json!({ "model": MODEL, "max_tokens": 50, "own_member": [1.5], "messages": [
        { "role": "user", "content": "A?" },
        { "role": "assistant", "content": [thinking("switchboard.unsigned"), text] },
        { "role": "user", "content": "B?" },
        { "role": "assistant", "content": [thinking("c2ln"), text] },
        { "role": "user", "content": "C?" },
    ] });
    let (heard, (_, request)) =
        tokio::join!(gate.post(MESSAGES, body.to_string(), &[]), play(&upstream, whole(CLAUDE_WHOLE)));
    assert_eq!((heard.status, heard.text().as_str()), (200, CLAUDE_WHOLE));
    let mut expected = body;
    expected["model"] = "up".into();
    expected["messages"][1]["content"] = json!([text]);
    assert_eq!(request, expected);
    gate.unseen(1);
    gate.finish().await;
}
