//! What passes through: every byte of a request and of an answer but the few that the gateway is there to change.

use bytes::Bytes;
use futures_util::future::join;
use serde_json::{Value, json};
use switchboard::{
    mock::{Behaviour, Encoding, LineEnding, UsageMode},
    types::Period,
};

use crate::harness::*;

/// What of the request the provider must see: the same bytes with these changed.
fn expected(body: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(body.to_owned(), |body, (from, to)| {
        assert_eq!(body.matches(from).count(), 1, "{from} in {body}");
        body.replacen(from, to, 1)
    })
}

fn recorded(gate: &Gate) -> String {
    String::from_utf8(gate.last("a").body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_body_arrives_byte_for_byte_but_for_the_model() {
    let rows_of_bytes = [
        r#"{"model":"m","messages":[]}"#,
        "{ \"model\"\t:\r\n \"m\" ,\n\n \"messages\" : [ { \"role\":\"user\" , \"content\" : \"Hi\" } ] }",
        r#"  {"messages":[{"role":"user","content":"\u00e9\ud83d\ude00\/ \"m\" é"}],"temperature":1.0e5,"model":"m","top_p":1e-7}  "#,
        r#"{"messages":[],"model":"\u006d","seed":12345678901234567890123,"logit_bias":{"50256":-100.00,"x":-0}}"#,
        r#"{"z":1,"a":2,"messages":[],"n":1,"user":null,"model":"m","metadata":{"b":{"a":[1,2.50,{"model":"m"}]}},"":0}"#,
        r#"{"mod\u0065l":"m","messages":[{"content":"\ud800 half"}]}"#,
    ];
    let gate = Gate::build().mock("a").start().await;
    let mut rows = Rows::new();
    for body in rows_of_bytes {
        rows.row(body);
        let answer = soon(gate.post("/v1/chat/completions", body, &[])).await;
        rows.equal("status", answer.status, 200);
        let model = [r#""model":"m""#, "\"model\"\t:\r\n \"m\"", r#""model":"\u006d""#, r#""mod\u0065l":"m""#];
        let named = model.into_iter().filter(|model| body.contains(model)).max_by_key(|model| model.len()).unwrap();
        let (key, value) = named.rsplit_once('"').and_then(|(rest, _)| rest.rsplit_once('"')).unwrap();
        // The first mention at the top level; the one inside `metadata` stays.
        let at = body.find(named).unwrap();
        let upstream = format!("{}{key}\"up\"{}", &body[..at], &body[at + key.len() + value.len() + 2..]);
        rows.equal("body", recorded(&gate), upstream.clone());
        rows.equal(
            "declared",
            gate.last("a").headers["content-length"].to_str().ok(),
            Some(&*upstream.len().to_string()),
        );
    }
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

/// Random JSON text with odd spacing, spellings of numbers and escapes.
fn scribble(random: &mut fastrand::Rng, depth: u32) -> String {
    let space = |random: &mut fastrand::Rng| [" ", "", "\n", "\t ", ""][random.usize(..5)];
    match random.u32(..if depth == 0 { 6 } else { 8 }) {
        0 => ["null", "true", "false"][random.usize(..3)].to_owned(),
        1 => ["1.0e5", "-0", "1E+2", "0.10", "123456789012345678901234567890", "1.7976931348623157e309"]
            [random.usize(..6)]
        .to_owned(),
        2..=5 => {
            let inside = ["", "\\u00e9", "é\\n", r#"\\\""#, "\\/", "{[,:]}", "\\ud83d\\ude00", r#"\"model\":\"m\""#];
            format!("\"{}\"", inside[random.usize(..inside.len())])
        }
        kind => {
            let parts: Vec<String> = (0..random.usize(..4))
                .map(|n| {
                    let inner = scribble(random, depth - 1);
                    let (before, after) = (space(random), space(random));
                    if kind == 6 {
                        format!("{before}{inner}{after}")
                    } else {
                        format!("{before}\"k{n}\"{after}:{inner}")
                    }
                })
                .collect();
            if kind == 6 { format!("[{}]", parts.join(",")) } else { format!("{{{}}}", parts.join(",")) }
        }
    }
}

#[tokio::test]
async fn unknown_members_of_any_kind_and_depth_arrive_as_they_were_written() {
    let gate = Gate::build().mock("a").start().await;
    let mut rows = Rows::new();
    for seed in 0..20 {
        rows.row(format!("seed {seed}"));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut members: Vec<String> =
            (0..50).map(|n| format!("\"unknown_{n}\" :{}", scribble(&mut random, 6))).collect();
        members.insert(random.usize(..50), "\"model\" : \"m\"".into());
        members.insert(random.usize(..50), "\"messages\":[]".into());
        let body = format!("{{{}}}", members.join(" ,"));
        let answer = soon(gate.post("/v1/chat/completions", body.clone(), &[])).await;
        rows.holds("status", answer.status == 200, answer.text());
        if answer.status == 200 {
            rows.equal("body", recorded(&gate), expected(&body, &[("\"model\" : \"m\"", "\"model\" : \"up\"")]));
        }
    }
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn the_same_request_is_the_same_each_time() {
    let gate = Gate::build().mock("a").config("models: { m: { targets: [a/up], defaults: { a: 1, b: { c: [2.0] } }, ceilings: { max_tokens: 9 }, overrides: { z: x, y: 1 } } }").start().await;
    gate.mock("a").set_default(fixed());
    let body = chat(json!({ "stream": true, "tools": [{ "a": 1 }], "metadata": { "x": "y" } })).to_string();
    for _ in 0..1_000 {
        assert_eq!(soon(gate.post("/v1/chat/completions", body.clone(), &[])).await.status, 200);
    }
    let requests = gate.mock("a").requests();
    let first = &requests[0];
    assert!(requests.iter().all(|request| request.body == first.body && request.headers == first.headers));
    assert_eq!(requests.len(), 1_000);
    gate.finish().await;
}

/// Configured changes to bodies: the model's settings, the provider's, the client's members, and what arrives.
#[tokio::test]
async fn parameters_are_set_lowered_and_replaced_as_configured() {
    const T: &str = "max_tokens";
    const C: &str = "max_completion_tokens";
    let none = "";
    let table: Vec<(&str, &str, String, String)> = vec![
        ("defaults: { temperature: 0.2 }", none, "".into(), r#","temperature":0.2"#.into()),
        ("defaults: { temperature: 0.2 }", none, r#","temperature":1.0e0"#.into(), r#","temperature":1.0e0"#.into()),
        ("defaults: { temperature: 0.2 }", none, r#","temperature":null"#.into(), r#","temperature":0.2"#.into()),
        ("defaults: { max_tokens: 5 }", none, format!(r#","{C}":9"#), format!(r#","{C}":9"#)),
        ("defaults: { max_completion_tokens: 5 }", none, format!(r#","{T}":9"#), format!(r#","{T}":9"#)),
        ("ceilings: { max_tokens: 100 }", none, "".into(), format!(r#","{T}":100"#)),
        ("ceilings: { max_tokens: 100 }", none, format!(r#","{T}":99.50"#), format!(r#","{T}":99.50"#)),
        ("ceilings: { max_tokens: 100 }", none, format!(r#","{T}":1e3,"x":0"#), format!(r#","{T}":100,"x":0"#)),
        ("ceilings: { max_tokens: 100 }", none, format!(r#","{C}":101"#), format!(r#","{C}":100"#)),
        ("ceilings: { max_completion_tokens: 100 }", none, format!(r#","{T}":101"#), format!(r#","{T}":100"#)),
        (
            "overrides: { user: gateway, seed: null }",
            none,
            r#","user":"me","seed":1,"x":[ ]"#.into(),
            r#","user":"gateway","x":[ ]"#.into(),
        ),
        ("overrides: { max_tokens: 7 }", none, format!(r#","{C}":3"#), format!(r#","{T}":7"#)),
        ("defaults: { top_p: 1, temperature: 0 }", none, "".into(), r#","temperature":0,"top_p":1"#.into()),
        (none, "max_tokens_field: max_tokens", format!(r#","{C}" : 9"#), format!(r#","{T}" : 9"#)),
        (none, "max_tokens_field: max_completion_tokens", format!(r#","{T}":9"#), format!(r#","{C}":9"#)),
        (none, "max_tokens_field: max_tokens", format!(r#","{C}":9,"{T}":8"#), format!(r#","{T}":8"#)),
        (
            "ceilings: { max_tokens: 4 }",
            "max_tokens_field: max_completion_tokens",
            format!(r#","{T}":9"#),
            format!(r#","{C}":4"#),
        ),
        ("defaults: { max_tokens: 4 }", "max_tokens_field: max_completion_tokens", "".into(), format!(r#","{C}":4"#)),
    ];
    let mut rows = Rows::new();
    for (model, provider, sent, arrives) in table {
        rows.row(format!("{model} {provider} {sent}"));
        let config = format!("models: {{ m: {{ targets: [a/up], {model} }} }}");
        let gate = Gate::build().mock_with("a", provider).config(&config).start().await;
        let body = format!(r#"{{"model":"m","messages":[]{sent}}}"#);
        let answer = soon(gate.post("/v1/chat/completions", body, &[])).await;
        rows.equal("status", answer.status, 200);
        rows.equal("body", recorded(&gate), format!(r#"{{"model":"up","messages":[]{arrives}}}"#));
        rows.fine(gate.audit().await.map(drop));
    }
    rows.finish();
}

#[tokio::test]
async fn names_lead_where_they_should() {
    let config = "models:
  m: { targets: [a/up] }
  \"all/*\": { targets: [\"a/*\"] }
  \"all/special-*\": { targets: [\"a/vendor/*-x\"] }
  same: { targets: [a/same] }
aliases: { old: m, older: same }";
    let gate = Gate::build().mock("a").config(config).start().await;
    let mut rows = Rows::new();
    for (name, upstream) in [
        ("m", "up"),
        ("old", "up"),
        ("older", "same"),
        ("same", "same"),
        ("all/one", "one"),
        ("all/deep/er", "deep/er"),
        ("all/special-7", "vendor/7-x"),
        ("all/m", "m"),
    ] {
        for path in ["/v1/chat/completions", "/chat/completions"] {
            rows.row(format!("{name} {path}"));
            let answer = soon(gate.post(path, chat(json!({ "model": name })).to_string(), &[])).await;
            rows.equal("status", answer.status, 200);
            rows.equal("model", gate.last("a").model, Some(upstream.to_owned()));
            rows.equal("target", answer.header("x-switchboard-target"), &*format!("a/{upstream}"));
            rows.equal("path", &*gate.last("a").path, "/v1/chat/completions");
        }
    }
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn usage_is_always_asked_for_and_shown_only_to_those_who_asked() {
    let mut rows = Rows::new();
    let modes = [UsageMode::Asked, UsageMode::Always, UsageMode::Never, UsageMode::EveryChunk, UsageMode::WithFinish];
    // What the client sends, what arrives, and whether the client has asked.
    let options = [
        ("", r#","stream_options":{"include_usage":true}"#, false),
        (r#","stream_options":{"include_usage":false}"#, r#","stream_options":{"include_usage":true}"#, false),
        (r#","stream_options":null"#, r#","stream_options":{"include_usage":true}"#, false),
        (r#","stream_options":{ "x" : 1.0 }"#, r#","stream_options":{ "x" : 1.0,"include_usage":true }"#, false),
        (r#","stream_options":{"include_usage" : true}"#, r#","stream_options":{"include_usage" : true}"#, true),
    ];
    for mode in modes {
        for (sent, arrives, asked) in options {
            rows.row(format!("{mode:?} {sent}"));
            let gate = Gate::build().mock("a").start().await;
            let script = Behaviour { usage_mode: mode, ..fixed() };
            gate.mock("a").set_default(script.clone());
            let body = |model, options| format!(r#"{{"model":"{model}","messages":[],"stream":true{options}}}"#);
            let answer = soon(gate.post("/v1/chat/completions", body("m", sent), &[])).await;
            rows.equal("request", recorded(&gate), body("up", arrives));
            // A stream without usage is what a provider sends that was never asked and never tells.
            let seen = if asked { mode } else { UsageMode::Never };
            gate.mock("a").set_default(Behaviour { usage_mode: seen, ..script });
            let plain = gate.direct("a", body("up", arrives)).await;
            rows.equal("stream", answer.text(), plain.text());
            match gate.audit().await {
                Ok(counts) => {
                    let tokens = if mode == UsageMode::Never { "" } else { "input 11, output 7" };
                    rows.equal("tokens", &*counts.tokens(), tokens);
                }
                Err(wrong) => rows.fine(Err(wrong)),
            }
        }
    }
    rows.finish();
}

/// Answers whose bytes must pass as they are.
fn answers() -> Vec<(String, Behaviour)> {
    let mut table: Vec<(String, Behaviour)> = vec![
        ("plain".into(), fixed()),
        ("reasoning".into(), Behaviour { reasoning: Some("Hm, let me see.".into()), ..fixed() }),
        ("refusal".into(), Behaviour { refusal: Some("I cannot.".into()), text: None, ..fixed() }),
        (
            "tool calls".into(),
            Behaviour {
                text: None,
                tool_calls: ["one", "two"]
                    .map(|name| switchboard::mock::ToolCall {
                        name: name.into(),
                        arguments: json!({ "city": "Zürich", "deep": [1, { "x": 2.50 }] }),
                        id: Some(format!("call_{name}")),
                    })
                    .to_vec(),
                ..fixed()
            },
        ),
        ("content filter".into(), Behaviour { finish_reason: Some("content_filter".into()), ..fixed() }),
        ("no usage".into(), Behaviour { usage_mode: UsageMode::Never, ..fixed() }),
        ("UTF-8".into(), Behaviour { text: Some("日本語 🦀 é\u{2028}".into()), chunks: Some(4), ..fixed() }),
        ("comments".into(), Behaviour { comments: true, ..fixed() }),
        ("byte order mark".into(), Behaviour { bom: true, ..fixed() }),
        ("preamble".into(), Behaviour { preamble: 5, ..fixed() }),
        ("1 MiB frame".into(), Behaviour { frame_bytes: Some(1 << 20), ..fixed() }),
        ("one write".into(), Behaviour { coalesce: true, ..fixed() }),
        ("random pieces".into(), Behaviour { split_random: Some(7), ..fixed() }),
        ("many chunks".into(), Behaviour { text: None, chunks: Some(2_000), coalesce: true, ..fixed() }),
    ];
    for ending in [LineEnding::Lf, LineEnding::Crlf, LineEnding::Cr] {
        for split in 1..=7 {
            let script =
                Behaviour { line_ending: ending, split: Some(split), bom: split == 3, comments: true, ..fixed() };
            table.push((format!("{ending:?} in pieces of {split}"), script));
        }
    }
    table
}

#[tokio::test]
async fn an_answer_passes_byte_for_byte() {
    let gate = Gate::build().mock("a").start().await;
    let mut rows = Rows::new();
    for (name, script) in answers() {
        for is_stream in [true, false] {
            rows.row(format!("{name}, streamed {is_stream}"));
            gate.mock("a").set_default(script.clone());
            let options = if is_stream { json!({ "stream_options": { "include_usage": true } }) } else { json!({}) };
            let answer = soon(gate.ask(is_stream, options.clone())).await;
            let mut body = chat(options);
            (body["model"], body["stream"]) = ("up".into(), is_stream.into());
            let direct = gate.direct("a", body.to_string()).await;
            rows.equal("status", answer.status, 200);
            let same = answer.body == direct.body;
            let texts = (shortened(&answer.body), shortened(&direct.body));
            rows.holds("the same bytes", same && answer.complete, texts);
            rows.equal("its own headers pass", answer.header("x-ratelimit-limit-tokens"), "2000000");
        }
    }
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

fn shortened(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(600).collect()
}

#[tokio::test]
async fn compressed_answers_are_decoded_and_say_so() {
    let mut rows = Rows::new();
    let gate = Gate::build().mock("a").start().await;
    gate.mock("a").set_default(fixed());
    for is_stream in [true, false] {
        let plain = soon(gate.ask(is_stream, json!({}))).await;
        for encoding in [Encoding::Gzip, Encoding::Br, Encoding::Zstd, Encoding::Deflate] {
            for accepts in ["identity", "gzip, br, zstd, deflate"] {
                rows.row(format!("{encoding:?}, streamed {is_stream}, client accepts {accepts}"));
                gate.mock("a").enqueue(Behaviour { encoding: Some(encoding), ..fixed() });
                let body = chat(json!({ "stream": is_stream })).to_string();
                let headers = [("accept-encoding", accepts)];
                let answer = soon(gate.post("/v1/chat/completions", body, &headers)).await;
                rows.equal("body", answer.text(), plain.text());
                rows.equal("encoding", answer.header("content-encoding"), "");
                let length = answer.header("content-length");
                rows.holds(
                    "length",
                    is_stream == length.is_empty() && (is_stream || length == plain.header("content-length")),
                    length,
                );
                let asked = gate.last("a").headers["accept-encoding"].clone();
                rows.equal("asked for", asked.to_str().unwrap(), "identity");
            }
        }
    }
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn an_answer_in_a_broken_encoding_is_a_failure_of_the_provider() {
    let gate = Gate::build().mock("a").mock("b").config("models: { m: { targets: [a/up, b/up] } }").start().await;
    for (name, value) in [("content-encoding", "gzip"), ("content-encoding", "compress")] {
        let headers = [(name.to_owned(), value.to_owned())].into();
        gate.mock("a").set_default(Behaviour { headers, ..fixed() });
        for is_stream in [true, false] {
            let answer = soon(gate.ask(is_stream, json!({}))).await;
            assert_eq!((answer.status, answer.header("x-switchboard-target")), (200, "b/up"), "{value} {is_stream}");
        }
    }
    gate.finish().await;
}

#[tokio::test]
async fn large_bodies_pass_and_larger_ones_are_refused_with_the_knob_that_decides() {
    let gate = Gate::build().mock("a").config("server: { max_body: 24MiB }").start().await;
    let large = |bytes: usize| chat(json!({ "x": "é".repeat(bytes / 2) })).to_string();
    let body = large(20 << 20);
    let answer = soon(gate.post("/v1/chat/completions", body.clone(), &[])).await;
    assert_eq!(answer.status, 200);
    assert!(recorded(&gate) == body.replace("\"model\":\"m\"", "\"model\":\"up\""), "20 MiB arrive as they were");
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(
        large(25 << 20)
            .into_bytes()
            .chunks(1 << 20)
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
            .collect::<Vec<_>>(),
    ));
    for (name, body) in [("declared", reqwest::Body::from(large(25 << 20))), ("chunked", chunked)] {
        let answer = soon(gate.post("/v1/chat/completions", body, &[])).await;
        assert_eq!((answer.status, answer.code()), (413, "body_too_large".into()), "{name}");
        assert!(answer.text().contains("server.max_body") && answer.text().contains("24"), "{}", answer.text());
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    assert_eq!(gate.finish().await.outcomes(), "ok 1");
}

#[tokio::test]
async fn an_answer_too_large_to_hold_streams_through_with_its_usage() {
    let gate = Gate::build().mock("a").start().await;
    let script = Behaviour { embedding_count: Some(1_200), embedding_dimensions: Some(3_072), ..fixed() };
    gate.mock("a").set_default(script);
    let body = r#"{"model":"m","input":["one"]}"#;
    let answer = soon(gate.post("/v1/embeddings", body, &[])).await;
    assert_eq!((answer.status, answer.complete), (200, true));
    assert!(answer.body.len() > 30_000_000, "{}", answer.body.len());
    let parsed: Value = answer.json();
    assert_eq!(parsed["data"].as_array().map(Vec::len), Some(1_200));
    let tokens = parsed["usage"]["prompt_tokens"].as_u64().unwrap();
    let counts = gate.finish().await;
    assert_eq!((counts.outcomes(), counts.tokens()), ("ok 1".into(), format!("input {tokens}")));
}

#[tokio::test]
async fn a_large_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let gate = Gate::build().mock("a").start().await;
    let script = Behaviour { embedding_count: Some(500), embedding_dimensions: Some(3_072), ..fixed() };
    gate.mock("a").set_default(Behaviour { cut_at_byte: Some(10_000_000), ..script });
    let answer = soon(gate.post("/v1/embeddings", r#"{"model":"m","input":"one"}"#, &[])).await;
    assert_eq!((answer.status, answer.complete), (200, false));
    assert_eq!(gate.finish().await.outcomes(), "cut 1");
}

#[tokio::test]
async fn completions_and_embeddings_take_the_same_way() {
    let gate = Gate::build().mock("a").start().await;
    gate.mock("a").set_default(fixed());
    let table = [
        ("/v1/completions", r#"{"model":"m","prompt":"x" }"#, r#"{"model":"up","prompt":"x" }"#),
        (
            "/completions",
            r#"{"model":"m","prompt":["x"],"stream":true}"#,
            r#"{"model":"up","prompt":["x"],"stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        ("/v1/embeddings", r#"{"input":"x","model":"m","dimensions":4.0e0}"#, ""),
        ("/embeddings", r#"{"input":["x"],"model":"m"}"#, r#"{"input":["x"],"model":"up"}"#),
    ];
    let mut rows = Rows::new();
    for (path, sent, arrives) in table {
        rows.row(path);
        gate.mock("a").enqueue(fixed());
        let answer = soon(gate.post(path, sent, &[])).await;
        if !arrives.is_empty() {
            rows.equal("status", answer.status, 200);
            rows.equal("body", recorded(&gate), arrives.to_owned());
        }
        rows.holds("path", gate.last("a").path.ends_with(path.trim_start_matches("/v1")), gate.last("a").path);
    }
    gate.mock("a").clear();
    rows.fine(gate.audit().await.map(drop));
    rows.finish();
}

#[tokio::test]
async fn each_frame_is_there_before_the_next_is_sent() {
    let gate = Gate::build().mock("a").start().await;
    gate.mock("a").set_default(Behaviour { chunk_delay: Some(Period::from_secs(2)), ..fixed() });
    let mut live = gate.open(json!({})).await;
    let mut text = live.ready().await;
    for word in [" two", " three", " four", " five."] {
        assert!(!text.contains(word), "{word} is not there before its time: {text}");
        gate.advance(secs(2)).await;
        text = live.ready().await;
        assert!(text.contains(word), "{word} is there at its time: {text}");
    }
    let rest = live.rest(&gate).await;
    assert!(text.contains("[DONE]") || rest.ending() == "done");
    gate.finish().await;
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let gate = Gate::build().mock("a").start().await;
    gate.mock("a").set_default(Behaviour { chunk_delay: Some(Period::from_secs(50)), ..fixed() });
    let mut live = gate.open(json!({})).await;
    live.read_until("One").await;
    let mut told = Vec::new();
    for second in 1..=49 {
        gate.advance(secs(1)).await;
        let text = live.ready().await;
        if !text.is_empty() {
            told.push((second, text));
        }
    }
    let comment = || ": keepalive\n\n".to_owned();
    assert_eq!(told, [(15, comment()), (30, comment()), (45, comment())]);
    gate.advance(secs(1)).await;
    assert!(live.ready().await.starts_with("data: "));
    drop(live);
    gate.finish().await;
}

#[tokio::test]
async fn a_comment_never_stands_inside_a_frame() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build().upstream("a", upstream.address).start().await;
    gate.unseen(1);
    let chunk =
        |text: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
    let (live, mut exchange) = join(gate.open(json!({})), async {
        let mut exchange = upstream.accept().await;
        exchange.begin_stream().await;
        exchange.send(chunk("One")).await;
        exchange
    })
    .await;
    let mut live = live;
    assert_eq!(live.read_until("One").await, chunk("One"));
    let (first, second) = (&chunk("Two")[..20], &chunk("Two")[20..]);
    exchange.send(first).await;
    gate.advance(secs(16)).await;
    assert_eq!(live.ready().await, ": keepalive\n\n", "half a frame is kept back");
    exchange.send(second).await;
    settle().await;
    assert_eq!(live.ready().await, chunk("Two"), "and passes whole");
    let last = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n";
    exchange.send(last).await;
    drop(exchange);
    let rest = live.rest(&gate).await;
    let whole = format!("{last}\ndata: [DONE]\n\n");
    assert_eq!(rest.text(), whole, "a last event without its blank line is an event, and is given one");
    assert_eq!(gate.finish().await.outcomes(), "ok 1");
}

#[tokio::test]
async fn keys_and_private_headers_stay_on_their_side() {
    let gate = Gate::build().mock_with("a", "headers: { x-org: acme }, forward_headers: [x-trace]").start().await;
    let theirs = [("set-cookie", "a=b"), ("connection", "x-hop"), ("x-hop", "1"), ("server", "s"), ("x-fine", "1")];
    let headers = theirs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    gate.mock("a").set_default(Behaviour { headers, ..fixed() });
    let ours = [
        ("cookie", "secret"),
        ("x-trace", "t"),
        ("x-other", "o"),
        ("openai-beta", "b"),
        ("x-forwarded-for", "192.0.2.1"),
        ("openai-organization", "client"),
    ];
    for is_stream in [true, false] {
        let body = chat(json!({ "stream": is_stream })).to_string();
        let answer = soon(gate.post("/v1/chat/completions", body, &ours)).await;
        let request = gate.last("a");
        let sent = |name: &str| request.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(sent("authorization"), Some("Bearer up-key-a"));
        assert_eq!((sent("x-org"), sent("x-trace"), sent("openai-beta")), (Some("acme"), Some("t"), Some("b")));
        for name in ["cookie", "x-other", "x-forwarded-for", "openai-organization"] {
            assert_eq!(sent(name), None, "{name}");
        }
        assert!(!format!("{:?}", request.headers).contains(KEY));
        assert_eq!(answer.header("x-fine"), "1");
        for name in ["set-cookie", "x-hop", "server"] {
            assert_eq!(answer.header(name), "", "{name}");
        }
        assert!(!format!("{:?}", answer.headers).contains("up-key-a"));
    }
    gate.finish().await;
}
