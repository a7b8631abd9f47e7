//! The body of an admin request. A member that the route does not know is refused, in whatever depth it stands, and so is
//! one of the wrong type: what was sent and not taken would be found out when it is too late.

use std::sync::Arc;

use schemars::{JsonSchema, schema_for};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    error::Error,
    http::extract::BodyLimit,
    types::{Size, nearest},
    wire::envelope::{Envelope, Problem},
};

/// Nothing that is kept is nearly as large.
pub(super) const LIMIT: BodyLimit = BodyLimit { size: Size::kib(64), setting: None };

/// The schema of a body, which names the members there are.
pub(super) fn schema<B: JsonSchema>() -> Arc<Value> {
    Arc::new(schema_for!(B).to_value())
}

/// Reads a body of nothing as an empty object.
///
/// # Errors
/// 400 with the path of the member at fault.
pub(super) fn read<B: DeserializeOwned>(bytes: &bytes::Bytes, schema: &Value) -> Result<B, Error> {
    let bytes = if bytes.trim_ascii().is_empty() { bytes::Bytes::from_static(b"{}") } else { bytes.clone() };
    // Refuses what is no object, with the place; the readers below would take a member that is there twice, or a list.
    Envelope::parse(bytes.clone()).map_err(|malformed| match &malformed.problem {
        Problem::Duplicate(name) => {
            let name: String = name.chars().take(60).collect();
            let message = format!("The member `{name}` appears more than once; send it once.");
            Error::bad_field("duplicate_field", name, message)
        }
        _ => {
            let message = format!("The request body must be a JSON object: {malformed}.");
            Error::client(http::StatusCode::BAD_REQUEST, "invalid_json", message)
        }
    })?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| {
        let message = format!("The request body is not valid JSON: {error}.");
        Error::client(http::StatusCode::BAD_REQUEST, "invalid_json", message)
    })?;
    known_members(schema, schema, &value, &mut String::new())?;
    // From the bytes once more, for members that are there twice further inside.
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.inner().to_string();
        // The place is the path: where in the line it stands helps nobody.
        let problem = problem.split(" at line ").next().unwrap_or_default();
        let path = if path == "." { String::new() } else { path };
        let path = with_missing(path, problem);
        let (said, end) =
            (if path.is_empty() { "The body" } else { &path }, if problem.ends_with('?') { "" } else { "." });
        let message = format!("`{said}`: {problem}{end}");
        if path.is_empty() {
            return Error::client(http::StatusCode::BAD_REQUEST, "invalid_body", format!("The body: {problem}{end}"));
        }
        Error::bad_field("invalid_body", path, message)
    })
}

/// The path of the member at fault: of one that is missing, the reader says only where it was missed.
fn with_missing(path: String, problem: &str) -> String {
    let missing = problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    match missing {
        Some(name) if path.is_empty() => name.to_owned(),
        Some(name) => format!("{path}.{name}"),
        None => path,
    }
}

/// Walks through `value` beside its schema.
///
/// # Errors
/// 400 with the path of the first member that the schema does not have, and the nearest that it has.
fn known_members(root: &Value, schema: &Value, value: &Value, path: &mut String) -> Result<(), Error> {
    let schema = resolved(root, schema, value);
    match value {
        Value::Object(members) => {
            let none = Map::new();
            let others = schema.get("additionalProperties");
            let known = match schema.get("properties").and_then(Value::as_object) {
                Some(known) => known,
                None if others == Some(&Value::Bool(false)) => &none,
                None => {
                    let Some(any) = others.filter(|any| any.is_object()) else { return Ok(()) };
                    return members.iter().try_for_each(|(name, member)| within(root, any, member, path, name));
                }
            };
            members.iter().try_for_each(|(name, member)| match known.get(name) {
                Some(schema) => within(root, schema, member, path, name),
                None => Err(unknown(path, name, known)),
            })
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return Ok(()) };
            items.iter().enumerate().try_for_each(|(index, item)| {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                known_members(root, schema, item, path)?;
                path.truncate(length);
                Ok(())
            })
        }
        _ => Ok(()),
    }
}

fn within(root: &Value, schema: &Value, member: &Value, path: &mut String, name: &str) -> Result<(), Error> {
    let length = path.len();
    if length > 0 {
        path.push('.');
    }
    path.push_str(name);
    known_members(root, schema, member, path)?;
    path.truncate(length);
    Ok(())
}

/// The schema behind references, and of alternatives the one that takes what `value` is.
fn resolved<'s>(root: &'s Value, mut schema: &'s Value, value: &Value) -> &'s Value {
    // No schema of ours refers on for longer.
    for _ in 0..16 {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            match target.strip_prefix('#').and_then(|place| root.pointer(place)) {
                Some(found) => schema = found,
                None => return schema,
            }
        } else if let Some(all) = ["anyOf", "oneOf"].iter().find_map(|name| schema.get(name)?.as_array()) {
            let wanted = if value.is_array() { "items" } else { "properties" };
            let fitting = all.iter().find(|one| resolved(root, one, value).get(wanted).is_some());
            match fitting {
                Some(found) => schema = found,
                None => return schema,
            }
        } else {
            return schema;
        }
    }
    schema
}

fn unknown(path: &str, name: &str, known: &Map<String, Value>) -> Error {
    let near = nearest(name, known.keys().map(String::as_str)).map(|near| format!("Did you mean `{near}`?"));
    let near = near.unwrap_or_else(|| match known.is_empty() {
        true => "There are none here.".to_owned(),
        false => format!("There are: {}.", known.keys().map(String::as_str).collect::<Vec<_>>().join(", ")),
    });
    let name: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    let full = if path.is_empty() { name } else { format!("{path}.{name}") };
    let message = format!("There is no member `{full}`. {near}");
    Error::bad_field("unknown_field", full, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::types::present;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is read, and that is all")]
    struct Body {
        name: String,
        #[serde(default, deserialize_with = "present")]
        models: Option<Vec<String>>,
        #[serde(default, deserialize_with = "present")]
        limit: Option<Option<u32>>,
        #[serde(default)]
        inner: Vec<Inner>,
        #[serde(default)]
        by_name: BTreeMap<String, Inner>,
        #[serde(default)]
        one: Option<Inner>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is read, and that is all")]
    struct Inner {
        amount: u8,
    }

    fn read(text: &str) -> Result<Body, Error> {
        super::read(&bytes::Bytes::copy_from_slice(text.as_bytes()), &schema::<Body>())
    }

    #[test]
    fn what_is_left_out_is_not_what_is_null() {
        let body = read(r#"{"name":"a"}"#).unwrap();
        assert_eq!((body.models, body.limit), (None, None));
        let body = read(r#"{"name":"a","models":[],"limit":null,"by_name":{"x":{"amount":1}},"one":{"amount":2}}"#);
        let body = body.unwrap();
        assert_eq!((body.models, body.limit), (Some(Vec::new()), Some(None)));
        assert_eq!(read(r#"{"name":"a","limit":5}"#).unwrap().limit, Some(Some(5)));
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_path_and_the_nearest_name() {
        let cases = [
            (r#"{"name":"a","model":[]}"#, "unknown_field", Some("model"), "Did you mean `models`?"),
            (r#"{"name":"a","zzzzzz":1}"#, "unknown_field", Some("zzzzzz"), "There are: "),
            (
                r#"{"name":"a","inner":[{"amount":1},{"amuont":1}]}"#,
                "unknown_field",
                Some("inner[1].amuont"),
                "`amount`",
            ),
            (r#"{"name":"a","by_name":{"x":{"amuont":1}}}"#, "unknown_field", Some("by_name.x.amuont"), "`amount`"),
            (r#"{"name":"a","one":{"amuont":1}}"#, "unknown_field", Some("one.amuont"), "`amount`"),
            (r#"{"name":"a","inner":[{"amount":300}]}"#, "invalid_body", Some("inner[0].amount"), "300"),
            (r#"{"name":"a","models":null}"#, "invalid_body", Some("models"), "null"),
            (r#"{"name":"a","models":["a",3]}"#, "invalid_body", Some("models[1]"), "string"),
            (r#"{"name":7}"#, "invalid_body", Some("name"), "string"),
            (r#"{"name":"a","name":"b"}"#, "duplicate_field", Some("name"), "more than once"),
            (r#"{"name":"a","one":{"amount":1,"amount":2}}"#, "invalid_body", Some("one"), "duplicate field"),
            ("{}", "invalid_body", Some("name"), "missing field `name`"),
            ("", "invalid_body", Some("name"), "missing field `name`"),
            (
                r#"{"name":"a","inner":[{"amount":1},{}]}"#,
                "invalid_body",
                Some("inner[1].amount"),
                "missing field `amount`",
            ),
            ("[]", "invalid_json", None, "must be a JSON object"),
            (r#"{"name":"a"} x"#, "invalid_json", None, "JSON"),
            ("{", "invalid_json", None, "JSON"),
            ("\u{ff}", "invalid_json", None, "JSON"),
        ];
        for (text, code, param, words) in cases {
            let error = read(text).unwrap_err();
            assert_eq!(
                (error.code, error.param.as_deref(), error.status.as_u16()),
                (code, param, 400),
                "{text}: {error}"
            );
            assert!(error.message.contains(words), "{text}: {}", error.message);
        }
    }
}
