//! Replicas that die, or only seem to; and many at once.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    HOUR, MINUTE, Window, holds, id,
    servers::{PrivateRedis, Replica, replica, settings},
    take, used,
};
use crate::types::Clock;

const ALL: [(&str, Window); 3] = [("a", HOUR), ("m", MINUTE), ("s", Window::Slots)];

#[test]
fn a_dead_replica_gives_back_what_it_held() {
    let server = PrivateRedis::start();
    let settings = settings(&server.url(), 2_000);
    let lease = Duration::from_millis(800);
    // A process of its own: when its runtime is gone, nobody shows that it lives.
    let its_runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (its_holds, session) = its_runtime.block_on(async {
        let dying = replica(&settings, lease).await;
        dying.begin_rebuild().await.unwrap().finish().await.unwrap();
        dying.is_up(true).await;
        let mut its_holds = Vec::new();
        for _ in 0..500 {
            let mut hold = dying.hold().unwrap();
            hold.take(&ALL.map(|(name, window)| take(name, window, 1, 1_000))).await.unwrap();
            its_holds.push(hold);
        }
        its_holds.pop().unwrap().settle(&[(id("a"), 1), (id("m"), 1)]);
        holds(&dying, ALL, [500, 500, 499]).await;
        (its_holds, dying.session())
    });
    runtime.block_on(async {
        let other = replica(&settings, lease).await;
        other.is_up(true).await;
        holds(&other, ALL, [500, 500, 499]).await;
        its_runtime.shutdown_background();
        holds(&other, ALL, [1, 1, 0]).await;
        for _ in 0..500 {
            // Numbers are right before the last answer has been read.
            if other.replicas() == 1 {
                break;
            }
            Clock::Real.sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(other.metrics.quota_holds_returned.get(), 499);
        assert_eq!(server.command(&["EXISTS", &format!("{{switchboard}}:2:h:{session}")]), "0");
        assert_eq!(other.replicas(), 1);
    });
    std::mem::forget(its_holds);
}

#[tokio::test]
async fn a_replica_that_only_seemed_dead_counts_what_it_holds_again_and_settles_in_full() {
    let server = PrivateRedis::start();
    let settings = settings(&server.url(), 2_000);
    let one = replica(&settings, Duration::from_secs(2)).await;
    one.begin_rebuild().await.unwrap().finish().await.unwrap();
    one.is_up(true).await;
    let other = replica(&settings, Duration::from_millis(400)).await;
    other.is_up(true).await;
    for round in 0..3 {
        let mut hold = one.hold().unwrap();
        hold.take(&ALL.map(|(name, window)| take(name, window, 5, 1_000))).await.unwrap();
        // As if it had been frozen for longer than its lease.
        let returned = other.metrics.quota_holds_returned.get();
        while other.metrics.quota_holds_returned.get() == returned {
            // Its own sign of life may come first.
            server.command(&["ZADD", "{switchboard}:2:replicas", "1", &one.session()]);
            Clock::Real.sleep(Duration::from_millis(5)).await;
        }
        if round < 2 {
            // It notices, and Redis counts what lives again.
            holds(&one, ALL, [5 + round * 3, 5 + round * 3, 5]).await;
        }
        hold.settle(&[(id("a"), 3), (id("m"), 3)]);
        holds(&one, ALL, [3 + round * 3, 3 + round * 3, 0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_calls_over_four_replicas_admit_exactly_the_limit() {
    let server = PrivateRedis::start();
    let settings = settings(&server.url(), 10_000);
    let mut replicas = Vec::new();
    for _ in 0..4 {
        let one = replica(&settings, Duration::from_secs(20)).await;
        if let Some(rebuild) = one.begin_rebuild().await {
            rebuild.finish().await.unwrap();
        }
        one.is_up(true).await;
        replicas.push(one);
    }
    let (sender, mut admitted) = tokio::sync::mpsc::channel(500);
    for call in 0..500_usize {
        let (shared, sender) = (replicas[call % 4].shared.clone(), sender.clone());
        replicas[0].tasks.spawn(async move {
            let mut hold = shared.hold().unwrap();
            let ok = hold.take(&[take("a", HOUR, 7, 1_000), take("m", MINUTE, 1, 1_000)]).await.is_ok();
            sender.send(ok.then_some(hold)).await.unwrap();
        });
    }
    drop(sender);
    let mut holding = Vec::new();
    while let Some(hold) = admitted.recv().await {
        holding.extend(hold);
    }
    assert_eq!(holding.len(), 142);
    holds(&replicas[1], ALL, [994, 142, 0]).await;
    for (index, hold) in holding.into_iter().enumerate() {
        if index % 2 == 0 { hold.settle(&[(id("a"), 2), (id("m"), 1)]) } else { drop(hold) }
    }
    holds(&replicas[2], ALL, [142, 71, 0]).await;
    for one in &replicas {
        assert_eq!(one.metrics.quota_settlements_waiting.get(), 0);
        assert_eq!(server.command(&["HLEN", &format!("{{switchboard}}:2:h:{}", one.session())]), "0");
    }
}

#[tokio::test]
async fn a_replica_that_stops_tells_what_is_left_and_takes_its_leave() {
    let server = PrivateRedis::start();
    let settings = settings(&server.url(), 2_000);
    let one = replica(&settings, Duration::from_secs(20)).await;
    one.begin_rebuild().await.unwrap().finish().await.unwrap();
    one.is_up(true).await;
    let other = replica(&settings, Duration::from_secs(20)).await;
    other.is_up(true).await;
    for _ in 0..200 {
        let mut hold = one.hold().unwrap();
        hold.take(&[take("a", HOUR, 5, u64::MAX)]).await.unwrap();
        hold.settle(&[(id("a"), 2)]);
    }
    assert!(one.tasks.shut_down(&Clock::Real, Duration::from_secs(5)).await);
    holds(&other, [("a", HOUR)], [400]).await;
    assert_eq!(server.command(&["ZSCORE", "{switchboard}:2:replicas", &one.session()]), "");
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again_and_notes_are_found() {
    let server = PrivateRedis::start();
    let settings = settings(&server.url(), 2_000);
    let one = replica(&settings, Duration::from_secs(20)).await;
    one.begin_rebuild().await.unwrap().finish().await.unwrap();
    one.is_up(true).await;
    server.command(&["SCRIPT", "FLUSH"]);
    let mut hold = one.hold().unwrap();
    hold.take(&[take("a", HOUR, 5, 10)]).await.unwrap();
    assert_eq!(one.metrics.quota_takes_alone.get(), 0);
    one.remember("note", bytes::Bytes::from_static(b"\xff text"), Duration::from_secs(60));
    let keys = ["another", "note"].map(str::to_owned);
    for _ in 0..500 {
        if let [another, Some(found)] = &one.recall(&keys).await[..] {
            assert_eq!((another, &found[..]), (&None, &b"\xff text"[..]));
            return;
        }
        Clock::Real.sleep(Duration::from_millis(10)).await;
    }
    panic!("the note was not written");
}

/// What may happen to two replicas with four holds each.
#[derive(Clone, Debug)]
enum Event {
    Take(usize, [u64; 3]),
    Release(usize),
    Settle(usize, u64),
    Drop(usize),
    /// One of the replicas seems dead to the other, and its holds are given back.
    SeemsDead(usize),
    ForgetScripts,
    CutConnections,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let hold = 0..8_usize;
    let event = prop_oneof![
        6 => (hold.clone(), prop::array::uniform3(0..6_u64)).prop_map(|(hold, amounts)| Event::Take(hold, amounts)),
        1 => hold.clone().prop_map(Event::Release),
        3 => (hold.clone(), 0..9_u64).prop_map(|(hold, actual)| Event::Settle(hold, actual)),
        1 => hold.prop_map(Event::Drop),
        1 => (0..2_usize).prop_map(Event::SeemsDead),
        1 => Just(Event::ForgetScripts),
        1 => Just(Event::CutConnections),
    ];
    prop::collection::vec(event, 1..40)
}

/// Runs `events` on counters of their own: what one case leaves to be told must not reach the next. Afterwards every counter
/// holds what was settled, and nothing else.
async fn run(
    server: &PrivateRedis,
    pair: &[Replica; 2],
    case: usize,
    events: Vec<Event>,
) -> Result<u64, TestCaseError> {
    const LIMIT: u64 = 60;
    let names = ALL.map(|(name, _)| format!("{name}-{case}"));
    let counters = [0, 1, 2].map(|index| (&*names[index], ALL[index].1));
    let (money, slots) = (id(&names[0]), id(&names[2]));
    let mut spent = 0;
    // As long as both replicas live and reach Redis; a dead one's holds are free for others, and a replica that is alone
    // does not know what the other takes.
    let mut strict = true;
    let mut holding: Vec<_> = (0..8).map(|index| pair[index % 2].hold().unwrap()).collect();
    for event in events {
        match event {
            Event::Take(hold, amounts) => {
                let mut index = 0;
                let takes = counters.map(|(name, window)| {
                    index += 1;
                    take(name, window, amounts[index - 1], LIMIT)
                });
                let mine = holding[hold].held(money);
                let before: u64 = holding.iter().map(|hold| hold.held(money)).sum();
                let answer = holding[hold].take(&takes).await;
                prop_assert_eq!(holding[hold].held(money) - mine, if answer.is_ok() { amounts[0] } else { 0 });
                prop_assert!(!strict || answer.is_err() || before + spent + amounts[0] <= LIMIT, "beyond the limit");
            }
            Event::Release(hold) => holding[hold].release(&[slots]),
            Event::Settle(hold, actual) => {
                let new = pair[hold % 2].hold().unwrap();
                let old = std::mem::replace(&mut holding[hold], new);
                let consumed = if old.held(money) > 0 { actual.min(old.held(money)) } else { 0 };
                spent += consumed;
                old.settle(&[(money, consumed)]);
            }
            Event::Drop(hold) => holding[hold] = pair[hold % 2].hold().unwrap(),
            Event::SeemsDead(which) => {
                strict = false;
                server.command(&["ZADD", "{switchboard}:2:replicas", "1", &pair[which].session()]);
            }
            Event::ForgetScripts => {
                server.command(&["SCRIPT", "FLUSH"]);
            }
            Event::CutConnections => {
                strict = false;
                server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
        }
    }
    drop(holding);
    for _ in 0..1_500 {
        // A sum may be right for a moment although two parts of it are still to come.
        if told_all(server, pair) && in_redis(&pair[0], counters).await == Some([spent, 0, 0]) {
            return Ok(spent);
        }
        Clock::Real.sleep(Duration::from_millis(20)).await;
    }
    prop_assert_eq!(in_redis(&pair[0], counters).await, Some([spent, 0, 0]));
    Err(TestCaseError::fail("something was not told"))
}

/// Whether both replicas have told what they had to, and Redis knows of no hold.
fn told_all(server: &PrivateRedis, pair: &[Replica; 2]) -> bool {
    pair.iter().all(|one| {
        let holds = server.command(&["HLEN", &format!("{{switchboard}}:2:h:{}", one.session())]);
        one.shared.is_up() && one.metrics.quota_settlements_waiting.get() == 0 && holds == "0"
    })
}

/// What Redis says, and not what a replica believes that has no answer.
async fn in_redis<const N: usize>(one: &Replica, counters: [(&str, Window); N]) -> Option<[u64; N]> {
    let failures = one.metrics.redis_failures.get();
    let used = used(one, counters).await;
    (one.shared.is_up() && one.metrics.redis_failures.get() == failures).then_some(used)
}

#[test]
fn whatever_happens_counters_hold_in_the_end_what_was_settled() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = PrivateRedis::start();
    let pair = runtime.block_on(async {
        let settings = settings(&server.url(), 2_000);
        let one = replica(&settings, Duration::from_secs(1)).await;
        one.begin_rebuild().await.unwrap().finish().await.unwrap();
        one.is_up(true).await;
        let other = replica(&settings, Duration::from_secs(1)).await;
        other.is_up(true).await;
        [one, other]
    });
    let config = ProptestConfig { cases: 25, failure_persistence: None, ..ProptestConfig::default() };
    let settled = std::cell::RefCell::new(Vec::new());
    let outcome = proptest::test_runner::TestRunner::new(config).run(&events(), |events| {
        let case = settled.borrow().len();
        settled.borrow_mut().push(0);
        let spent = runtime.block_on(run(&server, &pair, case, events))?;
        settled.borrow_mut()[case] = spent;
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    // Nothing came late.
    for (case, spent) in settled.into_inner().into_iter().enumerate() {
        assert_eq!(runtime.block_on(used(&pair[0], [(&*format!("a-{case}"), HOUR)])), [spent], "case {case}");
    }
}
