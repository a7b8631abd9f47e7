//! Each ending of a call, streamed and whole: what the client sees, and that the call settles once, as what it was.

use bytes::Bytes;
use futures_util::future::join;
use serde_json::json;
use switchboard::mock::{Behaviour, Outcome, Reset};

use crate::harness::*;

/// What is expected of one call.
#[derive(Clone, Copy)]
struct End {
    status: u16,
    /// How the call settles, in the word of the metrics; the attempt ends alike.
    outcome: &'static str,
    /// The code of the error that the client reads.
    code: &'static str,
    /// How a stream ends.
    ending: &'static str,
    /// Whether the provider reported usage.
    usage: bool,
    /// Seconds after which it ends.
    after: u64,
}

const DONE: End = End { status: 200, outcome: "ok", code: "", ending: "done", usage: true, after: 0 };

/// The client is refused.
const fn refused(status: u16, outcome: &'static str, code: &'static str) -> End {
    End { status, outcome, code, ending: "neither", usage: false, after: 0 }
}

/// The client has seen a part, and then an error event.
const fn broken(outcome: &'static str, code: &'static str) -> End {
    End { status: 200, outcome, code, ending: "error", usage: false, after: 0 }
}

const fn after(after: u64, end: End) -> End {
    End { after, ..end }
}

/// A script, and what becomes of a streamed and of a whole call.
type Row = (&'static str, Behaviour, End, End);

const DEADLINES: &str =
    "retries: { max_attempts: 1 }\ntimeout: { first_output: 20s, between_chunks: 10s, total: 60s, connect: 5s }";

fn answers() -> Vec<Row> {
    let status = |status| Behaviour { status: Some(status), ..fixed() };
    let same = |name, script, end| (name, script, end, end);
    vec![
        same("success", fixed(), DONE),
        (
            "usage in every chunk",
            Behaviour { usage_mode: switchboard::mock::UsageMode::EveryChunk, ..fixed() },
            DONE,
            DONE,
        ),
        same("status 400", status(400), refused(400, "bad_request", "")),
        same("status 401", status(401), refused(401, "auth", "invalid_api_key")),
        same("status 403", status(403), refused(403, "auth", "")),
        same("status 404", status(404), refused(404, "bad_request", "model_not_found")),
        same("status 413", status(413), refused(413, "bad_request", "")),
        same("status 422", status(422), refused(422, "bad_request", "")),
        same("status 429", status(429), refused(429, "rate_limited", "rate_limit_exceeded")),
        same("status 500", status(500), refused(500, "upstream_error", "")),
        same("status 503", status(503), refused(503, "upstream_error", "")),
        same("status 529", status(529), refused(529, "upstream_error", "")),
        same(
            "a status of success that is not 200",
            Behaviour { status: Some(204), empty_body: true, ..fixed() },
            refused(502, "malformed", "upstream_malformed"),
        ),
        // The provider says what its silence consumed.
        same(
            "empty",
            Behaviour { empty: true, ..fixed() },
            End { usage: true, ..refused(502, "empty", "upstream_empty") },
        ),
        same("empty body", Behaviour { empty_body: true, ..fixed() }, refused(502, "empty", "upstream_empty")),
        same(
            "invalid JSON",
            Behaviour { invalid_json: true, ..fixed() },
            refused(502, "malformed", "upstream_malformed"),
        ),
        same("HTML", Behaviour { html: true, ..fixed() }, refused(502, "malformed", "upstream_malformed")),
        same(
            "an error with status 200",
            Behaviour { error_in_200: true, ..fixed() },
            refused(502, "upstream_error", "upstream_error"),
        ),
        (
            "an error as first event",
            Behaviour { error_first: true, ..fixed() },
            refused(502, "upstream_error", "upstream_error"),
            DONE,
        ),
        (
            "an error after two chunks",
            Behaviour { error_after_chunks: Some(2), ..fixed() },
            broken("upstream_error", ""),
            DONE,
        ),
        (
            "a whole answer where a stream was asked for",
            Behaviour { ignore_stream: true, ..fixed() },
            refused(502, "malformed", "upstream_malformed"),
            DONE,
        ),
        (
            "a stream where a whole answer was asked for",
            Behaviour { stream_always: true, ..fixed() },
            DONE,
            refused(502, "malformed", "upstream_malformed"),
        ),
        ("no [DONE] after a finish reason", Behaviour { omit_done: true, ..fixed() }, DONE, DONE),
        (
            "no [DONE] and no finish reason",
            Behaviour { end_after_chunk: Some(2), ..fixed() },
            broken("cut", "upstream_cut"),
            refused(502, "malformed", "upstream_malformed"),
        ),
        same("an event of 1 MiB", Behaviour { frame_bytes: Some(1 << 20), ..fixed() }, DONE),
        (
            "garbage after the end",
            Behaviour { trailing_garbage: true, ..fixed() },
            DONE,
            refused(502, "malformed", "upstream_malformed"),
        ),
    ]
}

fn connections() -> Vec<Row> {
    let reset = |reset| Behaviour { reset: Some(reset), ..fixed() };
    let cut = refused(502, "cut", "upstream_cut");
    vec![
        ("reset before the head", reset(Reset::BeforeHead), cut, cut),
        ("reset after the head", reset(Reset::AfterHead), cut, cut),
        ("reset inside the first frame", reset(Reset::AtByte(100)), cut, cut),
        ("reset after two chunks", reset(Reset::AfterChunk(2)), broken("cut", "upstream_cut"), cut),
        ("closed at once", Behaviour { cut_at_byte: Some(0), ..fixed() }, cut, cut),
    ]
}

fn silences() -> Vec<Row> {
    let first = after(20, refused(504, "timeout_first_output", "upstream_timeout"));
    let total = after(60, refused(504, "timeout_total", "upstream_timeout"));
    let between = after(10, refused(504, "timeout_between_chunks", "upstream_timeout"));
    let stalled = after(10, broken("timeout_between_chunks", "upstream_timeout"));
    let period = |seconds| Some(switchboard::types::Period::from_secs(seconds));
    vec![
        ("hangs before the head", Behaviour { hang: true, ..fixed() }, first, total),
        ("hangs before its first output", Behaviour { hang_after_chunks: Some(0), ..fixed() }, first, between),
        ("hangs after two chunks", Behaviour { hang_after_chunks: Some(2), ..fixed() }, stalled, between),
        (
            "a stream that takes too long",
            Behaviour { chunks: Some(100), chunk_delay: period(3), ..fixed() },
            after(60, broken("timeout_total", "upstream_timeout")),
            DONE,
        ),
        ("a head that takes its time", Behaviour { delay: period(19), ..fixed() }, after(19, DONE), after(19, DONE)),
        ("comments are no output", Behaviour { comments: true, first_chunk_delay: period(21), ..fixed() }, first, DONE),
    ]
}

#[tokio::test]
async fn answers_settle_as_what_they_are() {
    Box::pin(run(answers())).await;
}

#[tokio::test]
async fn broken_connections_settle_as_what_they_are() {
    Box::pin(run(connections())).await;
}

#[tokio::test]
async fn silences_settle_when_their_deadline_passes() {
    Box::pin(run(silences())).await;
}

async fn run(table: Vec<Row>) {
    let mut rows = Rows::new();
    for (name, script, stream, whole) in table {
        for (is_stream, end) in [(true, stream), (false, whole)] {
            rows.row(format!("{name}, {}", if is_stream { "streamed" } else { "whole" }));
            let gate = Gate::build().mock("a").config(DEADLINES).start().await;
            gate.mock("a").set_default(script.clone());
            let answer = gate.advance_until(gate.ask(is_stream, json!({})), millis(500)).await;
            let took = gate.elapsed();
            rows.holds("it ends in time", took >= secs(end.after) && took <= secs(end.after) + millis(500), took);
            check(&mut rows, &answer, is_stream, end);
            settled(&mut rows, gate, end).await;
        }
    }
    rows.finish();
}

/// The client's side.
fn check(rows: &mut Rows, answer: &Answer, is_stream: bool, end: End) {
    rows.equal("status", answer.status, end.status);
    rows.equal("code", &*answer.code(), end.code);
    rows.holds("the body is complete", answer.complete, answer.text());
    rows.holds("there is a request id", answer.header("x-request-id").len() == 26, answer.header("x-request-id"));
    if is_stream && end.status == 200 {
        rows.equal("ending", answer.ending(), end.ending);
        rows.equal("content type", answer.header("content-type"), "text/event-stream; charset=utf-8");
    } else {
        rows.equal("content type", answer.header("content-type"), "application/json");
        let length = answer.header("content-length").parse::<usize>();
        rows.holds("the length is declared", length == Ok(answer.body.len()), length);
    }
}

/// The gateway's side: one call, one attempt, each counted once with the same end.
async fn settled(rows: &mut Rows, gate: Gate, end: End) {
    let counts = match gate.audit().await {
        Ok(counts) => counts,
        Err(wrong) => return rows.fine(Err(wrong)),
    };
    rows.equal("outcome", counts.outcomes(), format!("{} 1", end.outcome));
    rows.equal("attempt", counts.attempts(), format!("a/up {} 1", end.outcome));
    rows.equal("tokens", &*counts.tokens(), if end.usage { "input 11, output 7" } else { "" });
    rows.equal("error answers", counts.sum("errors_total", &[]), u64::from(end.status >= 400));
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_settles_as_that() {
    let mut rows = Rows::new();
    for is_stream in [true, false] {
        rows.row(format!("streamed {is_stream}"));
        let gate = Gate::build().upstream("a", RawUpstream::closed()).config(DEADLINES).start().await;
        let answer = gate.ask(is_stream, json!({})).await;
        let end = refused(502, "connect", "upstream_unreachable");
        check(&mut rows, &answer, false, end);
        rows.holds("no address is told", !answer.text().contains("127.0.0.1"), answer.text());
        settled(&mut rows, gate, end).await;
    }
    rows.finish();
}

#[tokio::test]
async fn a_provider_that_does_not_speak_http_settles_as_that() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream("a", upstream.address).config(DEADLINES).start().await;
    gate.unseen(1);
    let (answer, ()) = join(gate.chat(json!({})), async {
        let mut exchange = upstream.accept().await;
        exchange.send("220 mail.example.com ESMTP\r\n").await;
        exchange.closed().await;
    })
    .await;
    let mut rows = Rows::new();
    rows.row("a mail server");
    let end = refused(502, "malformed", "upstream_malformed");
    check(&mut rows, &answer, false, end);
    settled(&mut rows, gate, end).await;
    rows.finish();
}

/// The upstream's bytes of one stream, and where its frames end.
struct Recording {
    body: Bytes,
    ends: Vec<usize>,
}

impl Recording {
    async fn of(gate: &Gate) -> Self {
        gate.mock("a").set_default(fixed());
        let request = chat(json!({ "model": "up", "stream": true, "stream_options": { "include_usage": true } }));
        let body = gate.direct("a", request.to_string()).await.body;
        let ends: Vec<usize> =
            body.windows(2).enumerate().filter(|(_, w)| w == b"\n\n").map(|(at, _)| at + 2).collect();
        assert!(ends.len() > 6 && ends.last() == Some(&body.len()));
        Self { body, ends }
    }

    /// What has arrived in whole frames when the connection ends after `bytes`.
    fn whole_frames(&self, bytes: usize) -> &[u8] {
        let end = self.ends.iter().rev().find(|end| **end <= bytes).copied().unwrap_or(0);
        &self.body[..end]
    }
}

/// A gateway that never rests a target, so that one can serve all cuts.
const PATIENT: &str = "retries: { max_attempts: 2 }
health: { consecutive_failures: 1000000, min_calls: 1000000 }
models: { m: { targets: [a/up, b/up] } }";

#[tokio::test]
async fn a_stream_cut_at_any_byte_is_retried_unseen_before_its_first_output_and_ends_with_an_error_after() {
    let gate = Gate::build().mock("a").mock("b").config(PATIENT).start().await;
    let recording = Recording::of(&gate).await;
    let spare = Behaviour { text: Some("From the other one.".into()), ..fixed() };
    gate.mock("b").set_default(spare);
    let options = json!({ "stream_options": { "include_usage": true } });
    // The second frame is the first with output in it; the last is `[DONE]`.
    let (committed, all) = (recording.ends[1], recording.body.len());
    let mut rows = Rows::new();
    let (mut cuts, mut retried) = (0, 0);
    for byte in 0..=all {
        rows.row(format!("cut after {byte} of {all} bytes"));
        gate.mock("a").enqueue(Behaviour { cut_at_byte: Some(byte as u64), ..fixed() });
        let answer = soon(gate.stream(options.clone())).await;
        rows.equal("status", answer.status, 200);
        rows.holds("the body is complete", answer.complete, answer.text());
        if byte < committed {
            retried += 1;
            rows.equal("ending", answer.ending(), "done");
            rows.equal("content", &*answer.content(), "From the other one.");
            rows.equal("attempts", answer.header("x-switchboard-attempts"), "2");
            continue;
        }
        let frames = recording.whole_frames(byte);
        rows.holds("whole frames pass, byte for byte", answer.body.starts_with(frames), answer.text());
        rows.equal("attempts", answer.header("x-switchboard-attempts"), "1");
        if frames.len() == all {
            rows.equal("all of it", &answer.body[..], &recording.body[..]);
            continue;
        }
        cuts += 1;
        let last = String::from_utf8_lossy(&answer.body[frames.len()..]).into_owned();
        let is_error = last.starts_with("data: {\"error\":{") && last.matches("data: ").count() == 1;
        rows.holds("one error event follows", is_error && last.ends_with("\n\n"), &last);
        rows.equal("code", &*answer.code(), "upstream_cut");
    }
    let counts = gate.finish().await;
    rows.row("all of them");
    rows.equal("retried", gate_attempts(&counts, "b/up", "ok"), retried);
    rows.equal("cut", counts.sum("calls_total", &[("outcome", "cut")]), cuts);
    rows.equal("calls", counts.sum("calls_total", &[]), all as u64 + 1);
    rows.finish();
}

fn gate_attempts(counts: &Counts, target: &str, outcome: &str) -> u64 {
    counts.sum("attempts_total", &[("target", target), ("outcome", outcome)])
}

#[tokio::test]
async fn a_whole_answer_cut_at_any_byte_is_retried_unseen() {
    let gate = Gate::build().mock("a").mock("b").config(PATIENT).start().await;
    gate.mock("b").set_default(fixed());
    let whole = gate.direct("b", chat(json!({})).to_string()).await.body;
    let mut rows = Rows::new();
    for byte in 0..whole.len() {
        rows.row(format!("cut after {byte} of {} bytes", whole.len()));
        gate.mock("a").enqueue(Behaviour { cut_at_byte: Some(byte as u64), ..fixed() });
        let answer = soon(gate.chat(json!({}))).await;
        let got = (answer.status, answer.content(), answer.header("x-switchboard-attempts").to_owned());
        rows.equal("answer", got, (200, "One two three four five.".into(), "2".into()));
    }
    let counts = gate.finish().await;
    rows.equal("outcomes", counts.outcomes(), format!("ok {}", whole.len()));
    rows.equal("attempts", counts.attempts(), format!("a/up cut {0}, b/up ok {0}", whole.len()));
    rows.finish();
}

/// Where the provider is when the client goes away.
fn moments() -> Vec<(&'static str, Behaviour, bool)> {
    let slow = Some(switchboard::types::Period::from_secs(3));
    vec![
        ("before the head, streamed", Behaviour { hang: true, ..fixed() }, true),
        ("before the head, whole", Behaviour { hang: true, ..fixed() }, false),
        ("before the first output", Behaviour { hang_after_chunks: Some(0), ..fixed() }, true),
        ("inside a whole answer", Behaviour { hang_after_chunks: Some(1), ..fixed() }, false),
        ("between two chunks", Behaviour { chunk_delay: slow, ..fixed() }, true),
        ("in a stall", Behaviour { hang_after_chunks: Some(3), ..fixed() }, true),
    ]
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_upstream_call_along() {
    let mut rows = Rows::new();
    for (name, script, is_stream) in moments() {
        for resets in [false, true] {
            rows.row(format!("{name}, {}", if resets { "reset" } else { "closed" }));
            let gate = Gate::build().mock("a").config(DEADLINES).start().await;
            gate.mock("a").set_default(script.clone());
            let mut client = gate.raw().await;
            client.send(request(&chat(json!({ "stream": is_stream })).to_string())).await;
            gate.admits();
            until(|| gate.served("a") == 1).await;
            settle().await;
            if resets {
                client.reset();
            } else {
                drop(client);
            }
            // Time stands still: whatever ends the upstream call, it is not a deadline.
            until(|| gate.mock("a").aborted() == 1).await;
            let outcome = gate.last("a").outcome();
            let at_once = matches!(outcome, Outcome::Aborted { after, .. } if after.is_zero());
            rows.holds("the provider sees it at once", at_once, outcome);
            settled(&mut rows, gate, End { usage: false, ..refused(0, "client_cancel", "") }).await;
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_provider_hears_within_100_ms_that_the_client_has_gone() {
    let gate = Gate::build().real_time().mock("a").start().await;
    let mut best = secs(60);
    for _ in 0..3 {
        gate.mock("a").enqueue(Behaviour { hang_after_chunks: Some(1), ..fixed() });
        let aborted = gate.mock("a").aborted();
        let mut live = gate.open(json!({})).await;
        live.read_until("One").await;
        let left = gate.clock.now();
        drop(live);
        until(|| gate.mock("a").aborted() > aborted).await;
        best = best.min(gate.clock.now() - left);
    }
    assert!(best < millis(100), "{best:?}");
    assert_eq!(gate.finish().await.outcomes(), "client_cancel 3");
}

#[tokio::test]
async fn a_client_that_leaves_after_the_end_has_had_its_answer() {
    for is_stream in [true, false] {
        let gate = Gate::build().mock("a").start().await;
        gate.mock("a").set_default(fixed());
        let mut client = gate.raw().await;
        client.send(request(&chat(json!({ "stream": is_stream })).to_string())).await;
        gate.admits();
        client.read_until(if is_stream { "[DONE]" } else { "system_fingerprint" }).await;
        client.reset();
        let counts = gate.finish().await;
        assert_eq!((counts.outcomes(), counts.tokens()), ("ok 1".into(), "input 11, output 7".into()), "{is_stream}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_is_charged_what_was_reported_until_then() {
    let gate = Gate::build().mock("a").start().await;
    let usage_mode = switchboard::mock::UsageMode::EveryChunk;
    gate.mock("a").set_default(Behaviour { hang_after_chunks: Some(3), usage_mode, ..fixed() });
    let mut live = gate.open(json!({})).await;
    live.read_until("three").await;
    drop(live);
    let counts = gate.finish().await;
    assert_eq!((counts.outcomes(), counts.tokens()), ("client_cancel 1".into(), "input 11, output 3".into()));
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_call_and_the_provider_is_not_read_on() {
    let gate = Gate::build().mock("a").config("timeout: { between_chunks: 1h, total: 2h }").start().await;
    let endless = Behaviour { chunks: Some(3_000), chunk_text: Some("x".repeat(20_000)), ..fixed() };
    gate.mock("a").set_default(Behaviour { text: None, ..endless });
    let mut client = gate.raw().await;
    client.send(request(&chat(json!({ "stream": true })).to_string())).await;
    gate.admits();
    client.read_until("chat.completion.chunk").await;
    gate.advance_until(async { until(|| gate.mock("a").aborted() == 1).await }, secs(1)).await;
    let Outcome::Aborted { bytes_sent, after } = gate.last("a").outcome() else { panic!("it went on") };
    assert!(bytes_sent < 40_000_000, "{bytes_sent} bytes were read for a client that reads nothing");
    assert!(after >= secs(60) && after < secs(120), "the limit of `server.write_timeout` is 60 s, it took {after:?}");
    assert_eq!(gate.finish().await.outcomes(), "client_cancel 1");
}

#[tokio::test]
async fn shutdown_waits_for_calls_and_then_ends_each_with_an_error_its_client_can_read() {
    let mut rows = Rows::new();
    let script = |hang, chunks| Behaviour { hang, hang_after_chunks: chunks, ..fixed() };
    let table = [
        ("mid-stream", true, script(false, Some(2)), 200),
        ("before the first output", true, script(false, Some(0)), 503),
        ("before the head, streamed", true, script(true, None), 503),
        ("before the head, whole", false, script(true, None), 503),
        ("inside a whole answer", false, script(false, Some(1)), 503),
    ];
    for (name, is_stream, script, status) in table {
        rows.row(name);
        let mut gate = Gate::build().mock("a").start().await;
        gate.mock("a").set_default(script);
        let body = chat(json!({ "stream": is_stream })).to_string();
        let request = gate.request("/v1/chat/completions", body, &[]);
        let stop = gate.stopping();
        let began = async {
            until(|| gate.served("a") == 1).await;
            settle().await;
            // Up to the end of the grace, and of the second for the last words; what is left takes real time.
            let mut stop = Box::pin(stop);
            let enough = async { until(|| gate.elapsed() >= secs(32)).await };
            tokio::select! {
                () = gate.advance_until(enough, millis(250)) => gate.patiently(stop).await,
                () = &mut stop => {}
            }
        };
        let (answer, ()) = Box::pin(join(gate.exchange(request), began)).await;
        rows.equal("status", answer.status, status);
        rows.equal("code", &*answer.code(), "gateway_shutting_down");
        rows.holds("the body is complete", answer.complete, answer.text());
        // The grace of `server.drain` is 30 s, and a second is for the last words.
        rows.holds("calls have their grace", gate.elapsed() >= secs(30) && gate.elapsed() < secs(33), gate.elapsed());
        settled(&mut rows, gate, End { status, ..refused(0, "refused_by_gateway", "") }).await;
    }
    rows.finish();
}

/// A request as a bare socket sends it.
fn request(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
