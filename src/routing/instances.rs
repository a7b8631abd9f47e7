//! Health of its own for each upstream model behind a target with a `*`. Without it a model that fails or is rate
//! limited would rest every model of `openai/*`.
//!
//! The names come from clients, so they are bounded in number and length; what is beyond shares the health of the target
//! itself. Names with nothing against them, such as invented ones that the upstream answered with 404, make room.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    health::{Known, Slots},
    models::{Target, Upstream},
    settings::HealthSettings,
};

/// The upstream models of one target that have health of their own.
const MOST: usize = 256;
/// The longest text, in bytes, in the place of a `*` that is given health of its own.
const LONGEST: usize = 128;

/// Targets by what `*` stood for.
#[derive(Debug)]
pub(super) struct Instances {
    targets: Mutex<HashMap<Arc<str>, Arc<Target>>>,
    health: Arc<HealthSettings>,
    known: Arc<Known>,
}

impl Instances {
    pub(super) fn new(health: Arc<HealthSettings>, known: Arc<Known>) -> Self {
        Self { targets: Mutex::default(), health, known }
    }

    /// The target for `star`, made when it is first asked for; `pattern` itself if there is no room.
    pub(super) fn get(&self, star: &str, pattern: &Arc<Target>) -> Arc<Target> {
        let mut targets = self.targets();
        if let Some(target) = targets.get(star) {
            return target.clone();
        }
        if targets.len() >= MOST {
            // One that a plan holds may be about to be tried.
            targets.retain(|_, target| Arc::strong_count(target) > 1 || !target.slots.is_quiet());
        }
        if targets.len() >= MOST || star.len() > LONGEST {
            return pattern.clone();
        }
        let target = Arc::new(self.instance(star, pattern));
        targets.insert(star.into(), target.clone());
        target
    }

    /// All targets there are now, with what `*` stood for.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Arc<Target>)> {
        self.targets().iter().map(|(star, target)| (star.clone(), target.clone())).collect()
    }

    fn instance(&self, star: &str, pattern: &Target) -> Target {
        let upstream: Arc<str> = pattern.upstream_model(Some(star)).into();
        Target {
            index: pattern.index,
            label: pattern.label.clone(),
            provider: pattern.provider.clone(),
            weight: pattern.weight,
            deadlines: pattern.deadlines,
            params: pattern.params.clone(),
            slots: Slots::new(&pattern.provider, &pattern.label, &upstream, &self.health, &self.known),
            upstream: Upstream::Fixed(upstream),
            instances: None,
        }
    }

    fn targets(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Target>>> {
        // Each change to the map is one call, so that a panic leaves it whole.
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
