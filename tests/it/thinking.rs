//! Signed thinking that a client of OpenAI's format cannot send back, over several gateways: what one has heard, another
//! puts back, and an outage of Redis costs no call.

use serde_json::{Value, json};

use crate::{
    harness::{redis::PrivateRedis, *},
    messages::{CHAT, CLAUDE, CLAUDE_WHOLE, asked, claude_stream, play, stream, whole},
};

const OTHER: &str = "other-key-0123456789";
const SIGNATURE: &str = "c2lnbmF0dXJlLW9m";

/// An answer of which there is nothing to remember.
const PLAIN: &str = r#"{"id":"msg_02","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"Rain."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":2}}"#;

/// A gateway over this Redis, and its provider, which the test plays by hand.
async fn gateway(redis: &PrivateRedis, more: &str) -> (Gate, RawUpstream) {
    let upstream = RawUpstream::listen().await;
    let config = format!("redis: {{ url: \"{}\"{more} }}", redis.url());
    let key = format!("{{ name: other, value: {OTHER}, models: [\"*\"] }}");
    let gate =
        Gate::build().upstream_with("a", upstream.address, CLAUDE).key(&key).config(&config).real_time().start().await;
    (gate, upstream)
}

/// The second turn of a conversation, with what OpenAI's format has of the first. `ids`: of the calls.
fn second_turn(ids: [&str; 2]) -> String {
    let call = |id: &str, city: &str| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": format!("{{\"city\":\"{city}\"}}") } });
    let mut turn: Value = serde_json::from_str(&asked(CHAT, false)).unwrap();
    let more = json!([
        { "role": "assistant", "content": "Looking.", "tool_calls": [call(ids[0], "Oslo"), call(ids[1], "Rome")] },
        { "role": "tool", "tool_call_id": ids[0], "content": "rain" },
        { "role": "tool", "tool_call_id": ids[1], "content": "sun" },
    ]);
    turn["messages"].as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
    turn.to_string()
}

const IDS: [&str; 2] = ["toolu_1", "toolu_2"];

/// What a provider is sent of a call: it says something, and the call succeeds.
async fn sent(gate: &Gate, upstream: &RawUpstream, body: String, key: &str) -> Value {
    let headers = [("authorization", &*format!("Bearer {key}"))];
    let (answer, (_, request)) = tokio::join!(gate.post(CHAT, body, &headers), play(upstream, whole(PLAIN)));
    gate.unseen(1);
    assert_eq!(answer.status, 200, "{}", answer.text());
    request
}

fn thinking() -> Value {
    json!({ "type": "thinking", "thinking": "Both at once.", "signature": SIGNATURE })
}

/// How many things are remembered in Redis.
fn remembered(redis: &PrivateRedis) -> usize {
    redis.command(&["KEYS", "{switchboard}:2:r:*"]).lines().filter(|line| !line.is_empty()).count()
}

/// Waits until something is.
async fn told(redis: &PrivateRedis) {
    soon(async {
        while remembered(redis) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn thinking_of_one_gateway_is_put_back_by_another() {
    for is_stream in [false, true] {
        let mut redis = PrivateRedis::start();
        let ((one, first), (two, second)) = (gateway(&redis, "").await, gateway(&redis, "").await);
        let answer = if is_stream { stream(&claude_stream()) } else { whole(CLAUDE_WHOLE) };
        _ = tokio::join!(one.post(CHAT, asked(CHAT, is_stream), &[]), play(&first, &answer));
        one.unseen(1);
        told(&redis).await;

        let request = sent(&two, &second, second_turn(IDS), KEY).await;
        assert_eq!(request["messages"][1]["content"][0], thinking(), "{request}");
        let request = sent(&two, &second, second_turn(IDS), OTHER).await;
        assert!(!request.to_string().contains(SIGNATURE), "another key's thinking: {request}");

        // What lies in Redis says nothing of what it is, nor for how long it will.
        let name = redis.command(&["KEYS", "{switchboard}:2:r:*"]);
        let value = std::process::Command::new("redis-cli")
            .args(["-p", &redis.port.to_string(), "--no-raw", "GET", &name])
            .output()
            .unwrap();
        for text in [&*name, &String::from_utf8_lossy(&value.stdout)] {
            for word in [SIGNATURE, "Both at once", "toolu_1", "thinking", KEY] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
        let left: i64 = redis.command(&["TTL", &name]).trim_start_matches("(integer) ").parse().unwrap();
        assert!((3_500..=3_600).contains(&left), "{left}");

        // Known here now, it needs no Redis any more; and whoever does not know it goes without.
        redis.kill();
        let request = sent(&two, &second, second_turn(IDS), KEY).await;
        assert_eq!(request["messages"][1]["content"][0], thinking(), "{request}");
        let request = sent(&two, &second, second_turn(["toolu_8", "toolu_9"]), KEY).await;
        assert!(!request.to_string().contains(SIGNATURE), "{request}");
        one.finish().await;
        two.finish().await;
    }
}

#[tokio::test]
async fn a_redis_that_does_not_answer_costs_no_call_and_a_setting_keeps_thinking_out_of_it() {
    let mut redis = PrivateRedis::start();
    let ((one, first), (two, second)) = (gateway(&redis, ", thinking: 0").await, gateway(&redis, "").await);
    _ = tokio::join!(one.post(CHAT, asked(CHAT, false), &[]), play(&first, whole(CLAUDE_WHOLE)));
    one.unseen(1);
    // It takes what it is told in order: had the first gateway told it anything, it would be there as well.
    let other = whole(&CLAUDE_WHOLE.replace("toolu_1", "toolu_3"));
    let bearer = format!("Bearer {OTHER}");
    let headers = [("authorization", &*bearer)];
    _ = tokio::join!(two.post(CHAT, asked(CHAT, false), &headers), play(&second, &other));
    two.unseen(1);
    told(&redis).await;
    assert_eq!(remembered(&redis), 1);
    redis.pause();
    for _ in 0..5 {
        let request = sent(&two, &second, second_turn(IDS), KEY).await;
        assert!(!request.to_string().contains(SIGNATURE), "{request}");
    }
    let request = sent(&two, &second, second_turn(["toolu_3", "toolu_2"]), OTHER).await;
    assert_eq!(request["messages"][1]["content"][0], thinking(), "{request}");
    redis.resume();
    one.finish().await;
    two.finish().await;
}

#[tokio::test]
async fn thinking_that_no_longer_fits_is_dropped_by_models_that_hold_it_to_its_conversation() {
    const BETA: &str = "thinking-binding-controls-2026-08-01";
    let binding = json!({ "type": "adaptive", "block_binding": { "prefix_mismatch_behavior": "drop_block" } });
    let adaptive = json!({ "type": "adaptive" });
    let off = json!({ "type": "disabled" });
    // The model, more of its provider, what the client wants, what is sent of that, and whether the beta is.
    type Case<'c> = (&'c str, &'c str, Value, &'c Value, bool);
    let cases: &[Case<'_>] = &[
        ("claude-opus-5-5", "", json!({}), &binding, true),
        ("claude-opus-5-5", "", json!({ "reasoning_effort": "high" }), &binding, true),
        ("claude-fable-5-1", "", json!({}), &binding, true),
        ("claude-opus-5-5", "", json!({ "thinking": { "type": "disabled" } }), &off, false),
        ("claude-opus-5-5", "", json!({ "tool_choice": "required" }), &Value::Null, false),
        ("claude-opus-5-5", ", betas: { deny: [thinking-binding-controls] }", json!({}), &Value::Null, false),
        ("claude-opus-5-5", ", betas: { allow: [] }", json!({ "reasoning_effort": "high" }), &adaptive, false),
        ("claude-opus-4-8", "", json!({}), &Value::Null, false),
    ];
    let mut rows = Rows::new();
    for (model, more, wants, expected, beta) in cases {
        rows.row(format!("{model}{more} {wants}"));
        let upstream = RawUpstream::listen().await;
        let models = format!("models: {{ m: {{ targets: [a/{model}] }} }}");
        let gate = Gate::build().upstream_with("a", upstream.address, &format!("{CLAUDE}{more}"));
        let gate = gate.config(&models).start().await;
        // Without thinking there is nothing to be dropped.
        let (_, (head, request)) =
            tokio::join!(gate.post(CHAT, asked(CHAT, false), &[]), play(&upstream, whole(CLAUDE_WHOLE)));
        rows.equal("the first turn", (head.contains(BETA), &request["thinking"]), (false, &Value::Null));
        let mut turn: Value = serde_json::from_str(&second_turn(IDS)).unwrap();
        turn.as_object_mut().unwrap().extend(wants.as_object().unwrap().clone());
        let (_, (head, request)) =
            tokio::join!(gate.post(CHAT, turn.to_string(), &[]), play(&upstream, whole(CLAUDE_WHOLE)));
        gate.unseen(2);
        rows.equal("thinking", &request["thinking"], expected);
        rows.equal("it is put back", request.to_string().contains(SIGNATURE), *expected != &off);
        rows.equal("the beta", head.contains(BETA), *beta);
        rows.fine(gate.audit().await.map(drop));
    }
    rows.finish();
}
