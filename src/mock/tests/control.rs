//! Scripting and looking in over HTTP.

use super::*;

#[tokio::test]
async fn scripts_are_queued_and_bound_to_models() {
    let server = Server::start().await;
    let put = async |path: &str, body: Value| server.call("PUT", path, "", &body.to_string()).await;
    let queued = put("/_mock/script", json!([{ "text": "one" }, { "status": 503 }])).await.json();
    assert_eq!(queued["queued"], 2);
    put("/_mock/script?model=a%2Fb", json!({ "text": "bound" })).await;
    put("/_mock/default", json!({ "text": "default" })).await;
    let said = async |model: &str| {
        let arrived = server.chat(json!({ "model": model })).await;
        let content = arrived.json()["choices"][0]["message"]["content"].clone();
        content.as_str().map_or_else(|| arrived.status.to_string(), str::to_owned)
    };
    assert_eq!((said("m").await, said("m").await), ("one".into(), "503".into()));
    assert_eq!(
        (said("m").await, said("a/b").await, said("a/b").await),
        ("default".into(), "bound".into(), "default".into())
    );
    let state = server.call("GET", "/_mock", "", "").await.json();
    assert_eq!((&state["served"], &state["queued"], &state["open_streams"]), (&json!(5), &json!(0), &json!(0)));
    assert_eq!(state["default"], json!({ "text": "default" }));
}

#[tokio::test]
async fn what_was_sent_is_shown_and_forgotten() {
    let server = Server::start().await;
    let body = chat(json!({ "unknown": 1 })).to_string();
    server
        .call("POST", "/v1/chat/completions?x=1", "authorization: Bearer sk-test\r\nx-a: 1\r\nx-a: 2\r\n", &body)
        .await;
    server.call("POST", "/v1/embeddings", "", "\u{fffd}").await;
    let [recorded, _] = &server.mock.requests()[..] else { panic!("two requests") };
    assert_eq!(
        (recorded.number, recorded.model.as_deref(), recorded.api_key.as_deref()),
        (1, Some("m"), Some("sk-test"))
    );
    assert_eq!((recorded.path.as_str(), &recorded.body[..]), ("/v1/chat/completions?x=1", body.as_bytes()));
    assert_eq!((recorded.outcome(), recorded.connection), (crate::mock::Outcome::Complete, 1));
    let shown = server.call("GET", "/_mock/requests", "", "").await.json();
    assert_eq!((&shown[0]["body"], &shown[0]["headers"]["x-a"]), (&json!(body), &json!("1, 2")));
    assert_eq!((&shown[0]["outcome"]["state"], &shown[0]["api_key"]), (&json!("complete"), &json!("sk-test")));
    server.call("DELETE", "/_mock/requests", "", "").await;
    assert!(server.mock.requests().is_empty());
    assert_eq!(server.mock.served(), 2);
}

#[tokio::test]
async fn nothing_is_kept_when_recording_is_off() {
    let server = Server::with(Behaviour { record: Some(false), ..Behaviour::default() }, Clock::Real).await;
    server.chat(json!({})).await;
    assert_eq!((server.mock.requests().len(), server.mock.served()), (0, 1));
}

#[tokio::test]
async fn a_wrong_control_request_says_what_is_wrong() {
    let server = Server::start().await;
    let cases = [
        ("PUT", "/_mock/script", "{", 400, "not JSON"),
        ("PUT", "/_mock/script", r#"[{"text":"a"},{"staus":1}]"#, 400, "unknown field `staus`"),
        ("PUT", "/_mock/default", r#"{"status":1}"#, 400, "between 200 and 599"),
        ("GET", "/_mock/nothing", "", 404, "--help"),
    ];
    for (method, path, body, status, part) in cases {
        let arrived = server.call(method, path, "", body).await;
        assert_eq!(arrived.status, status, "{path}");
        assert!(arrived.json()["error"]["message"].as_str().unwrap().contains(part), "{}", arrived.text());
    }
    assert_eq!(server.call("GET", "/_mock", "", "").await.json()["queued"], 0);
}
