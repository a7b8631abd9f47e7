//! Which requests Anthropic's format takes: their version, their keys, what they must have and must not have.

use super::{
    messages::{VERSION, message},
    *,
};

#[tokio::test]
async fn tokens_are_counted_and_not_billed() {
    let server = Server::start().await;
    let count = async |body: Value| {
        server.call("POST", "/v1/messages/count_tokens?beta=true", VERSION, &body.to_string()).await
    };
    let plain = count(chat(json!({}))).await.json()["input_tokens"].as_u64().unwrap();
    let more = count(chat(json!({ "system": "Be brief, be very brief." }))).await.json();
    assert!(plain > 0 && more["input_tokens"].as_u64().unwrap() > plain, "{more}");
    let scripted = chat(json!({ "mock": { "usage": { "prompt_tokens": 77 } } }));
    assert_eq!(count(scripted).await.json(), json!({ "input_tokens": 77 }));
    assert_eq!(count(json!({ "model": "m" })).await.json()["error"]["message"], "messages: Field required");
    assert_eq!(count(chat(json!({ "model": "mock-status-529" }))).await.status, 529);
    assert!(server.mock.requests().iter().all(|request| request.billed().is_none()));
}

#[tokio::test]
async fn a_wrong_request_is_refused_in_the_words_of_the_api() {
    let server = Server::start().await;
    let path = "/v1/messages";
    let hello = r#"[{"role":"user","content":"Hi"}]"#;
    let with = |members: &str| format!(r#"{{"messages":{hello},{members}}}"#);
    let cases = [
        ("POST", path, "", "{}".to_owned(), 400, "invalid_request_error", "anthropic-version: header is required"),
        (
            "POST",
            path,
            "anthropic-version: 2024-01-01\r\n",
            "{}".into(),
            400,
            "invalid_request_error",
            "\"2024-01-01\" is not",
        ),
        ("POST", path, VERSION, "{".into(), 400, "invalid_request_error", "JSON"),
        ("POST", path, VERSION, String::new(), 400, "invalid_request_error", "model: Field required"),
        ("POST", path, VERSION, r#"{"model":"m"}"#.into(), 400, "invalid_request_error", "messages: Field required"),
        ("POST", path, VERSION, r#"{"model":"m","messages":[]}"#.into(), 400, "invalid_request_error", "at least one"),
        ("POST", path, VERSION, with(r#""model":"m""#), 400, "invalid_request_error", "max_tokens: Field required"),
        ("POST", path, VERSION, with(r#""model":"m","max_tokens":0"#), 400, "invalid_request_error", "max_tokens"),
        ("POST", path, VERSION, with(r#""model":"m","mock":{"staus":1}"#), 400, "invalid_request_error", "staus"),
        ("GET", path, VERSION, String::new(), 405, "invalid_request_error", "Not allowed"),
        ("POST", "/v1/unknown", VERSION, "{}".into(), 404, "not_found_error", "Invalid URL"),
    ];
    for (method, path, headers, body, status, kind, part) in cases {
        let arrived = server.call(method, path, headers, &body).await;
        let answer = arrived.json();
        assert_eq!(
            (arrived.status, &answer["type"], &answer["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{body}"
        );
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{body}: {answer}");
        assert_eq!(answer["request_id"].as_str(), arrived.header("request-id"));
    }
}

#[tokio::test]
async fn the_latest_version_of_the_api_takes_less() {
    let part = |role: &str, part: Value| json!([{ "role": role, "content": [part] }]);
    let document = json!({ "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "a" } });
    let cited = json!({ "type": "text", "text": "a", "citations": [{ "type": "char_location" }] });
    let result = json!({ "type": "search_result", "source": "s", "title": "t", "content": [cited] });
    let cases = [
        (json!({ "temperature": 1.0 }), "temperature: Extra inputs"),
        (json!({ "top_p": 1 }), "top_p"),
        (json!({ "top_k": 5 }), "top_k"),
        (json!({ "messages": part("assistant", document.clone()) }), "messages.0.content.0"),
        (json!({ "messages": part("user", cited) }), "messages.0.content.0.citations"),
        (json!({ "messages": part("user", result) }), "messages.0.content.0.content.0.citations"),
        (json!({ "messages": part("user", document) }), ""),
        (json!({ "temperature": null }), ""),
    ];
    let server = Server::start().await;
    for (more, part) in cases {
        let body = message(more).to_string();
        let call = async |version: &str| {
            server.call("POST", "/v1/messages", &format!("anthropic-version: {version}\r\n"), &body).await
        };
        let latest = call("2026-10-21").await;
        let said = latest.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            (latest.status, said.is_empty()),
            (if part.is_empty() { 200 } else { 400 }, part.is_empty()),
            "{body}"
        );
        assert!(said.starts_with(part), "{said}");
        assert_eq!(call("2023-06-01").await.status, 200, "{body}");
    }
}

#[tokio::test]
async fn keys_come_in_either_header() {
    let server =
        Server::with(Behaviour { require_key: vec!["sk-1".into()], ..Behaviour::default() }, Clock::Real).await;
    let status = async |key: &str| {
        let arrived =
            server.call("POST", "/v1/messages", &format!("{VERSION}{key}"), &message(json!({})).to_string()).await;
        (arrived.status, arrived.json()["error"]["message"].as_str().map(str::to_owned))
    };
    assert_eq!(status("x-api-key: sk-1\r\n").await, (200, None));
    assert_eq!(status("authorization: Bearer sk-1\r\n").await, (200, None));
    assert_eq!(status("authorization: Bearer sk-2\r\nx-api-key: sk-1\r\n").await, (200, None));
    assert_eq!(status("x-api-key: sk-2\r\n").await, (401, Some("invalid x-api-key".into())));
    assert_eq!(status("").await, (401, Some("x-api-key header is required".into())));
    let list = server.call("GET", "/v1/models", &format!("{VERSION}x-api-key: sk-1\r\n"), "").await.json();
    assert_eq!((&list["has_more"], &list["data"][0]["type"]), (&json!(false), &json!("model")));
}
