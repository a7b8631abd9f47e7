//! Calls of every kind, and clients of every patience.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::gateway::{KEY, Lab};

/// Calls at once.
const WORKERS: u64 = 24;

/// What answers are like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// Every ending there is.
    Mixed,
    /// Good or bad, but at once.
    Quick,
}

/// The code of the error for calls whose rows cannot be kept.
const FULL: &[u8] = b"ledger_full";

/// What an answer is like. The tokens are always the same, so that money can be checked.
fn script(answers: Answers, draw: &mut fastrand::Rng) -> Value {
    let kind = if answers == Answers::Quick { draw.u32(0..200) } else { draw.u32(0..24) };
    let mut script = match kind {
        0 => json!({ "status": 500 }),
        1 => json!({ "status": 503 }),
        2 => json!({ "status": 400 }),
        3 => json!({ "hang": true }),
        4 => json!({ "empty": true }),
        5 => json!({ "invalid_json": true }),
        6 => json!({ "reset": "before_head" }),
        7 => json!({ "cut_at_byte": draw.u32(1..900) }),
        8 => json!({ "chunks": 20, "chunk_delay": "4ms" }),
        9 => json!({ "chunks": 6, "hang_after_chunks": 3 }),
        10 => json!({ "answer_id": "the same each time" }),
        11 => json!({ "answer_id": "" }),
        12 => json!({ "usage_mode": "never" }),
        13 => json!({ "delay": "30ms" }),
        _ => json!({}),
    };
    script["usage"] = json!({ "prompt_tokens": 11, "completion_tokens": 7 });
    script
}

/// Calls the gateway until it is over: from several clients at once, some of which leave before they are answered.
pub async fn run(lab: &Lab, answers: Answers, round: u64, over: &AtomicBool) {
    join_all((0..WORKERS).map(|worker| async move {
        let mut draw = fastrand::Rng::with_seed(round * 1_000 + worker);
        while !over.load(Ordering::Relaxed) {
            call(lab, answers, &mut draw).await;
        }
    }))
    .await;
}

async fn call(lab: &Lab, answers: Answers, draw: &mut fastrand::Rng) {
    let number = lab.calls.fetch_add(1, Ordering::Relaxed);
    let body = json!({
        "model": "m",
        "user": format!("call-{number}"),
        "stream": draw.bool(),
        "messages": [{ "role": "user", "content": "What is the weather like today?" }],
        "mock": script(answers, draw),
    });
    let patience = match draw.u32(0..4) {
        0 => Duration::from_micros(draw.u64(100..60_000)),
        _ => Duration::from_secs(10),
    };
    let request = lab.client.post(format!("http://{}/v1/chat/completions", lab.address)).bearer_auth(KEY).json(&body);
    // Whatever comes of it: what counts is what the ledger says.
    let _ = tokio::time::timeout(patience, async {
        let Ok(mut answer) = request.send().await else { return };
        let refused = answer.status() == 503;
        while let Ok(Some(piece)) = answer.chunk().await {
            if refused && piece.windows(FULL.len()).any(|window| window == FULL) {
                lab.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    // A gateway that is gone is not called in a tight loop.
    tokio::time::sleep(Duration::from_millis(1)).await;
}
