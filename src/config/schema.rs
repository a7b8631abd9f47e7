//! The settings as a JSON Schema.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::settings::Settings;

/// What the settings' derives say; what files are checked against.
pub(super) fn settings_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Settings).to_value());
    &SCHEMA
}

/// The JSON Schema (draft 2020-12) of a configuration file, for editors.
///
/// It differs from the settings in two ways, both of them things that may be written in a file: a variable may stand
/// where a number, a word or a duration belongs, and a section may be empty.
pub fn schema() -> Value {
    let mut schema = settings_schema().clone();
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (name, definition) in definitions {
            if let Value::Object(members) = definition {
                members.entry("title").or_insert_with(|| Value::String(name.clone()));
            }
            loosen(definition);
        }
    }
    if let Value::Object(members) = &mut schema {
        for (name, member) in members.iter_mut() {
            if name == "properties" {
                for_each_schema(member, loosen);
            }
        }
    }
    schema
}

/// Allows variables and empty sections in `schema` and below.
fn loosen(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    for name in ["properties", "anyOf", "oneOf"] {
        if let Some(inner) = members.get_mut(name) {
            // Words to choose from are loosened as one.
            let words = name != "properties" && inner.as_array().is_some_and(|all| all.iter().all(is_word));
            if !words {
                for_each_schema(inner, loosen);
            }
        }
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(name) {
            loosen(inner);
        }
    }
    if members.get("type") == Some(&json!("object")) && !members.contains_key("required") {
        members.insert("type".into(), json!(["object", "null"]));
    }
    if members.get("type") == Some(&json!("array")) {
        members.insert("type".into(), json!(["array", "null"]));
    }
    if takes_variables(members) {
        let mut outer = Map::new();
        for name in ["title", "description"] {
            if let Some(text) = members.remove(name) {
                outer.insert(name.into(), text);
            }
        }
        let variable = json!({ "type": "string", "pattern": r"\$\{.+\}" });
        outer.insert("anyOf".into(), json!([Value::Object(std::mem::take(members)), variable]));
        *members = outer;
    }
}

fn is_word(schema: &Value) -> bool {
    schema.get("const").is_some() || schema.get("enum").is_some()
}

/// Whether `${…}` would be refused where it may be written.
fn takes_variables(members: &Map<String, Value>) -> bool {
    let names: Vec<&str> = match members.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let number = names.iter().any(|name| matches!(*name, "integer" | "number" | "boolean"));
    let words = members.contains_key("enum")
        || members.get("oneOf").and_then(Value::as_array).is_some_and(|all| all.iter().all(is_word));
    number || words || members.contains_key("pattern")
}

fn for_each_schema(schemas: &mut Value, change: fn(&mut Value)) {
    match schemas {
        Value::Object(members) => members.values_mut().for_each(change),
        Value::Array(items) => items.iter_mut().for_each(change),
        _ => {}
    }
}
