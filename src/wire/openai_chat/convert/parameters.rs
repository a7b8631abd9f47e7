//! The parameters of a request that depend on one another: effort, tools and sampling. Models that reason take no
//! temperature while they do, and the newest take tools in this API only where they do not.

use super::encode::Options;
use crate::wire::conversation::{Losses, Raw, Request, Text, Thinking, ToolKind, effort_of};

/// When a model takes a temperature or `top_p` of the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampled {
    Always,
    /// Unless it is told to reason: it does not by itself.
    UnlessTold,
    /// Where it is told not to reason: it does by itself.
    WhenOff,
    Never,
}

/// What may be said of effort in a request with functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BesideTools {
    Anything,
    /// The request is refused if it names an effort.
    Nothing,
    /// The request is refused unless it says that the model shall not reason.
    Off,
}

pub(super) struct Parameters<'r> {
    pub(super) effort: Option<Text<'r>>,
    pub(super) temperature: Option<Raw<'r>>,
    pub(super) top_p: Option<Raw<'r>>,
}

impl<'r> Parameters<'r> {
    pub(super) fn settle(request: &'r Request<'_>, options: &Options<'_>, losses: &mut Losses) -> Self {
        let effort = effort(request, options, losses);
        let reasons = effort.as_ref().map(|effort| *effort != "none");
        let takes = match options.sampling {
            Sampled::Always => true,
            Sampled::UnlessTold => reasons != Some(true),
            Sampled::WhenOff => reasons == Some(false),
            Sampled::Never => false,
        };
        let mut sampled = |name: &str, value: &Option<Raw<'r>>| {
            let value = value.clone().filter(|value| takes || value.value().as_f64() != Some(1.0))?;
            if !takes {
                losses.note(name, "this model takes no sampling parameters while it reasons");
            }
            takes.then_some(value)
        };
        let temperature = sampled("temperature", &request.sampling.temperature);
        let top_p = sampled("top_p", &request.sampling.top_p);
        Self { effort, temperature, top_p }
    }
}

pub(super) fn has_functions(request: &Request<'_>) -> bool {
    request.tools.iter().any(|tool| !matches!(tool.kind, ToolKind::Server { .. }))
}

fn effort<'r>(request: &'r Request<'_>, options: &Options<'_>, losses: &mut Losses) -> Option<Text<'r>> {
    let asked = &request.reasoning;
    let named = if asked.effort.is_some() { "output_config.effort" } else { "thinking" };
    if !options.reasoning_effort {
        if asked.effort.is_some() || matches!(asked.thinking, Some(Thinking::Budget(_))) {
            losses.note("thinking", "this model takes no effort");
        }
        return None;
    }
    let beside = if has_functions(request) { options.beside_tools } else { BesideTools::Anything };
    let word = match (&asked.effort, asked.thinking) {
        (_, Some(Thinking::Disabled)) if options.effort_off && beside != BesideTools::Nothing => {
            Some(Text::literal("none"))
        }
        (_, Some(Thinking::Disabled)) => None,
        (Some(effort), _) => Some(at_most(effort, options, losses)),
        (None, Some(Thinking::Budget(budget))) => Some(Text::literal(effort_of(budget))),
        (None, _) => None,
    };
    let reasons = word.as_ref().is_some_and(|word| *word != "none");
    if reasons && beside != BesideTools::Anything {
        losses.note(named, "this model takes tools in this API only where it does not reason");
    }
    match beside {
        BesideTools::Anything => word,
        BesideTools::Nothing => None,
        BesideTools::Off => Some(Text::literal("none")),
    }
}

/// The effort, or the highest that the model has.
fn at_most<'r>(effort: &'r Text<'_>, options: &Options<'_>, losses: &mut Losses) -> Text<'r> {
    let highest = match (options.max_effort, options.xhigh_effort) {
        (true, _) => return effort.as_borrowed(),
        (false, true) => "xhigh",
        (false, false) => "high",
    };
    if *effort != "max" && (*effort != "xhigh" || highest == "xhigh") {
        return effort.as_borrowed();
    }
    losses.note("output_config.effort", "the highest effort that this model has is asked for");
    Text::literal(highest)
}
