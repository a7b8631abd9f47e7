//! What the operator may set about Redis.

use std::{borrow::Cow, fmt, path::PathBuf};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::types::{Period, Secret, Size};

/// A Redis server that replicas share counters in. A bare string is its `url`.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisSettings {
    /// Where it is: one server, or some nodes of a cluster, or the sentinels. They hold passwords, so they never print.
    pub urls: Vec<Secret>,
    /// The servers are nodes of a Redis Cluster.
    pub cluster: bool,
    /// The servers are sentinels.
    pub sentinel: Option<Sentinel>,
    /// A PEM file with the authorities that servers' certificates must be from, in place of the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long a call waits for Redis while nothing is heard of it.
    pub timeout: Period,
    /// What all keys begin with.
    pub prefix: String,
    /// How much of a model's reasoning this gateway tells the others at most within the hour that it is kept.
    pub thinking: Size,
}

/// Who knows which server is the master.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// The name that the sentinels know the master by.
    pub master: String,
    /// The user to be at the sentinels; the one in the URLs is for the servers.
    #[serde(default)]
    pub user: Option<String>,
    /// That user's password.
    #[serde(default)]
    pub password: Option<Secret>,
}

/// The long form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redis")]
struct Long {
    /// `redis://user:password@host:6379/0`; `rediss://…` for TLS.
    #[serde(default)]
    url: Option<Secret>,
    /// Several: nodes of a cluster, or sentinels.
    #[serde(default)]
    urls: Vec<Secret>,
    /// The servers are nodes of a Redis Cluster.
    #[serde(default)]
    cluster: bool,
    /// The servers are sentinels, who are asked for the master. User, password and database in the URLs are the master's.
    #[serde(default)]
    sentinel: Option<Sentinel>,
    /// A PEM file with authorities to trust instead of the public ones, for `rediss://`: of servers, nodes and sentinels alike.
    #[serde(default)]
    ca_file: Option<PathBuf>,
    /// How long a call waits for Redis while nothing is heard of it; then this gateway decides alone.
    #[serde(default = "timeout")]
    timeout: Period,
    /// What all keys begin with. Gateways with the same prefix share counters.
    #[serde(default = "prefix")]
    prefix: String,
    /// How much signed reasoning each gateway keeps in Redis at most, encrypted and for an hour, so that a conversation may
    /// go on at another gateway; `0` keeps none there.
    #[serde(default = "thinking")]
    thinking: Size,
}

fn timeout() -> Period {
    Period::from_millis(50)
}

fn prefix() -> String {
    "switchboard".to_owned()
}

fn thinking() -> Size {
    Size::mib(64)
}

impl RedisSettings {
    /// The server at `url`, and every other setting as it is by default.
    pub fn at(url: Secret) -> Self {
        let (timeout, prefix, thinking) = (timeout(), prefix(), thinking());
        Self { urls: vec![url], cluster: false, sentinel: None, ca_file: None, timeout, prefix, thinking }
    }

    /// # Errors
    /// The setting that is wrong, and a sentence on why. It holds nothing of a URL.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.urls.is_empty() {
            return Err(("url", "Redis needs a `url`, or `urls`".to_owned()));
        }
        if self.cluster && self.sentinel.is_some() {
            return Err(("sentinel", "a cluster has no sentinels: keep `cluster` or `sentinel`".to_owned()));
        }
        if self.urls.len() > 1 && !self.cluster && self.sentinel.is_none() {
            let why = "several servers are a cluster (`cluster: true`) or sentinels (`sentinel: { master: … }`)";
            return Err(("urls", why.to_owned()));
        }
        if self.sentinel.as_ref().is_some_and(|sentinel| sentinel.master.is_empty()) {
            return Err(("sentinel", "`master` is the name that the sentinels know the master by".to_owned()));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(fits) {
            return Err(("prefix", "a prefix is 1 to 64 letters, digits, `-`, `_` and `.`".to_owned()));
        }
        if self.timeout < Period::from_millis(1) || self.timeout > Period::from_secs(10) {
            return Err(("timeout", "calls wait 1ms to 10s for Redis".to_owned()));
        }
        let place = if self.urls.len() > 1 { "urls" } else { "url" };
        let servers = self.servers().map_err(|why| (place, why))?;
        if self.cluster && servers.iter().any(|server| server.redis_settings().db() != 0) {
            return Err((place, "a cluster has one database, so its URLs name none".to_owned()));
        }
        let is_tls = |server: &ConnectionInfo| matches!(server.addr(), ConnectionAddr::TcpTls { .. });
        if self.ca_file.is_some() && !servers.iter().all(is_tls) {
            return Err((
                "ca_file",
                "only certificates are checked against it: use `rediss://` in every URL".to_owned(),
            ));
        }
        Ok(())
    }

    /// Where the servers are. A parser's complaint may hold a piece of a password, so it is not told.
    pub(super) fn servers(&self) -> Result<Vec<ConnectionInfo>, String> {
        let read = |url: &Secret| {
            let text = url.expose();
            if !["redis://", "rediss://", "unix://", "redis+unix://"].iter().any(|scheme| text.starts_with(scheme)) {
                return Err("it does not begin with `redis://` or `rediss://`".to_owned());
            }
            text.into_connection_info().map_err(|_| {
                "it cannot be read: redis://user:password@host:port/database, with special characters of a password as %XX"
                    .to_owned()
            })
        };
        self.urls.iter().map(read).collect()
    }

    /// # Errors
    /// A sentence on what is wrong with the authorities of `ca_file`; `pem` is what is in it.
    pub fn check_authorities(pem: &[u8]) -> Result<(), String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let added = certificate.map_err(|error| error.to_string()).map(|certificate| roots.add(certificate));
            added.and_then(|added| added.map_err(|error| error.to_string()))?;
        }
        if roots.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(()) }
    }

    /// Where it is, for people: hosts and ports, no user and no password.
    pub fn place(&self) -> String {
        let servers = self.servers().unwrap_or_default();
        let names: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
        let names = names.join(", ");
        match &self.sentinel {
            Some(sentinel) => format!("{} by the sentinels at {names}", sentinel.master),
            None if self.cluster => format!("the cluster at {names}"),
            None => names,
        }
    }
}

impl<'de> Deserialize<'de> for RedisSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RedisSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`redis://…`, or a mapping with `url`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<RedisSettings, E> {
                Ok(RedisSettings::at(Secret::new(url)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RedisSettings, A::Error> {
                let long = Long::deserialize(MapAccessDeserializer::new(map))?;
                let Long { url, urls, cluster, sentinel, ca_file, timeout, prefix, thinking } = long;
                let urls = url.into_iter().chain(urls).collect();
                Ok(RedisSettings { urls, cluster, sentinel, ca_file, timeout, prefix, thinking })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for RedisSettings {
    fn schema_name() -> Cow<'static, str> {
        "RedisOrUrl".into()
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
    fn settings_that_make_no_sense_are_explained_without_showing_a_secret() {
        let read = |text: &str| serde_json::from_str::<RedisSettings>(text).unwrap();
        for text in [
            r#""redis://user:p%40ss@cache:6379/1""#,
            r#"{ "url": "rediss://:canary@cache" }"#,
            r#"{ "url": "rediss://:canary@cache", "ca_file": "/etc/ca.pem" }"#,
            r#"{ "urls": ["redis://a", "redis://b:7000"], "cluster": true }"#,
            r#"{ "urls": ["redis://:canary@a:26379/2"], "sentinel": { "master": "main", "password": "canary" } }"#,
        ] {
            assert_eq!(read(text).check(), Ok(()), "{text}");
            assert!(!format!("{:?} {}", read(text), read(text).place()).contains("canary"));
        }
        let cases = [
            (r#"{}"#, "url"),
            (r#"{ "urls": ["redis://a", "redis://b"] }"#, "urls"),
            (r#"{ "url": "redis://a", "cluster": true, "sentinel": { "master": "m" } }"#, "sentinel"),
            (r#"{ "url": "redis://a", "sentinel": { "master": "" } }"#, "sentinel"),
            (r#"{ "url": "redis://a/3", "cluster": true }"#, "url"),
            (r#"{ "url": "redis://a", "prefix": "a{b}" }"#, "prefix"),
            (r#"{ "url": "redis://a", "timeout": "0s" }"#, "timeout"),
            (r#"{ "url": "redis://a", "ca_file": "ca.pem" }"#, "ca_file"),
            (r#"{ "urls": ["rediss://a", "redis://b"], "cluster": true, "ca_file": "ca.pem" }"#, "ca_file"),
            (r#""http://canary""#, "url"),
            (r#""redis://:canary@a:canary""#, "url"),
            (r#""redis://:canary@a/canary""#, "url"),
        ];
        for (text, setting) in cases {
            let (place, why) = read(text).check().unwrap_err();
            assert_eq!(place, setting, "{text}: {why}");
            assert!(!why.contains("canary"), "{why}");
        }
    }
}
