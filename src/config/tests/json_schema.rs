//! As much of JSON Schema as the published schema uses. An unknown keyword is an error, so that this cannot go stale.

use serde_json::Value;

pub(super) fn validate(root: &Value, schema: &Value, instance: &Value) -> Result<(), String> {
    let Value::Object(members) = schema else {
        return if *schema == Value::Bool(true) { Ok(()) } else { Err("refused".into()) };
    };
    for (keyword, expected) in members {
        let fits = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "format" | "default" => true,
            "$ref" => {
                let target =
                    expected.as_str().and_then(|name| root.pointer(&name[1..])).ok_or("a reference to nothing")?;
                return validate(root, target, instance);
            }
            "type" => types(expected).iter().any(|name| is_type(name, instance)),
            "anyOf" => alternatives(expected).any(|schema| validate(root, schema, instance).is_ok()),
            "oneOf" => alternatives(expected).filter(|schema| validate(root, schema, instance).is_ok()).count() == 1,
            "enum" => alternatives(expected).any(|word| word == instance),
            "const" => expected == instance,
            "minimum" => instance.as_f64().is_none_or(|number| Some(number) >= expected.as_f64()),
            "maximum" => instance.as_f64().is_none_or(|number| Some(number) <= expected.as_f64()),
            "required" => alternatives(expected)
                .all(|name| instance.as_object().is_none_or(|object| object.contains_key(name.as_str().unwrap()))),
            "pattern" => instance.as_str().is_none_or(|text| matches(expected.as_str().unwrap(), text)),
            "items" => {
                instance.as_array().is_none_or(|items| items.iter().all(|i| validate(root, expected, i).is_ok()))
            }
            "properties" | "additionalProperties" => match instance.as_object() {
                Some(object) => {
                    object.iter().try_for_each(|(name, value)| member(root, schema, name, value)).map(|()| true)?
                }
                None => true,
            },
            other => return Err(format!("an unknown keyword: {other}")),
        };
        if !fits {
            return Err(format!("{keyword} {expected} does not fit {instance}"));
        }
    }
    Ok(())
}

fn member(root: &Value, schema: &Value, name: &str, value: &Value) -> Result<(), String> {
    let known = schema.get("properties").and_then(|properties| properties.get(name));
    let schema = known.or_else(|| schema.get("additionalProperties")).unwrap_or(&Value::Bool(true));
    validate(root, schema, value).map_err(|why| format!("{name}: {why}"))
}

fn alternatives(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn types(value: &Value) -> Vec<&str> {
    value.as_str().map(|name| vec![name]).unwrap_or_else(|| alternatives(value).filter_map(Value::as_str).collect())
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}

/// The few patterns of the schema, by what they stand for.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        r"\$\{.+\}" => text.contains("${") && text.contains('}'),
        period if period.contains("ms|s|m|h|d") => text.parse::<crate::types::Period>().is_ok(),
        size if size.contains("KiB") => text.parse::<crate::types::Size>().is_ok(),
        other => panic!("an unknown pattern: {other}"),
    }
}
