//! Redis is killed, frozen, slow, flushed, or not there yet: calls go on, and afterwards every number is right.

use std::time::Duration;

use super::{
    HOUR, MINUTE, Refusal, Shared, Spent, Take, WhenDown, Window, holds, id,
    servers::{PrivateRedis, Replica, SlowProxy, replica, settings, usual},
    take,
};
use crate::{shared::Hold, types::Clock};

/// A busy machine is no outage, and yet an outage is noticed.
const TIMEOUT: u64 = 200;

/// Takes `amount` and settles it whole, or says why not.
async fn spend(shared: &Shared, amount: u64, limit: u64) -> Result<(), Refusal> {
    let mut hold = shared.hold().unwrap();
    hold.take(&[take("a", HOUR, amount, limit)]).await?;
    hold.settle(&[(id("a"), amount)]);
    Ok(())
}

/// How many more may be spent one by one; at most 100.
async fn left(shared: &Shared, limit: u64) -> u64 {
    let mut count = 0;
    while count < 100 && spend(shared, 1, limit).await.is_ok() {
        count += 1;
    }
    count
}

async fn held(shared: &Shared, takes: &[Take]) -> Hold {
    let mut hold = shared.hold().unwrap();
    hold.take(takes).await.unwrap();
    hold
}

/// Two that have seen each other.
async fn pair(server: &PrivateRedis) -> (Replica, Replica) {
    let settings = settings(&server.url(), TIMEOUT);
    let lease = Duration::from_secs(2);
    let one = replica(&settings, lease).await;
    if let Some(rebuild) = one.begin_rebuild().await {
        rebuild.finish().await.unwrap();
    }
    let other = replica(&settings, lease).await;
    one.is_up(true).await;
    other.is_up(true).await;
    for _ in 0..500 {
        if one.replicas() == 2 && other.replicas() == 2 {
            return (one, other);
        }
        Clock::Real.sleep(Duration::from_millis(10)).await;
    }
    panic!("the replicas do not see each other");
}

#[tokio::test]
async fn killed_each_replica_spends_its_share_and_afterwards_redis_knows_all_of_it() {
    let mut server = PrivateRedis::start_durable();
    let (one, other) = pair(&server).await;
    spend(&one, 3, 10).await.unwrap();
    spend(&other, 1, 10).await.unwrap();
    holds(&one, [("a", HOUR)], [4]).await;
    // Both have seen where it stands.
    spend(&one, 0, 10).await.unwrap();
    spend(&other, 0, 10).await.unwrap();

    server.kill();
    assert_eq!((left(&one, 10).await, left(&other, 10).await), (3, 3));
    one.is_up(false).await;
    other.is_up(false).await;
    let closed = [Take { when_down: WhenDown::Closed, ..take("b", HOUR, 1, 10) }];
    assert_eq!(one.hold().unwrap().take(&closed).await, Err(Refusal::Unavailable { index: 0 }));

    server.restart();
    one.is_up(true).await;
    other.is_up(true).await;
    holds(&one, [("a", HOUR)], [10]).await;
    assert!(spend(&other, 1, 10).await.is_err());
    one.hold().unwrap().take(&closed).await.unwrap();
}

#[tokio::test]
async fn what_was_held_before_and_during_an_outage_is_held_and_settled_after_it() {
    let mut server = PrivateRedis::start_durable();
    let (one, _other) = pair(&server).await;
    let all = [("a", HOUR), ("m", MINUTE), ("s", Window::Slots)];
    let takes = [take("a", HOUR, 2, 100), take("m", MINUTE, 3, 100), take("s", Window::Slots, 1, 8)];
    let (early, ending) = (held(&one, &takes).await, held(&one, &takes).await);
    let mut growing = held(&one, &takes).await;
    server.kill();
    ending.settle(&[(id("a"), 5), (id("m"), 1)]);
    growing.take(&[take("a", HOUR, 10, 100)]).await.unwrap();
    one.is_up(false).await;
    let late = held(&one, &takes).await;
    let never = held(&one, &takes).await;
    drop(never);
    server.restart();
    one.is_up(true).await;
    // ending 5, early 2, growing 12, late 2; then three times 3 and what ending consumed; three slots.
    holds(&one, all, [21, 10, 3]).await;
    early.settle(&[(id("a"), 1), (id("m"), 3)]);
    growing.settle(&[(id("a"), 13), (id("m"), 3)]);
    late.settle(&[(id("a"), 4), (id("m"), 5)]);
    holds(&one, all, [23, 12, 0]).await;
}

#[tokio::test]
async fn slots_shared_out_in_an_outage_do_not_exceed_the_limit() {
    let mut server = PrivateRedis::start_durable();
    let (one, other) = pair(&server).await;
    let slot = [take("s", Window::Slots, 1, 6)];
    let _before = (held(&one, &slot).await, held(&one, &slot).await, held(&other, &slot).await);
    server.kill();
    for replica in [&one, &other] {
        let _ = spend(replica, 1, 1_000).await;
        let _ = spend(replica, 1, 1_000).await;
        let _ = spend(replica, 1, 1_000).await;
        replica.is_up(false).await;
        // The keeper counts what it has before it says so, so a moment later it has.
        Clock::Real.sleep(Duration::from_millis(100)).await;
    }
    let mut more = Vec::new();
    for (replica, room) in [(&one, 1), (&other, 2)] {
        for _ in 0..room {
            more.push(held(replica, &slot).await);
        }
        assert!(replica.hold().unwrap().take(&slot).await.is_err());
    }
    server.restart();
    one.is_up(true).await;
    other.is_up(true).await;
    holds(&one, [("s", Window::Slots)], [6]).await;
    drop(more);
    holds(&one, [("s", Window::Slots)], [3]).await;
}

#[tokio::test]
async fn frozen_redis_costs_the_first_calls_a_moment_and_counts_nothing_twice() {
    let mut server = PrivateRedis::start();
    let one = usual(&settings(&server.url(), TIMEOUT)).await;
    spend(&one, 5, 100).await.unwrap();
    holds(&one, [("a", HOUR)], [5]).await;
    server.pause();
    for _ in 0..20 {
        spend(&one, 1, 100).await.unwrap();
    }
    one.is_up(false).await;
    let failures = one.metrics.redis_failures.get();
    for _ in 0..50 {
        // Nobody waits for Redis any more, nor for anything else.
        futures_util::FutureExt::now_or_never(spend(&one, 1, 100)).expect("nothing waits").unwrap();
    }
    assert!(one.metrics.redis_failures.get() - failures <= 2, "calls asked a frozen Redis");
    server.resume();
    one.is_up(true).await;
    // What was sent to the frozen server arrives now, too late, and changes nothing.
    holds(&one, [("a", HOUR)], [75]).await;
    Clock::Real.sleep(Duration::from_millis(500)).await;
    holds(&one, [("a", HOUR)], [75]).await;
    assert_eq!(server.command(&["HLEN", &format!("{{switchboard}}:2:h:{}", one.session())]), "0");
}

#[tokio::test]
async fn slow_redis_is_an_absent_one_until_it_is_fast_again() {
    let server = PrivateRedis::start();
    let proxy = SlowProxy::to(&server);
    let one = usual(&settings(&proxy.url(), TIMEOUT)).await;
    spend(&one, 5, 100).await.unwrap();
    holds(&one, [("a", HOUR)], [5]).await;
    proxy.slow(Duration::from_millis(500));
    for _ in 0..10 {
        spend(&one, 1, 100).await.unwrap();
    }
    one.is_up(false).await;
    Clock::Real.sleep(Duration::from_secs(3)).await;
    assert!(!one.shared.is_up(), "it answers in 500 ms, and calls would wait for it");
    proxy.slow(Duration::ZERO);
    one.is_up(true).await;
    holds(&one, [("a", HOUR)], [15]).await;
    // A cut connection is made again.
    proxy.cut();
    for _ in 0..5 {
        spend(&one, 1, 100).await.unwrap();
    }
    one.is_up(true).await;
    holds(&one, [("a", HOUR)], [20]).await;
}

#[tokio::test]
async fn after_a_flush_counters_are_rebuilt_once_and_what_lives_is_counted_again() {
    let server = PrivateRedis::start();
    let (one, other) = pair(&server).await;
    let money = |amount| Take { needs_history: true, ..take("a", HOUR, amount, 20) };
    let mine = held(&one, &[money(5)]).await;
    let theirs = held(&other, &[money(4)]).await;
    server.flush();
    // The first to ask finds out; it waits for the history, and so does everybody.
    let mut waiting = one.hold().unwrap();
    let takes = [money(1)];
    let (answer, ()) = tokio::join!(waiting.take(&takes), async {
        let mut rebuild = loop {
            let lost = async {
                tokio::select! { () = one.history_lost() => one.begin_rebuild().await, () = other.history_lost() => other.begin_rebuild().await }
            };
            if let Some(rebuild) = lost.await {
                break rebuild;
            }
        };
        let spent = [Spent { counter: id("a"), window: HOUR, amount: 7, at: Clock::Real.unix_millis() }];
        rebuild.put(&spent).await.unwrap();
        rebuild.finish().await.unwrap();
    });
    answer.unwrap();
    other.is_up(true).await;
    holds(&one, [("a", HOUR)], [17]).await;
    assert!(matches!(other.hold().unwrap().take(&[money(4)]).await, Err(Refusal::Short { .. })));
    mine.settle(&[(id("a"), 2)]);
    theirs.settle(&[(id("a"), 4)]);
    drop(waiting);
    holds(&one, [("a", HOUR)], [13]).await;
}

#[tokio::test]
async fn an_emptied_redis_is_told_what_was_spent_by_the_ledger_or_by_the_gateway_and_not_by_both() {
    let mut server = PrivateRedis::start();
    let one = usual(&settings(&server.url(), TIMEOUT)).await;
    let takes = [
        Take { needs_history: true, ..take("money", HOUR, 4, 100) },
        take("calls", MINUTE, 1, 100),
        Take { needs_history: true, ..take("month", HOUR, 1, 100) },
    ];
    let settle = |hold: Hold| hold.settle(&[(id("money"), 4), (id("calls"), 1), (id("month"), 1)]);
    let early = held(&one, &takes).await;
    let living = held(&one, &takes).await;
    server.kill();
    settle(early);
    for _ in 0..5 {
        settle(held(&one, &takes).await);
    }
    one.is_up(false).await;
    for _ in 0..5 {
        settle(held(&one, &takes).await);
    }
    // It comes back with nothing in it. What ended is in the ledger, but of calls within a minute that is not asked.
    server.restart();
    one.history_lost().await;
    let mut rebuild = loop {
        if let Some(rebuild) = one.begin_rebuild().await {
            break rebuild;
        }
    };
    let at = Clock::Real.unix_millis();
    let spent = [("money", 44), ("month", 11)];
    rebuild.put(&spent.map(|(name, amount)| Spent { counter: id(name), window: HOUR, amount, at })).await.unwrap();
    rebuild.finish().await.unwrap();
    one.is_up(true).await;
    let all = [("money", HOUR), ("calls", MINUTE), ("month", HOUR)];
    holds(&one, all, [48, 12, 12]).await;
    settle(living);
    holds(&one, all, [48, 12, 12]).await;
}

#[tokio::test]
async fn what_the_ledger_says_to_a_gateway_that_starts_without_redis_is_not_told_to_redis_again() {
    let mut server = PrivateRedis::start_durable();
    let settings = settings(&server.url(), TIMEOUT);
    let other = usual(&settings).await;
    spend(&other, 5, 100).await.unwrap();
    holds(&other, [("a", HOUR)], [5]).await;
    server.kill();
    let one = replica(&settings, Duration::from_secs(20)).await;
    spend(&one, 2, 100).await.unwrap();
    one.history_lost().await;
    let mut rebuild = one.begin_rebuild().await.unwrap();
    assert!(rebuild.counted_since() <= Clock::Real.unix_millis());
    rebuild.put_before(&[Spent { counter: id("a"), window: HOUR, amount: 5, at: 0 }]).await.unwrap();
    rebuild.finish().await.unwrap();
    // It knows of all seven, and tells of its own two.
    assert!(spend(&one, 8, 10).await.is_err());
    server.restart();
    one.is_up(true).await;
    holds(&one, [("a", HOUR)], [7]).await;
}

#[tokio::test]
async fn a_gateway_starts_without_redis_and_joins_it_later() {
    let mut server = PrivateRedis::start();
    server.kill();
    let one = replica(&settings(&server.url(), TIMEOUT), Duration::from_secs(20)).await;
    spend(&one, 2, 10).await.unwrap();
    let money = [Take { needs_history: true, ..take("m", HOUR, 3, 10) }];
    // The ledger knows, so nobody has to wait for Redis.
    one.history_lost().await;
    let mut rebuild = one.begin_rebuild().await.unwrap();
    rebuild.put(&[Spent { counter: id("m"), window: HOUR, amount: 7, at: 0 }]).await.unwrap();
    rebuild.finish().await.unwrap();
    let hold = held(&one, &money).await;
    assert!(matches!(one.hold().unwrap().take(&money).await, Err(Refusal::Short { .. })));

    server.restart();
    one.history_lost().await;
    let mut rebuild = loop {
        if let Some(rebuild) = one.begin_rebuild().await {
            break rebuild;
        }
    };
    rebuild.put(&[Spent { counter: id("m"), window: HOUR, amount: 7, at: 0 }]).await.unwrap();
    rebuild.finish().await.unwrap();
    one.is_up(true).await;
    holds(&one, [("a", HOUR), ("m", HOUR)], [2, 10]).await;
    hold.settle(&[(id("m"), 1)]);
    holds(&one, [("m", HOUR)], [8]).await;
}
