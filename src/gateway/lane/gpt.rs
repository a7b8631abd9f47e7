//! What OpenAI's own models take in chat completions: each generation refuses other parameters than the one before.

use crate::wire::openai_chat::convert::{BesideTools, Options, Sampled};

/// Fits `options` to the generation of the model in their name. A name that is none of those below takes everything.
pub(super) fn fitted(options: Options<'_>) -> Options<'_> {
    let Some(generation) = generation(options.model) else { return options };
    // Models for code alone and the largest ones always reason.
    let always = options.model.contains("-codex") || options.model.contains("-pro");
    let sampling = match generation {
        _ if always => Sampled::Never,
        (..=4, _) | (5, 0) => Sampled::Never,
        (5, ..=4) => Sampled::UnlessTold,
        _ => Sampled::WhenOff,
    };
    let takes_stops = generation > (5, 0) || generation == (1, 0);
    Options {
        sampling,
        beside_tools: match generation {
            (..=4, _) | (5, ..=1) => BesideTools::Anything,
            (5, ..=5) => BesideTools::Nothing,
            _ => BesideTools::Off,
        },
        effort_off: !always && generation > (5, 0),
        xhigh_effort: generation > (5, 1) || options.model.contains("-codex-max"),
        max_stops: if takes_stops { options.max_stops } else { 0 },
        ..options
    }
}

/// The generation of a model that reasons: (3, 0) for `o3-mini`, (5, 4) for `gpt-5.4-mini-2026-03-05`.
fn generation(model: &str) -> Option<(u32, u32)> {
    let name = model.strip_prefix("ft:").unwrap_or(model);
    let (rest, is_gpt) = match name.strip_prefix("gpt-") {
        Some(rest) => (rest, true),
        None => (name.strip_prefix('o')?, false),
    };
    let (number, _) = rest.split_once(['-', ':']).unwrap_or((rest, ""));
    let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
    let found = (major.parse().ok()?, minor.parse().ok()?);
    // What is made for conversation alone does not reason, and neither does GPT-4.
    let reasons = !is_gpt || found >= (5, 0) && !name.contains("-chat");
    reasons.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_takes_its_own_parameters() {
        use BesideTools as B;
        use Sampled as S;
        // Sampling, effort beside tools, whether it can be told not to reason, whether the effort `xhigh`, stops.
        let all = (S::Always, B::Anything, false, true, 4);
        for (model, expected) in [
            ("gpt-4o", all),
            ("gpt-4.1-mini", all),
            ("gpt-5-chat-latest", all),
            ("gpt-oss-120b", all),
            ("omni", all),
            ("llama", all),
            ("o1", (S::Never, B::Anything, false, false, 4)),
            ("o3-mini", (S::Never, B::Anything, false, false, 0)),
            ("o4-mini-2025-04-16", (S::Never, B::Anything, false, false, 0)),
            ("gpt-5", (S::Never, B::Anything, false, false, 0)),
            ("gpt-5-2025-08-07", (S::Never, B::Anything, false, false, 0)),
            ("ft:gpt-5-mini:acme", (S::Never, B::Anything, false, false, 0)),
            ("gpt-5.1", (S::UnlessTold, B::Anything, true, false, 4)),
            ("gpt-5.1-codex-max", (S::Never, B::Anything, false, true, 4)),
            ("gpt-5.2", (S::UnlessTold, B::Nothing, true, true, 4)),
            ("gpt-5.4-mini-2026-03-05", (S::UnlessTold, B::Nothing, true, true, 4)),
            ("gpt-5.5", (S::WhenOff, B::Nothing, true, true, 4)),
            ("gpt-5.6-luna", (S::WhenOff, B::Off, true, true, 4)),
            ("gpt-6", (S::WhenOff, B::Off, true, true, 4)),
        ] {
            let fitted = fitted(Options { model, ..Options::default() });
            let found =
                (fitted.sampling, fitted.beside_tools, fitted.effort_off, fitted.xhigh_effort, fitted.max_stops);
            assert_eq!(found, expected, "{model}");
        }
    }
}
