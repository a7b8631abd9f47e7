//! What the operator may set about the database.

use std::{borrow::Cow, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::types::{Period, Secret};

/// A PostgreSQL server in place of the file in the data directory. A bare string is its `url`.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseSettings {
    /// `postgres://user:password@host:port/database?sslmode=…`. Holds a password, so it never prints.
    pub url: Secret,
    /// The most connections this gateway opens.
    pub max_connections: u32,
    /// The longest that the server works on one statement; it then gives up.
    pub statement_timeout: Period,
    /// Who brings the tables up to date.
    pub migrate: MigrateMode,
}

/// Who brings the tables up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrateMode {
    /// The gateway, when it starts.
    #[default]
    Auto,
    /// The operator, with `switchboard migrate`; until then the gateway does not start.
    Manual,
}

/// The long form of the database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Database")]
struct Long {
    /// `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=/path/ca.pem`.
    url: Secret,
    /// The most connections this gateway opens. All replicas together must stay below the server's own limit.
    #[serde(default = "max_connections")]
    #[schemars(range(min = 5))]
    max_connections: u32,
    /// The longest that the server works on one statement; it then gives up.
    #[serde(default = "statement_timeout")]
    statement_timeout: Period,
    /// Who brings the tables up to date: the gateway when it starts, or the operator with `switchboard migrate`.
    #[serde(default)]
    migrate: MigrateMode,
}

fn max_connections() -> u32 {
    10
}

fn statement_timeout() -> Period {
    Period::from_secs(30)
}

impl DatabaseSettings {
    /// The server at `url`, and every other setting as it is by default.
    pub fn at(url: Secret) -> Self {
        let (max_connections, statement_timeout) = (max_connections(), statement_timeout());
        Self { url, max_connections, statement_timeout, migrate: MigrateMode::Auto }
    }
}

impl<'de> Deserialize<'de> for DatabaseSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = DatabaseSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`postgres://…`, or a mapping with `url`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<DatabaseSettings, E> {
                Ok(DatabaseSettings::at(Secret::new(url)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DatabaseSettings, A::Error> {
                let Long { url, max_connections, statement_timeout, migrate } =
                    Long::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DatabaseSettings { url, max_connections, statement_timeout, migrate })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for DatabaseSettings {
    fn schema_name() -> Cow<'static, str> {
        "DatabaseOrUrl".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (url, long) = (generator.subschema_for::<Secret>(), generator.subschema_for::<Long>());
        schemars::json_schema!({ "anyOf": [url, long] })
    }
}
