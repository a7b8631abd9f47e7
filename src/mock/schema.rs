//! A small value that fits a JSON Schema: what the mock answers to a request for structured output, and the arguments
//! of a tool call that the client insists on.

use serde_json::{Map, Value, json};

/// How deep a schema is followed; recursive schemas must end somewhere.
const DEEPEST: u8 = 16;
/// How many values are made; a schema can refer to itself several times on each level.
const MOST_VALUES: u32 = 10_000;

/// The smallest value the mock can think of that fits `schema`: all required properties, and no other.
pub(super) fn instance(schema: &Value) -> Value {
    Builder { root: schema, left: MOST_VALUES }.build(schema, DEEPEST)
}

struct Builder<'a> {
    root: &'a Value,
    left: u32,
}

impl Builder<'_> {
    fn build(&mut self, schema: &Value, depth: u8) -> Value {
        let (Some(depth), Some(left)) = (depth.checked_sub(1), self.left.checked_sub(1)) else { return Value::Null };
        self.left = left;
        if let Some(target) = schema["$ref"].as_str() {
            return resolve(self.root, target).map_or(Value::Null, |target| self.build(target, depth));
        }
        for key in ["const", "default"] {
            if let Some(value) = schema.get(key) {
                return value.clone();
            }
        }
        if let Some(value) = schema["enum"].get(0) {
            return value.clone();
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(choice) = schema[key].get(0) {
                return self.build(choice, depth);
            }
        }
        match kind(schema) {
            "object" => self.object(schema, depth),
            "array" => {
                let count = schema["minItems"].as_u64().unwrap_or(0).min(64);
                (0..count).map(|_| self.build(&schema["items"], depth)).collect()
            }
            "string" => string(schema),
            "integer" => number(schema, 1),
            "number" => number(schema, 0),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Value, depth: u8) -> Value {
        let mut object = Map::new();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            if let Value::Object(members) = self.build(part, depth) {
                object.extend(members);
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            object.insert(name.to_owned(), self.build(&schema["properties"][name], depth));
        }
        Value::Object(object)
    }
}

fn string(schema: &Value) -> Value {
    let text = match schema["format"].as_str() {
        Some("date-time") => "2024-01-01T00:00:00Z",
        Some("date") => "2024-01-01",
        Some("time") => "00:00:00Z",
        Some("duration") => "PT1S",
        Some("email") => "someone@example.com",
        Some("hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "text",
    };
    let least = usize::try_from(schema["minLength"].as_u64().unwrap_or(0).min(4096)).unwrap_or(0);
    let most = usize::try_from(schema["maxLength"].as_u64().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let padded = format!("{text:x<least$}");
    Value::String(padded.chars().take(most).collect())
}

/// The least number that the bounds allow, else 1. `step` is what an exclusive bound must at least be exceeded by.
fn number(schema: &Value, step: i64) -> Value {
    let bound = |key: &str| schema.get(key).filter(|value| value.is_number());
    match (bound("minimum"), bound("exclusiveMinimum"), bound("maximum")) {
        (Some(least), _, _) => least.clone(),
        (_, Some(below), _) if step == 1 => json!(below.as_i64().unwrap_or(0).saturating_add(1)),
        (_, Some(below), _) => json!(below.as_f64().unwrap_or(0.0) + 1.0),
        (_, _, Some(most)) => most.clone(),
        _ => schema.get("multipleOf").filter(|value| value.is_number()).cloned().unwrap_or(json!(1)),
    }
}

fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null"),
        _ if schema.get("properties").is_some() || schema.get("allOf").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "null",
    }
}

/// Follows `#`, `#/$defs/name` and the like; other documents are not fetched.
fn resolve<'a>(root: &'a Value, target: &str) -> Option<&'a Value> {
    root.pointer(target.strip_prefix('#')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_fit_their_schemas() {
        let cases = [
            (
                json!({"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "string"}, "b": {"type": "integer", "minimum": 5}, "c": {}}}),
                json!({"a": "text", "b": 5}),
            ),
            (json!({"$ref": "#/$defs/x", "$defs": {"x": {"enum": ["red", "blue"]}}}), json!("red")),
            (json!({"anyOf": [{"type": "boolean"}, {"type": "null"}]}), json!(true)),
            (json!({"type": ["null", "number"], "exclusiveMinimum": 2.5}), json!(3.5)),
            (json!({"type": "array", "minItems": 2, "items": {"const": 7}}), json!([7, 7])),
            (json!({"type": "string", "minLength": 6, "maxLength": 6}), json!("textxx")),
            (json!({"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}]}), json!({"a": null})),
        ];
        for (schema, expected) in cases {
            assert_eq!(instance(&schema), expected, "{schema}");
        }
    }

    #[test]
    fn a_recursive_schema_ends() {
        let again = json!({"$ref": "#"});
        let schema = json!({"required": ["a", "b", "c"], "properties": {"a": again, "b": again, "c": again}});
        assert!(instance(&schema).to_string().len() < 500_000);
    }
}
