//! The forms in which scopes, names, amounts and windows are written and given back: short where one word says it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Amount, Dimension, Match, Scope, Span, WindowSettings};
use crate::types::Zone;

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => serializer.serialize_str("global"),
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(Word),
            Several(Vec<Word>),
        }
        let wrong = || de::Error::custom(format!("the scope must be one of {}, or a list of them", all_words()));
        let mut words = match Written::deserialize(deserializer) {
            Ok(Written::One(word)) => vec![word],
            // Of nothing, it would be everybody's: nobody writes that to mean it.
            Ok(Written::Several(words)) if words.is_empty() => return Err(wrong()),
            Ok(Written::Several(words)) => words,
            Err(error) if error.to_string().starts_with("missing field") => return Err(error),
            Err(_) => return Err(wrong()),
        };
        words.sort_unstable();
        if let Some(twice) = words.windows(2).find(|pair| pair[0] == pair[1]) {
            let word = twice[0].dimension().map_or("global", Dimension::as_str);
            return Err(de::Error::custom(format!("`{word}` stands in the scope twice")));
        }
        let global = words.contains(&Word::Global);
        if global && words.len() > 1 {
            return Err(de::Error::custom("`global` goes with no other dimension"));
        }
        Ok(Self(words.into_iter().filter_map(Word::dimension).collect()))
    }
}

/// A word of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "QuotaScopeWord")]
enum Word {
    Global,
    Project,
    Key,
    EndUser,
    Model,
    Provider,
    Target,
    Tag,
    Session,
}

impl Word {
    fn dimension(self) -> Option<Dimension> {
        Some(match self {
            Self::Global => return None,
            Self::Project => Dimension::Project,
            Self::Key => Dimension::Key,
            Self::EndUser => Dimension::EndUser,
            Self::Model => Dimension::Model,
            Self::Provider => Dimension::Provider,
            Self::Target => Dimension::Target,
            Self::Tag => Dimension::Tag,
            Self::Session => Dimension::Session,
        })
    }
}

fn all_words() -> String {
    let words: Vec<&str> = std::iter::once("global").chain(Dimension::ALL.map(Dimension::as_str)).collect();
    words.join(", ")
}

impl JsonSchema for Scope {
    fn schema_name() -> Cow<'static, str> {
        "QuotaScope".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<Word>();
        json_schema!({ "anyOf": [word, { "type": "array", "items": word }] })
    }
}

impl Serialize for Match {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Everything => serializer.serialize_none(),
            Self::Names(names) => OneOrMore(names.clone()).serialize(serializer),
            Self::ByDimension(names) => {
                serializer.collect_map(names.iter().map(|(dimension, names)| (dimension, OneOrMore(names.clone()))))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Match {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Several(Vec<String>),
            ByDimension(BTreeMap<Dimension, OneOrMore>),
        }
        match Option::<Written>::deserialize(deserializer)
            .map_err(|_| de::Error::custom("it must be a name, a list of names, or names by dimension"))?
        {
            None => Ok(Self::Everything),
            Some(Written::One(name)) => Ok(Self::Names(vec![name])),
            Some(Written::Several(names)) => Ok(Self::Names(names)),
            Some(Written::ByDimension(names)) => {
                Ok(Self::ByDimension(names.into_iter().map(|(dimension, names)| (dimension, names.0)).collect()))
            }
        }
    }
}

/// One name, or several.
#[derive(Clone, Debug)]
struct OneOrMore(Vec<String>);

impl Serialize for OneOrMore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.serialize(serializer),
            several => several.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            One(String),
            Several(Vec<String>),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::One(name) => vec![name],
            Written::Several(names) => names,
        }))
    }
}

impl JsonSchema for Match {
    fn schema_name() -> Cow<'static, str> {
        "QuotaMatch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names =
            json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
        let by_dimension: serde_json::Map<String, serde_json::Value> =
            Dimension::ALL.iter().map(|dimension| (dimension.as_str().to_owned(), names.clone().into())).collect();
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" } },
                { "type": "object", "properties": by_dimension, "additionalProperties": false },
                { "type": "null" },
            ]
        })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(whole) = self.0.parse::<u64>() {
            return serializer.serialize_u64(whole);
        }
        // A text that a number would not give back stays a text.
        match self.0.parse::<f64>() {
            Ok(number) if number.to_string() == self.0 => serializer.serialize_f64(number),
            _ => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Decimal;

        impl Visitor<'_> for Decimal {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number such as 600 or 12.50")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                Ok(Amount::from(text))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
                Ok(Amount(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Amount, E> {
                Ok(Amount(number.to_string()))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Amount, E> {
                Ok(Amount(number.to_string()))
            }
        }

        deserializer.deserialize_any(Decimal)
    }
}

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "QuotaAmount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "description": "A number of dollars with up to nine decimals, or a whole number of anything else.",
            "examples": [600, 12.5],
        })
    }
}

impl Serialize for WindowSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Rolling(_, written) => serializer.serialize_str(written),
            Self::Calendar(span, zone) if *zone == Zone::UTC => serializer.serialize_str(span.as_str()),
            Self::Calendar(span, zone) => serializer.collect_map([(span.as_str(), zone.name())]),
        }
    }
}

impl<'de> Deserialize<'de> for WindowSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Calendar {
            hour: Option<Zone>,
            day: Option<Zone>,
            week: Option<Zone>,
            month: Option<Zone>,
        }
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = WindowSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span such as 1m, a word such as month, or { month: Europe/Berlin }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<WindowSettings, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WindowSettings, A::Error> {
                let Calendar { hour, day, week, month } = Calendar::deserialize(MapAccessDeserializer::new(map))?;
                let named = [(Span::Hour, hour), (Span::Day, day), (Span::Week, week), (Span::Month, month)];
                let mut named = named.into_iter().filter_map(|(span, zone)| Some((span, zone?)));
                match (named.next(), named.next()) {
                    (Some((span, zone)), None) => Ok(WindowSettings::Calendar(span, zone)),
                    _ => Err(de::Error::custom("one of hour, day, week and month must be there, with its time zone")),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WindowSettings {
    fn schema_name() -> Cow<'static, str> {
        "QuotaWindow".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let zone = generator.subschema_for::<Zone>();
        json_schema!({
            "anyOf": [
                { "type": "string", "examples": ["1m", "24h", "month"] },
                {
                    "type": "object",
                    "properties": { "hour": zone, "day": zone, "week": zone, "month": zone },
                    "additionalProperties": false,
                },
            ]
        })
    }
}
