//! What the ledger must do on every database, as functions of an open one; each database runs them all.

mod rows;
mod spent;
mod usage;
mod writing;

use std::sync::Arc;

use super::{AttemptRow, CallRow, Who};
use crate::types::{Nanos, Outcome, RequestId, Usage, UsageSource};

/// Runs every function on a fresh database each.
macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (_dir, db) = crate::store::testing::sqlite().await;
                super::$name(&db).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&crate::store::testing::postgres().await).await;
            })*
        }
    };
}
use conforms;

/// 2026-10-24 00:00 UTC. Clocks in Europe go back a day later.
const START: i64 = 1_792_800_000_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A call of one attempt.
fn call(at: i64) -> CallRow {
    CallRow {
        id: RequestId::new(at.unsigned_abs()).to_string().into(),
        at,
        instance: "gw-1".into(),
        operation: "chat".into(),
        requested: "assistant".into(),
        model: "assistant".into(),
        who: Who { project: "default".into(), key_id: "key".into(), key_name: "ci".into(), ..Who::default() },
        client: Some("openai-python/3".into()),
        stream: true,
        status: 200,
        outcome: Outcome::Ok,
        error_code: None,
        finish_reason: Some("stop".into()),
        first_output_ms: Some(300),
        duration_ms: 900,
        overhead_us: 80,
        bytes_in: 1_000,
        bytes_out: 2_000,
        notes: None,
        attempts: vec![attempt(at, 1)],
    }
}

fn attempt(at: i64, number: u16) -> AttemptRow {
    AttemptRow {
        number,
        at: at + i64::from(number),
        target: "openai/gpt-5.5".into(),
        provider: "openai".into(),
        upstream_model: "gpt-5.5".into(),
        provider_key: 0,
        outcome: Outcome::Ok,
        status: Some(200),
        provider_id: Some("chatcmpl-1".into()),
        usage: Usage { input: 100, output: 10, ..Usage::default() },
        usage_source: UsageSource::Reported,
        cost: Some(Nanos(500)),
        reported_cost: None,
        price: "openai/gpt-5.5@2026-04-01".into(),
        service_tier: Some("default".into()),
        first_token_ms: Some(290),
        duration_ms: 890,
    }
}

/// Calls of every kind: with and without attempts, tags, users; failed and not; priced and not.
fn various(seed: u64, count: usize, from: i64, span: i64) -> Vec<CallRow> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| one_of_various(&mut random, from, span)).collect()
}

fn one_of_various(random: &mut fastrand::Rng, from: i64, span: i64) -> CallRow {
    let at = from + random.i64(0..span);
    let maybe = |random: &mut fastrand::Rng, name: &str| random.bool().then(|| name_of(random, name).into());
    let outcomes = [Outcome::Ok, Outcome::Ok, Outcome::ClientCancel, Outcome::Cut, Outcome::Lost];
    let who = Who {
        project: name_of(random, "p").into(),
        key_id: name_of(random, "k").into(),
        key_name: "ci".into(),
        end_user: maybe(random, "u"),
        tags: (0..3).filter(|_| random.bool()).map(|n| Arc::from(format!("tag {n}"))).collect(),
        workflow: maybe(random, "w"),
        session: maybe(random, "s"),
        step: maybe(random, "st"),
    };
    let attempts = (1..=random.u16(0..4)).map(|number| {
        let provider = name_of(random, "provider");
        let usage = Usage { input: random.u64(..1_000), cache_read: random.u64(..9), output: 1, ..Usage::default() };
        AttemptRow {
            target: format!("{provider}/m").into(),
            provider: provider.into(),
            upstream_model: name_of(random, "m").into(),
            provider_key: random.u16(..2),
            outcome: *random.choice(&outcomes).unwrap(),
            usage: Usage { millis: random.u64(..5), ..usage },
            usage_source: *random.choice(&UsageSource::ALL).unwrap(),
            cost: (random.u8(..4) > 0).then(|| Nanos(random.i64(0..1_000_000))),
            reported_cost: random.bool().then_some(Nanos(7)),
            ..attempt(at, number)
        }
    });
    let attempts = attempts.collect();
    let operation = (*random.choice(&["chat", "embeddings"]).unwrap()).into();
    let outcome = *random.choice(&outcomes).unwrap();
    CallRow { who, attempts, operation, outcome, model: name_of(random, "model").into(), ..call(at) }
}

fn name_of(random: &mut fastrand::Rng, prefix: &str) -> String {
    format!("{prefix}{}", random.u8(..3))
}
