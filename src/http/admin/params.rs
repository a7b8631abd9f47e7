//! The parameters of an admin route, from its path and its query. A name that the route does not know is refused: a
//! misspelled filter would otherwise answer with the sums of everybody.

use std::{borrow::Cow, sync::Arc};

use http::StatusCode;
use percent_encoding::percent_decode_str;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema, schema_for};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{error::Error, types::nearest};

/// How many things at most, 1 to `MAX`; `DEFAULT` unless the query says.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Limit<const DEFAULT: u32, const MAX: u32>(pub(super) u32);

impl<const DEFAULT: u32, const MAX: u32> Default for Limit<DEFAULT, MAX> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<const DEFAULT: u32, const MAX: u32> TryFrom<String> for Limit<DEFAULT, MAX> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let limit = text.parse().ok().filter(|limit| (1..=MAX).contains(limit));
        limit.map(Self).ok_or_else(|| format!("write a number from 1 to {MAX}"))
    }
}

impl<const DEFAULT: u32, const MAX: u32> JsonSchema for Limit<DEFAULT, MAX> {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX, "default": DEFAULT })
    }
}

/// The names of the members of `P`, which are the parameters that a route takes.
pub(super) fn names<P: JsonSchema>() -> Arc<[String]> {
    let schema = schema_for!(P).to_value();
    let members = schema.get("properties").and_then(Value::as_object);
    members.into_iter().flat_map(|members| members.keys().cloned()).collect()
}

/// Reads the parameters. Every value is a text; what it means, the type of its member says.
///
/// # Errors
/// 400 that names the parameter: one that is unknown, given twice, or not what it must be.
pub(super) fn read<'p, P: DeserializeOwned>(
    names: &[String],
    path: impl IntoIterator<Item = (&'p str, &'p str)>,
    query: &str,
) -> Result<P, Error> {
    let mut given = Map::new();
    for (name, value) in path {
        given.insert(name.to_owned(), value.into());
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        if !names.iter().any(|known| *known == name) {
            return Err(unknown(&name, names));
        }
        if given.insert(name.to_string(), value.into_owned().into()).is_some() {
            let message = format!("`{name}` is given twice; give it once.");
            return Err(Error::bad_field("duplicate_parameter", name.into_owned(), message));
        }
    }
    serde_path_to_error::deserialize(Value::Object(given)).map_err(|error| {
        let name = error.path().to_string();
        let problem = error.inner().to_string();
        let end = if problem.ends_with('?') { "" } else { "." };
        Error::bad_field("invalid_parameter", name.clone(), format!("`{name}`: {problem}{end}"))
    })
}

/// A path that is no text names nothing.
pub(super) fn bad_path() -> Error {
    Error::client(StatusCode::BAD_REQUEST, "invalid_parameter", "The path is not UTF-8 text.")
}

fn unknown(name: &str, names: &[String]) -> Error {
    let near = nearest(name, names.iter().map(String::as_str)).map(|near| format!(" Did you mean `{near}`?"));
    let near = near.unwrap_or_else(|| match names {
        [] => " This route takes none.".to_owned(),
        names => format!(" There are: {}.", names.join(", ")),
    });
    let name: String = name.chars().take(60).flat_map(char::escape_debug).collect();
    let message = format!("There is no parameter `{name}`.{near}");
    Error::bad_field("unknown_parameter", name, message)
}

/// As HTML forms write it: `+` is a space, and bytes may be escaped.
fn decoded(text: &str) -> Result<Cow<'static, str>, Error> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| {
        Error::client(StatusCode::BAD_REQUEST, "invalid_parameter", "The query is not UTF-8 text once it is unescaped.")
    })?;
    Ok(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Moment, Zone};

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Params {
        from: Option<Moment>,
        tz: Zone,
        end_user: Option<String>,
    }

    impl Default for Params {
        fn default() -> Self {
            Self { from: None, tz: Zone::UTC, end_user: None }
        }
    }

    fn read(query: &str) -> Result<Params, Error> {
        super::read(&names::<Params>(), [], query)
    }

    #[test]
    fn parameters_are_unescaped_and_typed() {
        let params = read("end_user=a%26b+c%3D&tz=Europe%2FBerlin&&from=2026-11-01").unwrap();
        assert_eq!((params.end_user.as_deref(), params.tz.name()), (Some("a&b c="), "Europe/Berlin"));
        assert!(params.from.is_some());
        assert_eq!(read("end_user").unwrap().end_user.as_deref(), Some(""));
        assert_eq!(read("").unwrap().end_user, None);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let cases = [
            ("end_usr=a", "unknown_parameter", Some("end_usr"), "Did you mean `end_user`?"),
            ("zzzzzzz=1", "unknown_parameter", Some("zzzzzzz"), "There are: "),
            ("tz=UTC&tz=UTC", "duplicate_parameter", Some("tz"), "twice"),
            ("tz=Mars", "invalid_parameter", Some("tz"), "is no time zone"),
            ("from=soon", "invalid_parameter", Some("from"), "neither a date nor a time"),
            ("end_user=%ff", "invalid_parameter", None, "UTF-8"),
            ("a%0Ab=1", "unknown_parameter", Some("a\\nb"), "no parameter `a\\nb`"),
        ];
        for (query, code, param, words) in cases {
            let error = read(query).unwrap_err();
            assert_eq!((error.code, error.param.as_deref(), error.status.as_u16()), (code, param, 400), "{query}");
            assert!(error.message.contains(words), "{query}: {}", error.message);
        }
    }
}
