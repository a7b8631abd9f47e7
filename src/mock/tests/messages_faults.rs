//! What goes wrong in Anthropic's format. The transport is the same for all formats; here it is that each fault strikes
//! at the right place of this one.

use super::{
    messages::{checked, events, kinds, message},
    *,
};
use crate::{mock::Outcome, wire::anthropic::grammar::Ending};

#[tokio::test]
async fn broken_messages_end_correctly_in_http_and_not_in_the_format() {
    let cases = [
        (json!({ "end_after_chunk": 2 }), "You said:", Ending::Missing),
        (json!({ "end_after_chunk": 0 }), "", Ending::Missing),
        (json!({ "end_after_chunk": 4 }), "You said: Hello there", Ending::Missing),
        (json!({ "omit_done": true }), "You said: Hello there", Ending::Missing),
        (json!({ "error_after_chunks": 1 }), "You", Ending::Error),
        (json!({ "error_first": true }), "", Ending::Error),
        (json!({ "error_in_200": true }), "", Ending::Error),
    ];
    let server = Server::start().await;
    for (script, text, ending) in cases {
        let arrived = server.message(streamed(script.clone())).await;
        assert!(arrived.is_complete && arrived.end.is_ok(), "{script}");
        assert_eq!(checked(&arrived), Ok((ending, text.to_owned())), "{script}");
    }
    let first = server.message(streamed(json!({ "error_first": true, "status": 200 }))).await;
    assert_eq!(kinds(&first), ["error"]);
}

#[tokio::test]
async fn chunks_are_counted_over_all_blocks_and_a_call_counts_by_its_name() {
    let server = Server::start().await;
    let script = |n: u32| json!({ "reasoning": "a", "text": "b", "tool_calls": [{ "name": "f", "arguments": "" }], "end_after_chunk": n });
    let last = async |n: u32| kinds(&server.message(streamed(script(n))).await).pop().unwrap();
    assert_eq!((last(0).await, last(1).await), ("message_start".into(), "content_block_delta".into()));
    let two = events(&server.message(streamed(script(2))).await).pop().unwrap();
    assert_eq!(two["delta"], json!({ "type": "text_delta", "text": "b" }));
    let three = events(&server.message(streamed(script(3))).await).pop().unwrap();
    assert_eq!(three["content_block"]["name"], "f");
    assert_eq!(last(4).await, "message_stop");
}

#[tokio::test]
async fn connections_break_in_messages_too() {
    // Script, status, bytes of the body.
    let cases = [
        (json!({ "reset": "before_head" }), 0, Some(0)),
        (json!({ "reset": "after_head" }), 200, Some(0)),
        (json!({ "reset": { "at_byte": 333 } }), 200, Some(333)),
        (json!({ "reset": { "after_chunk": 2 } }), 200, None),
        (json!({ "cut_at_byte": 500 }), 200, Some(500)),
    ];
    let server = Server::start().await;
    for (script, status, bytes) in cases {
        let arrived = server.message(streamed(script.clone())).await;
        assert_eq!((arrived.status, arrived.is_complete), (status, false), "{script}");
        assert_eq!(arrived.is_reset(), script.get("reset").is_some(), "{script}");
        assert!(bytes.is_none_or(|bytes| bytes == arrived.body.len()), "{script}: {}", arrived.text());
    }
    assert!(server.mock.requests().iter().all(|request| request.outcome() == Outcome::Faulted));
    let half = server.message(json!({ "mock": { "reset": { "after_chunk": 0 } } })).await;
    assert!(half.is_reset() && half.body.len() > 50);
    let body = message(streamed(json!({ "hang_after_chunks": 1 }))).to_string();
    let mut socket = server.send("POST", "/v1/messages", "anthropic-version: 2023-06-01\r\n", &body).await;
    let mut seen = String::new();
    while !seen.contains("text_delta") {
        let mut buffer = [0; 4096];
        let count = soon(socket.read(&mut buffer)).await.unwrap();
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    assert_eq!(server.mock.open_streams(), 1);
    drop(socket);
    server.until(|mock| mock.aborted() == 1).await;
}

#[tokio::test]
async fn messages_that_are_no_messages() {
    let server = Server::start().await;
    let call = async |stream: bool, script: Value| server.message(json!({ "stream": stream, "mock": script })).await;
    assert_eq!(call(false, json!({ "empty": true, "redacted_reasoning": "x" })).await.json()["content"], json!([]));
    assert!(call(true, json!({ "empty_body": true })).await.body.is_empty());
    assert!(call(true, json!({ "html": true })).await.text().contains("<html>"));
    assert_eq!(call(true, json!({ "ignore_stream": true })).await.json()["type"], "message");
    assert_eq!(checked(&call(false, json!({ "stream_always": true })).await).unwrap().0, Ending::Clean);
    for fault in ["invalid_json", "trailing_garbage"] {
        assert!(serde_json::from_slice::<Value>(&call(false, json!({ fault: true })).await.body).is_err());
        assert!(checked(&call(true, json!({ fault: true })).await).is_err(), "{fault}");
    }
    assert!(checked(&call(true, json!({ "usage_mode": "never" })).await).is_err());
    assert!(checked(&call(true, json!({ "usage_mode": "with_finish" })).await).is_err());
    let error = call(false, json!({ "error_in_200": true, "message": "oh", "error_code": "x" })).await;
    let expected = json!({ "type": "api_error", "message": "oh", "details": { "error_code": "x" } });
    assert_eq!((error.status, &error.json()["error"]), (200, &expected));
}

#[tokio::test]
async fn every_status_has_its_type() {
    let server = Server::start().await;
    let cases = [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ];
    for (status, kind) in cases {
        let arrived = server.message(json!({ "model": format!("mock-status-{status}"), "stream": true })).await;
        assert_eq!((arrived.status, arrived.json()["error"]["type"].as_str()), (status, Some(kind)));
    }
    let limited = server.message(json!({ "model": "anthropic/mock-rate-limited" })).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    let long = server.message(json!({ "model": "mock-context-length" })).await.json();
    assert!(long["error"]["message"].as_str().unwrap().starts_with("prompt is too long"));
    let quota = server.message(json!({ "model": "mock-quota" })).await.json();
    assert_eq!(quota["error"]["type"], "billing_error");
    let scripted = json!({ "mock": { "status": 400, "error_type": "odd_error" } });
    assert_eq!(server.message(scripted).await.json()["error"]["type"], "odd_error");
}
