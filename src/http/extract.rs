//! What handlers ask for: who is calling, a place among the calls in flight, and the whole body within its limits.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;

use super::{ClientAddr, Surface};
use crate::{
    auth::{Endpoint, Principal},
    error::Error,
    types::Size,
    upstream::Gathered,
};

/// The client's address.
pub(super) fn client(parts: &Parts) -> IpAddr {
    parts.extensions.get::<ClientAddr>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| client.0)
}

/// Who is calling, if it may use this endpoint from where it is.
///
/// # Errors
/// 401 and its kin; see [`crate::auth::Keys::authenticate`].
pub(super) async fn principal(surface: &Surface, parts: &Parts, endpoint: Endpoint) -> Result<Arc<Principal>, Error> {
    surface.keys.authenticate(&parts.headers, client(parts), endpoint).await.inspect_err(|error| {
        surface.metrics.auth_failure(error.code);
    })
}

/// A place among the calls in flight.
///
/// # Errors
/// 503 when all are taken.
pub(super) fn place(surface: &Surface) -> Result<OwnedSemaphorePermit, Error> {
    surface.in_flight.clone().try_acquire_owned().map_err(|_| Error::full())
}

/// How large a body may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimit {
    pub(super) size: Size,
    /// The setting that says so, if one does.
    pub(super) setting: Option<&'static str>,
}

/// The whole body of a call. A single piece, the usual case, is not copied.
///
/// # Errors
/// 413 that names the limit; 408 when the client stops sending; 415 for a compressed body.
pub(super) async fn body(surface: &Surface, headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let limit = BodyLimit { size: surface.settings.max_body, setting: Some("server.max_body") };
    body_within(surface, headers, body, &limit).await
}

/// The whole body of a request that has a limit of its own; see [`body`].
///
/// # Errors
/// As [`body`].
pub(super) async fn body_within(
    surface: &Surface,
    headers: &HeaderMap,
    mut body: Body,
    limit: &BodyLimit,
) -> Result<Bytes, Error> {
    check_encoding(headers)?;
    let declared =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit.size.0) {
        // A client that waits to be asked for its body is not asked.
        if !headers.contains_key(header::EXPECT) {
            discard(surface, body).await;
        }
        return Err(too_large(limit));
    }
    /// Bytes read before other calls have their turn.
    const TURN: usize = 512 * 1024;
    let (mut gathered, mut turn) = (Gathered::with_room(declared.unwrap_or(0)), 0);
    loop {
        if gathered.len() >= turn + TURN {
            turn = gathered.len();
            tokio::task::yield_now().await;
        }
        let deadline = surface.clock.now() + surface.settings.read_timeout.0;
        let frame = surface.clock.timeout_at(deadline, body.frame()).await.map_err(|_| too_slow())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| {
            Error::client(StatusCode::BAD_REQUEST, "body_incomplete", "The request body broke off.").with_cause(error)
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        if (gathered.len() + piece.len()) as u64 > limit.size.0 {
            drop(gathered);
            discard(surface, body).await;
            return Err(too_large(limit));
        }
        gathered.push(piece);
    }
    Ok(gathered.join())
}

/// Reads on without keeping anything, within bounds: a client that is still sending does not read the answer, and
/// closing on it would show it a broken connection instead of the 413.
async fn discard(surface: &Surface, mut body: Body) {
    const PATIENCE: Duration = Duration::from_secs(10);
    let deadline = surface.clock.now() + PATIENCE;
    let drain = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = surface.clock.timeout_at(deadline, drain).await;
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Error> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Error::client(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "Compressed request bodies are not accepted; send the body without `content-encoding`.",
        )),
        _ => Ok(()),
    }
}

fn too_large(limit: &BodyLimit) -> Error {
    let BodyLimit { size, setting } = limit;
    let why = setting.map_or_else(
        || " That is the most that this route takes.".to_owned(),
        |setting| format!(" The limit is `{setting}` in the gateway's configuration."),
    );
    let message = format!("The request body is larger than {size}.{why}");
    Error::client(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
}

fn too_slow() -> Error {
    Error::client(
        StatusCode::REQUEST_TIMEOUT,
        "body_timeout",
        "The request body did not arrive in time. The limit is `server.read_timeout` in the gateway's configuration.",
    )
}
