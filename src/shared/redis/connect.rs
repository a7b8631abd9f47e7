//! Connections to Redis: one server, the master that sentinels name, or a cluster.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, Pipeline, RedisError, RedisFuture, TlsCertificates, TlsMode,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use crate::shared::{SharedError, settings::RedisSettings};

/// How long opening a connection may take, with its handshake.
const OPENING: Duration = Duration::from_secs(2);

/// How long an answer may take until a connection gives it up. Who waits has a deadline of its own, and drops what it waits for;
/// this one is for a connection that nobody drops. It knows nothing of a process that was short of CPU, so it is long; a cluster's is
/// not, because by it the client finds out that a node is gone.
const ANSWERING: Duration = Duration::from_secs(20);

/// Opens connections. It knows passwords, so it prints nothing.
pub(super) struct Connector {
    to: To,
}

enum To {
    Server(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// A connection that many commands use at once. Cheap to clone.
#[derive(Clone)]
pub(super) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Connector {
    /// # Errors
    /// When the settings cannot be used.
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, SharedError> {
        Ok(Self { to: To::new(settings)? })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody answers, or not like Redis.
    pub(super) async fn open(&self) -> Result<Link, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(OPENING)).set_response_timeout(Some(ANSWERING));
        Ok(match &self.to {
            To::Server(client) => Link::Server(client.get_multiplexed_async_connection_with_config(&config).await?),
            To::Cluster(client) => Link::Cluster(client.get_async_connection().await?),
            To::Sentinel(client) => Link::Server(client.lock().await.get_async_connection_with_config(&config).await?),
        })
    }
}

impl To {
    fn new(settings: &RedisSettings) -> Result<Self, SharedError> {
        settings.check().map_err(|(place, why)| SharedError::Redis(format!("cannot be used: `{place}`: {why}")))?;
        let servers = settings.servers().map_err(SharedError::Redis)?;
        let wrong = |error: RedisError| SharedError::Redis(say(&error));
        let certificates = certificates(settings)?;
        if settings.cluster {
            let mut builder = ClusterClient::builder(servers)
                .retries(2)
                .min_retry_wait(1)
                .max_retry_wait(20)
                .connection_timeout(OPENING / 2)
                .response_timeout(OPENING.max(settings.timeout.0 * 4) / 2);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(Box::new(builder.build().map_err(wrong)?)));
        }
        let Some(first) = servers.first().cloned() else {
            return Err(SharedError::Redis("has no address".to_owned()));
        };
        let Some(sentinel) = &settings.sentinel else {
            let client = match certificates {
                Some(certificates) => Client::build_with_tls(first, certificates),
                None => Client::open(first),
            };
            return Ok(Self::Server(Box::new(client.map_err(wrong)?)));
        };
        let addresses = servers.iter().map(|server| server.addr().clone());
        let mut builder =
            SentinelClientBuilder::new(addresses, &sentinel.master, SentinelServerType::Master).map_err(wrong)?;
        let master = first.redis_settings();
        builder = builder.set_client_to_redis_db(master.db());
        if let Some(user) = master.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = master.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &sentinel.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = &sentinel.password {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        if matches!(first.addr(), ConnectionAddr::TcpTls { .. }) {
            builder =
                builder.set_client_to_redis_tls_mode(TlsMode::Secure).set_client_to_sentinel_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates);
        }
        Ok(Self::Sentinel(Box::new(tokio::sync::Mutex::new(builder.build().map_err(wrong)?))))
    }
}

/// Whom the operator trusts, where that is not the public authorities.
fn certificates(settings: &RedisSettings) -> Result<Option<TlsCertificates>, SharedError> {
    let Some(file) = &settings.ca_file else { return Ok(None) };
    let wrong = |why: String| SharedError::Redis(format!("cannot be used: `ca_file` ({}): {why}", file.display()));
    let pem = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    RedisSettings::check_authorities(&pem).map_err(wrong)?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(pem) }))
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(link) => link.req_packed_command(command),
            Self::Cluster(link) => link.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}

/// What is wrong, for the log. Redis repeats nothing of what it was sent but a command's name.
pub(super) fn say(error: &RedisError) -> String {
    let said = error.to_string();
    if said.contains("invalid peer certificate") {
        return format!("{said}. The authorities it may be from are those in `redis.ca_file`, else the public ones");
    }
    said
}
