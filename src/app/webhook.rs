//! Posting warnings of quotas to the operator's webhook, one after the other.

use http::{HeaderName, HeaderValue, Request, StatusCode, Uri, header};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    quotas::{Warning, Webhook},
    types::Clock,
    upstream::{Connections, Http, OutBody, PoolKey, Trust},
};

/// The most warnings that wait to be sent; further ones are given up.
pub(super) const WAITING: usize = 256;

/// How often a warning is tried.
const TRIES: u32 = 3;

/// Sends each warning, until `stop`. One that cannot be sent is tried again, then given up with a line in the log.
pub(super) async fn send_all(
    webhook: Webhook,
    mut due: mpsc::Receiver<Warning>,
    connections: Connections,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        let warning = tokio::select! {
            () = stop.cancelled() => return,
            warning = due.recv() => warning,
        };
        let Some(warning) = warning else { return };
        let body = serde_json::to_vec(&warning).unwrap_or_default();
        for attempt in 1..=TRIES {
            let deadline = clock.now() + webhook.timeout.0;
            let sent = clock.timeout_at(deadline, post(&webhook, body.clone(), &connections)).await;
            match sent.unwrap_or_else(|_| Err("it took too long".to_owned())) {
                Ok(()) => break,
                Err(why) if attempt == TRIES => {
                    tracing::warn!(
                        quota = &*warning.quota,
                        "the webhook could not be told that a quota fills up: {why}"
                    );
                }
                Err(_) => {
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = clock.sleep(std::time::Duration::from_secs(1 << attempt)) => {}
                    }
                }
            }
        }
    }
}

async fn post(webhook: &Webhook, body: Vec<u8>, connections: &Connections) -> Result<(), String> {
    // The address may hold a secret: no error shows it.
    let uri: Uri = webhook.url.expose().parse().map_err(|_| "its address cannot be used".to_owned())?;
    let (Some(scheme), Some(authority)) = (uri.scheme().cloned(), uri.authority().cloned()) else {
        return Err("its address cannot be used".to_owned());
    };
    let connect_timeout = webhook.timeout.0;
    let key = PoolKey { scheme, authority, http: Http::Auto, connect_timeout, trust: Trust::Web };
    let mut request = Request::new(OutBody::new(bytes::Bytes::from(body).into()));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let agent = HeaderValue::from_static(concat!("switchboard/", env!("CARGO_PKG_VERSION")));
    headers.insert(header::USER_AGENT, agent);
    for (name, value) in &webhook.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value.expose())) {
            headers.insert(name, value);
        }
    }
    let pool = connections.pool(&key).map_err(|error| error.to_string())?;
    let status: StatusCode = pool.send(request).await.map_err(|error| error.to_string())?.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}
