//! Which places a call tries, and in which order. Pure: the same routes and the same draws give the same plan.
//!
//! Health is not looked at here. A plan may be followed for minutes; whether a target rests is asked at the moment of
//! the attempt ([`Target::acquire`]).

use std::{sync::Arc, time::Instant};

use super::{
    models::{Model, Resolved, Target},
    routes::Routes,
    settings::Fallbacks,
    strategy,
};
use crate::providers::Operation;

/// One place that a call may try.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub target: Arc<Target>,
    /// The model whose target it is: the one asked for, or a fallback.
    pub model: Arc<Model>,
    /// What goes into `model` of the upstream call.
    pub upstream_model: Arc<str>,
}

/// What a call tries, in this order, and what it does not, with reasons.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub candidates: Vec<Candidate>,
    pub rejected: Vec<Rejected>,
}

/// A place that a call does not try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The target's label, or the name of a fallback model that was not looked into.
    pub target: Arc<str>,
    pub why: Why,
}

/// Why a place is not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The key may not use the fallback model.
    NotAllowed,
    /// The provider does not serve this operation.
    NotServed(Operation),
    /// The call has been there already, with the same parameters.
    Tried,
    /// All its keys rest until then.
    Resting(Instant),
}

/// Why a model is given up and its fallbacks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Any failure that another model may not share.
    Default,
    /// A rate limit, or an exhausted quota.
    RateLimit,
    /// A deadline passed.
    Timeout,
    /// The prompt was too long for the model.
    ContextLength,
    /// A content filter refused.
    ContentPolicy,
}

impl Reason {
    /// The word used as a label: the name of the list in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::RateLimit => "rate_limit",
            Self::Timeout => "timeout",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
        }
    }
}

/// The targets of a model in the order of its strategy. `draw` gives uniform numbers in [0, 1).
pub fn plan(resolved: &Resolved, draw: &mut impl FnMut() -> f64) -> Plan {
    Plan { candidates: candidates(resolved, draw).collect(), rejected: Vec::new() }
}

/// Where to turn when the targets of `resolved` have failed for `reason`: the targets of each fallback model in the
/// order written, each model's in the order of its strategy.
///
/// Each fallback is resolved and checked as if the client had asked for it: `allowed` is what the key may use. A model
/// that falls back to itself, and a place in `tried` with the same parameters, are left out. The fallbacks of a
/// fallback are not followed, so the plan is as long as the settings say and cannot go round in a circle.
pub fn fallbacks(
    routes: &Routes,
    resolved: &Resolved,
    reason: Reason,
    tried: &[Candidate],
    allowed: &dyn Fn(&str) -> bool,
    draw: &mut impl FnMut() -> f64,
) -> Plan {
    let mut plan = Plan::default();
    let mut seen = vec![resolved.clone()];
    for name in resolved.model.fallbacks.of(reason) {
        // Building has made sure that the name resolves.
        let Some(fallback) = routes.resolve(name) else { continue };
        if seen.iter().any(|seen| seen.is_same(&fallback)) {
            continue;
        }
        if !fallback.permitted(name, allowed) {
            plan.rejected.push(Rejected { target: name.as_str().into(), why: Why::NotAllowed });
            continue;
        }
        for candidate in candidates(&fallback, draw) {
            if tried.iter().chain(&plan.candidates).any(|other| other.is_same(&candidate)) {
                plan.rejected.push(Rejected { target: candidate.target.label.clone(), why: Why::Tried });
            } else {
                plan.candidates.push(candidate);
            }
        }
        seen.push(fallback);
    }
    plan
}

fn candidates(resolved: &Resolved, draw: &mut impl FnMut() -> f64) -> impl Iterator<Item = Candidate> {
    let model = &resolved.model;
    let order = strategy::order(model.strategy, &model.targets, draw);
    order.into_iter().map(|index| {
        let target = model.targets[index].clone();
        let upstream_model = target.upstream_name(resolved.star.as_deref());
        Candidate { target, model: model.clone(), upstream_model }
    })
}

impl Candidate {
    /// Whether both would send the same call to the same place.
    fn is_same(&self, other: &Self) -> bool {
        self.target.label == other.target.label
            && self.upstream_model == other.upstream_model
            && self.target.params == other.target.params
    }
}

impl Fallbacks {
    /// The models to turn to for `reason`. An empty list of a reason's own means none.
    fn of(&self, reason: Reason) -> &[String] {
        let (own, otherwise): (_, &[String]) = match reason {
            Reason::Default => (None, &self.default),
            Reason::RateLimit => (self.rate_limit.as_ref(), &self.default),
            Reason::Timeout => (self.timeout.as_ref(), &self.default),
            Reason::ContextLength => (self.context_length.as_ref(), &[]),
            Reason::ContentPolicy => (self.content_policy.as_ref(), &[]),
        };
        own.map_or(otherwise, Vec::as_slice)
    }

    /// All lists, each with its name in the settings.
    pub(super) fn lists(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        [
            ("default", Some(&self.default)),
            ("rate_limit", self.rate_limit.as_ref()),
            ("timeout", self.timeout.as_ref()),
            ("context_length", self.context_length.as_ref()),
            ("content_policy", self.content_policy.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, list)| Some((name, list?.as_slice())))
    }
}
