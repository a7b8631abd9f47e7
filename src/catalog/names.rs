//! How a model's name leads to an entry of the catalogue.
//!
//! The rule is: never a price that may be another model's. The name as it is comes first. Then only what vendors
//! document as another way to write the same model is taken off, and what remains must be an entry's name, whole:
//!
//! - in front, the vendor's own name or the path its API puts there: `openai/gpt-5.5` at OpenAI, `models/gemini-2.5-pro`
//!   at Google, `accounts/fireworks/models/…` at Fireworks;
//! - behind, the date of a snapshot: `-2024-08-06`, `-20250929`, `@20250929`, or `-latest`.
//!
//! A snapshot with a price of its own has an entry of its own, which comes first. `:free` at a relay that has such
//! variants is free by its meaning; other variants (`:nitro`, `:online`) have a price only where they have an entry.

use super::Price;

/// The vendors that sell variants of a model under `model:free`.
const WITH_FREE_VARIANTS: [&str; 1] = ["openrouter"];

/// What may stand in front of a name at a vendor.
const PREFIXES: &[(&str, &str)] = &[
    ("anthropic", "anthropic/"),
    ("cohere", "cohere/"),
    ("dashscope", "qwen/"),
    ("deepseek", "deepseek/"),
    ("fireworks", "accounts/fireworks/models/"),
    ("gemini", "models/"),
    ("gemini", "google/"),
    ("mistral", "mistralai/"),
    ("openai", "openai/"),
    ("perplexity", "perplexity/"),
    ("vertex", "google/"),
    ("xai", "xai/"),
    ("xai", "x-ai/"),
];

/// The price that `find` has for `model` at `vendor` under one of the names it may have there.
pub(super) fn matches(vendor: &str, model: &str, find: impl Fn(&str) -> Option<Price>) -> Option<Price> {
    let plain = |name: &str| find(name).or_else(|| find(undated(name)?));
    if let Some(price) = plain(model) {
        return Some(price);
    }
    let prefixes = PREFIXES.iter().filter(|(of, _)| *of == vendor);
    for (_, prefix) in prefixes {
        let shorter = model.strip_prefix(prefix).and_then(plain);
        // The entry may have the long name and the request the short one.
        let found = shorter.or_else(|| if model.contains('/') { None } else { plain(&format!("{prefix}{model}")) });
        if found.is_some() {
            return found;
        }
    }
    let free = WITH_FREE_VARIANTS.contains(&vendor) && model.ends_with(":free");
    free.then_some(Price::Free)
}

/// `name` without the date of a snapshot or `-latest` behind it, if it has one.
pub(super) fn undated(name: &str) -> Option<&str> {
    if let Some(rest) = name.strip_suffix("-latest") {
        return (!rest.is_empty()).then_some(rest);
    }
    let cut = |length: usize| name.len().checked_sub(length).and_then(|at| name.split_at_checked(at));
    let (rest, _) = [11, 9].into_iter().filter_map(cut).find(|(_, date)| is_date(date))?;
    (!rest.is_empty()).then_some(rest)
}

/// `-2024-08-06`, `-20240806`, `@20240806`: a day of this century that there may be.
fn is_date(text: &str) -> bool {
    let digits = match text.as_bytes() {
        [b'-', _, _, _, _, b'-', _, _, b'-', _, _] => text[1..].replace('-', ""),
        [b'-' | b'@', rest @ ..] if rest.len() == 8 => text[1..].to_owned(),
        _ => return false,
    };
    let number = |range| digits.get(range).and_then(|digits: &str| digits.parse::<u32>().ok());
    digits.len() == 8
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && matches!((number(0..4), number(4..6), number(6..8)), (Some(2020..=2099), Some(1..=12), Some(1..=31)))
}
