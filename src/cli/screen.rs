//! What `serve` prints when it is ready: one screen that says what is bound, what was found, what is missing, and what
//! to paste next.

use std::{fmt::Write, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    config::{Loaded, Source},
    routing::settings::ModelSettings,
    shared::settings::RedisSettings,
    types::Secret,
};

/// Lines of a list before the rest is counted instead.
const SHOWN: usize = 12;

/// What is known before the start.
#[derive(Debug)]
pub(super) struct Screen {
    config: String,
    providers: Vec<String>,
    models: Vec<String>,
    notes: Vec<String>,
    warnings: String,
    /// Targets whose price is unknown.
    unpriced: Vec<String>,
    declared_keys: usize,
    /// Where Redis is, if there is to be one.
    redis: Option<String>,
    example_model: String,
    https: bool,
}

/// What is known once the gateway runs.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) address: SocketAddr,
    /// Where the admin API is, if it has an address of its own.
    pub(super) admin_address: Option<SocketAddr>,
    /// The API key and the admin key that were made, because there was none.
    pub(super) first_key: Option<Secret>,
    pub(super) admin_key: Option<Secret>,
    /// `None`: the database does not answer.
    pub(super) stored_keys: Option<u64>,
    /// Whether counters are shared in Redis, if they are to be.
    pub(super) redis_is_up: bool,
    /// Why they are not, where that is known.
    pub(super) redis_why: Option<Arc<String>>,
    pub(super) ready_in: Duration,
}

impl Made {
    pub(super) fn new(address: SocketAddr, admin_address: Option<SocketAddr>) -> Self {
        let (first_key, admin_key, stored_keys) = (None, None, None);
        let (redis_is_up, redis_why, ready_in) = (false, None, Duration::ZERO);
        Self { address, admin_address, first_key, admin_key, stored_keys, redis_is_up, redis_why, ready_in }
    }
}

impl Screen {
    pub(super) fn of(loaded: &Loaded) -> Self {
        let settings = &loaded.settings;
        let config = match &loaded.source {
            Source::File(path) => format!("{} (version {})", path.display(), loaded.hash),
            Source::Environment => "no file: providers are found by their environment variables".to_owned(),
        };
        let providers = settings.providers.iter().map(|(name, provider)| {
            let count = provider.api_keys.len() + usize::from(provider.api_key.is_some());
            let kind = provider.kind.as_deref().filter(|kind| kind != name).map(|kind| format!(" ({kind})"));
            let keys = if count > 1 { format!(", {count} keys") } else { String::new() };
            format!("{name}{}{keys}", kind.unwrap_or_default())
        });
        let models = settings.models.iter().map(|(name, model)| format!("{name} → {}", targets(model)));
        Self {
            config,
            providers: providers.collect(),
            models: models.collect(),
            notes: loaded.notes.clone(),
            warnings: if loaded.warnings.0.is_empty() { String::new() } else { loaded.warnings.to_string() },
            unpriced: Vec::new(),
            declared_keys: settings.keys.len(),
            redis: None,
            example_model: example(&settings.models.keys().map(String::as_str).collect::<Vec<_>>()),
            https: settings.tls.is_some(),
        }
    }

    /// With the Redis that counters are shared in.
    #[must_use]
    pub(super) fn with_redis(self, redis: Option<&RedisSettings>) -> Self {
        Self { redis: redis.map(RedisSettings::place), ..self }
    }

    /// With the targets whose price is unknown, which only a running gateway knows.
    #[must_use]
    pub(super) fn with_unpriced(self, unpriced: &[Arc<str>]) -> Self {
        Self { unpriced: unpriced.iter().map(ToString::to_string).collect(), ..self }
    }

    /// Prints the screen. A closed standard output is nobody's problem.
    pub(super) fn show(&self, made: &Made) {
        let text = self.text(made);
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = std::io::stdout().flush();
    }

    fn text(&self, made: &Made) -> String {
        let Made { address, admin_address, first_key, admin_key, stored_keys, redis_is_up, redis_why, ready_in } = made;
        let mut out = String::new();
        let url = self.url(*address);
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\nSwitchboard {} listens on {url}\n", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(out, "  config     {}", self.config);
        list(&mut out, "providers", &self.providers);
        list(&mut out, "models", &self.models);
        let stored = match stored_keys {
            Some(count) => format!("{count} stored"),
            None => "stored ones unknown, the database does not answer".to_owned(),
        };
        let _ = writeln!(out, "  keys       {stored}, {} declared in the file", self.declared_keys);
        if let Some(redis) = &self.redis {
            let state = if *redis_is_up {
                "counters are shared with other gateways"
            } else {
                "it does not count yet: until it does, this gateway counts alone; the log tells more"
            };
            let _ = writeln!(out, "  redis      {redis}: {state}");
            if let Some(why) = redis_why {
                let _ = writeln!(out, "             {why}");
            }
        }
        list(&mut out, "notes", &self.notes);
        if !self.unpriced.is_empty() {
            let _ = writeln!(out, "\nNo price is known for these targets, so what their calls cost will be unknown:\n");
            list(&mut out, "unpriced", &self.unpriced);
        }
        if !self.warnings.is_empty() {
            let _ = writeln!(out, "\n{}", self.warnings.trim_end());
        }
        let key = match first_key {
            Some(key) => {
                let _ = writeln!(out, "\nA first API key was made. It is shown this once:\n\n  {}", key.expose());
                key.expose()
            }
            None => "$SWITCHBOARD_KEY",
        };
        if let Some(key) = admin_key {
            let _ = writeln!(
                out,
                "\nAn admin key was made, for /admin/v1. It makes no calls, and is shown this once:\n\n  {}",
                key.expose()
            );
        }
        let _ = writeln!(
            out,
            "\nTry it:\n\n  curl {url}/v1/chat/completions \\\n    -H \"Authorization: Bearer {key}\" \\\n    -H \"Content-Type: \
             application/json\" \\\n    -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Hello!\"}}]}}'\n",
            self.example_model
        );
        if first_key.is_none() {
            let _ = writeln!(out, "More keys: switchboard keys create --name my-app --models '*'");
        }
        let _ = writeln!(out, "Metrics: {url}/metrics   Health: {url}/healthz, {url}/readyz");
        if let Some(address) = admin_address {
            let _ = writeln!(out, "Admin API: {}/admin/v1", self.url(*address));
        }
        let _ = writeln!(out, "Ready in {} ms.\n", ready_in.as_millis());
        out
    }

    /// An address that can be pasted: a wildcard address is reached on this machine.
    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.https { "https" } else { "http" };
        if address.ip().is_unspecified() {
            format!("{scheme}://localhost:{}", address.port())
        } else {
            format!("{scheme}://{address}")
        }
    }
}

fn targets(model: &ModelSettings) -> String {
    let names: Vec<&str> = model.targets.iter().map(|target| &*target.model).collect();
    names.join(", ")
}

/// A name that works: one that is no pattern, else one that fits a pattern.
fn example(names: &[&str]) -> String {
    let plain = names.iter().find(|name| !name.contains('*'));
    let mock = names.iter().find(|name| name.starts_with("mock/"));
    match plain.or(mock).or_else(|| names.first()).copied() {
        Some("mock/*") => "mock/hello".to_owned(),
        Some("openai/*") => "openai/gpt-5-mini".to_owned(),
        Some(name) => name.replace('*', "MODEL"),
        None => "MODEL".to_owned(),
    }
}

fn list(out: &mut String, title: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    for (index, item) in items.iter().take(SHOWN).enumerate() {
        let _ = writeln!(out, "  {:<10} {item}", if index == 0 { title } else { "" });
    }
    if items.len() > SHOWN {
        let _ = writeln!(out, "  {:<10} and {} more", "", items.len() - SHOWN);
    }
}
