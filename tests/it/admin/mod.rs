//! The admin API from the outside: who may use it, what it says, what it refuses, and whether its document is true.

mod audit;
mod changes;
mod contract;
mod keys;
mod projects;
mod quotas;
mod rights;
mod usage;

use switchboard::{
    store::{
        Db,
        ledger::{self, AttemptRow, CallRow, Who},
    },
    types::{Nanos, Outcome, Usage, UsageSource},
};

use crate::harness::{ADMIN, Gate};

/// 2026-11-01T12:00:00Z.
const NOON: i64 = 1_793_534_400_000;

/// A gateway with an admin key, and some settings more.
async fn gate(more: &str) -> Gate {
    Gate::build().mock("a").config(&format!("admin: {{ key: {ADMIN} }}\n{more}")).start().await
}

/// Writes calls into the gateway's ledger.
async fn book(gate: &Gate, calls: &[CallRow]) {
    let db = Db::open(&gate.cook_the_books(), None).await.unwrap();
    let written = ledger::write(&db, calls).await.unwrap();
    assert_eq!(written.inserted, calls.len());
    db.close().await;
}

/// A call of one attempt that cost `nanos` or something unknown, `minutes` after noon.
fn call(number: u32, minutes: i64, key: &str, model: &str, nanos: Option<i64>) -> CallRow {
    let at = NOON + minutes * 60_000;
    let id = ulid(at, number);
    let usage = Usage { input: 100, cache_read: 20, output: 7, reasoning: 3, ..Usage::default() };
    CallRow {
        id: id.into(),
        at,
        instance: "one".into(),
        operation: "chat".into(),
        requested: model.into(),
        model: model.into(),
        who: Who {
            project: "research".into(),
            key_id: key.into(),
            key_name: key.into(),
            end_user: Some(format!("user-{}", number % 2).into()),
            tags: vec!["batch".into(), "night".into()],
            workflow: Some("flow'; drop table requests; --".into()),
            session: None,
            step: Some("one".into()),
        },
        client: Some("192.0.2.1".into()),
        stream: true,
        status: 200,
        outcome: Outcome::Ok,
        error_code: None,
        finish_reason: Some("stop".into()),
        first_output_ms: Some(120),
        duration_ms: 900,
        overhead_us: 80,
        bytes_in: 300,
        bytes_out: 4_000,
        notes: None,
        attempts: vec![AttemptRow {
            number: 1,
            at: at + 1,
            target: format!("a/{model}").into(),
            provider: "a".into(),
            upstream_model: model.into(),
            provider_key: 0,
            outcome: Outcome::Ok,
            status: Some(200),
            provider_id: Some("chatcmpl-1".into()),
            usage,
            usage_source: UsageSource::Reported,
            cost: nanos.map(Nanos),
            reported_cost: None,
            price: if nanos.is_some() { format!("a/{model}@2026-04-01").into() } else { "unknown".into() },
            service_tier: None,
            first_token_ms: Some(110),
            duration_ms: 880,
        }],
    }
}

/// An id that was made at this time.
fn ulid(at: i64, number: u32) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let time = (0..10).rev().map(|place| char::from(DIGITS[(at >> (5 * place) & 31) as usize]));
    time.collect::<String>() + &format!("{number:016}")
}
