//! The file as the operator wrote it: the sections of the parts, under one roof.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    accounting::settings::Settings as LedgerSettings,
    auth::settings::{AdminSettings, KeySettings, ProjectSettings, Settings as AuthSettings},
    catalog::PriceSettings,
    http::settings::{Settings as ServerSettings, Tls},
    providers::settings::{ProviderSettings, Timeout},
    quotas::{Webhook, settings::QuotaSettings},
    routing::settings::{HealthSettings, Lossy, ModelSettings, RetrySettings},
    shared::settings::RedisSettings,
    store::settings::DatabaseSettings,
    telemetry::settings::Settings as LogSettings,
    types::Period,
    upstream::FetchSettings,
};

/// The whole configuration of a gateway. Every member may be left out.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Switchboard configuration")]
pub struct Settings {
    /// The address that clients connect to.
    #[schemars(with = "String", extend("format" = "socket-address"))]
    pub listen: SocketAddr,
    /// Where the key store and other state live; made when missing.
    pub data_dir: PathBuf,
    /// A PostgreSQL server in place of the database file in `data_dir`, for several gateways to share.
    pub database: Option<DatabaseSettings>,
    /// A Redis for several gateways to share the counters of quotas in; without it each gateway counts in its memory.
    pub redis: Option<RedisSettings>,
    /// A certificate for HTTPS; without it the listener speaks plain HTTP.
    pub tls: Option<Tls>,
    /// Limits of the listening side, and shutdown.
    pub server: ServerSettings,
    /// Logs.
    pub log: LogSettings,
    /// The journal, and the writer that ships it to the database.
    pub ledger: LedgerSettings,
    /// The guard against key guessing.
    pub auth: AuthSettings,
    /// The admin API.
    pub admin: AdminSettings,
    /// Deadlines of every call, unless a provider, model or target says otherwise.
    pub timeout: Timeout,
    /// Retries.
    pub retries: RetrySettings,
    /// When targets and keys are rested.
    pub health: HealthSettings,
    /// What happens to calls that their target's format cannot express in full, unless a model says otherwise.
    pub lossy: Lossy,
    /// Fetching what calls name by URL, for providers that take bytes alone.
    pub fetch: FetchSettings,
    /// Provider accounts, by a name of your choice.
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Models as clients name them. A name may hold one `*` (`openai/*`), which a target's `*` takes over.
    pub models: BTreeMap<String, ModelSettings>,
    /// Other names for models: `gpt-4: gpt-5.5`.
    pub aliases: BTreeMap<String, String>,
    /// Prices that differ from the built-in catalogue's, or are missing in it.
    pub prices: PriceSettings,
    /// Projects declared here; more may be made with `switchboard projects create`.
    pub projects: BTreeMap<String, ProjectSettings>,
    /// Keys declared here; more may be made with `switchboard keys create`.
    pub keys: Vec<KeySettings>,
    /// How much may be used: rate limits and budgets, declared here; more may be made through the admin API.
    pub quotas: Vec<QuotaSettings>,
    /// Who is told when a quota fills up.
    pub webhook: Option<Webhook>,
}

impl Settings {
    /// The deadlines that hold where nobody said anything.
    pub const TIMEOUT: Timeout = Timeout {
        connect: Some(Period::from_secs(5)),
        first_output: Some(Period::from_secs(120)),
        between_chunks: Some(Period::from_secs(60)),
        total: Some(Period::from_secs(900)),
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: PathBuf::from("data"),
            database: None,
            redis: None,
            tls: None,
            server: ServerSettings::default(),
            log: LogSettings::default(),
            ledger: LedgerSettings::default(),
            auth: AuthSettings::default(),
            admin: AdminSettings::default(),
            timeout: Settings::TIMEOUT,
            retries: RetrySettings::default(),
            health: HealthSettings::default(),
            lossy: Lossy::default(),
            fetch: FetchSettings::default(),
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            aliases: BTreeMap::new(),
            prices: PriceSettings::default(),
            projects: BTreeMap::new(),
            keys: Vec::new(),
            quotas: Vec::new(),
            webhook: None,
        }
    }
}
