//! Random calls against a model that is too simple to be wrong: for each counter a list of what was taken, and when.

use std::time::Duration;

use proptest::prelude::*;

use super::{Clock, Refusal, Shared, Take, Window, id, take};
use crate::shared::Hold;

const NAMES: [&str; 5] = ["hour", "minute", "second", "slots", "free"];
const WINDOWS: [Window; 5] = [
    super::HOUR,
    super::MINUTE,
    Window::Rolling { millis: 1_000 },
    Window::Slots,
    Window::Period { ends: u64::MAX / 4 },
];
const LIMITS: [u64; 5] = [40, 20, 10, 6, u64::MAX];

#[derive(Clone, Debug)]
enum Step {
    /// By which hold, and how much of which counters.
    Take(usize, Vec<(usize, u64)>),
    Release(usize, Vec<usize>),
    Settle(usize, Vec<(usize, u64)>),
    Drop(usize),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let hold = 0..4_usize;
    let amounts = || prop::collection::vec((0..NAMES.len(), 0..8_u64), 0..6);
    let step = prop_oneof![
        6 => (hold.clone(), amounts()).prop_map(|(hold, amounts)| Step::Take(hold, amounts)),
        1 => (hold.clone(), prop::collection::vec(0..NAMES.len(), 0..3)).prop_map(|(hold, names)| Step::Release(hold, names)),
        2 => (hold.clone(), amounts()).prop_map(|(hold, amounts)| Step::Settle(hold, amounts)),
        1 => hold.prop_map(Step::Drop),
        3 => prop_oneof![0..30_u64, 500..1_500_u64, 10_000..70_000_u64].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 0..60)
}

/// What was taken of one counter at one moment, and by which hold if that has not ended.
#[derive(Clone, Debug)]
struct Charge {
    at: u64,
    amount: u64,
    hold: Option<usize>,
}

#[derive(Default)]
struct Model {
    now: u64,
    counters: [Vec<Charge>; NAMES.len()],
}

impl Model {
    /// What is in the counter's window if that reaches `more` milliseconds further back.
    fn used(&self, counter: usize, more: u64) -> u64 {
        let inside = |at: u64| match WINDOWS[counter] {
            Window::Rolling { millis } => at + millis + more > self.now,
            Window::Period { .. } | Window::Slots => true,
        };
        self.counters[counter].iter().filter(|charge| inside(charge.at)).map(|charge| charge.amount).sum()
    }

    /// By how much a rolling window may forget late: a bucket.
    fn slack(counter: usize) -> u64 {
        match WINDOWS[counter] {
            Window::Rolling { millis } => millis.div_ceil(60),
            Window::Period { .. } | Window::Slots => 0,
        }
    }

    fn take(&mut self, hold: usize, amounts: &[(usize, u64)]) {
        for (counter, amount) in amounts {
            self.counters[*counter].push(Charge { at: self.now, amount: *amount, hold: Some(hold) });
        }
    }

    fn end(&mut self, hold: usize, counter: usize, mut actual: u64) {
        let slots = WINDOWS[counter] == Window::Slots;
        let mut held = false;
        for charge in self.counters[counter].iter_mut().filter(|charge| charge.hold == Some(hold)) {
            held = true;
            charge.amount = if slots { 0 } else { charge.amount.min(actual) };
            charge.hold = None;
            actual = actual.saturating_sub(charge.amount);
        }
        if held && !slots && actual > 0 {
            self.counters[counter].push(Charge { at: self.now, amount: actual, hold: None });
        }
    }

    fn wanted(amounts: &[(usize, u64)], counter: usize) -> u64 {
        amounts.iter().filter(|(name, _)| *name == counter).map(|(_, amount)| amount).sum()
    }
}

fn takes(amounts: &[(usize, u64)]) -> Vec<Take> {
    amounts.iter().map(|(name, amount)| take(NAMES[*name], WINDOWS[*name], *amount, LIMITS[*name])).collect()
}

async fn read(shared: &Shared) -> Vec<u64> {
    let counters: Vec<_> = NAMES.iter().zip(WINDOWS).map(|(name, window)| (id(name), window)).collect();
    shared.read(&counters).await.iter().map(|level| level.used).collect()
}

async fn follows_the_model(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let clock = Clock::held();
    let shared = Shared::memory(clock.clone());
    let mut model = Model { now: clock.unix_millis(), ..Model::default() };
    let mut holds: Vec<Hold> = (0..4).map(|_| shared.hold().unwrap()).collect();
    for step in steps {
        match step {
            Step::Take(hold, amounts) => {
                let before = read(&shared).await;
                let answer = holds[hold].take(&takes(&amounts)).await;
                let fits = |slack: &dyn Fn(usize) -> u64| {
                    amounts.iter().all(|(name, _)| {
                        model.used(*name, slack(*name)).saturating_add(Model::wanted(&amounts, *name)) <= LIMITS[*name]
                    })
                };
                match answer {
                    Ok(()) => {
                        prop_assert!(fits(&|_| 0), "admitted beyond the limit");
                        model.take(hold, &amounts);
                    }
                    Err(Refusal::Short { index, retry_after, .. }) => {
                        prop_assert!(!fits(&Model::slack), "refused although there is room");
                        prop_assert!(index < amounts.len());
                        prop_assert_eq!(read(&shared).await, before, "a refusal changed something");
                        prop_assert!(retry_after.is_none_or(|wait| !wait.is_zero()));
                    }
                    Err(refusal) => prop_assert!(false, "{refusal:?}"),
                }
            }
            Step::Release(hold, names) => {
                holds[hold].release(&names.iter().map(|name| id(NAMES[*name])).collect::<Vec<_>>());
                names.iter().for_each(|name| model.end(hold, *name, 0));
            }
            Step::Settle(hold, amounts) => {
                let actual: Vec<_> = amounts.iter().map(|(name, amount)| (id(NAMES[*name]), *amount)).collect();
                std::mem::replace(&mut holds[hold], shared.hold().unwrap()).settle(&actual);
                (0..NAMES.len()).for_each(|name| model.end(hold, name, Model::wanted(&amounts, name)));
            }
            Step::Drop(hold) => {
                holds[hold] = shared.hold().unwrap();
                (0..NAMES.len()).for_each(|name| model.end(hold, name, 0));
            }
            Step::Pass(millis) => {
                clock.advance(Duration::from_millis(millis));
                model.now += millis;
            }
        }
        for (counter, used) in read(&shared).await.into_iter().enumerate() {
            let (least, most) = (model.used(counter, 0), model.used(counter, Model::slack(counter)));
            prop_assert!((least..=most).contains(&used), "{}: {used}, not {least} to {most}", NAMES[counter]);
            let mine = |hold: &Hold| hold.held(id(NAMES[counter]));
            let held: u64 = model.counters[counter].iter().filter(|c| c.hold.is_some()).map(|c| c.amount).sum();
            prop_assert_eq!(holds.iter().map(mine).sum::<u64>(), held);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counters_follow_the_model(steps in steps()) {
        futures_util::FutureExt::now_or_never(follows_the_model(steps)).expect("nothing waits")?;
    }

    /// Nobody has to guess: after `retry_after`, and no sooner, the same take fits.
    #[test]
    fn a_refused_take_fits_after_the_wait(before in prop::collection::vec((0..3_usize, 1..9_u64, 0..2_000_u64), 0..40), amounts in prop::collection::vec((0..3_usize, 1..9_u64), 1..5)) {
        let clock = Clock::held();
        let shared = Shared::memory(clock.clone());
        let rolling = |name: usize, amount| take(NAMES[name], Window::Rolling { millis: [1_000, 60_000, 7_777][name] }, amount, 20);
        let now = |takes: &[Take]| {
            let mut hold = shared.hold().unwrap();
            let answer = futures_util::FutureExt::now_or_never(hold.take(takes)).expect("nothing waits");
            std::mem::forget(hold);
            answer
        };
        for (name, amount, pass) in before {
            let _ = now(&[rolling(name, amount)]);
            clock.advance(Duration::from_millis(pass));
        }
        let takes: Vec<_> = amounts.iter().map(|(name, amount)| rolling(*name, *amount)).collect();
        if let Err(refusal) = now(&takes) {
            let Refusal::Short { retry_after, .. } = refusal else { panic!("{refusal:?}") };
            if let Some(wait) = retry_after {
                clock.advance(wait.checked_sub(Duration::from_millis(1)).unwrap());
                prop_assert!(now(&takes).is_err());
                clock.advance(Duration::from_millis(1));
                prop_assert_eq!(now(&takes), Ok(()));
            }
        }
    }
}
