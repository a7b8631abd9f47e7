//! Which models refuse to be held to a schema by a parameter. Of most it is known, or nobody knows: those are asked so
//! first, and, once one has refused, otherwise: by a tool, or in words. What was found out is kept for a while, so that
//! a model that has learnt it is asked again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const KEPT: Duration = Duration::from_secs(3_600);

/// More models than this are not kept.
const MOST: usize = 1_024;

/// By provider and model, until when it is kept that they refuse.
#[derive(Debug, Default)]
pub struct Schemas(Mutex<HashMap<String, Instant>>);

impl Schemas {
    /// Whether this model has refused.
    pub(super) fn refuses(&self, model: &str, now: Instant) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(model).is_some_and(|until| now < *until)
    }

    /// Keeps that a model has refused. Says whether there was room for it.
    pub(super) fn note(&self, model: String, now: Instant) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.retain(|_, until| now < *until);
        }
        let room = kept.len() < MOST;
        if room {
            kept.insert(model, now + KEPT);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Clock;

    #[test]
    fn a_refusal_is_kept_for_a_while_and_there_is_an_end_to_them() {
        let (schemas, now) = (Schemas::default(), Clock::held().now());
        assert!(!schemas.refuses("p/m", now));
        assert!(schemas.note("p/m".into(), now) && schemas.refuses("p/m", now) && !schemas.refuses("p/n", now));
        assert!(!schemas.refuses("p/m", now + KEPT));
        (1..MOST).for_each(|number| assert!(schemas.note(number.to_string(), now)));
        assert!(!schemas.note("one more".into(), now));
        assert!(schemas.note("one more".into(), now + KEPT));
    }
}
