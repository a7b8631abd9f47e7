//! Breaks a real gateway while it works, again and again, and then holds its ledger against what its providers say they
//! served. Whatever happened, each call that reached a provider has one row, once.
//!
//! The gateway is the binary, in a process of its own, so that it can be killed. The providers are two mocks in this
//! process: they remember each request, and the request says which call it belongs to (`user`). A call's body also
//! holds the script of its answer, so that every ending comes up at random: answers, streams, errors, stalls, resets,
//! clients that leave at any moment.
//!
//! `SWITCHBOARD_CHAOS_ROUNDS` says how often the gateway is broken in each test; an hour of it takes a few thousand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot set its scene has failed; it works in real time, with real processes"
)]

mod compare;
mod counters;
mod gateway;
mod load;
mod outages;
mod replicas;

#[path = "../it/harness/postgres.rs"]
mod postgres;
#[path = "../it/harness/redis.rs"]
mod redis;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use compare::Books;
use gateway::{Journal, Lab};
use load::Answers;
use postgres::PrivatePostgres;

/// How often the gateway is broken, where nothing else is asked for.
const ROUNDS: u64 = 200;

fn rounds() -> u64 {
    std::env::var("SWITCHBOARD_CHAOS_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

/// Runs load while the gateway is killed and started again `rounds` times, at moments drawn anew each time.
async fn kill_again_and_again(lab: &Lab, rounds: u64) {
    for round in 0..rounds {
        let mut draw = fastrand::Rng::with_seed(round);
        lab.start().await;
        let over = AtomicBool::new(false);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(draw.u64(1..120))).await;
            lab.kill();
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(load::run(lab, Answers::Mixed, round, &over), kill);
        lab.collect().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_at_any_moment_loses_no_call_and_counts_none_twice() {
    let lab = Lab::new(None, Journal::Roomy).await;
    kill_again_and_again(&lab, rounds()).await;
    lab.start().await;
    let books = Books::settled(&lab).await;
    lab.stop().await;
    books.balance(&lab);
    books.add_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_postgres_stops_freezes_and_comes_back_and_the_gateway_is_killed() {
    let mut server = PrivatePostgres::start();
    let url = server.create_database("chaos");
    let lab = Lab::new(Some(url), Journal::Roomy).await;
    let rounds = rounds() / 4;
    for round in 0..rounds.max(4) {
        let mut draw = fastrand::Rng::with_seed(round);
        if !lab.is_running() {
            lab.start().await;
        }
        let over = AtomicBool::new(false);
        let trouble = async {
            tokio::time::sleep(Duration::from_millis(draw.u64(1..100))).await;
            match round % 4 {
                0 => server.stop(),
                1 => server.pause(),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(draw.u64(100..500))).await;
            if round % 2 == 0 {
                lab.kill();
            }
            match round % 4 {
                0 => server.restart(),
                1 => server.resume(),
                _ => {}
            }
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(load::run(&lab, Answers::Mixed, round, &over), trouble);
        lab.collect().await;
    }
    if !lab.is_running() {
        lab.start().await;
    }
    let books = Books::settled(&lab).await;
    lab.stop().await;
    books.balance(&lab);
    books.add_up().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_and_a_stopped_database_cost_calls_but_no_rows() {
    let mut server = PrivatePostgres::start();
    let url = server.create_database("chaos");
    let lab = Lab::new(Some(url), Journal::Full).await;
    lab.start().await;
    for round in 0..3 {
        let over = AtomicBool::new(false);
        let refused = lab.refused.load(Ordering::Relaxed);
        let outage = async {
            server.stop();
            for _ in 0..200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if lab.refused.load(Ordering::Relaxed) > refused + 20 {
                    break;
                }
            }
            server.restart();
            tokio::time::sleep(Duration::from_millis(500)).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(load::run(&lab, Answers::Quick, 1_000 + round, &over), outage);
        lab.collect().await;
        assert!(
            lab.refused.load(Ordering::Relaxed) > refused,
            "there was always room, for {} calls:\n{}",
            lab.calls.load(Ordering::Relaxed),
            lab.log()
        );
    }
    let books = Books::settled(&lab).await;
    lab.stop().await;
    books.balance(&lab);
    books.add_up().await;
}
