//! What is said: the forms of OpenAI's API.

use super::*;

#[tokio::test]
async fn a_whole_answer_has_the_form_of_the_api() {
    let server = Server::start().await;
    let arrived = server.chat(json!({})).await;
    let answer = arrived.json();
    assert_eq!((arrived.status, arrived.header("content-type")), (200, Some("application/json")));
    assert!(arrived.header("x-request-id").unwrap().starts_with("req_"));
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-") && answer["created"].is_u64());
    assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("m")));
    let message =
        json!({ "role": "assistant", "content": "You said: Hello there", "refusal": null, "annotations": [] });
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": "stop" });
    assert_eq!(answer["choices"], json!([choice]));
    let usage = &answer["usage"];
    assert_eq!(usage["total_tokens"].as_u64(), Some(usage["prompt_tokens"].as_u64().unwrap() + 6));
}

#[tokio::test]
async fn a_stream_has_the_form_of_the_api() {
    let server = Server::start().await;
    let arrived = server.chat(json!({ "stream": true, "stream_options": { "include_usage": true } })).await;
    assert_eq!(arrived.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(arrived.is_complete && arrived.text().ends_with("data: [DONE]\n\n"));
    let chunks = arrived.chunks();
    let delta = |n: usize| &chunks[n]["choices"][0]["delta"];
    assert_eq!(*delta(0), json!({ "role": "assistant", "content": "", "refusal": null }));
    assert_eq!(*delta(1), json!({ "content": "You" }));
    assert_eq!(arrived.content(), "You said: Hello there");
    let [finish, usage] = &chunks[chunks.len() - 2..] else { panic!("two chunks") };
    assert_eq!(finish["choices"], json!([{ "index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop" }]));
    assert_eq!((&finish["usage"], &usage["choices"]), (&Value::Null, &json!([])));
    assert_eq!(usage["usage"]["completion_tokens"], 6);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["object"] == "chat.completion.chunk"));
}

#[tokio::test]
async fn usage_comes_in_every_way_providers_have() {
    // For each mode: is the client asked, chunks without the member, with null, with numbers, and without choices.
    let cases = [
        ("asked", false, (5, 0, 0, 0)),
        ("asked", true, (0, 5, 1, 1)),
        ("always", false, (0, 5, 1, 1)),
        ("never", true, (5, 0, 0, 0)),
        ("every_chunk", false, (0, 0, 5, 0)),
        ("with_finish", true, (4, 0, 1, 0)),
    ];
    let server = Server::start().await;
    for (mode, include_usage, expected) in cases {
        let script = json!({ "chunks": 3, "usage_mode": mode, "usage": { "completion_tokens": 7 } });
        let options = json!({ "include_usage": include_usage });
        let chunks = server.chat(json!({ "stream": true, "stream_options": options, "mock": script })).await.chunks();
        let count = |is: fn(&Value) -> bool| chunks.iter().filter(|chunk| is(chunk)).count();
        let found = (
            count(|chunk| chunk.get("usage").is_none()),
            count(|chunk| chunk.get("usage") == Some(&Value::Null)),
            count(|chunk| chunk["usage"].is_object()),
            count(|chunk| chunk["choices"] == json!([])),
        );
        assert_eq!(found, expected, "{mode} {include_usage}");
        let last = chunks.iter().rev().find(|chunk| chunk["usage"].is_object());
        assert!(last.is_none_or(|chunk| chunk["usage"]["completion_tokens"] == 7), "{mode}");
    }
}

#[tokio::test]
async fn parallel_tool_calls_are_interleaved_and_whole_again_when_joined() {
    let calls = json!([
        { "name": "first", "arguments": { "a": "a long argument, for several pieces" } },
        { "name": "second", "arguments": "{\"not\": \"closed, and sent as it is" },
    ]);
    let server = Server::start().await;
    let arrived = server.chat(streamed(json!({ "tool_calls": calls }))).await;
    let chunks = arrived.chunks();
    let parts: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0])
        .filter(|part| part.is_object())
        .collect();
    let order: Vec<u64> = parts.iter().map(|part| part["index"].as_u64().unwrap()).collect();
    assert_eq!(order[..6], [0, 1, 0, 1, 0, 1]);
    let joined = |index: usize| -> String {
        let own = parts.iter().filter(|part| part["index"] == index);
        own.filter_map(|part| part["function"]["arguments"].as_str()).collect()
    };
    assert_eq!(joined(0), r#"{"a":"a long argument, for several pieces"}"#);
    assert_eq!(joined(1), "{\"not\": \"closed, and sent as it is");
    assert_eq!(chunks[0]["choices"][0]["delta"]["content"], Value::Null);
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");

    let whole = server.chat(json!({ "mock": { "tool_calls": calls } })).await.json();
    let message = &whole["choices"][0]["message"];
    assert_eq!((&message["content"], &message["tool_calls"][0]["function"]["name"]), (&Value::Null, &json!("first")));
    assert!(message["tool_calls"][1]["id"].as_str().unwrap().starts_with("call_"));
}

#[tokio::test]
async fn what_the_client_insists_on_is_given() {
    let schema = json!({ "type": "object", "required": ["n"], "properties": { "n": { "type": "integer" } } });
    let server = Server::start().await;
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let answer = server.chat(json!({ "response_format": format })).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], r#"{"n":1}"#);
    let tools = json!([{ "type": "function", "function": { "name": "f", "parameters": schema } }]);
    let answer = server.chat(json!({ "tools": tools, "tool_choice": "required" })).await.json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(*call, json!({ "name": "f", "arguments": r#"{"n":1}"# }));
    let answer = server.chat(json!({ "tools": tools })).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn several_choices_and_all_kinds_of_output_are_given() {
    let server = Server::start().await;
    let script = json!({ "text": "a b", "reasoning": "hm", "refusal": "no", "preamble": 1, "finish_reason": "length" });
    let whole = server.chat(json!({ "n": 2, "mock": script })).await.json();
    assert_eq!(whole["choices"][1]["index"], 1);
    let message = &whole["choices"][1]["message"];
    assert_eq!((&message["reasoning_content"], &message["refusal"]), (&json!("hm"), &json!("no")));
    let chunks = server.chat(json!({ "n": 2, "stream": true, "mock": script })).await.chunks();
    for index in 0..2 {
        let own: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|own| own["index"] == index).collect();
        let said = |key: &str| own.iter().filter_map(|own| own["delta"][key].as_str()).collect::<String>();
        assert_eq!(
            (said("content"), said("reasoning_content"), said("refusal")),
            ("a b".into(), "hm".into(), "no".into())
        );
        assert_eq!(own.iter().filter(|own| own["delta"]["role"] == "assistant").count(), 2);
        assert_eq!(own.last().unwrap()["finish_reason"], "length");
    }
}

#[tokio::test]
async fn completions_echo_their_prompt_whole_and_streamed() {
    let server = Server::start().await;
    let body = |stream: bool| json!({ "model": "m", "prompt": "Hi you", "stream": stream }).to_string();
    let whole = server.call("POST", "/completions", "", &body(false)).await.json();
    assert_eq!(
        (&whole["object"], &whole["choices"][0]["text"]),
        (&json!("text_completion"), &json!("You said: Hi you"))
    );
    let streamed = server.call("POST", "/any/prefix/v1/completions", "", &body(true)).await;
    let chunks = streamed.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!((text.as_str(), &chunks[0]["choices"][0]["finish_reason"]), ("You said: Hi you", &Value::Null));
    assert!(streamed.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn embeddings_depend_on_their_input_alone() {
    let server = Server::start().await;
    let call = async |more: Value| {
        let mut body = json!({ "model": "e", "input": ["a", "b", "a"] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.call("POST", "/v1/embeddings", "", &body.to_string()).await
    };
    let floats = call(json!({ "dimensions": 3 })).await.json();
    let vector = |n: usize| floats["data"][n]["embedding"].clone();
    assert_eq!((vector(0), vector(0).as_array().unwrap().len(), vector(0) == vector(1)), (vector(2), 3, false));
    let length: f64 = vector(0).as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-5);
    let coded = call(json!({ "dimensions": 3, "encoding_format": "base64" })).await.json();
    let bytes: Vec<u8> =
        vector(0).as_array().unwrap().iter().flat_map(|x| (x.as_f64().unwrap() as f32).to_le_bytes()).collect();
    let mut expected = String::new();
    super::super::base64::encode(&bytes, &mut expected);
    assert_eq!(coded["data"][0]["embedding"], expected);
    assert_eq!(call(json!({ "input": [1, 2] })).await.json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(call(json!({ "input": [] })).await.status, 400);
}

#[tokio::test]
async fn a_large_answer_is_made_while_it_is_sent() {
    let server = Server::start().await;
    let script = json!({ "embedding_count": 20_000, "embedding_dimensions": 32 });
    let body = json!({ "model": "e", "input": "a", "mock": script }).to_string();
    let arrived = server.call("POST", "/v1/embeddings", "", &body).await;
    assert!(arrived.is_complete && arrived.body.len() > 5_000_000 && arrived.pieces.len() > 50);
    let answer = arrived.json();
    assert_eq!((answer["data"].as_array().unwrap().len(), &answer["data"][19_999]["index"]), (20_000, &json!(19_999)));
}

#[tokio::test]
async fn a_wrong_request_is_refused_in_the_shape_of_the_api() {
    let server = Server::start().await;
    let path = "/v1/chat/completions";
    let cases = [
        ("POST", path, "{", 400, "could not parse"),
        ("POST", path, r#"{"model":1}"#, 400, "invalid type"),
        ("POST", path, r#"{"model":"a","model":"b"}"#, 400, "duplicate field"),
        ("POST", path, "", 400, "model"),
        ("POST", path, r#"{"messages":[]}"#, 400, "model"),
        ("POST", path, r#"{"model":"m"}"#, 400, "'messages'"),
        ("POST", path, r#"{"model":"m","messages":[],"n":0}"#, 400, "'n'"),
        ("POST", path, r#"{"model":"m","messages":[],"n":128,"mock":{"frame_bytes":100000000}}"#, 400, "larger"),
        ("POST", path, r#"{"model":"m","messages":[],"mock":{"staus":1}}"#, 400, "unknown field `staus`"),
        ("GET", path, "", 405, "Not allowed"),
        ("POST", "/v1/unknown", "{}", 404, "Invalid URL"),
    ];
    for (method, path, body, status, part) in cases {
        let arrived = server.call(method, path, "", body).await;
        let error = &arrived.json()["error"];
        assert_eq!(arrived.status, status, "{body}");
        assert!(error["message"].as_str().unwrap().contains(part), "{body}: {error}");
        assert!(
            error["type"] == "invalid_request_error" && error.get("param").is_some() && error.get("code").is_some()
        );
    }
}

#[tokio::test]
async fn models_are_listed_and_take_no_script() {
    let server =
        Server::with(Behaviour { require_key: vec!["sk-1".into()], ..Behaviour::status(500) }, Clock::Real).await;
    server.mock.enqueue(Behaviour::text("kept"));
    assert_eq!(server.call("GET", "/v1/models", "", "").await.json()["error"]["type"], "invalid_request_error");
    assert_eq!(
        server.call("GET", "/v1/models", "api-key: sk-2\r\n", "").await.json()["error"]["code"],
        "invalid_api_key"
    );
    let key = "authorization: Bearer sk-1\r\n";
    let list = server.call("GET", "/models", key, "").await.json();
    assert_eq!((&list["object"], &list["data"][0]["object"]), (&json!("list"), &json!("model")));
    assert_eq!(server.call("GET", "/v1/models/a%2Fb", key, "").await.json()["id"], "a/b");
    let answer = server.call("POST", "/v1/chat/completions", key, &chat(json!({})).to_string()).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "kept");
}
