//! How long answers usually are: what is set aside for a call that sets no limit of its own.
//!
//! For each model the output of its last answers is kept as a histogram whose weight fades, and the estimate is its 95th
//! percentile, rounded up to the end of a step. An estimate that turns out too low is mended mid-stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// What is set aside before anything is known, in tokens.
const UNKNOWN: u64 = 2_048;
/// So many answers are needed before they are believed.
const ENOUGH: u32 = 20;
/// After so many answers the weight of all is halved.
const FADE: u32 = 1_024;
/// The most models that are remembered; names behind a `*` come from clients.
const MOST: usize = 1_024;
/// Four steps for each doubling, up to 2^24 tokens.
const STEPS: usize = 96;

/// How long answers are, by model.
#[derive(Debug, Default)]
pub(super) struct Learned {
    models: RwLock<HashMap<Arc<str>, Mutex<Histogram>>>,
}

#[derive(Debug)]
struct Histogram {
    steps: [u32; STEPS],
    total: u32,
}

impl Learned {
    /// What an answer of `model` may come to, in tokens.
    pub(super) fn output_of(&self, model: &str) -> u64 {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let Some(histogram) = models.get(model) else { return UNKNOWN };
        histogram.lock().unwrap_or_else(PoisonError::into_inner).percentile_95().unwrap_or(UNKNOWN)
    }

    /// Notes how long an answer of `model` was.
    pub(super) fn note(&self, model: &Arc<str>, tokens: u64) {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = models.get(model) {
            return histogram.lock().unwrap_or_else(PoisonError::into_inner).add(tokens);
        }
        drop(models);
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if models.len() < MOST {
            let histogram = models.entry(model.clone()).or_default();
            histogram.get_mut().unwrap_or_else(PoisonError::into_inner).add(tokens);
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { steps: [0; STEPS], total: 0 }
    }
}

impl Histogram {
    fn add(&mut self, tokens: u64) {
        self.steps[step(tokens)] += 1;
        self.total += 1;
        if self.total >= FADE {
            self.steps.iter_mut().for_each(|count| *count /= 2);
            self.total = self.steps.iter().sum();
        }
    }

    fn percentile_95(&self) -> Option<u64> {
        if self.total < ENOUGH {
            return None;
        }
        let wanted = self.total - self.total / 20;
        let mut seen = 0;
        let found = self.steps.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map(end_of)
    }
}

/// The step that a number of tokens lies in: a quarter of its power of two.
fn step(tokens: u64) -> usize {
    let tokens = tokens.max(4);
    let power = tokens.ilog2();
    let quarter = (tokens >> (power - 2)) & 3;
    ((power as usize - 2) * 4 + quarter as usize).min(STEPS - 1)
}

/// The largest number of tokens in a step.
fn end_of(step: usize) -> u64 {
    let (power, quarter) = (step / 4 + 2, step as u64 % 4);
    ((4 + quarter + 1) << (power - 2)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_hold_what_they_say() {
        for tokens in (0..5_000).chain([1 << 20, (1 << 20) - 1, (1 << 22) + 12_345]) {
            let found = step(tokens);
            assert!(tokens <= end_of(found), "{tokens}");
            assert!(found == 0 || tokens > end_of(found - 1), "{tokens}");
        }
        assert_eq!(step(u64::MAX), STEPS - 1);
    }

    #[test]
    fn what_is_set_aside_follows_what_was_seen() {
        let learned = Learned::default();
        let model: Arc<str> = "m".into();
        assert_eq!(learned.output_of("m"), UNKNOWN);
        for tokens in 0..100 {
            learned.note(&model, if tokens % 10 == 0 { 900 } else { 100 });
        }
        assert!((900..1_024).contains(&learned.output_of("m")), "{}", learned.output_of("m"));
        // Old answers fade.
        for _ in 0..5_000 {
            learned.note(&model, 50);
        }
        assert!(learned.output_of("m") < 64, "{}", learned.output_of("m"));
        assert_eq!(learned.output_of("other"), UNKNOWN);
    }

    #[test]
    fn names_that_clients_invent_are_bounded() {
        let learned = Learned::default();
        for index in 0..2 * MOST {
            learned.note(&format!("m{index}").into(), 1);
        }
        assert_eq!(learned.models.read().unwrap().len(), MOST);
    }
}
