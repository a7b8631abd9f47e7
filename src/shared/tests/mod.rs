//! What counters must do, wherever they are kept.

mod cluster;
mod model;
mod outages;
mod replicas;
pub(super) mod servers;
mod tls;

use std::time::Duration;

use super::{CounterId, Level, Refusal, Shared, Spent, Take, WhenDown, Window};
use crate::types::Clock;

/// Runs every function on fresh counters of each kind.
macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::super::Shared::memory(super::Clock::Real)).await;
            })*
        }

        mod redis {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::servers::conforming(stringify!($name)).await).await;
            })*
        }
    };
}

conforms!(
    a_limit_of_l_admits_exactly_l,
    a_refusal_changes_nothing_and_names_what_lasts_longest,
    a_counter_that_is_held_grows,
    one_take_twice_counts_twice,
    what_is_settled_stays_and_the_rest_comes_back,
    what_was_taken_for_nothing_may_have_cost_something,
    a_dropped_hold_gives_everything_back,
    slots_are_given_back_before_the_end,
    what_is_counted_only_is_never_refused,
    what_nobody_held_can_be_added,
    takes_at_once_never_pass_the_limit,
    history_is_rebuilt_by_one_and_waited_for,
    what_was_spent_before_is_put_beside_what_was_counted_since,
    a_name_is_said_once,
);

pub(super) const HOUR: Window = Window::Period { ends: u64::MAX / 4 };
pub(super) const MINUTE: Window = Window::Rolling { millis: 60_000 };

pub(super) fn id(name: &str) -> CounterId {
    CounterId::of([b"test".as_slice(), name.as_bytes()])
}

pub(super) fn take(name: &str, window: Window, amount: u64, limit: u64) -> Take {
    Take { counter: id(name), window, amount, limit, when_down: WhenDown::Open, needs_history: false }
}

pub(super) async fn used<const N: usize>(shared: &Shared, counters: [(&str, Window); N]) -> [u64; N] {
    let levels = shared.read(&counters.map(|(name, window)| (id(name), window))).await;
    std::array::from_fn(|index| levels[index].used)
}

/// Waits until counters hold this much: Redis is told of settlements in the background.
pub(super) async fn holds<const N: usize>(shared: &Shared, counters: [(&str, Window); N], expected: [u64; N]) {
    for _ in 0..1_000 {
        if used(shared, counters).await == expected {
            return;
        }
        Clock::Real.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(used(shared, counters).await, expected);
}

async fn a_limit_of_l_admits_exactly_l(shared: &Shared) {
    for (name, window) in [("hour", HOUR), ("minute", MINUTE), ("slots", Window::Slots)] {
        let mut holds = Vec::new();
        for count in 1..=5 {
            let mut hold = shared.hold().unwrap();
            hold.take(&[take(name, window, 1, 5)]).await.unwrap();
            assert_eq!(hold.levels()[0].1.used, count);
            holds.push(hold);
        }
        let refused = shared.hold().unwrap().take(&[take(name, window, 1, 5)]).await.unwrap_err();
        assert!(matches!(refused, Refusal::Short { index: 0, level: Level { used: 5, .. }, retry_after: Some(_) }));
    }
}

async fn a_refusal_changes_nothing_and_names_what_lasts_longest(shared: &Shared) {
    let mut hold = shared.hold().unwrap();
    hold.take(&[take("a", MINUTE, 3, 10), take("b", MINUTE, 8, 10), take("c", HOUR, 8, 10)]).await.unwrap();
    let all = [("a", MINUTE), ("b", MINUTE), ("c", HOUR), ("d", Window::Slots)];
    let before = used(shared, all).await;
    let mut other = shared.hold().unwrap();
    let d = take("d", Window::Slots, 1, 10);
    let cases = [
        (vec![take("a", MINUTE, 3, 10), take("b", MINUTE, 3, 10), d], 1),
        (vec![take("b", MINUTE, 3, 10), take("c", HOUR, 3, 10), d, take("a", MINUTE, 1, 10)], 1),
        (vec![take("c", HOUR, 3, 10), take("a", MINUTE, 11, 10), d], 1),
    ];
    for (takes, which) in cases {
        let refused = other.take(&takes).await.unwrap_err();
        let Refusal::Short { index, retry_after, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(index, which, "{takes:?}");
        assert_eq!(retry_after.is_none(), takes[which].amount > takes[which].limit, "{retry_after:?}");
        holds(shared, all, before).await;
        assert!(other.levels().is_empty() && other.held(id("d")) == 0);
    }
}

async fn a_counter_that_is_held_grows(shared: &Shared) {
    let mut hold = shared.hold().unwrap();
    hold.take(&[take("a", HOUR, 3, 10)]).await.unwrap();
    hold.take(&[take("a", HOUR, 4, 10), take("b", MINUTE, 1, 10)]).await.unwrap();
    assert_eq!((hold.held(id("a")), hold.held(id("b"))), (7, 1));
    assert_eq!(
        hold.levels().iter().map(|(id, level)| (*id, level.used)).collect::<Vec<_>>(),
        [(id("a"), 7), (id("b"), 1)]
    );
    // What cannot grow is still held.
    hold.take(&[take("a", HOUR, 4, 10)]).await.unwrap_err();
    assert_eq!(hold.held(id("a")), 7);
    hold.settle(&[(id("a"), 5)]);
    holds(shared, [("a", HOUR), ("b", MINUTE)], [5, 0]).await;
}

async fn one_take_twice_counts_twice(shared: &Shared) {
    let mut hold = shared.hold().unwrap();
    hold.take(&[take("a", HOUR, 3, 5), take("a", HOUR, 3, 5)]).await.unwrap_err();
    holds(shared, [("a", HOUR)], [0]).await;
    hold.take(&[take("a", HOUR, 2, 5), take("a", HOUR, 3, 5)]).await.unwrap();
    assert_eq!(hold.held(id("a")), 5);
    hold.settle(&[(id("a"), 1)]);
    holds(shared, [("a", HOUR)], [1]).await;
}

async fn what_is_settled_stays_and_the_rest_comes_back(shared: &Shared) {
    let all = [("less", HOUR), ("more", HOUR), ("unnamed", HOUR), ("rolls", MINUTE), ("slots", Window::Slots)];
    let mut hold = shared.hold().unwrap();
    hold.take(&all.map(|(name, window)| take(name, window, 5, 10))).await.unwrap();
    holds(shared, all, [5; 5]).await;
    let named = [("less", 2), ("more", 12), ("rolls", 7), ("slots", 1), ("not held", 9)];
    hold.settle(&named.map(|(name, amount)| (id(name), amount)));
    holds(shared, all, [2, 12, 0, 7, 0]).await;
    holds(shared, [("not held", HOUR)], [0]).await;
}

async fn what_was_taken_for_nothing_may_have_cost_something(shared: &Shared) {
    let all = [("a", HOUR), ("b", MINUTE)];
    let mut hold = shared.hold().unwrap();
    hold.take(&all.map(|(name, window)| take(name, window, 0, 10))).await.unwrap();
    hold.settle(&all.map(|(name, _)| (id(name), 4)));
    holds(shared, all, [4; 2]).await;
}

async fn a_dropped_hold_gives_everything_back(shared: &Shared) {
    let all = [("a", HOUR), ("b", MINUTE), ("c", Window::Slots)];
    let mut hold = shared.hold().unwrap();
    hold.take(&all.map(|(name, window)| take(name, window, 5, 10))).await.unwrap();
    hold.take(&all.map(|(name, window)| take(name, window, 1, 10))).await.unwrap();
    drop(hold);
    holds(shared, all, [0; 3]).await;
}

async fn slots_are_given_back_before_the_end(shared: &Shared) {
    let mut hold = shared.hold().unwrap();
    hold.take(&[take("slots", Window::Slots, 1, 1), take("a", HOUR, 5, 10)]).await.unwrap();
    hold.release(&[id("slots"), id("unknown")]);
    assert_eq!(hold.held(id("slots")), 0);
    holds(shared, [("slots", Window::Slots), ("a", HOUR)], [0, 5]).await;
    let mut other = shared.hold().unwrap();
    other.take(&[take("slots", Window::Slots, 1, 1)]).await.unwrap();
    // The first hold has none any more, so it gives none back.
    hold.settle(&[(id("a"), 5), (id("slots"), 1)]);
    holds(shared, [("slots", Window::Slots), ("a", HOUR)], [1, 5]).await;
}

async fn what_is_counted_only_is_never_refused(shared: &Shared) {
    for window in [HOUR, MINUTE, Window::Slots] {
        let mut hold = shared.hold().unwrap();
        hold.take(&[take("a", window, 1 << 40, u64::MAX)]).await.unwrap();
        hold.take(&[take("a", window, 1 << 40, u64::MAX)]).await.unwrap();
    }
}

async fn what_nobody_held_can_be_added(shared: &Shared) {
    shared.add(&[(id("a"), HOUR, 3), (id("b"), MINUTE, 4), (id("a"), HOUR, 5)]);
    holds(shared, [("a", HOUR), ("b", MINUTE)], [8, 4]).await;
}

async fn takes_at_once_never_pass_the_limit(shared: &Shared) {
    let tasks = crate::types::Tasks::new();
    let (sender, mut admitted) = tokio::sync::mpsc::channel(64);
    for caller in 0..40_usize {
        let (shared, sender) = (shared.clone(), sender.clone());
        tasks.spawn(async move {
            let mut takes = [take("a", HOUR, 1, 17), take("b", MINUTE, 2, 60), take("c", Window::Slots, 1, 33)];
            takes.rotate_left(caller % 3);
            let mut hold = shared.hold().unwrap();
            let ok = hold.take(&takes).await.is_ok();
            sender.send(ok.then_some(hold)).await.unwrap();
        });
    }
    drop(sender);
    let mut holding = Vec::new();
    while let Some(hold) = admitted.recv().await {
        holding.extend(hold);
    }
    assert_eq!(holding.len(), 17);
    holds(shared, [("a", HOUR), ("b", MINUTE), ("c", Window::Slots)], [17, 34, 17]).await;
}

async fn history_is_rebuilt_by_one_and_waited_for(shared: &Shared) {
    shared.history_lost().await;
    let first = shared.begin_rebuild().await.unwrap();
    assert!(shared.begin_rebuild().await.is_none());
    drop(first);
    shared.history_lost().await;
    let mut rebuild = shared.begin_rebuild().await.unwrap();
    let now = Clock::Real.unix_millis();
    let spent = |name, window, amount, ago: u64| Spent { counter: id(name), window, amount, at: now - ago };
    rebuild.put(&[spent("a", HOUR, 5, 0)]).await.unwrap();
    rebuild.put(&[spent("a", HOUR, 7, 0), spent("b", MINUTE, 3, 50_000), spent("b", MINUTE, 1, 70_000)]).await.unwrap();

    let mut hold = shared.hold().unwrap();
    let takes = [Take { needs_history: true, ..take("a", HOUR, 1, 8) }];
    let mut waiting = std::pin::pin!(hold.take(&takes));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    rebuild.finish().await.unwrap();
    waiting.await.unwrap();
    holds(shared, [("a", HOUR), ("b", MINUTE)], [8, 3]).await;
    assert!(shared.begin_rebuild().await.is_none());
}

async fn what_was_spent_before_is_put_beside_what_was_counted_since(shared: &Shared) {
    shared.history_lost().await;
    let mut rebuild = shared.begin_rebuild().await.unwrap();
    let mut hold = shared.hold().unwrap();
    hold.take(&[take("a", HOUR, 1, 8), take("b", MINUTE, 2, 8)]).await.unwrap();
    hold.settle(&[(id("a"), 1), (id("b"), 2)]);
    let at = rebuild.counted_since();
    let spent = |name, window, amount, ago: u64| Spent { counter: id(name), window, amount, at: at - ago };
    rebuild.put_before(&[spent("a", HOUR, 5, 0), spent("b", MINUTE, 3, 10_000)]).await.unwrap();
    rebuild.put_before(&[spent("c", MINUTE, 4, 70_000)]).await.unwrap();
    rebuild.finish().await.unwrap();
    holds(shared, [("a", HOUR), ("b", MINUTE), ("c", MINUTE)], [6, 5, 0]).await;
}

async fn a_name_is_said_once(shared: &Shared) {
    assert!(shared.once("a", Duration::from_secs(60)).await);
    assert!(!shared.once("a", Duration::from_secs(60)).await);
    assert!(shared.once("b", Duration::from_secs(60)).await);
}

#[tokio::test]
async fn who_waits_for_history_in_vain_is_told_after_two_seconds() {
    let clock = Clock::held();
    let shared = Shared::memory(clock.clone());
    let mut hold = shared.hold().unwrap();
    let takes = [take("a", HOUR, 1, 8), Take { needs_history: true, ..take("b", HOUR, 1, 8) }];
    let mut waiting = std::pin::pin!(hold.take(&takes));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    clock.advance(Duration::from_secs(2));
    assert_eq!(waiting.await, Err(Refusal::Unavailable { index: 1 }));
    assert_eq!(used(&shared, [("a", HOUR)]).await, [0]);
}

#[tokio::test]
async fn a_name_may_be_said_again_when_its_time_is_over() {
    let clock = Clock::held();
    let shared = Shared::memory(clock.clone());
    assert!(shared.once("a", Duration::from_secs(60)).await);
    clock.advance(Duration::from_secs(60));
    assert!(shared.once("a", Duration::from_secs(60)).await);
}
