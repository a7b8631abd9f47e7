//! JSON schemas that a provider can hold a model to. Each takes a part of JSON Schema only, and refuses a request
//! whose schema goes beyond it; a schema that does is sent in a way that promises less.

use std::borrow::Cow;

use super::text::Raw;
use crate::wire::{
    json::{Kind, Value},
    openai_chat::ProviderError,
};

/// Whose part of JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's `strict` mode: an object at the root, every property required, no others.
    OpenAiStrict,
    /// Anthropic's structured outputs: no properties but those named, and no bounds on numbers, texts and lists.
    Anthropic,
}

/// Schemas that nest deeper than this are not looked into.
const MAX_NESTING: usize = 24;

/// Keywords that both take, besides those that hold schemas.
const PLAIN: &[&str] =
    &["type", "enum", "const", "description", "title", "default", "required", "additionalProperties", "$ref", "format"];

/// Keywords that OpenAI takes as well.
const OPENAI: &[&str] = &[
    "pattern",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "$schema",
];

/// Whether a provider can hold a model to this schema as it is.
pub fn holds(schema: &Raw<'_>, dialect: Dialect) -> bool {
    let schema = schema.value();
    let is_object = schema.get("type").is_some_and(|kind| kind.raw == b"\"object\"");
    (is_object || dialect == Dialect::Anthropic) && fits(schema, dialect, 0, true)
}

/// `refs`: whether references may stand here. Definitions that refer to others might go round in circles.
fn fits(schema: Value<'_>, dialect: Dialect, depth: usize, refs: bool) -> bool {
    if schema.kind != Kind::Object || depth > MAX_NESTING {
        return false;
    }
    let inner = |value: Value<'_>, refs: bool| fits(value, dialect, depth + 1, refs);
    let keywords = schema.members().all(|(name, value)| match name.bytes() {
        Cow::Borrowed(b"properties") => value.members().all(|(_, property)| inner(property, refs)),
        Cow::Borrowed(b"$defs" | b"definitions") => value.members().all(|(_, definition)| inner(definition, false)),
        Cow::Borrowed(b"items") => inner(value, refs),
        Cow::Borrowed(b"anyOf") => value.items().all(|variant| inner(variant, refs)),
        Cow::Borrowed(b"allOf") if dialect == Dialect::Anthropic => value.items().all(|part| inner(part, refs)),
        Cow::Borrowed(b"$ref") => {
            refs && (value.raw.starts_with(b"\"#/$defs/") || value.raw.starts_with(b"\"#/definitions/"))
        }
        Cow::Borrowed(b"minItems") if dialect == Dialect::Anthropic => matches!(value.raw, b"0" | b"1"),
        name => {
            let among = |words: &[&str]| words.iter().any(|word| word.as_bytes() == name.as_ref());
            among(PLAIN) || dialect == Dialect::OpenAiStrict && among(OPENAI)
        }
    });
    keywords && (!describes_object(schema) || is_closed(schema, dialect))
}

fn describes_object(schema: Value<'_>) -> bool {
    let Some(kind) = schema.get("type") else { return schema.get("properties").is_some() };
    kind.raw == b"\"object\"" || kind.items().any(|kind| kind.raw == b"\"object\"")
}

/// Whether an object has the properties named and no others, and, for OpenAI, always has them all.
fn is_closed(schema: Value<'_>, dialect: Dialect) -> bool {
    let closed = schema.get("additionalProperties").is_some_and(|more| more.kind == Kind::False);
    if dialect == Dialect::Anthropic || !closed {
        return closed;
    }
    let Some(properties) = schema.get("properties") else { return true };
    let required: std::collections::HashSet<Cow<'_, str>> =
        schema.get("required").into_iter().flat_map(|list| list.items()).filter_map(|name| name.as_str()).collect();
    properties.members().all(|(name, _)| required.contains(&name.text()))
}

/// Whether a provider has refused a request for the parameter that holds the answer to a schema.
pub fn is_refused(error: &ProviderError) -> bool {
    const WORDS: [&str; 7] = [
        "output_config",
        "output_format",
        "response_format",
        "json_schema",
        "structured output",
        "structured_output",
        "guided",
    ];
    let said = [Some(error.message.as_str()), error.param.as_deref()].into_iter().flatten();
    let said: Vec<String> = said.map(str::to_ascii_lowercase).collect();
    WORDS.iter().any(|word| said.iter().any(|said| said.contains(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_held_to_where_the_provider_can() {
        let deep = format!("{}{{\"type\":\"string\"}}{}", r#"{"type":"array","items":"#.repeat(40), "}".repeat(40));
        let cases: &[(&str, bool, bool)] = &[
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#,
                true,
                true,
            ),
            (r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#, false, true),
            (r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}"#, false, false),
            (
                r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"],"additionalProperties":false}"#,
                true,
                false,
            ),
            (r#"{"type":"array","items":{"type":"string"}}"#, false, true),
            (r#"{"type":"array","items":{"type":"string"},"minItems":2}"#, false, false),
            (
                r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/b"}},"required":["a"],"additionalProperties":false,"$defs":{"b":{"type":"string"}}}"##,
                true,
                true,
            ),
            (
                r##"{"type":"object","properties":{"a":{"$ref":"#/$defs/b"}},"required":["a"],"additionalProperties":false,"$defs":{"b":{"$ref":"#/$defs/b"}}}"##,
                false,
                false,
            ),
            (r#"{"type":"object","patternProperties":{},"additionalProperties":false}"#, false, false),
            (r#"{"type":["object","null"],"properties":{"a":{}}}"#, false, false),
            (r#"{"type":"object"}"#, false, false),
            ("7", false, false),
            (&deep, false, false),
        ];
        for (schema, openai, anthropic) in cases {
            let schema = Raw::made(schema.as_bytes());
            assert_eq!(holds(&schema, Dialect::OpenAiStrict), *openai, "{schema:?}");
            assert_eq!(holds(&schema, Dialect::Anthropic), *anthropic, "{schema:?}");
        }
    }
}
