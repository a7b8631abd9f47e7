//! The same faults in every combination of what the client speaks, what the provider speaks, and whole or streamed: the
//! same retries and fallbacks, the failure in the client's own format, one row in the ledger.

use serde_json::{Value, json};
use switchboard::{
    mock::{Behaviour, Reset},
    telemetry::Outcome,
    wire::anthropic::grammar::Ending,
};

use crate::{failover::passing, harness::*, messages::*};

/// What the client asks at, what the first provider speaks, and whether the answer is streamed.
#[derive(Clone, Copy, Debug)]
struct Way {
    client: &'static str,
    kind: &'static str,
    is_stream: bool,
}

const OPEN: &str = "kind: openai_compatible";

fn ways() -> impl Iterator<Item = Way> {
    let clients = [CHAT, MESSAGES].into_iter();
    let kinds = clients.flat_map(|client| [OPEN, CLAUDE].map(|kind| (client, kind)));
    kinds.flat_map(|(client, kind)| [false, true].map(|is_stream| Way { client, kind, is_stream }))
}

impl Way {
    fn is_pass(self) -> bool {
        (self.client == MESSAGES) == (self.kind == CLAUDE)
    }

    fn other_kind(self) -> &'static str {
        if self.kind == CLAUDE { OPEN } else { CLAUDE }
    }

    async fn ask(self, gate: &Gate) -> Answer {
        gate.post(self.client, asked(self.client, self.is_stream), &[]).await
    }

    /// The text that was answered, in whatever format; a stream must have ended well.
    fn text(self, answer: &Answer) -> Result<String, String> {
        if self.is_stream {
            let (ending, text) = checked(self.client, &answer.body);
            return if ending == Ending::Clean { Ok(text) } else { Err(format!("{ending:?}: {}", answer.text())) };
        }
        let body = answer.json();
        let text = if self.client == MESSAGES { &body["content"][0] } else { &body["choices"][0]["message"] };
        let text = text[if self.client == MESSAGES { "text" } else { "content" }].as_str();
        text.map(str::to_owned).ok_or_else(|| answer.text())
    }

    /// Whether an answer is a failure in the client's own shape.
    fn is_error(self, body: &Value) -> bool {
        let error = &body["error"];
        let has_words = error["message"].is_string() && error["type"].is_string();
        has_words && if self.client == MESSAGES { body["type"] == "error" } else { error.get("code").is_some() }
    }
}

const SAID: &str = "One two three four five.";

#[tokio::test]
async fn a_fault_in_either_format_is_answered_by_a_provider_of_the_other() {
    let mut rows = Rows::new();
    for way in ways() {
        for (name, fault) in passing() {
            rows.row(format!("{name}, {way:?}"));
            let gate = Gate::build()
                .mock_with("a", way.kind)
                .mock_with("b", way.other_kind())
                .config("models: { m: { targets: [a/up, b/m] } }")
                .start()
                .await;
            gate.mock("a").set_default(fault.clone());
            gate.mock("b").set_default(fixed());
            let answer = gate.advance_until(way.ask(&gate), secs(1)).await;
            rows.equal("status", answer.status, 200);
            rows.equal("content", way.text(&answer), Ok(SAID.to_owned()));
            rows.equal("target", answer.header("x-switchboard-target"), "b/m");
            rows.equal("calls", (gate.served("a"), gate.served("b")), (1, 1));
            if !way.is_pass() {
                // The second target speaks the client's format: it gets the client's own request.
                let mut expected: Value = serde_json::from_str(&asked(way.client, way.is_stream)).unwrap();
                if way.is_stream && way.client == CHAT {
                    expected["stream_options"] = json!({ "include_usage": true });
                }
                let found: Value = serde_json::from_slice(&gate.last("b").body).unwrap();
                rows.equal("the client's request", found, expected);
            }
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_fault_that_may_pass_is_tried_again_in_whatever_format() {
    let mut rows = Rows::new();
    for way in ways() {
        for (name, fault) in passing() {
            rows.row(format!("{name}, {way:?}"));
            // A key that is refused rests; there is nothing else to try.
            let is_final = ["401", "402", "403"].contains(&name) || name.contains("used up");
            let gate = Gate::build().mock_with("a", way.kind).start().await;
            gate.mock("a").set_default(fixed());
            gate.mock("a").enqueue(fault.clone());
            let answer = gate.advance_until(way.ask(&gate), secs(1)).await;
            rows.equal("calls", gate.served("a"), if is_final { 1 } else { 2 });
            if is_final {
                rows.holds("an error in the client's format", way.is_error(&answer.json()), answer.text());
            } else {
                rows.equal("content", way.text(&answer), Ok(SAID.to_owned()));
            }
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

/// Faults, and the status that a client of OpenAI's and one of Anthropic's see of them in the end.
fn lasting() -> Vec<(&'static str, Behaviour, u16, u16)> {
    let status = |status| Behaviour { status: Some(status), message: Some("As scripted.".into()), ..fixed() };
    let silent = Behaviour { hang_after_chunks: Some(0), ..fixed() };
    vec![
        ("400", status(400), 400, 400),
        ("401", status(401), 401, 401),
        ("403", status(403), 403, 403),
        ("404", status(404), 404, 404),
        ("413", status(413), 413, 413),
        ("429", status(429), 429, 429),
        ("500", status(500), 500, 500),
        ("503", status(503), 503, 529),
        ("504", status(504), 504, 504),
        ("529", status(529), 503, 529),
        ("reset before the head", Behaviour { reset: Some(Reset::BeforeHead), ..fixed() }, 502, 502),
        ("reset inside the body", Behaviour { reset: Some(Reset::AtByte(40)), ..fixed() }, 502, 502),
        ("empty", Behaviour { empty: true, ..fixed() }, 502, 502),
        ("empty body", Behaviour { empty_body: true, ..fixed() }, 502, 502),
        ("invalid JSON", Behaviour { invalid_json: true, ..fixed() }, 502, 502),
        ("HTML", Behaviour { html: true, ..fixed() }, 502, 502),
        ("silence before the first output", silent, 504, 504),
    ]
}

#[tokio::test]
async fn a_fault_that_lasts_is_told_in_the_clients_format() {
    let mut rows = Rows::new();
    for way in ways() {
        for (name, fault, to_openai, to_anthropic) in lasting() {
            rows.row(format!("{name}, {way:?}"));
            let gate = Gate::build().mock_with("a", way.kind).config(ONCE).start().await;
            let said = fault.status;
            gate.mock("a").set_default(fault);
            let answer = gate.advance_until(way.ask(&gate), secs(1)).await;
            let shown = if way.client == MESSAGES { to_anthropic } else { to_openai };
            // In the pass lane a provider's own status passes.
            rows.equal("status", answer.status, said.filter(|_| way.is_pass()).unwrap_or(shown));
            rows.holds("an error in the client's format", way.is_error(&answer.json()), answer.text());
            if said.is_some() {
                rows.holds("the provider's own words", answer.text().contains("As scripted."), answer.text());
            }
            rows.equal("calls", gate.served("a"), 1);
            rows.fine(gate.audit().await.map(drop));
        }
    }
    rows.finish();
}

#[tokio::test]
async fn a_stream_that_fails_after_its_start_ends_with_an_error_of_the_clients_format() {
    let error = Behaviour { error_after_chunks: Some(2), message: Some("As scripted.".into()), ..fixed() };
    let faults = [
        ("reset", Behaviour { reset: Some(Reset::AfterChunk(2)), ..fixed() }, Outcome::Cut),
        ("ended early", Behaviour { end_after_chunk: Some(2), ..fixed() }, Outcome::Cut),
        ("in-band error", error, Outcome::UpstreamError),
        ("silence", Behaviour { hang_after_chunks: Some(2), ..fixed() }, Outcome::TimeoutBetweenChunks),
    ];
    let mut rows = Rows::new();
    for way in ways().filter(|way| way.is_stream) {
        for (name, fault, outcome) in &faults {
            rows.row(format!("{name}, {way:?}"));
            let gate = Gate::build()
                .mock_with("a", way.kind)
                .mock_with("b", way.other_kind())
                .config("models: { m: { targets: [a/up, b/m] } }")
                .start()
                .await;
            gate.mock("a").set_default(fault.clone());
            let answer = gate.advance_until(way.ask(&gate), secs(1)).await;
            rows.equal("status", answer.status, 200);
            let (ending, text) = checked(way.client, &answer.body);
            rows.equal("ending", ending, Ending::Error);
            rows.holds("what was said before", !text.is_empty() && SAID.starts_with(&text) && text != SAID, &text);
            if *name == "in-band error" {
                rows.holds("the provider's own words", answer.text().contains("As scripted."), answer.text());
            }
            rows.equal("calls", (gate.served("a"), gate.served("b")), (1, 0));
            let (_, books) = gate.finish_books().await;
            rows.equal("rows", books.iter().map(|row| row.outcome).collect(), vec![*outcome]);
        }
    }
    rows.finish();
}

#[tokio::test]
async fn slow_answers_come_whole_in_whatever_format() {
    let slow = |chunk| Behaviour {
        delay: Some("2s".parse().unwrap()),
        first_chunk_delay: Some("3s".parse().unwrap()),
        chunk_delay: Some(chunk),
        split: Some(7),
        ..fixed()
    };
    let mut rows = Rows::new();
    for way in ways() {
        rows.row(format!("{way:?}"));
        let gate = Gate::build().mock_with("a", way.kind).start().await;
        gate.mock("a").set_default(slow("4s".parse().unwrap()));
        let answer = gate.advance_until(way.ask(&gate), millis(500)).await;
        rows.equal("content", way.text(&answer), Ok(SAID.to_owned()));
        rows.equal("calls", gate.served("a"), 1);
        rows.fine(gate.audit().await.map(drop));
    }
    rows.finish();
}

macro_rules! recorded {
    ($($kind:ident $name:literal),* $(,)?) => {
        &[$(($kind, $name, include_str!(concat!("../../src/wire/translate/fixtures/stream_", $name, ".sse")))),*]
    };
}

/// Recorded streams, with what their provider speaks.
const RECORDED: &[(&str, &str, &str)] = recorded![
    CLAUDE "anthropic_tools",
    CLAUDE "anthropic_search",
    CLAUDE "anthropic_refusal",
    CLAUDE "anthropic_error",
    OPEN "openai_text",
    OPEN "openai_parallel",
    OPEN "openai_reasoning",
    OPEN "openai_refusal",
    OPEN "openai_citation",
    OPEN "openai_length",
    OPEN "openai_error",
];

/// The converters are tried at every byte in their own tests, and the pass lanes in those of the gateway; here is the
/// whole way, at every eleventh.
#[tokio::test]
async fn a_recorded_stream_that_is_cut_never_ends_cleanly() {
    let mut rows = Rows::new();
    for (number, (kind, name, text)) in RECORDED.iter().enumerate() {
        let complete = match *kind {
            CLAUDE => text.find("\"message_stop\"}").map(|at| at + "\"message_stop\"}".len()),
            _ => text.find("\"finish_reason\":\"").map(|at| at + text[at..].find('\n').unwrap()),
        };
        let complete = complete.filter(|_| !name.ends_with("error")).unwrap_or(text.len());
        for client in [CHAT, MESSAGES] {
            let upstream = RawUpstream::listen().await;
            let gate = Gate::build().upstream_with("a", upstream.address, kind).config(ONCE).start().await;
            let mut calls = 0;
            for cut in (number % 11..complete).step_by(11) {
                rows.row(format!("{name} for {client} cut at {cut}"));
                let answer = stream(&text[..floor(text, cut)]);
                let (heard, _) = tokio::join!(gate.post(client, asked(client, true), &[]), play(&upstream, &answer));
                calls += 1;
                let way = Way { client, kind, is_stream: true };
                if heard.status != 200 {
                    rows.holds("an error in the client's format", way.is_error(&heard.json()), heard.text());
                } else if way.is_pass() {
                    // What passes is the provider's own, which need not keep to the strict grammar.
                    let end = String::from_utf8_lossy(&heard.body[heard.body.len().saturating_sub(300)..]).into_owned();
                    rows.holds("no clean end", !end.contains("[DONE]") && !end.contains("message_stop"), &end);
                    rows.holds("an error", end.contains("\"error\""), &end);
                } else {
                    rows.equal("ending", checked(client, &heard.body).0, Ending::Error);
                }
            }
            gate.unseen(calls);
            let (_, books) = gate.finish_books().await;
            rows.row(format!("{name} for {client}"));
            rows.equal("rows", books.len() as u64, calls);
            rows.holds("none is in order", books.iter().all(|row| row.outcome != Outcome::Ok), books.len());
        }
    }
    rows.finish();
}

/// The next end of a character at or before `at`: these texts are sent as text.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

/// Bodies with the status 200 that are no answers, by what their provider speaks.
const NO_ANSWERS: &[(&str, &str)] = &[
    (OPEN, "[]"),
    (OPEN, "{}"),
    (OPEN, r#"{"choices":[]}"#),
    (OPEN, r#"{"choices":[{"message":7}]}"#),
    (OPEN, r#"{"choices":"none"}"#),
    (OPEN, r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"a"#),
    (CLAUDE, "[]"),
    (CLAUDE, "{}"),
    (CLAUDE, r#"{"type":"message","content":"text"}"#),
    (CLAUDE, r#"{"type":"message","content":[{"type":"text"}],"stop_reason":"end_turn"}"#),
    (CLAUDE, r#"{"type":"message","content":[{"type":"tool_use","id":"t","input":{}}],"stop_reason":"tool_use"}"#),
    (CLAUDE, r#"{"type":"message","content":[7],"stop_reason":"end_turn"}"#),
    (CLAUDE, r#"{"type":"message","content":[{"type":"text","text":"a"#),
];

#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway_or_another_targets_answer() {
    let mut rows = Rows::new();
    for (kind, body) in NO_ANSWERS {
        for client in [CHAT, MESSAGES] {
            for targets in ["[a/up]", "[a/up, b/m]"] {
                rows.row(format!("{body} of {kind} for {client}, {targets}"));
                let way = Way { client, kind, is_stream: false };
                let upstream = RawUpstream::listen().await;
                let gate = Gate::build()
                    .upstream_with("a", upstream.address, kind)
                    .mock_with("b", way.other_kind())
                    .config(
                        &format!("{ONCE}\nmodels: {{ m: {{ targets: {targets} }} }}")
                            .replace("attempts: 1", "attempts: 2"),
                    )
                    .start()
                    .await;
                gate.mock("b").set_default(fixed());
                let is_alone = targets == "[a/up]";
                let played = async {
                    play(&upstream, whole(body)).await;
                    if is_alone {
                        play(&upstream, whole(body)).await;
                    }
                };
                let (answer, ()) = tokio::join!(gate.advance_until(way.ask(&gate), secs(1)), played);
                if is_alone {
                    rows.equal("status", answer.status, 502);
                    rows.holds("an error in the client's format", way.is_error(&answer.json()), answer.text());
                    gate.unseen(2);
                } else {
                    rows.equal("content", way.text(&answer), Ok(SAID.to_owned()));
                    gate.unseen(1);
                }
                rows.fine(gate.audit().await.map(drop));
            }
        }
    }
    rows.finish();
}
