//! What is known about the target of a translated request: from the provider's row, from the catalogue, and, for
//! Claude, from the version in the model's name, since each version takes other parameters.

use crate::{
    catalog::{Capability, Facts, Price},
    gateway::Outlet,
    providers::settings::MaxTokensField,
    routing::{Candidate, OUTPUT_CAP},
    wire::{
        anthropic::{self, EVERY_EFFORT, SamplingSupport, ThinkingSupport},
        conversation::{Format, fetch::Follows},
        openai_chat::convert::{self as openai_chat, CacheMarks},
        translate::Target,
    },
};

/// For a request without a limit to a model whose longest output is unknown, in tokens.
const DEFAULT_MAX_TOKENS: u64 = 4096;

/// The most tokens that are asked for on behalf of a client that set no limit: a higher limit is a longer wait, and
/// Anthropic's own SDKs refuse to wait for more without a stream.
const MOST_BY_DEFAULT: u64 = 16_384;

/// The terms in which a request is written for `candidate`. `schemas`: whether a model of which it is not known is
/// taken to be one that can be held to a schema.
pub(super) fn target<'c>(upstream: Format, candidate: &'c Candidate, outlet: &Outlet, schemas: bool) -> Target<'c> {
    let model: &str = &candidate.upstream_model;
    let price = outlet.prices.of(&candidate.upstream_model);
    let facts = match &price {
        Price::Known(price) => Some(&price.facts),
        Price::Free | Price::Unknown => None,
    };
    match upstream {
        Format::OpenAiChat => {
            let json_schema = knows_schemas(upstream, candidate).unwrap_or(schemas);
            Target::OpenAiChat(openai_chat::Options { json_schema, ..open(candidate, model, facts) })
        }
        Format::Anthropic => {
            let default_max_tokens = default_max_tokens(candidate, facts);
            let urls = candidate.target.provider.quirks.takes_urls;
            let json_schema = knows_schemas(upstream, candidate).unwrap_or(schemas);
            Target::Anthropic(anthropic::Options { default_max_tokens, urls, json_schema, ..claude(model) })
        }
    }
}

/// Which URLs the target follows by itself.
pub(super) fn follows(target: &Target<'_>) -> Follows {
    match target {
        Target::OpenAiChat(options) => Follows { images: options.image_urls, documents: false },
        Target::Anthropic(options) => Follows { images: options.urls, documents: options.urls },
    }
}

/// What the operator has set as this model's default, else what the model can write.
fn default_max_tokens(candidate: &Candidate, facts: Option<&Facts>) -> u64 {
    let defaults = &candidate.target.params.defaults;
    let set = defaults.iter().find(|(name, _)| OUTPUT_CAP.contains(&&**name));
    let set = set.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
    let can = facts.and_then(|facts| facts.max_output).map(|most| most.min(MOST_BY_DEFAULT));
    set.or(can).unwrap_or(DEFAULT_MAX_TOKENS)
}

fn open<'c>(candidate: &Candidate, model: &'c str, facts: Option<&Facts>) -> openai_chat::Options<'c> {
    let provider = &candidate.target.provider;
    let quirks = &provider.quirks;
    let is_openai = provider.kind == "openai";
    let options = openai_chat::Options {
        model,
        max_tokens_name: match quirks.max_tokens {
            MaxTokensField::MaxCompletionTokens => OUTPUT_CAP[1],
            MaxTokensField::MaxTokens | MaxTokensField::Both => OUTPUT_CAP[0],
        },
        reasoning_effort: facts.is_none_or(|facts| facts.can.has(Capability::Reasoning)),
        max_effort: !is_openai,
        reasoning: quirks.reasoning,
        cache_marks: if quirks.cache_control { CacheMarks::CacheControl } else { CacheMarks::None },
        top_k: quirks.top_k,
        image_urls: quirks.takes_urls,
        service_tier: is_openai,
        user: is_openai || provider.kind == "openrouter",
        ..openai_chat::Options::default()
    };
    if is_openai { super::gpt::fitted(options) } else { options }
}

/// Whether a model can be held to a schema by a parameter; `None` where nobody knows. Anthropic offers it from Claude 4.5
/// on; of other makers' models one that cannot would refuse it.
pub(super) fn knows_schemas(upstream: Format, candidate: &Candidate) -> Option<bool> {
    match upstream {
        Format::OpenAiChat => (candidate.target.provider.kind == "openai").then_some(true),
        Format::Anthropic => version(&candidate.upstream_model).map(|version| version >= WITH_SCHEMAS),
    }
}

/// Claude's first version with `output_config.format`.
const WITH_SCHEMAS: (u32, u32) = (4, 5);

/// What a Claude model takes. A name without a version is taken for a current model.
fn claude(model: &str) -> anthropic::Options<'_> {
    let current = anthropic::Options { model, ..anthropic::Options::default() };
    let Some(version) = version(model) else { return current };
    let thinking = match version {
        (..=3, 0..=6) => ThinkingSupport::None,
        (..=4, ..=5) | (..=3, _) => ThinkingSupport::Budget,
        // The largest models think as they like; told not to, they refuse the call.
        _ if model.contains("fable") || model.contains("mythos") => ThinkingSupport::Always,
        _ => ThinkingSupport::Adaptive,
    };
    let sampling = match version {
        (..=3, _) | (4, 0) => SamplingSupport::All,
        (4, 1..=6) => SamplingSupport::One,
        _ => SamplingSupport::None,
    };
    anthropic::Options {
        thinking,
        sampling,
        efforts: match version {
            (4, 5) if model.contains("opus") => &EVERY_EFFORT[..3],
            (..=3, _) | (4, ..=5) => &[],
            (4, 6) => &["low", "medium", "high", "max"],
            _ => &EVERY_EFFORT,
        },
        json_schema: version >= WITH_SCHEMAS,
        // Claude Opus 4.8 was the first to take them.
        system_turns: version >= (4, 8),
        ..current
    }
}

/// Whether a Claude model takes thinking back only where nothing before it has changed: Fable and Mythos from 5.1 on, and
/// all from 5.5 on.
pub(super) fn binds_thinking(model: &str) -> bool {
    let since = if model.contains("fable") || model.contains("mythos") { (5, 1) } else { (5, 5) };
    version(model).is_some_and(|version| version >= since)
}

/// The version in the name of a Claude model: `claude-3-5-sonnet-20241022`, `claude-opus-4-7`, `claude-sonnet-4.5`. Longer
/// numbers are dates.
fn version(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude")?;
    let mut numbers = name
        .split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map_while(|digits| if digits.len() <= 2 { digits.parse::<u32>().ok() } else { None });
    let major = numbers.next()?;
    Some((major, numbers.next().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_spelling_of_a_name() {
        let cases = [
            ("claude-3-5-sonnet-20241022", Some((3, 5))),
            ("claude-3-opus-20240229", Some((3, 0))),
            ("claude-3-7-sonnet-latest", Some((3, 7))),
            ("claude-sonnet-4-20250514", Some((4, 0))),
            ("claude-opus-4-5-20251101", Some((4, 5))),
            ("anthropic/claude-sonnet-4.6", Some((4, 6))),
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-opus-5-5", Some((5, 5))),
            ("claude-fable-5-1", Some((5, 1))),
            ("claude-next", None),
            ("MiniMax-M2.7", None),
        ];
        for (model, expected) in cases {
            assert_eq!(version(model), expected, "{model}");
        }
    }

    #[test]
    fn thinking_is_bound_to_its_conversation_by_the_newest_models() {
        for (model, binds) in [
            ("claude-fable-5-1", true),
            ("claude-mythos-5-2", true),
            ("claude-fable-5", false),
            ("claude-opus-5", false),
            ("claude-opus-5-5", true),
            ("anthropic/claude-haiku-5.5", true),
            ("claude-sonnet-4-6", false),
            ("claude-next", false),
        ] {
            assert_eq!(binds_thinking(model), binds, "{model}");
        }
    }

    #[test]
    fn each_version_takes_its_own_parameters() {
        use SamplingSupport as S;
        use ThinkingSupport as T;
        let cases = [
            ("claude-3-5-haiku-20241022", T::None, S::All, false, false),
            ("claude-3-7-sonnet-latest", T::Budget, S::All, false, false),
            ("claude-opus-4-1", T::Budget, S::One, false, false),
            ("claude-sonnet-4-5", T::Budget, S::One, false, true),
            ("claude-opus-4-5", T::Budget, S::One, true, true),
            ("claude-opus-4-6", T::Adaptive, S::One, true, true),
            ("claude-opus-4-8", T::Adaptive, S::None, true, true),
            ("claude-fable-5-1", T::Always, S::None, true, true),
            ("claude-haiku-5-5", T::Adaptive, S::None, true, true),
            ("claude-next", T::Adaptive, S::None, true, true),
        ];
        for (model, thinking, sampling, effort, json_schema) in cases {
            let options = claude(model);
            let found = (options.thinking, options.sampling, !options.efforts.is_empty(), options.json_schema);
            assert_eq!(found, (thinking, sampling, effort, json_schema), "{model}");
            assert_eq!(
                options.system_turns,
                matches!(model, "claude-opus-4-8" | "claude-next" | "claude-fable-5-1" | "claude-haiku-5-5"),
                "{model}"
            );
        }
    }
}
