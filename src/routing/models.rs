//! What names lead to: models and their targets.

use std::{borrow::Cow, sync::Arc, time::Instant};

use super::{
    health::{Acquire, Permit, SlotHealth, Slots},
    instances::Instances,
    params::Params,
    pattern::Pattern,
    settings::{Fallbacks, Lossy, Strategy},
};
use crate::providers::{Deadlines, Provider};

/// One model as clients name it, or a pattern of names.
#[derive(Debug)]
pub struct Model {
    /// As written in the settings: `gpt-5.5`, or `openai/*`.
    pub name: Arc<str>,
    pub strategy: Strategy,
    /// At least one.
    pub targets: Vec<Arc<Target>>,
    pub(super) fallbacks: Fallbacks,
    /// The name as a pattern, if it holds a `*`.
    pub(super) pattern: Option<Pattern>,
}

/// One place where a model's calls may go.
#[derive(Debug)]
pub struct Target {
    /// Its number, unique within one [`super::Routes`], from 0 without gaps.
    pub index: usize,
    /// `provider/model` as written: `openai/gpt-5.5`, or `openai/*`. As many as the settings hold, so it may label
    /// metrics.
    pub label: Arc<str>,
    pub provider: Arc<Provider>,
    /// Its share under [`Strategy::Weighted`], relative to the others'; 0 for a reserve.
    pub weight: f64,
    /// The target's, else the model's, else the provider's.
    pub deadlines: Deadlines,
    pub params: Params,
    /// The model's.
    pub lossy: Lossy,
    pub(super) upstream: Upstream,
    pub(super) slots: Slots,
    /// For a target with a `*`: a target for each upstream model it was called for.
    pub(super) instances: Option<Instances>,
}

/// The upstream's own name of the model.
#[derive(Debug)]
pub(super) enum Upstream {
    Fixed(Arc<str>),
    /// With a `*` that what the client wrote takes the place of.
    Pattern(Pattern),
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub model: Arc<Model>,
    /// What `*` stood for, if the model is a pattern.
    pub star: Option<Box<str>>,
    /// The alias that led here.
    pub via_alias: Option<Arc<str>>,
}

impl Model {
    /// Whether the model is a pattern, which no call can name as such.
    pub fn is_pattern(&self) -> bool {
        self.pattern.is_some()
    }
}

impl Target {
    /// What goes into `model` of an upstream call, `star` being what the client's name had in the place of the `*`.
    pub fn upstream_model(&self, star: Option<&str>) -> Cow<'_, str> {
        match &self.upstream {
            Upstream::Fixed(name) => Cow::Borrowed(name),
            Upstream::Pattern(pattern) => Cow::Owned(pattern.fill(star.unwrap_or_default())),
        }
    }

    /// The one upstream model that it leads to; `None` where there is a `*`.
    pub fn fixed_model(&self) -> Option<Arc<str>> {
        match &self.upstream {
            Upstream::Fixed(name) => Some(name.clone()),
            Upstream::Pattern(_) => None,
        }
    }

    /// The least busy key that is well, taking turns among equals. A key that ends its rest gets one probe.
    pub fn acquire(&self, now: Instant) -> Acquire {
        self.slots.acquire(now)
    }

    /// When everything rests: a probe before its time, on the key whose rest ends first. Never on a key under an
    /// explicit `Retry-After`; `None` if there is no other, or if a probe is out on each of them already.
    pub fn acquire_forced(&self, now: Instant) -> Option<Permit> {
        self.slots.acquire_forced(now)
    }

    /// When the first of its keys ends its rest; `None` if one is ready now.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.slots.ready_at(now)
    }

    /// How its keys are doing, for each upstream model.
    pub fn snapshot(&self, now: Instant) -> Vec<SlotHealth> {
        let mut found: Vec<_> = self.slots.snapshot(now).collect();
        for (_, instance) in self.instances.iter().flat_map(Instances::all) {
            found.extend(instance.slots.snapshot(now));
        }
        found
    }

    /// The target for one upstream model, which has its own health, and that model. For a target without a `*` this is
    /// the target itself.
    pub(super) fn instance(self: &Arc<Self>, star: Option<&str>) -> (Arc<Self>, Arc<str>) {
        let target = match (&self.instances, star) {
            (Some(instances), Some(star)) => instances.get(star, self),
            _ => self.clone(),
        };
        let name = match &target.upstream {
            Upstream::Fixed(name) => name.clone(),
            Upstream::Pattern(_) => target.upstream_model(star).into(),
        };
        (target, name)
    }
}

impl Resolved {
    /// The model's name in full: as written in the settings, with what `*` stood for in its place.
    pub fn name(&self) -> Cow<'_, str> {
        match (&self.model.pattern, &self.star) {
            (Some(pattern), Some(star)) => Cow::Owned(pattern.fill(star)),
            _ => Cow::Borrowed(&self.model.name),
        }
    }

    /// Whether a caller may use this, having `asked` for it by that name. This is the one rule for calls, fallbacks and
    /// listings: `allowed` says whether something may be used that goes by any of some names, which are the one asked
    /// for, the full name behind an alias, and that of the model itself.
    pub fn permitted(&self, asked: &str, allowed: impl Fn(&[&str]) -> bool) -> bool {
        let full = self.name();
        match &self.star {
            Some(_) => allowed(&[asked, &full, &self.model.name]),
            None => allowed(&[asked, &full]),
        }
    }

    /// Whether both lead to the same model under the same name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && self.star == other.star
    }
}
