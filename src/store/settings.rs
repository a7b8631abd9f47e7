//! What the operator may set about the database.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use sqlx::postgres::PgConnectOptions;

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

/// Parameters of the URL that are understood. A misspelled `sslmode` must not mean "without".
const PARAMETERS: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "statement-cache-capacity",
];

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

    /// # Errors
    /// A sentence on what is wrong with the URL. It does not hold any of it but the name of an unknown parameter.
    pub fn check(&self) -> Result<(), String> {
        self.options().map(drop)
    }

    pub(super) fn options(&self) -> Result<PgConnectOptions, String> {
        let url = self.url.expose();
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err("it does not begin with `postgres://`".to_owned());
        }
        let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
        let mut names = parameters.split('&').filter_map(|pair| pair.split('=').next());
        if let Some(name) = names.find(|name| !name.is_empty() && !PARAMETERS.contains(name)) {
            return Err(format!("its parameter `{}` is not known", name.escape_debug()));
        }
        PgConnectOptions::from_str(url).map_err(|error| explain(&error))
    }
}

/// What the parser complains of may be a piece of the password; the place is told, not the text.
fn explain(error: &sqlx::Error) -> String {
    let why = error.to_string();
    let words = if why.contains("port") {
        "its port is no number, or a character of its password must be written as %XX"
    } else if why.contains("ssl_mode") {
        "its sslmode must be disable, prefer, require, verify-ca or verify-full"
    } else {
        "it cannot be read; write special characters of a user or password as %XX"
    };
    words.to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_used_is_explained_without_showing_it() {
        let check = |url: &str| DatabaseSettings::at(Secret::new(url)).check();
        for url in [
            "postgres://switchboard:p%40ss@db/switchboard",
            "postgresql://u@db:5433/d?sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=a",
            "postgres:///d?host=/run/postgresql&user=u",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        let cases = [
            ("mysql://u:canary@db/d", "postgres://"),
            ("canary", "postgres://"),
            ("postgres://u:canary@db:canary/d", "port"),
            ("postgres://u:can/ary@db/d", "%XX"),
            ("postgres://u:canary@db/d?sslmode=canary", "sslmode"),
            ("postgres://u:canary@db/d?sslmod=require", "sslmod"),
            ("postgres://u:canary@db/d?port=canary", "%XX"),
        ];
        for (url, reason) in cases {
            let error = check(url).unwrap_err();
            assert!(error.contains(reason) && !error.contains("canary"), "{url}: {error}");
        }
        let settings = DatabaseSettings::at(Secret::new("postgres://u:canary@db/d"));
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
