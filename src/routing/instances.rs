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

    /// All targets there are now, with what `*` stood for, in no order.
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
            lossy: pattern.lossy,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::{Acquire, Outcome, Permit, Routes, fixtures::Setup, plan},
        types::Clock,
    };

    fn target(routes: &Routes, name: &str) -> Arc<Target> {
        plan(&routes.resolve(name).unwrap(), &mut || 0.5).candidates.swap_remove(0).target
    }

    fn held(target: &Target) -> Permit {
        match target.acquire(Clock::held().now()) {
            Acquire::Ready(permit) => permit,
            Acquire::Resting { .. } => panic!("nothing rests"),
        }
    }

    fn routes() -> Routes {
        Setup::new().model("openai/*", &["openai/*"]).build()
    }

    fn count(routes: &Routes) -> usize {
        routes.targets().next().unwrap().instances.as_ref().unwrap().all().len()
    }

    #[test]
    fn each_upstream_model_has_one_target_which_keeps_the_label() {
        let routes = routes();
        let (a, b) = (target(&routes, "openai/a"), target(&routes, "openai/b"));
        assert!(Arc::ptr_eq(&a, &target(&routes, "openai/a")));
        assert!(!Arc::ptr_eq(&a, &b));
        assert_eq!((&*a.label, a.index), (&*b.label, b.index));
        assert_eq!(a.upstream_model(None), "a");
    }

    #[test]
    fn invented_names_make_room_and_are_never_too_many() {
        let routes = routes();
        for i in 0..10 * MOST {
            let mut permit = held(&target(&routes, &format!("openai/invented-{i}")));
            permit.report(Outcome::NoFault, Clock::held().now());
            assert!(count(&routes) <= MOST);
        }
        // A model that fails is not forgotten to make room.
        let failing = target(&routes, "openai/failing");
        held(&failing).report(Outcome::Failure, Clock::held().now());
        let failing = Arc::downgrade(&failing);
        for i in 0..2 * MOST {
            target(&routes, &format!("openai/more-{i}"));
        }
        assert!(failing.upgrade().is_some());
    }

    #[test]
    fn names_beyond_the_bounds_share_the_patterns_health() {
        let routes = routes();
        let pattern = routes.targets().next().unwrap();
        let busy: Vec<_> = (0..MOST).map(|i| held(&target(&routes, &format!("openai/busy-{i}")))).collect();
        let resolved = routes.resolve("openai/one-more").unwrap();
        let candidate = plan(&resolved, &mut || 0.5).candidates.swap_remove(0);
        assert!(Arc::ptr_eq(&candidate.target, pattern));
        assert_eq!(&*candidate.upstream_model, "one-more");
        drop(busy);
        assert!(!Arc::ptr_eq(&target(&routes, "openai/one-more"), pattern));
        let long = format!("openai/{}", "x".repeat(LONGEST + 1));
        assert!(Arc::ptr_eq(&target(&routes, &long), pattern));
    }
}
