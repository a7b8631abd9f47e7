//! What one format demands and the other does not: parameters of OpenAI's generations, members that must not get lost in
//! silence, errors as each vendor's programs know them, and answers that lack what the client's format always has.

use serde_json::{Value, json};

use crate::{
    harness::*,
    messages::{CHAT, CLAUDE, CLAUDE_WHOLE, MESSAGES, ONCE, asked, http, play, stream, whole},
};

const OPEN_WHOLE: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;

/// A message with some members added or replaced.
fn message(more: Value) -> String {
    let mut body = json!({ "model": MODEL, "max_tokens": 50, "messages": [{ "role": "user", "content": "Hi" }] });
    let (Value::Object(members), Value::Object(more)) = (&mut body, more) else { panic!("objects") };
    members.extend(more);
    body.to_string()
}

#[tokio::test]
async fn what_a_generation_of_openais_models_refuses_is_left_out_and_named() {
    let upstream = RawUpstream::listen().await;
    let names = ["gpt-4o", "gpt-5", "gpt-5.4", "gpt-5.6"];
    let models = names.map(|name| format!("{name}: {{ targets: [a/{name}] }}")).join(", ");
    let config = format!("models: {{ {models} }}");
    let gate = Gate::build().upstream_with("a", upstream.address, "kind: openai").config(&config).start().await;
    let tools = json!([{ "name": "f", "input_schema": { "type": "object" } }]);
    let sampling = json!({ "temperature": 0.5, "stop_sequences": ["x"] });
    let tooled = json!({ "tools": tools });
    let thinking = json!({ "tools": tools, "thinking": { "type": "enabled", "budget_tokens": 2000 } });
    let highest = json!({ "output_config": { "effort": "xhigh" } });
    let off = json!({ "thinking": { "type": "disabled" }, "temperature": 0 });
    // What is sent of temperature, stop and effort, and what is lost.
    let cases = [
        ("gpt-4o", &sampling, (json!(0.5), json!(["x"]), Value::Null), ""),
        ("gpt-5", &sampling, (Value::Null, Value::Null, Value::Null), "stop_sequences, temperature"),
        ("gpt-5", &thinking, (Value::Null, Value::Null, json!("low")), ""),
        ("gpt-5", &highest, (Value::Null, Value::Null, json!("high")), "output_config.effort"),
        ("gpt-5", &json!({ "temperature": 1 }), (Value::Null, Value::Null, Value::Null), ""),
        ("gpt-5.4", &sampling, (json!(0.5), json!(["x"]), Value::Null), ""),
        ("gpt-5.4", &tooled, (Value::Null, Value::Null, Value::Null), ""),
        ("gpt-5.4", &thinking, (Value::Null, Value::Null, Value::Null), "thinking"),
        ("gpt-5.4", &highest, (Value::Null, Value::Null, json!("xhigh")), ""),
        ("gpt-5.4", &off, (json!(0), Value::Null, json!("none")), ""),
        ("gpt-5.6", &tooled, (Value::Null, Value::Null, json!("none")), ""),
        ("gpt-5.6", &thinking, (Value::Null, Value::Null, json!("none")), "thinking"),
        ("gpt-5.6", &sampling, (Value::Null, json!(["x"]), Value::Null), "temperature"),
    ];
    for (model, more, expected, lost) in &cases {
        let mut more = (*more).clone();
        more["model"] = json!(model);
        let (heard, (_, sent)) =
            tokio::join!(gate.post(MESSAGES, message(more.clone()), &[]), play(&upstream, whole(OPEN_WHOLE)));
        let found = (sent["temperature"].clone(), sent["stop"].clone(), sent["reasoning_effort"].clone());
        assert_eq!((&found, heard.header("x-switchboard-lossy")), (expected, *lost), "{model} {more}");
    }
    gate.unseen(cases.len() as u64);
    gate.finish().await;
}

#[tokio::test]
async fn an_error_that_a_provider_wraps_in_a_200_has_the_status_of_its_class() {
    let claude = |kind: &str| {
        format!("event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"{kind}\",\"message\":\"so\"}}}}\n\n")
    };
    let quota =
        "data: {\"error\":{\"message\":\"so\",\"type\":\"insufficient_quota\",\"code\":\"insufficient_quota\"}}\n\n";
    for (client, kind, said, status, word) in [
        (MESSAGES, CLAUDE, claude("overloaded_error"), 529, "overloaded_error"),
        (CHAT, CLAUDE, claude("overloaded_error"), 503, "service_unavailable_error"),
        (MESSAGES, CLAUDE, claude("not_found_error"), 404, "not_found_error"),
        (CHAT, CLAUDE, claude("request_too_large"), 413, "invalid_request_error"),
        (MESSAGES, "", quota.to_owned(), 402, "billing_error"),
        (CHAT, "", quota.to_owned(), 429, "rate_limit_error"),
    ] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, kind).config(ONCE).start().await;
        let (heard, _) = tokio::join!(gate.post(client, asked(client, true), &[]), play(&upstream, stream(&said)));
        let found = heard.json()["error"]["type"].clone();
        assert_eq!((heard.status, found.as_str()), (status, Some(word)), "{client} {said}");
        gate.unseen(1);
        gate.finish().await;
    }
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_told_in_the_words_that_programs_look_for() {
    const TOO_LONG: &str = r#"{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
    for is_wrapped in [false, true] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream("a", upstream.address).config(ONCE).start().await;
        let answer = match is_wrapped {
            false => http(400, "application/json", TOO_LONG),
            true => stream(&format!("data: {TOO_LONG}\n\n")),
        };
        let (heard, _) = tokio::join!(gate.post(MESSAGES, asked(MESSAGES, is_wrapped), &[]), play(&upstream, &answer));
        let error = heard.json();
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("prompt is too long: "), "{message}");
        assert!(message.ends_with("This model's maximum context length is 8192 tokens."), "{message}");
        assert_eq!((heard.status, &error["request_id"]), (400, &json!(heard.header("request-id"))));
        gate.unseen(1);
        gate.finish().await;
    }
}

#[tokio::test]
async fn what_is_not_served_below_messages_is_told_in_anthropics_shape() {
    let gate = Gate::build().mock("a").start().await;
    for (path, status, kind) in
        [("/v1/messages/batches", 404, "not_found_error"), ("/v1/messages/count_tokens/x", 404, "not_found_error")]
    {
        let heard = gate.post(path, "{}", &[]).await;
        let error = heard.json();
        assert_eq!((heard.status, &error["type"], &error["error"]["type"]), (status, &json!("error"), &json!(kind)));
        assert_eq!(error["request_id"], json!(heard.header("request-id")));
        gate.not_admitted();
    }
    let heard = gate.post("/v1/messagesx", "{}", &[]).await;
    assert_eq!((heard.status, &heard.json()["error"]["code"]), (404, &json!("unknown_path")));
    gate.finish().await;
}

#[tokio::test]
async fn calls_whose_blocks_overlap_are_told_apart() {
    let start = |index: u64| json!({ "type": "content_block_start", "index": index, "content_block": { "type": "tool_use", "id": format!("t{index}"), "name": "f", "input": {} } });
    let delta = |index: u64, json: &str| json!({ "type": "content_block_delta", "index": index, "delta": { "type": "input_json_delta", "partial_json": json } });
    let stop = |index: u64| json!({ "type": "content_block_stop", "index": index });
    let events = [
        json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant", "model": "c", "content": [], "stop_reason": null, "stop_sequence": null, "usage": { "input_tokens": 3, "output_tokens": 1 } } }),
        start(0),
        start(1),
        delta(0, "{\"a\""),
        delta(1, "{\"b\""),
        delta(1, ":2}"),
        delta(0, ":1}"),
        stop(1),
        stop(0),
        json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null }, "usage": { "output_tokens": 9 } }),
        json!({ "type": "message_stop" }),
    ];
    let text: String =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap())).collect();
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
    let (heard, _) = tokio::join!(gate.post(CHAT, asked(CHAT, true), &[]), play(&upstream, stream(&text)));
    let mut arguments = [String::new(), String::new()];
    for line in heard.text().lines().filter_map(|line| line.strip_prefix("data: {")) {
        let chunk: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        for call in chunk["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let words = call["function"]["arguments"].as_str().unwrap_or_default();
            arguments[call["index"].as_u64().unwrap() as usize].push_str(words);
        }
    }
    assert_eq!(arguments, [r#"{"a":1}"#, r#"{"b":2}"#]);
    assert!(heard.text().ends_with("data: [DONE]\n\n"), "{}", heard.text());
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn an_image_counts_the_same_however_large_it_is() {
    let gate = Gate::build().mock("a").start().await;
    let count = async |more: Value| {
        let heard = gate.post("/v1/messages/count_tokens", message(more), &[]).await;
        (heard.status, heard.json()["input_tokens"].as_u64().unwrap_or_default())
    };
    for source in [
        json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo/".repeat(20_000) }),
        json!({ "data": "iVBORw0KGgo/".repeat(20_000).replace('/', "+"), "media_type": "image/png", "type": "base64" }),
    ] {
        let content = json!([{ "type": "image", "source": source }, { "type": "text", "text": "What is it?" }]);
        let (status, tokens) = count(json!({ "messages": [{ "role": "user", "content": content }] })).await;
        assert!(status == 200 && (1_000..1_100).contains(&tokens), "{tokens}");
    }
    // Words are words, whatever the member is called.
    let words = json!([{ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "word ".repeat(10_000) } }]);
    let (_, tokens) = count(json!({ "messages": [{ "role": "user", "content": words }] })).await;
    assert!(tokens > 10_000, "{tokens}");
    assert_eq!(count(json!({ "messages": [{ "role": "nobody", "content": "x" }] })).await.0, 400);
    gate.finish().await;
}

#[tokio::test]
async fn usage_that_nobody_stated_is_estimated_for_both_directions() {
    let said = "word ".repeat(100);
    let reply = OPEN_WHOLE.replace("Hi", &said);
    let reply = reply.split_once(",\"usage\"").unwrap().0.to_owned() + "}";
    let chunk = |delta: Value, reason: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": reason });
        format!(
            "data: {}\n\n",
            json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice] })
        )
    };
    let chunks = chunk(json!({ "role": "assistant", "content": said }), Value::Null)
        + &chunk(json!({}), json!("stop"))
        + "data: [DONE]\n\n";
    for (is_stream, answer) in [(false, whole(&reply)), (true, stream(&chunks))] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream("a", upstream.address).start().await;
        let (heard, _) = tokio::join!(gate.post(MESSAGES, asked(MESSAGES, is_stream), &[]), play(&upstream, &answer));
        assert!(heard.text().contains("\"output_tokens\":125"), "{}", heard.text());
        gate.unseen(1);
        gate.finish().await;
    }
}

#[tokio::test]
async fn nothing_a_document_says_of_itself_is_lost_in_silence() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream("a", upstream.address).start().await;
    let text = json!({ "type": "text", "media_type": "text/plain", "data": "body" });
    let pdf = json!({ "type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" });
    let blocks = json!({ "type": "content", "content": [{ "type": "text", "text": "page" }] });
    let content = json!([
        { "type": "document", "source": text, "title": "T1", "context": "C1" },
        { "type": "document", "source": pdf, "title": "T2.pdf", "context": "C2" },
        { "type": "document", "source": blocks, "title": "T3", "context": "C3" },
        { "type": "search_result", "source": "https://e.com", "title": "T4", "content": [{ "type": "text", "text": "found" }], "citations": { "enabled": true } },
    ]);
    let body = message(
        json!({ "messages": [{ "role": "user", "content": content }], "metadata": { "user_id": "u", "team": "x" } }),
    );
    let (heard, (_, sent)) = tokio::join!(gate.post(MESSAGES, body, &[]), play(&upstream, whole(OPEN_WHOLE)));
    let parts = sent["messages"][0]["content"].as_array().unwrap();
    let words: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    assert_eq!(words, ["C1", "T1\n\nbody", "C2", "T3\n\nC3", "page", "T4\nhttps://e.com\n\nfound"]);
    let lossy = heard.header("x-switchboard-lossy").to_owned();
    assert!(lossy.contains("metadata.team") && lossy.contains("messages[0].content[3].citations"), "{lossy}");
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn what_the_clients_format_demands_is_demanded_where_the_provider_would_not_miss_it() {
    let gate = Gate::build()
        .mock("a")
        .config("models: { m: { targets: [a/up] }, capped: { targets: [a/up], defaults: { max_tokens: 9 } } }")
        .start()
        .await;
    let hello = json!([{ "role": "user", "content": "Hi" }]);
    for (body, status, names) in [
        (json!({ "model": "m", "messages": hello }), 400, "`max_tokens`"),
        (json!({ "model": "m", "max_tokens": 5, "messages": [] }), 400, "`messages`"),
        (json!({ "model": "capped", "messages": hello }), 200, ""),
    ] {
        let heard = gate.post(MESSAGES, body.to_string(), &[]).await;
        assert_eq!(heard.status, status, "{}", heard.text());
        assert!(heard.text().contains(names), "{}", heard.text());
    }
    gate.unseen(2);
    gate.finish().await;
}

#[tokio::test]
async fn of_several_answers_the_first_by_its_number_is_taken() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream("a", upstream.address).start().await;
    let choice = |index: u64, text: &str| json!({ "index": index, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
    let mut reply: Value = serde_json::from_str(OPEN_WHOLE).unwrap();
    reply["choices"] = json!([choice(1, "second"), choice(0, "first")]);
    let (heard, _) =
        tokio::join!(gate.post(MESSAGES, asked(MESSAGES, false), &[]), play(&upstream, whole(&reply.to_string())));
    assert_eq!(heard.json()["content"], json!([{ "type": "text", "text": "first" }]));
    assert_eq!(heard.header("x-switchboard-lossy"), "choices");
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn media_types_are_written_in_small_letters() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream_with("a", upstream.address, CLAUDE).start().await;
    let image = json!([{ "type": "image_url", "image_url": { "url": "data:image/PNG;base64,iVBORw0KGgo=" } }]);
    let body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": image }] });
    let (_, (_, sent)) = tokio::join!(gate.post(CHAT, body.to_string(), &[]), play(&upstream, whole(CLAUDE_WHOLE)));
    assert_eq!(sent["messages"][0]["content"][0]["source"]["media_type"], "image/png");
    gate.unseen(1);
    gate.finish().await;
}
