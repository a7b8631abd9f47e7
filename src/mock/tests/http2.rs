//! The same over HTTP/2, where a connection carries many answers.

use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, client::conn::http2::SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

async fn connect(server: &Server) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(server.connect().await);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    Tasks::new().spawn(connection);
    sender
}

/// Posts a streamed chat; returns its text and whether it ended well.
async fn call(sender: &mut SendRequest<Full<Bytes>>, script: Value) -> Result<(String, bool), hyper::Error> {
    let body = Full::from(chat(streamed(script)).to_string());
    let request = http::Request::post("http://mock/v1/chat/completions").body(body).unwrap();
    let mut body = sender.send_request(request).await?.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => return Ok((String::from_utf8(text).unwrap(), false)),
        }
    }
    Ok((String::from_utf8(text).unwrap(), true))
}

#[tokio::test]
async fn one_connection_carries_many_answers() {
    let server = Server::start().await;
    let sender = connect(&server).await;
    let calls = (0..50).map(|_| {
        let mut sender = sender.clone();
        async move { call(&mut sender, json!({})).await.unwrap() }
    });
    for (text, is_complete) in soon(futures_util::future::join_all(calls)).await {
        assert!(is_complete && text.ends_with("data: [DONE]\n\n"));
    }
    let requests = server.mock.requests();
    assert!(requests.iter().all(|request| request.connection == 1 && request.http_version == http::Version::HTTP_2));
}

#[tokio::test]
async fn a_cut_ends_one_stream_and_a_reset_the_connection() {
    let server = Server::start().await;
    let mut sender = connect(&server).await;
    for _ in 0..20 {
        let (text, is_complete) = soon(call(&mut sender, json!({ "cut_at_byte": 500 }))).await.unwrap();
        assert_eq!((text.len(), is_complete), (500, false));
    }
    assert!(soon(call(&mut sender, json!({}))).await.unwrap().1);
    let (text, is_complete) = soon(call(&mut sender, json!({ "reset": { "at_byte": 500 } }))).await.unwrap();
    assert_eq!((text.len(), is_complete), (500, false));
    assert!(soon(call(&mut sender, json!({}))).await.is_err());
    let mut sender = connect(&server).await;
    assert!(soon(call(&mut sender, json!({ "reset": "before_head" }))).await.is_err());
}

#[tokio::test]
async fn stopping_ends_streams_that_hang() {
    let server = Server::start().await;
    let mut senders = [connect(&server).await, connect(&server).await];
    let clock = Clock::Real;
    let [first, second] = &mut senders;
    let calls = futures_util::future::join(
        call(first, json!({ "hang": true })),
        call(second, json!({ "hang_after_chunks": 1 })),
    );
    let stop = async {
        server.until(|mock| mock.open_streams() == 2).await;
        assert!(server.tasks.shut_down(&clock, Duration::from_secs(5)).await);
    };
    let ((hung, stalled), ()) = soon(futures_util::future::join(calls, stop)).await;
    assert!(hung.is_err() && !stalled.unwrap().1);
    assert_eq!(server.mock.open_streams(), 0);
}
