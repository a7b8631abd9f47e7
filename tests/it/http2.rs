//! HTTP/2 on both sides: clients with prior knowledge, providers with `http: http2`.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::Version;
use serde_json::json;
use switchboard::{
    mock::{Behaviour, Outcome},
    types::Period,
};

use crate::harness::*;

/// A client that speaks nothing but HTTP/2.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
}

/// A call over HTTP/2, counted as one that will be admitted.
fn call(gate: &Gate, client: &reqwest::Client, is_stream: bool) -> reqwest::RequestBuilder {
    gate.admits();
    let url = format!("http://{}/v1/chat/completions", gate.address);
    client.post(url).bearer_auth(KEY).body(chat(json!({ "stream": is_stream })).to_string())
}

async fn gate() -> Gate {
    let gate = Gate::build().mock_with("a", "http: http2").start().await;
    gate.mock("a").set_default(fixed());
    gate
}

#[tokio::test]
async fn both_sides_speak_http2() {
    let gate = gate().await;
    let client = client();
    let mut rows = Rows::new();
    for is_stream in [true, false] {
        rows.row(format!("streamed {is_stream}"));
        let one = soon(gate.ask(is_stream, json!({}))).await;
        let response = soon(call(&gate, &client, is_stream).send()).await.unwrap();
        rows.equal("version", response.version(), Version::HTTP_2);
        let two = soon(Live::of(response).rest(&gate)).await;
        rows.equal("status", two.status, 200);
        rows.equal("the same as over HTTP/1.1", two.text(), one.text());
        rows.equal("version upstream", gate.last("a").http_version, Version::HTTP_2);
        let forbidden = ["connection", "transfer-encoding", "keep-alive"];
        let none = forbidden.iter().all(|name| !two.headers.contains_key(*name));
        rows.holds("no headers of HTTP/1.1", none, &two.headers);
    }
    drop(client);
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn more_streams_than_one_connection_takes_open_another() {
    let gate = gate().await;
    gate.mock("a").set_default(Behaviour { chunk_delay: Some(Period::from_secs(5)), ..fixed() });
    let client = client();
    let calls = join_all((0..300).map(|_| async {
        let response = call(&gate, &client, true).send().await.unwrap();
        Live::of(response).rest(&gate).await
    }));
    let mut most = 0;
    let answers = gate
        .advance_until(
            async {
                let mut calls = std::pin::pin!(calls);
                std::future::poll_fn(|cx| {
                    most = most.max(gate.mock("a").open_streams());
                    calls.as_mut().poll(cx)
                })
                .await
            },
            secs(1),
        )
        .await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.ending() == "done"));
    let connections: BTreeSet<u64> = gate.mock("a").requests().iter().map(|request| request.connection).collect();
    assert!((2..=8).contains(&connections.len()), "{connections:?}");
    assert_eq!(most, 300, "all of them ran side by side: none waited for another");
    drop(client);
    assert_eq!(gate.finish().await.outcomes(), "ok 300");
}

#[tokio::test]
async fn a_cancelled_stream_cancels_its_own_upstream_stream_and_no_other() {
    let gate = gate().await;
    let client = client();
    gate.mock("a").set_default(Behaviour { chunk_delay: Some(Period::from_secs(5)), ..fixed() });
    let mut stays = Live::of(soon(call(&gate, &client, true).send()).await.unwrap());
    stays.read_until("One").await;
    let mut goes = Live::of(soon(call(&gate, &client, true).send()).await.unwrap());
    goes.read_until("One").await;
    drop(goes);
    until(|| gate.mock("a").aborted() == 1).await;
    let requests = gate.mock("a").requests();
    assert!(matches!(requests[1].outcome(), Outcome::Aborted { after, .. } if after.is_zero()));
    assert_eq!(requests[0].connection, requests[1].connection);
    let rest = gate.advance_until(stays.rest(&gate), secs(1)).await;
    assert_eq!(rest.ending(), "done");
    drop(client);
    assert_eq!(gate.finish().await.outcomes(), "client_cancel 1, ok 1");
}

#[tokio::test]
async fn a_stream_reset_by_the_provider_is_retried_or_ends_with_an_error_event() {
    let config = "retries: { base: 1ms, max: 1ms }";
    let gate = Gate::build().mock_with("a", "http: http2").config(config).start().await;
    gate.mock("a").set_default(fixed());
    let client = client();
    let mut rows = Rows::new();
    for (byte, is_stream, ending, attempts) in
        [(0, true, "done", "2"), (100, true, "done", "2"), (900, true, "error", "1"), (100, false, "neither", "2")]
    {
        rows.row(format!("after {byte} bytes, streamed {is_stream}"));
        gate.mock("a").enqueue(Behaviour { cut_at_byte: Some(byte), ..fixed() });
        let sent = gate.advance_until(call(&gate, &client, is_stream).send(), millis(1)).await;
        let answer = soon(Live::of(sent.unwrap()).rest(&gate)).await;
        rows.equal("status", answer.status, 200);
        rows.equal("ending", answer.ending(), ending);
        rows.equal("attempts", answer.header("x-switchboard-attempts"), attempts);
    }
    drop(client);
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused_over_http2_as_well() {
    let gate = gate().await;
    let client = client();
    let answer = gate.exchange(call(&gate, &client, false).header("x-wide", "x".repeat(70_000))).await;
    assert_eq!((answer.status, answer.code()), (431, "headers_too_large".into()));
    drop(client);
    gate.finish().await;
}
