//! What a provider states about its answer, beside the answer itself.

use super::{cost::read_cost, usage};
use crate::{
    types::{Nanos, Usage},
    wire::json::{Kind, Value},
};

/// An id or a tier longer than this many bytes is cut.
const LONGEST: usize = 128;

/// What a provider states about its answer. Of a stream, what it said last, but for the id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// Its own id for the answer: data, never a key, because it repeats or is missing.
    pub id: Option<Box<str>>,
    /// The service tier that it served, which may be another than was asked for.
    pub service_tier: Option<Box<str>>,
    pub usage: Option<Usage>,
    /// More was said after the usage was stated: it may be what was known at the beginning.
    pub usage_is_early: bool,
    /// What it says the answer cost.
    pub cost: Option<Nanos>,
}

impl Stated {
    /// Takes what a `usage` object says, as JSON text.
    pub fn read_usage(&mut self, raw: &[u8]) {
        if let Ok(usage) = Value::parse(raw) {
            self.take_usage(usage);
        }
    }

    /// Takes the id, as the JSON text of a string.
    pub fn read_id(&mut self, raw: &[u8]) {
        self.take_id(Value::parse(raw).ok());
    }

    /// Takes the service tier, as the JSON text of a string.
    pub fn read_service_tier(&mut self, raw: &[u8]) {
        self.take_service_tier(Value::parse(raw).ok());
    }

    /// Takes the service tier and the cost from a reply or an event of either format, wherever they stand in it: at the
    /// top, or in the counts of tokens. The counts themselves are left alone.
    pub fn read_terms(&mut self, document: &[u8]) {
        let says = |word: &[u8]| memchr::memmem::find(document, word).is_some();
        if !says(b"\"service_tier\"") && !says(b"\"cost\"") {
            return;
        }
        let Ok(document) = Value::parse(document) else { return };
        let inner = document.get("message").and_then(|message| message.get("usage"));
        let usage = inner.or_else(|| document.get("usage")).filter(|usage| usage.kind == Kind::Object);
        self.cost = usage.and_then(read_cost).or(self.cost);
        self.take_service_tier(document.get("service_tier").or_else(|| usage?.get("service_tier")));
    }

    /// Says whether it held token counts.
    pub(super) fn take_usage(&mut self, object: Value<'_>) -> bool {
        if object.kind != Kind::Object {
            return false;
        }
        let usage = usage::sort(object);
        self.usage = match (usage, self.usage) {
            (Some(usage), Some(before)) => Some(usage.after(&before)),
            (usage, before) => usage.or(before),
        };
        self.cost = read_cost(object).or(self.cost);
        // Anthropic's place for it, which its proxies keep.
        if self.service_tier.is_none() {
            self.take_service_tier(object.get("service_tier"));
        }
        usage.is_some()
    }

    pub(super) fn take_id(&mut self, value: Option<Value<'_>>) {
        if self.id.is_none() {
            self.id = text(value);
        }
    }

    pub(super) fn take_service_tier(&mut self, value: Option<Value<'_>>) {
        // Repeated in every chunk that is read, and the same as a rule.
        let same = |value: &Value<'_>| {
            self.service_tier.as_deref().is_some_and(|known| value.as_str().is_some_and(|tier| tier == known))
        };
        if let Some(tier) = text(value.filter(|value| !same(value))) {
            self.service_tier = Some(tier);
        }
    }
}

/// A text that says something, cut to a bounded length and without control characters.
fn text(value: Option<Value<'_>>) -> Option<Box<str>> {
    let text = value?.as_str()?;
    let text = &text[..text.floor_char_boundary(LONGEST)];
    let text: Box<str> = match text.contains(char::is_control) {
        true => text.chars().filter(|character| !character.is_control()).collect(),
        false => text.into(),
    };
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_wherever_a_format_has_them() {
        let cases = [
            (r#"{"service_tier":"flex","usage":{"prompt_tokens":1}}"#, Some("flex"), None),
            (r#"{"type":"message","usage":{"input_tokens":1,"service_tier":"priority"}}"#, Some("priority"), None),
            (r#"{"type":"message_start","message":{"usage":{"service_tier":"batch"}}}"#, Some("batch"), None),
            (r#"{"usage":{"prompt_tokens":1,"cost":0.5}}"#, None, Some(500_000_000)),
            (r#"{"usage":null,"service_tier":null}"#, None, None),
            (r#"{"choices":[{"message":{"content":"the \"cost\""}}]}"#, None, None),
            ("\"service_tier\"", None, None),
        ];
        for (document, tier, nanos) in cases {
            let mut stated = Stated::default();
            stated.read_terms(document.as_bytes());
            assert_eq!((stated.service_tier.as_deref(), stated.cost), (tier, nanos.map(Nanos)), "{document}");
            assert_eq!(stated.usage, None);
        }
    }

    #[test]
    fn an_id_is_kept_the_first_time_and_a_tier_the_last() {
        let mut stated = Stated::default();
        for (id, tier) in [("null", "\"auto\""), ("\"\"", "null"), ("\"a\\nb\"", "\"priority\""), ("\"c\"", "\"\"")] {
            stated.read_id(id.as_bytes());
            stated.read_service_tier(tier.as_bytes());
        }
        assert_eq!((stated.id.as_deref(), stated.service_tier.as_deref()), (Some("ab"), Some("priority")));
        let mut stated = Stated::default();
        stated.read_id(format!("\"{}\"", "ä".repeat(1_000)).as_bytes());
        assert_eq!(stated.id.unwrap().len(), LONGEST);
    }

    #[test]
    fn a_later_statement_takes_nothing_back() {
        let input = r#"{"prompt_tokens":10,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4}}"#;
        let of_input = Usage { input: 6, cache_read: 4, output: 1, ..Usage::default() };
        let cases = [
            (r#"{"prompt_tokens":10,"completion_tokens":5}"#, Usage { input: 10, output: 5, ..Usage::default() }),
            (r#"{"completion_tokens":5}"#, Usage { output: 5, ..of_input }),
            (r#"{"prompt_tokens":0,"completion_tokens":5,"total_tokens":5}"#, Usage { output: 5, ..of_input }),
            (r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#, of_input),
            ("{}", of_input),
        ];
        for (later, expected) in cases {
            let mut stated = Stated::default();
            stated.read_usage(input.as_bytes());
            stated.read_usage(later.as_bytes());
            assert_eq!(stated.usage, Some(expected), "{later}");
        }
    }

    #[test]
    fn usage_brings_its_cost_and_its_tier() {
        let mut stated = Stated::default();
        stated.read_usage(br#"{"prompt_tokens":3,"completion_tokens":2,"cost":0.5,"service_tier":"standard"}"#);
        stated.read_usage(br#"{"prompt_tokens":null}"#);
        stated.read_usage(b"[]");
        assert_eq!(stated.usage, Some(Usage { input: 3, output: 2, ..Usage::default() }));
        assert_eq!((stated.cost, stated.service_tier.as_deref()), (Some(Nanos(500_000_000)), Some("standard")));
    }
}
