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
/// Each fallback is resolved and checked as if the client had asked for it: `allowed` is what the
/// caller may use. A model
/// that falls back to itself, and a place in `tried` with the same parameters, are left out. The fallbacks of a
/// fallback are not followed, so the plan is as long as the settings say and cannot go round in a circle.
pub fn fallbacks(
    routes: &Routes,
    resolved: &Resolved,
    reason: Reason,
    tried: &[Candidate],
    allowed: &dyn Fn(&[&str]) -> bool,
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
        let (target, upstream_model) = model.targets[index].instance(resolved.star.as_deref());
        Candidate { target, model: model.clone(), upstream_model }
    })
}

impl Candidate {
    /// The place as clients may hear of it: `provider/model`, with the model's real name also behind a pattern.
    pub fn name(&self) -> String {
        format!("{}/{}", self.target.provider.name, self.upstream_model)
    }

    /// Whether both would send the same call to the same place.
    fn is_same(&self, other: &Self) -> bool {
        self.target.provider.name == other.target.provider.name
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::routing::{fixtures::Setup, settings};

    fn no_draw() -> f64 {
        panic!("an ordered model draws nothing")
    }

    /// The candidates as `model: label → upstream model`.
    fn shown(plan: &Plan) -> Vec<String> {
        let show = |c: &Candidate| format!("{}: {} → {}", c.model.name, c.target.label, c.upstream_model);
        plan.candidates.iter().map(show).collect()
    }

    fn setup() -> Setup {
        Setup::new()
            .model("gpt", &["openai/gpt-5.5", "azure/gpt-5.5"])
            .model("small", &["openai/small"])
            .model("long", &["azure/long"])
            .model("openai/*", &["openai/*"])
            .alias("tiny", "small")
    }

    fn with(fallbacks: settings::Fallbacks) -> Routes {
        setup().edit("gpt", |model| model.fallbacks = fallbacks).build()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordered_model_is_planned_as_written() {
        let routes = setup().build();
        let resolved = routes.resolve("gpt").unwrap();
        let planned = plan(&resolved, &mut no_draw);
        assert_eq!(shown(&planned), ["gpt: openai/gpt-5.5 → gpt-5.5", "gpt: azure/gpt-5.5 → gpt-5.5"]);
        let resolved = routes.resolve("openai/meta/llama").unwrap();
        assert_eq!(shown(&plan(&resolved, &mut no_draw)), ["openai/*: openai/* → meta/llama"]);
    }

    #[test]
    fn a_weighted_model_is_planned_by_draw() {
        let weighted = setup().edit("gpt", |model| {
            model.targets[0].weight = Some(3.0);
            model.targets[1].weight = Some(1.0);
        });
        let resolved = weighted.build().resolve("gpt").unwrap();
        for (draw, first) in [(0.0, "openai"), (0.74, "openai"), (0.76, "azure")] {
            let planned = plan(&resolved, &mut || draw);
            assert_eq!(&*planned.candidates[0].target.provider.name, first, "{draw}");
            assert_eq!(planned.candidates.len(), 2);
        }
    }

    #[test]
    fn each_reason_has_its_list_and_only_some_fall_to_the_default() {
        use Reason::{ContentPolicy, ContextLength, Default as Any, RateLimit, Timeout};
        let only_default = || settings::Fallbacks { default: names(&["small"]), ..Default::default() };
        let own = || settings::Fallbacks {
            default: names(&["small"]),
            rate_limit: Some(names(&["long"])),
            timeout: Some(Vec::new()),
            context_length: Some(names(&["long"])),
            content_policy: Some(names(&["openai/x", "long"])),
        };
        let cases = [
            (only_default(), Any, vec!["small: openai/small → small"]),
            (only_default(), RateLimit, vec!["small: openai/small → small"]),
            (only_default(), Timeout, vec!["small: openai/small → small"]),
            (only_default(), ContextLength, vec![]),
            (only_default(), ContentPolicy, vec![]),
            (own(), Any, vec!["small: openai/small → small"]),
            (own(), RateLimit, vec!["long: azure/long → long"]),
            (own(), Timeout, vec![]),
            (own(), ContextLength, vec!["long: azure/long → long"]),
            (own(), ContentPolicy, vec!["openai/*: openai/* → x", "long: azure/long → long"]),
        ];
        for (settings, reason, expected) in cases {
            let routes = with(settings);
            let resolved = routes.resolve("gpt").unwrap();
            let planned = fallbacks(&routes, &resolved, reason, &[], &|_| true, &mut no_draw);
            assert_eq!(shown(&planned), expected, "{reason:?}");
            assert_eq!(planned.rejected, []);
        }
    }

    #[test]
    fn a_fallback_is_checked_against_what_the_key_may_use() {
        let list = names(&["tiny", "long", "openai/x"]);
        let routes = with(settings::Fallbacks { default: list, ..Default::default() });
        let resolved = routes.resolve("gpt").unwrap();
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["gpt"], &[], &["tiny", "long", "openai/x"]),
            (&["gpt", "tiny"], &["small"], &["long", "openai/x"]),
            (&["gpt", "small"], &["small"], &["long", "openai/x"]),
            (&["gpt", "long", "openai/*"], &["long", "openai/*"], &["tiny"]),
            (&["gpt", "openai/x"], &["openai/*"], &["tiny", "long"]),
        ];
        for (allowed, used, rejected) in cases {
            let allows = |names: &[&str]| names.iter().any(|name| allowed.contains(name));
            let planned = fallbacks(&routes, &resolved, Reason::Default, &[], &allows, &mut no_draw);
            let models: Vec<&str> = planned.candidates.iter().map(|c| &*c.model.name).collect();
            assert_eq!(models, *used, "{allowed:?}");
            let refused: Vec<&str> = planned.rejected.iter().map(|r| &*r.target).collect();
            assert_eq!(refused, *rejected, "{allowed:?}");
            assert!(planned.rejected.iter().all(|r| r.why == Why::NotAllowed));
        }
    }

    #[test]
    fn the_fallbacks_of_a_fallback_are_not_followed() {
        let setup = setup()
            .edit("gpt", |model| model.fallbacks.default = names(&["small"]))
            .edit("small", |model| model.fallbacks.default = names(&["gpt", "long"]));
        let routes = setup.build();
        let planned =
            fallbacks(&routes, &routes.resolve("gpt").unwrap(), Reason::Default, &[], &|_| true, &mut no_draw);
        assert_eq!(shown(&planned), ["small: openai/small → small"]);
    }

    #[test]
    fn a_model_is_turned_to_once_and_never_to_itself() {
        let setup = setup()
            .edit("gpt", |model| model.fallbacks.default = names(&["small", "tiny", "openai/x", "openai/x"]))
            .edit("openai/*", |model| model.fallbacks.default = names(&["openai/x"]));
        let routes = setup.build();
        let turn = |name: &str| {
            let resolved = routes.resolve(name).unwrap();
            shown(&fallbacks(&routes, &resolved, Reason::Default, &[], &|_| true, &mut no_draw))
        };
        assert_eq!(turn("gpt"), ["small: openai/small → small", "openai/*: openai/* → x"]);
        assert_eq!(turn("openai/y"), ["openai/*: openai/* → x"]);
        assert_eq!(turn("openai/x"), [""; 0]);
    }

    #[test]
    fn a_place_already_tried_is_not_tried_again_unless_its_parameters_differ() {
        let setup = setup()
            .model("same", &["azure/gpt-5.5", "azure/other"])
            .model("changed", &["azure/gpt-5.5"])
            .edit("changed", |model| _ = model.overrides.insert("truncation".to_owned(), json!("auto")))
            .edit("gpt", |model| model.fallbacks.default = names(&["same", "openai/gpt-5.5", "changed"]));
        let routes = setup.build();
        let resolved = routes.resolve("gpt").unwrap();
        let tried = plan(&resolved, &mut no_draw).candidates;
        let planned = fallbacks(&routes, &resolved, Reason::Default, &tried, &|_| true, &mut no_draw);
        let expected = ["same: azure/other → other", "changed: azure/gpt-5.5 → gpt-5.5"];
        assert_eq!(shown(&planned), expected);
        let tried = |target: &str| Rejected { target: target.into(), why: Why::Tried };
        assert_eq!(planned.rejected, [tried("azure/gpt-5.5"), tried("openai/*")]);
    }
}
