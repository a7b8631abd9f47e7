//! What goes wrong, as it arrives on the wire.

use async_compression::tokio::write::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};

use super::*;
use crate::mock::Outcome;

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_after_exactly_what_was_due() {
    // Script, streamed, status, bytes of the body.
    let cases = [
        (json!({ "reset": "before_head" }), true, 0, Some(0)),
        (json!({ "reset": "before_head" }), false, 0, Some(0)),
        (json!({ "reset": "after_head" }), true, 200, Some(0)),
        (json!({ "reset": "after_head" }), false, 200, Some(0)),
        (json!({ "reset": { "at_byte": 0 } }), true, 200, Some(0)),
        (json!({ "reset": { "at_byte": 333 } }), true, 200, Some(333)),
        (json!({ "reset": { "at_byte": 33 } }), false, 200, Some(33)),
        (json!({ "reset": { "after_chunk": 2 } }), true, 200, None),
    ];
    let server = Server::start().await;
    for (script, stream, status, bytes) in cases {
        let arrived = server.chat(json!({ "stream": stream, "mock": script })).await;
        assert!(arrived.is_reset() && !arrived.is_complete, "{script}: {:?}", arrived.end);
        assert_eq!(arrived.status, status, "{script}");
        assert!(bytes.is_none_or(|bytes| bytes == arrived.body.len()), "{script}: {}", arrived.text());
        if bytes.is_none() {
            assert_eq!(arrived.content(), "You said:");
        }
    }
    assert!(server.mock.requests().iter().all(|request| request.outcome() == Outcome::Faulted));
    assert_eq!(server.mock.aborted(), 0);
}

#[tokio::test]
async fn a_cut_is_a_polite_close_in_the_middle() {
    let server = Server::start().await;
    for stream in [true, false] {
        let arrived = server.chat(json!({ "stream": stream, "mock": { "cut_at_byte": 100 } })).await;
        assert!(arrived.end.is_ok() && !arrived.is_complete, "{:?}", arrived.end);
        assert_eq!(arrived.body.len(), 100);
    }
    assert!(server.mock.requests().iter().all(|request| request.outcome() == Outcome::Faulted));
}

#[tokio::test]
async fn broken_streams_end_correctly_in_http() {
    let cases = [
        (json!({ "end_after_chunk": 2 }), "You said:", false),
        (json!({ "end_after_chunk": 0 }), "", false),
        (json!({ "omit_done": true }), "You said: Hello there", false),
        (json!({ "error_after_chunks": 1 }), "You", false),
        (json!({ "empty": true }), "", true),
        (json!({ "end_after_chunk": 99 }), "You said: Hello there", true),
    ];
    let server = Server::start().await;
    for (script, content, has_done) in cases {
        let arrived = server.chat(streamed(script.clone())).await;
        assert!(arrived.is_complete && arrived.end.is_ok(), "{script}");
        assert_eq!((arrived.content().as_str(), arrived.text().contains("[DONE]")), (content, has_done), "{script}");
        let has_error = arrived.chunks().last().unwrap()["error"]["message"].is_string();
        assert_eq!(has_error, script.get("error_after_chunks").is_some(), "{script}");
    }
}

#[tokio::test]
async fn answers_that_are_no_answers() {
    let server = Server::start().await;
    let call = async |stream: bool, script: Value| server.chat(json!({ "stream": stream, "mock": script })).await;
    assert!(call(true, json!({ "empty_body": true })).await.body.is_empty());
    assert_eq!(call(false, json!({ "empty": true })).await.json()["choices"][0]["message"]["content"], "");
    assert!(call(true, json!({ "html": true })).await.text().contains("<html>"));
    assert_eq!(call(true, json!({ "ignore_stream": true })).await.json()["object"], "chat.completion");
    assert!(call(false, json!({ "stream_always": true })).await.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(call(false, json!({ "body": "as it is", "content_type": "text/x" })).await.text(), "as it is");
    assert!(serde_json::from_slice::<Value>(&call(false, json!({ "invalid_json": true })).await.body).is_err());
    assert!(serde_json::from_slice::<Value>(&call(false, json!({ "trailing_garbage": true })).await.body).is_err());
    let garbled = call(true, json!({ "invalid_json": true })).await;
    assert_eq!(
        (garbled.events().len() - garbled.chunks().len(), garbled.content().as_str()),
        (2, " said: Hello there")
    );
    assert!(!call(true, json!({ "trailing_garbage": true })).await.text().ends_with("[DONE]\n\n"));
    for stream in [true, false] {
        let error = call(stream, json!({ "error_in_200": true, "message": "oh" })).await;
        let value = if stream { error.chunks().remove(0) } else { error.json() };
        assert_eq!((error.status, &value["error"]["message"]), (200, &json!("oh")));
    }
    let first = call(true, json!({ "error_first": true, "error_code": "x" })).await;
    assert_eq!((first.events().len(), &first.chunks()[0]["error"]["code"]), (1, &json!("x")));
}

#[tokio::test]
async fn statuses_carry_their_errors_and_headers() {
    let server = Server::start().await;
    let limited = server.chat(json!({ "model": "x/mock-rate-limited", "stream": true })).await;
    assert_eq!((limited.status, limited.header("retry-after")), (429, Some("1")));
    assert_eq!(limited.json()["error"]["code"], "rate_limit_exceeded");
    let script = json!({ "status": 503, "retry_after": 2, "retry_after_date": true, "retry_after_ms": 1500,
        "headers": { "x-request-id": "mine", "x-more": "y" } });
    let dated = server.chat(json!({ "mock": script })).await;
    assert!(httpdate::parse_http_date(dated.header("retry-after").unwrap()).is_ok());
    assert_eq!((dated.header("retry-after-ms"), dated.header("x-more")), (Some("1500"), Some("y")));
    assert_eq!(
        (dated.header("x-request-id"), dated.json()["error"]["type"].as_str()),
        (Some("mine"), Some("server_error"))
    );
    let created = server.chat(json!({ "mock": { "status": 201 } })).await;
    assert_eq!((created.status, &created.json()["object"]), (201, &json!("chat.completion")));
}

#[tokio::test]
async fn bytes_are_split_as_the_script_says() {
    let server = Server::start().await;
    let answer = json!({ "answer_id": "same", "created": 1 });
    let with = |more: Value| {
        let mut script = answer.clone();
        script.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        streamed(script)
    };
    let plain = server.chat(with(json!({}))).await;
    assert_eq!(plain.pieces.len(), plain.events().len(), "each chunk is its own piece");
    let split = server.chat(with(json!({ "split": 7 }))).await;
    assert_eq!((split.body == plain.body, split.pieces.iter().max()), (true, Some(&7)));
    let random = server.chat(with(json!({ "split_random": 1 }))).await;
    assert!(random.body == plain.body && random.pieces.iter().all(|size| *size <= 64));
    assert_eq!(server.chat(with(json!({ "split_random": 1 }))).await.pieces, random.pieces);
    assert_ne!(server.chat(with(json!({ "split_random": 2 }))).await.pieces, random.pieces);
    let whole = server.chat(json!({ "mock": { "split": 10 } })).await;
    assert!(whole.is_complete && whole.json()["object"] == "chat.completion");
}

#[tokio::test]
async fn line_endings_marks_comments_and_large_frames_come_as_scripted() {
    let server = Server::start().await;
    let text = async |script: Value| server.chat(streamed(script)).await.text();
    let crlf = text(json!({ "line_ending": "crlf" })).await;
    assert!(crlf.ends_with("data: [DONE]\r\n\r\n") && crlf.matches('\n').count() == crlf.matches("\r\n").count());
    let cr = text(json!({ "line_ending": "cr" })).await;
    assert!(cr.ends_with("data: [DONE]\r\r") && !cr.contains('\n'));
    assert!(text(json!({ "bom": true })).await.starts_with("\u{feff}data: {"));
    assert_eq!(text(json!({ "comments": true, "chunks": 3 })).await.matches(": ping\n\n").count(), 3);
    let huge = server.chat(streamed(json!({ "frame_bytes": 1 << 20, "text": "!" }))).await;
    assert_eq!((huge.content().len(), huge.is_complete), ((1 << 20) + 1, true));
    let whole = server.chat(json!({ "mock": { "frame_bytes": 10, "text": "!" } })).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "xxxxxxxxxx!");
}

#[tokio::test]
async fn compressed_answers_decode_and_still_stream() {
    async fn decoded(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        macro_rules! decode {
            ($decoder:ident) => {{
                let mut decoder = $decoder::new(Vec::new());
                decoder.write_all(bytes).await.unwrap();
                // Not shut down: what has arrived must be readable though the stream goes on.
                decoder.flush().await.unwrap();
                decoder.into_inner()
            }};
        }
        match encoding {
            "gzip" => decode!(GzipDecoder),
            "br" => decode!(BrotliDecoder),
            "zstd" => decode!(ZstdDecoder),
            _ => decode!(ZlibDecoder),
        }
    }
    let server = Server::start().await;
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let streamed = server.chat(streamed(json!({ "encoding": encoding, "text": "a b" }))).await;
        assert_eq!(streamed.header("content-encoding"), Some(encoding));
        let all = decoded(encoding, &streamed.body).await;
        assert!(all.ends_with(b"data: [DONE]\n\n") && streamed.is_complete, "{encoding}");
        // The first piece is the first chunk, complete.
        let first = decoded(encoding, &streamed.body[..streamed.pieces[0]]).await;
        assert!(first.starts_with(b"data: {") && first.ends_with(b"\n\n"), "{encoding}");
        let whole = server.chat(json!({ "mock": { "encoding": encoding } })).await;
        let whole_text = decoded(encoding, &whole.body).await;
        assert!(whole.is_complete && serde_json::from_slice::<Value>(&whole_text).is_ok(), "{encoding}");
    }
}

#[tokio::test]
async fn a_content_length_can_lie() {
    let server = Server::start().await;
    let call = async |how: &str| server.chat(json!({ "mock": { "content_length": how } })).await;
    let (long, short, absent) = (call("long").await, call("short").await, call("absent").await);
    assert!(!long.is_complete && long.json()["object"] == "chat.completion");
    assert!(short.is_complete && serde_json::from_slice::<Value>(&short.body).is_err());
    assert!(absent.is_complete && absent.header("content-length").is_none());
    let outcomes: Vec<_> = server.mock.requests().iter().map(super::super::Recorded::outcome).collect();
    assert_eq!(outcomes, [Outcome::Faulted, Outcome::Faulted, Outcome::Complete]);
}

#[tokio::test]
async fn time_is_the_clocks() {
    let clock = Clock::held();
    let server = Server::with(Behaviour::default(), clock.clone()).await;
    let script = json!({ "delay": "2s", "first_chunk_delay": "3s", "chunk_delay": "1s", "text": "a b" });
    let mut socket = server.send("POST", "/v1/chat/completions", "", &chat(streamed(script)).to_string()).await;
    server.until(|mock| mock.requests().len() == 1).await;
    let mut seen = String::new();
    for (seconds, until) in [(2, "\"role\""), (3, "\"a\""), (1, "[DONE]")] {
        quiet(&mut socket).await;
        clock.advance(Duration::from_secs(seconds - 1) + Duration::from_millis(999));
        quiet(&mut socket).await;
        clock.advance(Duration::from_millis(1));
        while !seen.contains(until) {
            let mut buffer = [0; 4096];
            let count = soon(socket.read(&mut buffer)).await.unwrap();
            seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }
}

/// Gives the server every chance to send, and finds that it sends nothing.
async fn quiet(socket: &mut TcpStream) {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let error = socket.try_read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_at_once_wherever_the_answer_stands() {
    let cases = [
        (json!({ "hang": true }), true, 0),
        (json!({ "hang": true }), false, 0),
        (json!({ "delay": "1h" }), true, 0),
        (json!({ "hang_after_chunks": 1 }), true, 100),
        (json!({ "hang_after_chunks": 1 }), false, 100),
        (json!({ "chunk_delay": "1h" }), true, 100),
    ];
    let server = Server::start().await;
    for (number, (script, stream, least)) in cases.into_iter().enumerate() {
        let body = chat(json!({ "stream": stream, "mock": script })).to_string();
        let mut socket = server.send("POST", "/v1/chat/completions", "", &body).await;
        if least > 0 {
            let mut buffer = vec![0; 4096];
            soon(socket.read(&mut buffer)).await.unwrap();
        }
        server.until(|mock| mock.requests().len() == number + 1 && mock.open_streams() == 1).await;
        drop(socket);
        server.until(|mock| mock.aborted() == number + 1 && mock.open_streams() == 0).await;
        let Outcome::Aborted { bytes_sent, .. } = server.mock.requests()[number].outcome() else { panic!("{script}") };
        assert!(if least == 0 { bytes_sent == 0 } else { bytes_sent > least }, "{script}: {bytes_sent}");
    }
}

#[tokio::test]
async fn stopping_ends_what_hangs() {
    let server = Server::start().await;
    let socket =
        server.send("POST", "/v1/chat/completions", "", &chat(json!({ "model": "mock-hang" })).to_string()).await;
    server.until(|mock| mock.open_streams() == 1).await;
    assert!(server.tasks.shut_down(&Clock::Real, Duration::from_secs(5)).await);
    assert_eq!(server.mock.open_streams(), 0);
    drop(socket);
}

#[tokio::test]
async fn extreme_scripts_do_no_harm_to_the_mock() {
    let server = Server::start().await;
    let broken = json!({ "status": 500, "message": "ÄÖÜäöüßÄÖÜ€", "invalid_json": true });
    assert_eq!(server.chat(json!({ "mock": broken })).await.status, 500);
    let late = json!({ "status": 429, "retry_after": u64::MAX, "retry_after_date": true });
    assert!(server.chat(json!({ "mock": late })).await.header("retry-after").unwrap().ends_with("GMT"));
    server.mock.enqueue(Behaviour { split: Some(0), ..Behaviour::default() });
    assert_eq!(server.chat(json!({ "stream": true })).await.content(), "You said: Hello there");
    let body = chat(json!({ "mock": { "delay": "100000000000000000d" } })).to_string();
    let refused = server.call("POST", "/v1/chat/completions", "", &body).await;
    assert_eq!(refused.status, 400);
    let body = chat(json!({ "mock": { "delay": "3650d" } })).to_string();
    let socket = server.send("POST", "/v1/chat/completions", "", &body).await;
    server.until(|mock| mock.open_streams() == 1).await;
    assert_eq!(socket.try_read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(server.chat(json!({})).await.is_complete);
}
