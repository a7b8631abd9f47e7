//! Answers held to a schema, by models of which nobody knows whether they take the parameter for it: it is tried, and
//! where it is refused, something else stands in from then on.

use serde_json::{Value, json};

use crate::harness::*;

const CLAUDE_ANSWER: &str = r#"{"id":"m","type":"message","role":"assistant","model":"up","content":[{"type":"tool_use","id":"t","name":"switchboard_json_output","input":{"a":"b"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;
const OPEN_ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":"assistant","content":"{\"a\":\"b\"}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;

fn http(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"], "additionalProperties": false })
}

fn asked(client: &str) -> String {
    let messages = json!([{ "role": "user", "content": "Letters?" }]);
    let call = if client == "/messages" {
        json!({ "model": MODEL, "max_tokens": 50, "messages": messages,
            "output_config": { "format": { "type": "json_schema", "schema": schema() } } })
    } else {
        json!({ "model": MODEL, "messages": messages,
            "response_format": { "type": "json_schema", "json_schema": { "name": "letters", "schema": schema() } } })
    };
    call.to_string()
}

fn body(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn a_parameter_that_is_refused_gives_way_and_the_client_sees_the_answer_alone() {
    const REFUSED_BY_CLAUDES: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"output_config.format: Extra inputs are not permitted"}}"#;
    const REFUSED_BY_OTHERS: &str =
        r#"{"error":{"message":"This response_format type is unavailable now","type":"invalid_request_error"}}"#;
    let cases = [
        ("/chat/completions", "kind: anthropic", REFUSED_BY_CLAUDES, CLAUDE_ANSWER),
        ("/messages", "", REFUSED_BY_OTHERS, OPEN_ANSWER),
    ];
    for (client, kind, refusal, answer) in cases {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, kind).start().await;
        let (refusal, answer) = (http(400, refusal), http(200, answer));
        let both = async {
            let first = upstream.accept_and(&refusal).await;
            (body(&first), body(&upstream.accept_and(&answer).await))
        };
        let (heard, (first, second)) = tokio::join!(gate.post(client, asked(client), &[]), both);
        assert_eq!((heard.status, heard.header("x-switchboard-attempts")), (200, "2"), "{}", heard.text());
        let said = heard.json();
        let text = said.pointer("/content/0/text").or(said.pointer("/choices/0/message/content")).unwrap();
        assert_eq!(text.as_str().unwrap().replace(' ', ""), r#"{"a":"b"}"#);
        assert!(!heard.text().contains("switchboard_json_output"), "{}", heard.text());
        if client == "/messages" {
            assert_eq!(first["response_format"]["type"], "json_schema");
            assert_eq!(second["response_format"], json!({ "type": "json_object" }));
            let words = second["messages"][0]["content"].as_str().unwrap();
            assert!(words.contains(r#""additionalProperties":false"#), "{words}");
        } else {
            assert_eq!(first["output_config"]["format"]["schema"], schema());
            assert_eq!(second["tools"][0]["input_schema"], schema());
            assert!(second.get("output_config").is_none(), "{second}");
        }
        // What was found out holds for the next call.
        let (heard, third) = tokio::join!(gate.post(client, asked(client), &[]), upstream.accept_and(&answer));
        assert_eq!((heard.status, heard.header("x-switchboard-attempts")), (200, "1"), "{}", heard.text());
        assert_eq!(body(&third), second);
        gate.unseen(3);
        gate.finish().await;
    }
}

#[tokio::test]
async fn another_refusal_is_the_clients_to_hear() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream("a", upstream.address).start().await;
    let refusal = http(400, r#"{"error":{"message":"max_tokens is too large","type":"invalid_request_error"}}"#);
    let (heard, _) = tokio::join!(gate.post("/messages", asked("/messages"), &[]), upstream.accept_and(&refusal));
    assert_eq!((heard.status, heard.header("x-switchboard-attempts")), (400, "1"), "{}", heard.text());
    gate.unseen(1);
    gate.finish().await;
}
