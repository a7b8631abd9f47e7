//! The parameters of a request that depend on one another: thinking, effort, sampling, the choice of tools and the
//! form of the output. The rules are Anthropic's: a thinking budget is at least 1024 tokens and below `max_tokens`;
//! with thinking, the temperature is 1, `top_k` is unset, `top_p` is at least 0.95, and no tool can be forced; where
//! thinking has a budget, an unfinished loop of tool calls must begin with the thinking that led to it.

use super::options::{Options, SamplingSupport, ThinkingSupport};
use crate::wire::conversation::{
    Losses, OutputFormat, Raw, Request, Role, Text, Thinking, ToolChoice, budget_of, effort_of,
    schema::{Dialect, holds},
};

/// The least budget that is taken, in tokens.
const MIN_BUDGET: u64 = 1024;

pub(super) struct Parameters<'r> {
    pub(super) max_tokens: u64,
    pub(super) thinking: Option<Thinking>,
    pub(super) effort: Option<Text<'r>>,
    pub(super) temperature: Option<Raw<'r>>,
    pub(super) top_p: Option<Raw<'r>>,
    pub(super) top_k: Option<Raw<'r>>,
    pub(super) choice: Option<ToolChoice<'r>>,
    pub(super) json: Json<'r>,
}

/// How JSON output is asked for.
pub(super) enum Json<'r> {
    Unasked,
    /// `output_config.format`
    Native(&'r Raw<'r>),
    /// A tool whose calls are the answer; `None` takes any object.
    Tool(Option<&'r Raw<'r>>),
    /// In words, because neither can be had.
    Words,
}

impl<'r> Parameters<'r> {
    pub(super) fn settle(request: &'r Request<'_>, options: &Options<'_>, losses: &mut Losses) -> Self {
        let max_tokens = request.max_tokens.unwrap_or(options.default_max_tokens);
        let json = json(request, options, losses);
        let mut choice = request.tool_choice.clone();
        if !options.forced_tools && choice.as_ref().is_some_and(is_forced) {
            losses.note("tool_choice", "this model cannot be forced to call a tool");
            choice = Some(ToolChoice::Auto);
        }
        let forced = choice.as_ref().is_some_and(is_forced) || matches!(json, Json::Tool(_));
        let (thinking, effort) = thinking(request, options, max_tokens, forced, losses);
        let mut parameters =
            Self { max_tokens, thinking, effort, temperature: None, top_p: None, top_k: None, choice, json };
        parameters.settle_sampling(request, options.sampling, losses);
        parameters
    }

    /// Whether the model has to call a tool.
    pub(super) fn is_forced(&self) -> bool {
        self.choice.as_ref().is_some_and(is_forced) || matches!(self.json, Json::Tool(_))
    }

    fn settle_sampling(&mut self, request: &'r Request<'_>, support: SamplingSupport, losses: &mut Losses) {
        let sampling = &request.sampling;
        let thinks = matches!(self.thinking, Some(Thinking::Adaptive | Thinking::Budget(_)));
        let mut keep = |name: &str, value: &Option<Raw<'r>>, why: Option<&'static str>| match (value, why) {
            (Some(_), Some(why)) => {
                losses.note(name, why);
                None
            }
            (value, None) => value.clone(),
            (None, _) => None,
        };
        let none = (support == SamplingSupport::None).then_some("this model takes no sampling parameters");
        let temperature = number(sampling.temperature.as_ref());
        let cold = (thinks && temperature != Some(1.0)).then_some("with thinking the temperature is fixed");
        self.temperature = keep("temperature", &sampling.temperature, none.or(cold));
        let both = (support == SamplingSupport::One && self.temperature.is_some())
            .then_some("this model takes either `temperature` or `top_p`");
        let low = (thinks && number(sampling.top_p.as_ref()).is_some_and(|top_p| top_p < 0.95))
            .then_some("with thinking `top_p` is at least 0.95");
        self.top_p = keep("top_p", &sampling.top_p, none.or(both).or(low));
        let thinking = thinks.then_some("with thinking `top_k` cannot be set");
        self.top_k = keep("top_k", &sampling.top_k, none.or(thinking));
        if self.temperature.is_some() && temperature.is_some_and(|temperature| temperature > 1.0) {
            losses.note("temperature", "the highest temperature is 1");
            self.temperature = Some(Raw::made(&b"1"[..]));
        }
    }
}

pub(super) fn is_forced(choice: &ToolChoice<'_>) -> bool {
    matches!(choice, ToolChoice::Any | ToolChoice::Tool(_) | ToolChoice::Among { required: true, .. })
}

fn number(raw: Option<&Raw<'_>>) -> Option<f64> {
    raw?.value().as_f64()
}

fn json<'r>(request: &'r Request<'_>, options: &Options<'_>, losses: &mut Losses) -> Json<'r> {
    let schema = match &request.output {
        None => return Json::Unasked,
        Some(OutputFormat::JsonObject) => None,
        Some(OutputFormat::JsonSchema { schema, .. }) => Some(schema),
    };
    match schema {
        Some(schema) if options.json_schema && holds(schema, Dialect::Anthropic) => Json::Native(schema),
        // A tool's input is always an object, so only schemas of objects fit.
        schema if options.forced_tools && schema.is_none_or(is_object_schema) => Json::Tool(schema),
        // The provider may take more than is known here.
        Some(schema) if options.json_schema => Json::Native(schema),
        _ => {
            losses.note("response_format", "asked for in words only");
            Json::Words
        }
    }
}

fn is_object_schema(schema: &Raw<'_>) -> bool {
    schema.value().get("type").is_none_or(|kind| kind.raw == b"\"object\"")
}

/// What to say about thinking and effort.
fn thinking<'r>(
    request: &'r Request<'_>,
    options: &Options<'_>,
    max_tokens: u64,
    forced: bool,
    losses: &mut Losses,
) -> (Option<Thinking>, Option<Text<'r>>) {
    let asked = &request.reasoning;
    let word = asked.effort.as_ref().map(Text::decode);
    let off = asked.is_off();
    let wants = asked.thinking.is_some_and(|thinking| thinking != Thinking::Disabled)
        || asked.thinking.is_none() && word.as_deref().is_some_and(|word| word != "none");
    let effort = match (word.as_deref(), asked.thinking) {
        // Anthropic's least effort.
        (Some("minimal"), _) => Some(Text::literal("low")),
        (Some("none"), _) => None,
        (Some(word), _) => Some(Text::new(word)),
        (None, Some(Thinking::Budget(budget))) => Some(Text::literal(effort_of(budget))),
        (None, _) => None,
    };
    let mut refuse = |why| {
        losses.note("reasoning", why);
        None
    };
    let said = match options.thinking {
        ThinkingSupport::None if wants => refuse("this model does not think"),
        ThinkingSupport::Always if off => refuse("this model cannot be kept from thinking"),
        ThinkingSupport::None | ThinkingSupport::Always => None,
        ThinkingSupport::Budget | ThinkingSupport::Adaptive if off => Some(Thinking::Disabled),
        _ if wants && forced => refuse("thinking cannot be had together with a forced tool"),
        ThinkingSupport::Adaptive => wants.then_some(Thinking::Adaptive),
        ThinkingSupport::Budget if wants => {
            let budget = match asked.thinking {
                Some(Thinking::Budget(budget)) => budget,
                _ => word.as_deref().and_then(budget_of).or(budget_of("medium")).unwrap_or(MIN_BUDGET),
            };
            // A fifth is left for the answer.
            let budget = budget.min(max_tokens / 5 * 4).max(MIN_BUDGET);
            if budget >= max_tokens {
                refuse("`max_tokens` leaves no room for thinking")
            } else if lacks_thinking(request) {
                refuse("the calls before have come without the thinking that led to them")
            } else {
                Some(Thinking::Budget(budget))
            }
        }
        ThinkingSupport::Budget => None,
    };
    let effort = effort.and_then(|word| known_effort(word, options, losses));
    (said, effort)
}

/// The word for an effort that the model takes: the highest that is no higher. A model that has a budget for thinking is
/// told of no effort beside it.
fn known_effort<'r>(word: Text<'r>, options: &Options<'_>, losses: &mut Losses) -> Option<Text<'r>> {
    if options.efforts.is_empty() || options.thinking == ThinkingSupport::Budget {
        return None;
    }
    let all = &super::options::EVERY_EFFORT;
    let Some(place) = all.iter().position(|known| word == **known) else {
        // A word that is not known here may be known there.
        return Some(word);
    };
    let below = all[..=place].iter().rev().find(|known| options.efforts.contains(known))?;
    if word == **below {
        return Some(word);
    }
    losses.note("reasoning_effort", "this model knows no such effort");
    Some(Text::literal(below))
}

/// Whether the conversation stands in a loop of tool calls whose last turn does not begin with thinking of its own.
fn lacks_thinking(request: &Request<'_>) -> bool {
    let Some(last) = request.turns.iter().rposition(|turn| turn.role == Role::Assistant) else { return false };
    let turn = &request.turns[last];
    let blocks = || turn.content.blocks.iter();
    blocks().any(super::super::conversation::Block::is_tool_use)
        && !blocks().next().is_some_and(super::block::is_own_thinking)
}
