//! How targets and keys have been doing, and which key of a target the next attempt may use.
//!
//! A target has a *slot* for each key of its provider: a breaker and a count of attempts under way. Targets of several
//! models that mean the same upstream model share their breakers and counts, and all targets of a provider share what
//! is known about its keys as such. Both outlive a reload as long as provider, address, model and key stay the same
//! ([`Known`]).

mod breaker;
mod key;
mod known;
mod slots;
mod window;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    breaker::{Change, Ticket},
    key::KeyTicket,
    slots::Slot,
};
pub(super) use self::{known::Known, slots::Slots};
use crate::providers::ProviderKey;

/// What came of asking a target for a key.
#[derive(Debug)]
pub enum Acquire {
    Ready(Permit),
    /// Every key is resting; `until` is when the first one ends.
    Resting {
        until: Instant,
        why: Rest,
    },
}

/// Why a key of a target is resting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Its calls failed.
    Failing,
    /// The provider said 429.
    RateLimited,
    /// The provider refused the key, or the key has no money left.
    KeyRefused,
}

/// What became of an attempt, as far as health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Real output is in hand.
    Success,
    /// The target failed: no connection, a time-out, a 5xx, an empty answer, a stream that died.
    Failure,
    /// The provider said 429. With `retry_after` nothing is sent before that time has passed.
    RateLimited { retry_after: Option<Duration> },
    /// The provider refused the key as such (401, 403) or it has no money left (402). A refusal of one *model* is
    /// [`Outcome::NoFault`]: this rests the key for all targets.
    KeyRefused,
    /// The client's own fault: a permanent 4xx. Says nothing about the target.
    NoFault,
}

/// The right to one attempt on one key of one target. It counts as under way until dropped. Dropped without a report it
/// gives back a probe and counts as neither success nor failure.
#[derive(Debug)]
pub struct Permit {
    slot: Arc<Slot>,
    ticket: Ticket,
    key_ticket: KeyTicket,
}

/// How one key of one target is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHealth {
    /// The target's label.
    pub target: Arc<str>,
    /// The upstream's name of the model. A target with a `*` has a row for each model that it was called for, up to a
    /// bound; the row with a `*` stands for all others.
    pub model: Arc<str>,
    /// The key's place in its provider's list.
    pub key: usize,
    pub state: SlotState,
    /// When its rest ends; `None` if it is not resting.
    pub until: Option<Instant>,
    /// Attempts under way.
    pub in_flight: u32,
}

/// The state of one key of one target, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotState {
    Closed,
    /// Its rest is over; the next call is a probe, or one is out.
    HalfOpen,
    Limited,
    Open,
    KeyRefused,
}

impl Permit {
    /// The key to sign the attempt with.
    pub fn key(&self) -> &Arc<ProviderKey> {
        &self.slot.key
    }

    /// Tells health what became of the attempt. A success at the first output may be followed by a failure when the
    /// stream dies: the failure then takes the place of the success.
    pub fn report(&mut self, outcome: Outcome, now: Instant) {
        let Self { slot, ticket, key_ticket } = self;
        let change = slot.breaker().report(ticket, outcome, now, &slot.settings);
        if let Some(change) = change {
            log(slot, change);
        }
        let (provider, key) = (provider_of(&slot.label), slot.key.index);
        match outcome {
            Outcome::Success if slot.key_health.worked(key_ticket) => {
                tracing::info!(provider, key, "provider key is accepted again");
            }
            Outcome::KeyRefused if slot.key_health.refused(key_ticket, slot.settings.dead_key_rest.0, now) => {
                let rest_ms = millis(slot.settings.dead_key_rest.0);
                tracing::warn!(provider, key, rest_ms, "provider key was refused and is avoided");
            }
            Outcome::Success | Outcome::KeyRefused => {}
            Outcome::Failure | Outcome::RateLimited { .. } | Outcome::NoFault => slot.key_health.release(key_ticket),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.slot.leave();
        if self.ticket.probe {
            self.slot.breaker().release(&mut self.ticket);
        }
        self.slot.key_health.release(&mut self.key_ticket);
    }
}

/// One line for a change of state, never for a call.
fn log(slot: &Slot, change: Change) {
    let (provider, model, key) = (provider_of(&slot.label), &*slot.upstream, slot.key.index);
    match change {
        Change::Opened { failures, rest } => {
            tracing::warn!(provider, model, key, failures, rest_ms = millis(rest), "target is failing and rests");
        }
        Change::Reopened { rest } => {
            tracing::info!(provider, model, key, rest_ms = millis(rest), "target is still failing and rests longer");
        }
        Change::Closed => tracing::info!(provider, model, key, "target is well again"),
        // Providers that ask for a pause of milliseconds do so many times a second.
        Change::Limited { rest, hard } if rest < Duration::from_secs(1) => {
            tracing::debug!(provider, model, key, retry_after = hard, rest_ms = millis(rest), "target is rate limited");
        }
        Change::Limited { rest, hard } => {
            tracing::warn!(provider, model, key, retry_after = hard, rest_ms = millis(rest), "target is rate limited");
        }
    }
}

/// The provider in a label `provider/model`.
fn provider_of(label: &str) -> &str {
    label.split_once('/').map_or(label, |(provider, _)| provider)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        providers::Provider,
        routing::{
            Routes, Target,
            fixtures::{Setup, provider},
            plan,
        },
        types::Clock,
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// The target that a call for `name` tries first.
    fn target(routes: &Routes, name: &str) -> Arc<Target> {
        plan(&routes.resolve(name).unwrap(), &mut || 0.5).candidates.swap_remove(0).target
    }

    fn ready(target: &Target, now: Instant) -> Permit {
        match target.acquire(now) {
            Acquire::Ready(permit) => permit,
            Acquire::Resting { until, why } => panic!("resting for {:?}: {why:?}", until - now),
        }
    }

    /// Why the target rests and for how long.
    fn resting(target: &Target, now: Instant) -> Option<(Rest, Duration)> {
        match target.acquire(now) {
            Acquire::Ready(_) => None,
            Acquire::Resting { until, why } => Some((why, until - now)),
        }
    }

    fn report(target: &Target, outcome: Outcome, now: Instant) {
        ready(target, now).report(outcome, now);
    }

    /// Lets every key of the target fail until all of them rest.
    fn fail(target: &Target, now: Instant) {
        while let Acquire::Ready(mut permit) = target.acquire(now) {
            permit.report(Outcome::Failure, now);
        }
    }

    fn limited(wait: Duration) -> Outcome {
        Outcome::RateLimited { retry_after: Some(wait) }
    }

    /// `openai` with two keys, `azure` with one.
    fn setup() -> Setup {
        Setup::new()
            .model("two", &["openai/two"])
            .model("also", &["openai/two"])
            .model("other", &["openai/other"])
            .model("one", &["azure/one"])
            .model("openai/*", &["openai/*"])
    }

    #[test]
    fn the_least_busy_key_is_chosen_and_equals_take_turns() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let two = target(&routes, "two");
        let mut held: Vec<Permit> = (0..6).map(|_| ready(&two, now)).collect();
        let on_first = |held: &[Permit]| held.iter().filter(|permit| permit.key().index == 0).count();
        assert_eq!(on_first(&held), 3);
        held.retain(|permit| permit.key().index == 1);
        let next: Vec<Permit> = (0..3).map(|_| ready(&two, now)).collect();
        assert_eq!(on_first(&next), 3, "the first key has nothing to do");
        drop((held, next));
        let turns: Vec<usize> = (0..4).map(|_| ready(&two, now).key().index).collect();
        assert!(turns == [0, 1, 0, 1] || turns == [1, 0, 1, 0], "{turns:?}");
    }

    #[test]
    fn attempts_under_way_are_counted_until_their_permits_end() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let one = target(&routes, "one");
        let in_flight = || one.snapshot(now)[0].in_flight;
        let mut permits = vec![ready(&one, now), ready(&one, now)];
        assert_eq!(in_flight(), 2);
        permits[0].report(Outcome::Success, now);
        assert_eq!(in_flight(), 2, "a stream goes on after its first output");
        permits.pop();
        assert_eq!(in_flight(), 1);
        permits.pop();
        assert_eq!(in_flight(), 0);
    }

    #[test]
    fn a_limited_key_rests_alone() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let two = target(&routes, "two");
        let mut first = ready(&two, now);
        first.report(limited(30 * SECOND), now);
        for _ in 0..4 {
            assert_ne!(ready(&two, now).key().index, first.key().index);
        }
        assert_eq!(two.ready_at(now), None);
        report(&two, limited(10 * SECOND), now);
        assert_eq!(resting(&two, now), Some((Rest::RateLimited, 10 * SECOND)), "the first to end");
        assert_eq!(two.ready_at(now), Some(now + 10 * SECOND));
        assert!(two.acquire_forced(now).is_none(), "a Retry-After is kept");
        assert_eq!(resting(&target(&routes, "other"), now), None, "the limit is this model's");
    }

    #[test]
    fn when_all_rest_each_key_may_be_probed_once_before_its_time() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let two = target(&routes, "two");
        fail(&two, now);
        let later = now + SECOND;
        assert_eq!(resting(&two, later), Some((Rest::Failing, 4 * SECOND)));
        let mut probes = vec![two.acquire_forced(later).unwrap(), two.acquire_forced(later).unwrap()];
        assert_ne!(probes[0].key().index, probes[1].key().index);
        assert!(two.acquire_forced(later).is_none());
        drop(probes.pop());
        assert!(two.acquire_forced(later).is_some(), "a probe that was dropped is given back");
        probes[0].report(Outcome::Success, later);
        assert_eq!(resting(&two, later), None);
    }

    #[test]
    fn a_half_open_target_admits_one_probe_per_key() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let two = target(&routes, "two");
        fail(&two, now);
        let due = now + 5 * SECOND;
        let probes = [ready(&two, due), ready(&two, due)];
        assert_ne!(probes[0].key().index, probes[1].key().index);
        assert!(resting(&two, due).is_some());
        drop(probes);
        assert_eq!(resting(&two, due), None);
    }

    #[test]
    fn a_forced_attempt_takes_the_key_whose_rest_ends_first() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let two = target(&routes, "two");
        let mut refused = ready(&two, now);
        refused.report(Outcome::KeyRefused, now);
        fail(&two, now);
        assert_ne!(two.acquire_forced(now).unwrap().key().index, refused.key().index);
    }

    #[test]
    fn a_refused_key_is_avoided_for_every_target_of_the_provider() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let (two, other) = (target(&routes, "two"), target(&routes, "other"));
        let mut first = ready(&two, now);
        first.report(Outcome::KeyRefused, now);
        for _ in 0..4 {
            assert_ne!(ready(&other, now).key().index, first.key().index);
        }
        report(&other, Outcome::KeyRefused, now);
        assert_eq!(resting(&two, now), Some((Rest::KeyRefused, 300 * SECOND)));
        assert!(two.snapshot(now).iter().all(|slot| slot.state == SlotState::KeyRefused));

        let mut probe = two.acquire_forced(now).unwrap();
        let second = other.acquire_forced(now).unwrap();
        assert_ne!(probe.key().index, second.key().index);
        assert!(two.acquire_forced(now).is_none(), "both keys have a probe out, one of them for another target");
        probe.report(Outcome::Success, now);
        assert_eq!(ready(&other, now).key().index, probe.key().index);
    }

    #[test]
    fn a_refused_key_gets_one_probe_when_its_rest_is_over() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let one = target(&routes, "one");
        report(&one, Outcome::KeyRefused, now);
        let due = now + 300 * SECOND;
        for outcome in [Outcome::Failure, Outcome::NoFault, limited(SECOND / 1_000)] {
            let mut probe = ready(&one, due);
            assert_eq!(resting(&one, due).map(|(why, _)| why), Some(Rest::KeyRefused));
            probe.report(outcome, due);
        }
        let due = due + SECOND;
        report(&one, Outcome::KeyRefused, due);
        assert_eq!(resting(&one, due), Some((Rest::KeyRefused, 300 * SECOND)));
    }

    #[test]
    fn old_news_about_a_key_is_no_news() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let one = target(&routes, "one");
        let mut old = [ready(&one, now), ready(&one, now)];
        report(&one, Outcome::KeyRefused, now);
        old[0].report(Outcome::Success, now);
        assert!(resting(&one, now).is_some(), "it was sent before the key was refused");
        one.acquire_forced(now).unwrap().report(Outcome::Success, now);
        old[1].report(Outcome::KeyRefused, now);
        assert_eq!(resting(&one, now), None, "it was sent before the key was repaired");
    }

    #[test]
    fn models_with_the_same_target_share_its_health() {
        let (routes, now) = (setup().build(), Clock::held().now());
        fail(&target(&routes, "two"), now);
        assert!(resting(&target(&routes, "also"), now).is_some());
        assert!(resting(&target(&routes, "openai/two"), now).is_some(), "also when a pattern leads there");
        assert_eq!(resting(&target(&routes, "other"), now), None);
        assert_eq!(resting(&target(&routes, "openai/three"), now), None);
    }

    #[test]
    fn a_reload_forgets_nothing_about_what_is_still_there() {
        let now = Clock::held().now();
        let before = setup().build();
        fail(&target(&before, "two"), now);
        fail(&target(&before, "openai/behind-a-star"), now);
        report(&target(&before, "one"), Outcome::KeyRefused, now);
        let other = target(&before, "other");
        let mut under_way = [ready(&other, now), ready(&other, now)];

        let mut changed = setup().model("new", &["openai/two"]);
        changed.health.consecutive_failures = 1;
        let after = changed.try_build(Some(&before)).unwrap();
        drop((before, other));
        assert!(resting(&target(&after, "two"), now).is_some());
        assert!(resting(&target(&after, "new"), now).is_some());
        assert!(resting(&target(&after, "openai/behind-a-star"), now).is_some());
        assert_eq!(resting(&target(&after, "one"), now), Some((Rest::KeyRefused, 300 * SECOND)));
        let other = target(&after, "other");
        assert_eq!(other.snapshot(now).iter().map(|slot| slot.in_flight).sum::<u32>(), 2);

        // New settings hold for new calls, and reports of old calls still arrive.
        report(&other, Outcome::Failure, now);
        under_way[0].report(limited(SECOND), now);
        under_way[1].report(limited(SECOND), now);
        assert!(resting(&other, now).is_some());
        drop(under_way);
        assert_eq!(other.snapshot(now).iter().map(|slot| slot.in_flight).sum::<u32>(), 0);
    }

    #[test]
    fn a_reload_begins_anew_with_another_key_or_address() {
        let now = Clock::held().now();
        let before = setup().build();
        fail(&target(&before, "one"), now);
        let one_after = |provider: Arc<Provider>| {
            let mut setup = setup();
            setup.providers.insert("azure".to_owned(), provider);
            resting(&target(&setup.try_build(Some(&before)).unwrap(), "one"), now)
        };
        assert!(one_after(provider("azure", &["c"])).is_some());
        assert!(one_after(provider("azure", &["new", "c"])).is_none(), "one of the keys is well");
        assert!(one_after(provider("azure", &["new"])).is_none());
        let moved = provider("elsewhere", &["c"]);
        let moved = Provider { name: "azure".into(), ..Arc::into_inner(moved).unwrap() };
        assert!(one_after(Arc::new(moved)).is_none());
    }

    #[test]
    fn the_snapshot_tells_the_state_of_every_slot() {
        let (routes, now) = (setup().build(), Clock::held().now());
        fail(&target(&routes, "one"), now);
        report(&target(&routes, "two"), limited(7 * SECOND), now);
        ready(&target(&routes, "openai/star"), now).report(Outcome::Success, now);
        let shown: Vec<String> = routes
            .snapshot(now)
            .into_iter()
            .map(|slot| {
                let rest = slot.until.map_or(0, |until| (until - now).as_secs());
                format!("{} {} {} {:?} {rest} {}", slot.target, slot.model, slot.key, slot.state, slot.in_flight)
            })
            .collect();
        let expected = [
            "azure/one one 0 Open 5 0",
            "openai/* * 0 Closed 0 0",
            "openai/* * 1 Closed 0 0",
            "openai/* star 0 Closed 0 0",
            "openai/* star 1 Closed 0 0",
            "openai/other other 0 Closed 0 0",
            "openai/other other 1 Closed 0 0",
            "openai/two two 0 Limited 7 0",
            "openai/two two 1 Closed 0 0",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn many_threads_get_one_probe_between_them() {
        let (routes, now) = (setup().build(), Clock::held().now());
        let one = target(&routes, "one");
        fail(&one, now);
        let due = now + 5 * SECOND;
        for round in 0..200 {
            let held: Vec<Acquire> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| one.acquire(due))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let probes = held.iter().filter(|acquired| matches!(acquired, Acquire::Ready(_))).count();
            assert_eq!(probes, 1, "round {round}");
        }
        assert_eq!(one.snapshot(due)[0].in_flight, 0);
    }

    #[test]
    fn each_change_of_state_is_one_line_without_the_key() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(lines.clone()).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let setup = Setup { providers: [("p".to_owned(), provider("p", &["hush"]))].into(), ..Setup::default() };
        let routes = setup.model("m", &["p/m"]).build();
        let (m, now) = (target(&routes, "m"), Clock::held().now());

        let logged = |expected: &str, act: &dyn Fn()| {
            act();
            let text = lines.take();
            assert!(text.lines().count() == usize::from(!expected.is_empty()) && text.contains(expected), "{text}");
            assert!(!text.contains("hush"), "{text}");
        };
        let forced = |outcome| m.acquire_forced(now).unwrap().report(outcome, now);
        logged("", &|| (0..4).for_each(|_| report(&m, Outcome::Failure, now)));
        logged("target is failing and rests", &|| report(&m, Outcome::Failure, now));
        logged("", &|| (0..50).for_each(|_| forced(Outcome::Failure)));
        logged("still failing", &|| report(&m, Outcome::Failure, now + 60 * SECOND));
        logged("well again", &|| forced(Outcome::Success));
        logged("provider key was refused", &|| report(&m, Outcome::KeyRefused, now));
        logged("", &|| (0..50).for_each(|_| forced(Outcome::KeyRefused)));
        logged("accepted again", &|| forced(Outcome::Success));
        logged("rate limited", &|| {
            let mut two = [ready(&m, now), ready(&m, now)];
            two.iter_mut().for_each(|permit| permit.report(limited(30 * SECOND), now));
        });
        logged("", &|| report(&m, Outcome::Success, now + 30 * SECOND));
    }

    /// What was logged.
    #[derive(Clone, Default)]
    struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }
}
