//! Requests that cannot be served: each is a 4xx in OpenAI's error shape with a stable code, the member at fault and a
//! sentence, and nothing of it reaches a provider.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::harness::*;

/// What every refusal holds, and what this one says.
fn refused(rows: &mut Rows, answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    rows.equal("status", answer.status, status);
    let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let error = &body["error"];
    rows.equal("code", error["code"].as_str().unwrap_or_default(), code);
    rows.equal("param", error["param"].as_str(), param);
    let message = error["message"].as_str().unwrap_or_default();
    rows.holds("a sentence", message.len() > 20 && message.ends_with(['.', '?']), message);
    rows.holds("no more members than OpenAI's", error.as_object().is_some_and(|object| object.len() == 4), error);
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        _ => "invalid_request_error",
    };
    rows.equal("type", error["type"].as_str(), Some(kind));
    rows.equal("content type", answer.header("content-type"), "application/json");
    rows.equal("length of the request id", answer.header("x-request-id").len(), 26);
    rows.equal("advice", answer.header("x-should-retry"), "false");
    rows.holds("no provider is named", answer.header("x-switchboard-target").is_empty(), &answer.headers);
}

#[tokio::test]
async fn bodies_that_cannot_be_meant() {
    let good = r#""messages":[]"#;
    let with = |members: &str| format!(r#"{{"model":"m",{members}}}"#).into_bytes();
    let (chat, completion, embedding) = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings");
    type Row<'a> = (&'a str, Vec<u8>, u16, &'a str, Option<&'a str>);
    let table: Vec<Row<'_>> = vec![
        (chat, b"".to_vec(), 400, "invalid_json", None),
        (chat, b"hello".to_vec(), 400, "invalid_json", None),
        (chat, b"{".to_vec(), 400, "invalid_json", None),
        (chat, b"{\"model\":\"m\",}".to_vec(), 400, "invalid_json", None),
        (chat, b"{'model':'m'}".to_vec(), 400, "invalid_json", None),
        (chat, b"{\"model\":\"m\"} {}".to_vec(), 400, "invalid_json", None),
        (chat, b"{\"model\":NaN}".to_vec(), 400, "invalid_json", None),
        (chat, b"[]".to_vec(), 400, "invalid_json", None),
        (chat, b"\"m\"".to_vec(), 400, "invalid_json", None),
        (chat, b"null".to_vec(), 400, "invalid_json", None),
        (
            chat,
            format!("{{\"model\":\"m\",\"x\":{}1{}}}", "[".repeat(600), "]".repeat(600)).into(),
            400,
            "invalid_json",
            None,
        ),
        (chat, b"{\"model\":\"m\",\"x\":\"\xff\"}".to_vec(), 400, "invalid_utf8", None),
        (chat, b"{\"model\":\"m\",\"x\":\"\xed\xa0\x80\"}".to_vec(), 400, "invalid_utf8", None),
        (chat, with(r#""messages":[],"model":"m""#), 400, "duplicate_field", Some("model")),
        (chat, with(r#""messages":[],"mod\u0065l":"n""#), 400, "duplicate_field", Some("model")),
        (chat, with(r#""messages":[],"messages":[]"#), 400, "duplicate_field", Some("messages")),
        (chat, format!("{{{good}}}").into(), 400, "missing_model", Some("model")),
        (chat, format!(r#"{{"model":null,{good}}}"#).into(), 400, "missing_model", Some("model")),
        (chat, format!(r#"{{"model":"",{good}}}"#).into(), 400, "missing_model", Some("model")),
        (chat, format!(r#"{{"model":" \n",{good}}}"#).into(), 400, "missing_model", Some("model")),
        (chat, format!(r#"{{"model":7,{good}}}"#).into(), 400, "invalid_type", Some("model")),
        (chat, format!(r#"{{"model":["m"],{good}}}"#).into(), 400, "invalid_type", Some("model")),
        (chat, format!(r#"{{"model":"{}",{good}}}"#, "m".repeat(300)).into(), 400, "invalid_model", Some("model")),
        (chat, with(r#""messages":[],"stream":"true""#), 400, "invalid_type", Some("stream")),
        (chat, with(r#""messages":[],"stream":1"#), 400, "invalid_type", Some("stream")),
        (chat, with(r#""messages":[],"stream_options":true"#), 400, "invalid_type", Some("stream_options")),
        (chat, with(r#""messages":[],"stream_options":[]"#), 400, "invalid_type", Some("stream_options")),
        (
            chat,
            with(r#""messages":[],"stream_options":{"include_usage":"yes"}"#),
            400,
            "invalid_type",
            Some("include_usage"),
        ),
        (chat, with(r#""messages":[],"n":0"#), 400, "invalid_type", Some("n")),
        (chat, with(r#""messages":[],"n":-1"#), 400, "invalid_type", Some("n")),
        (chat, with(r#""messages":[],"n":1.5"#), 400, "invalid_type", Some("n")),
        (chat, with(r#""messages":[],"n":"2""#), 400, "invalid_type", Some("n")),
        (chat, with(r#""messages":[],"n":99999999999"#), 400, "invalid_type", Some("n")),
        (chat, with(r#""x":1"#), 400, "missing_field", Some("messages")),
        (chat, with(r#""messages":"hi""#), 400, "invalid_type", Some("messages")),
        (chat, with(r#""messages":{}"#), 400, "invalid_type", Some("messages")),
        (chat, with(r#""messages":null"#), 400, "invalid_type", Some("messages")),
        (embedding, with(r#""x":1"#), 400, "missing_field", Some("input")),
        (embedding, with(r#""input":7"#), 400, "invalid_type", Some("input")),
        (embedding, with(r#""input":null"#), 400, "invalid_type", Some("input")),
        (completion, b"{\"prompt\":\"x\"}".to_vec(), 400, "missing_model", Some("model")),
        (completion, with(r#""prompt":"x","stream":"no""#), 400, "invalid_type", Some("stream")),
        (chat, format!(r#"{{"model":"gpt-5.6",{good}}}"#).into(), 404, "model_not_found", Some("model")),
        (chat, format!(r#"{{"model":"Ω\u0000\n",{good}}}"#).into(), 404, "model_not_found", Some("model")),
    ];
    let config = "models: { m: { targets: [a/up] }, gpt-5.5: { targets: [a/up] } }";
    let gate = Gate::build().mock("a").config(config).start().await;
    let mut rows = Rows::new();
    for (path, body, status, code, param) in table {
        let shown = String::from_utf8_lossy(&body);
        rows.row(format!("{path} {}", shown.chars().take(80).collect::<String>()));
        let answer = soon(gate.post(path, body, &[])).await;
        refused(&mut rows, &answer, status, code, param);
    }
    rows.row("all of them");
    rows.equal("calls of the provider", gate.served("a"), 0);
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn a_name_that_is_nearly_right_is_suggested_to_those_who_may_use_it() {
    let gate = Gate::build()
        .mock("a")
        .config("models: { gpt-5.5-mini: { targets: [a/up] }, assistant: { targets: [a/up] } }")
        .key("{ name: narrow, value: narrow-key-0123456789, models: [assistant] }")
        .start()
        .await;
    let body = chat(json!({ "model": "gpt-5.5-mimi" })).to_string();
    let told = soon(gate.post("/v1/chat/completions", body.clone(), &[])).await.text();
    assert!(told.contains("Did you mean `gpt-5.5-mini`?"), "{told}");
    let narrow = [("authorization", "Bearer narrow-key-0123456789")];
    let told = soon(gate.post("/v1/chat/completions", body, &narrow)).await.text();
    assert!(!told.contains("gpt-5.5-mini"), "others are not its business: {told}");
    gate.finish().await;
}

#[tokio::test]
async fn heads_that_cannot_be_served() {
    let good = chat(json!({})).to_string();
    let wide = "x".repeat(70_000);
    type Row<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, u16, &'a str);
    let chat = "/v1/chat/completions";
    let table: Vec<Row<'_>> = vec![
        ("compressed", chat, vec![("content-encoding", "gzip")], 415, "unsupported_encoding"),
        ("compressed by br", chat, vec![("content-encoding", "br")], 415, "unsupported_encoding"),
        ("no key", chat, vec![("authorization", "")], 401, "missing_api_key"),
        ("another scheme", chat, vec![("authorization", "Basic dXNlcg==")], 401, "missing_api_key"),
        ("a wrong key", chat, vec![("authorization", "Bearer sk-sb-wrong-0123456789")], 401, "invalid_api_key"),
        ("a malformed key", chat, vec![("authorization", "Bearer a b")], 401, "invalid_api_key"),
        (
            "a key that has expired",
            chat,
            vec![("authorization", "Bearer expired-key-0123456789")],
            401,
            "expired_api_key",
        ),
        (
            "a key that is disabled",
            chat,
            vec![("authorization", "Bearer disabled-key-0123456789")],
            401,
            "disabled_api_key",
        ),
        (
            "a key for other models",
            chat,
            vec![("authorization", "Bearer narrow-key-0123456789")],
            403,
            "model_not_allowed",
        ),
        ("a key for nothing", chat, vec![("authorization", "Bearer nothing-key-0123456789")], 403, "model_not_allowed"),
        ("headers that are too long", chat, vec![("x-wide", &wide)], 431, "headers_too_large"),
        ("an unknown path", "/v1/chat/completion", vec![], 404, "unknown_path"),
        ("the root", "/", vec![], 404, "unknown_path"),
        ("a path below one", "/v1/embeddings/x", vec![], 404, "unknown_path"),
        ("a wrong method", "/v1/models", vec![], 405, "method_not_allowed"),
    ];
    let gate = Gate::build()
        .mock("a")
        .key("{ name: expired, value: expired-key-0123456789, models: [\"*\"], expires: 2020-01-01T00:00:00Z }")
        .key("{ name: disabled, value: disabled-key-0123456789, models: [\"*\"], enabled: false }")
        .key("{ name: narrow, value: narrow-key-0123456789, models: [n, \"x/*\"] }")
        .key("{ name: nothing, value: nothing-key-0123456789 }")
        .start()
        .await;
    let mut rows = Rows::new();
    for (name, path, headers, status, code) in table {
        rows.row(name);
        let answer = soon(gate.post(path, good.clone(), &headers)).await;
        let param = (code == "model_not_allowed").then_some("model");
        refused(&mut rows, &answer, status, code, param);
        let asks = answer.header("www-authenticate");
        rows.equal("challenge", asks, if status == 401 { "Bearer" } else { "" });
        if status == 405 {
            rows.holds("the right method is named", answer.header("allow").contains("GET"), answer.header("allow"));
        }
    }
    rows.row("a wrong method of a call");
    gate.admits();
    let answer = gate.get("/v1/chat/completions").await;
    gate.not_admitted();
    refused(&mut rows, &answer, 405, "method_not_allowed", None);
    rows.row("all of them");
    rows.equal("calls of the provider", gate.served("a"), 0);
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn a_key_is_taken_from_each_of_its_headers() {
    let gate = Gate::build().mock("a").start().await;
    for header in [("authorization", format!("bearer {KEY}")), ("x-api-key", KEY.into()), ("api-key", KEY.into())] {
        let mut headers = vec![("authorization", "")];
        headers.push((header.0, &header.1));
        let answer = soon(gate.post("/v1/chat/completions", chat(json!({})).to_string(), &headers)).await;
        assert_eq!(answer.status, 200, "{header:?}");
    }
    gate.finish().await;
}

#[tokio::test]
async fn a_guesser_is_told_to_wait_and_a_right_key_works_all_the_same() {
    let gate = Gate::build().mock("a").config("auth: { wrong_keys_per_minute: 3 }").start().await;
    let body = || chat(json!({})).to_string();
    let mut statuses = Vec::new();
    for guess in 0..5 {
        let key = format!("Bearer sk-sb-guess-{guess}-0123456789");
        let answer = soon(gate.post("/v1/chat/completions", body(), &[("authorization", &key)])).await;
        if answer.status == 429 {
            assert_eq!(answer.code(), "too_many_wrong_keys");
            assert!(answer.header("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0 && wait <= 60));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [401, 401, 401, 429, 429]);
    assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    gate.finish().await;
}

/// Requests that no HTTP library would send, the status they get, and whether the connection is over.
#[tokio::test]
async fn bytes_that_are_hardly_http() {
    let post = |head: &str, body: &str| {
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n{head}\r\n{body}")
    };
    let mut long = String::new();
    for n in 0..3_000 {
        _ = write!(long, "x-{n}: {}\r\n", "y".repeat(60));
    }
    let table = [
        ("no HTTP at all", "hello there\r\n\r\n".to_owned(), "400"),
        ("no version", "GET /\r\n\r\n".into(), "400"),
        ("two lengths", post("content-length: 2\r\ncontent-length: 3\r\n", "{}"), "400"),
        ("a negative length", post("content-length: -1\r\n", ""), "400"),
        ("a chunk size that is none", post("transfer-encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"), "400"),
        ("a head without end", post(&long, ""), "431"),
        ("a control character in a header", post("x: a\x01b\r\ncontent-length: 2\r\n", "{}"), "400"),
    ];
    let gate = Gate::build().mock("a").start().await;
    let mut rows = Rows::new();
    for (name, bytes, status) in table {
        rows.row(name);
        let mut client = gate.raw().await;
        client.send(&bytes).await;
        client.half_close().await;
        let answer = client.read_to_end().await;
        rows.holds("status", answer.starts_with(&format!("HTTP/1.1 {status} ")), answer.lines().next());
    }
    rows.row("a body that breaks off");
    let mut client = gate.raw().await;
    client.send(post("content-length: 500\r\n", "{\"model\":\"m\",")).await;
    client.reset();
    rows.row("a body that does not come");
    let mut client = gate.raw().await;
    client.send(post("content-length: 500\r\n", "{\"model\":\"m\",")).await;
    let answer = gate.advance_until(client.read_until("body_timeout"), secs(1)).await;
    rows.holds("status", answer.starts_with("HTTP/1.1 408 "), &answer);
    rows.equal("calls of the provider", gate.served("a"), 0);
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn a_gateway_that_is_full_says_so_and_has_room_again() {
    let gate = Gate::build().mock("a").config("server: { max_in_flight: 2 }").start().await;
    let hang = switchboard::mock::Behaviour { hang_after_chunks: Some(1), ..fixed() };
    gate.mock("a").set_default(hang);
    let (mut one, mut two) = (gate.open(json!({})).await, gate.open(json!({})).await);
    one.read_until("One").await;
    two.read_until("One").await;
    let answer = soon(gate.chat(json!({}))).await;
    assert_eq!((answer.status, answer.code(), answer.header("retry-after")), (503, "gateway_full".into(), "1"));
    assert_eq!(answer.header("x-should-retry"), "");
    drop((one, two));
    until(|| gate.mock("a").aborted() == 2).await;
    gate.mock("a").set_default(fixed());
    assert_eq!(soon(gate.chat(json!({}))).await.status, 200);
    assert_eq!(gate.finish().await.outcomes(), "client_cancel 2, ok 1");
}
