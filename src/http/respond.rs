//! From outcomes to responses. Every error leaves here: in the shape of the client's format, or in OpenAI's.

use std::{fmt, sync::Arc};

use axum::{body::Body, extract::State, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body::Body as _;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::Surface;
use crate::{
    error::{Error, Fault},
    gateway::{Refusal, Reply, ReplyBody, names},
    types::RequestId,
    wire::{anthropic, conversation::Format, openai_chat},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A committed answer. The place among the calls in flight goes with its body.
pub(super) fn reply(reply: Reply, id: RequestId, format: Format, place: OwnedSemaphorePermit) -> Response {
    let Reply { headers, body } = reply;
    let length = body.size_hint().exact();
    let mut response = Response::new(match body {
        // A whole body needs no place any more: the provider is done with it.
        ReplyBody::Whole(Some(bytes)) => Body::from(bytes),
        body => Body::new(Placed { body, _place: place }),
    });
    *response.headers_mut() = headers;
    if let Some(length) = length {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    sign(&mut response, id, format);
    response
}

/// A call that failed.
pub(super) fn refusal(refusal: Refusal, id: RequestId, format: Format) -> Response {
    let Refusal { error, provider, target, attempts, limits, settled } = refusal;
    log(&error, id, settled);
    let mut response = match provider {
        Some(answer) => {
            let mut response = Response::new(Body::from(answer.body));
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            response
        }
        None => of_call_error(&error, id, format),
    };
    response.headers_mut().extend(limits);
    advise(response.headers_mut(), &error);
    if let Some(target) = target.as_deref().and_then(|target| HeaderValue::from_str(target).ok()) {
        response.headers_mut().insert(names::TARGET, target);
    }
    if attempts > 0 {
        response.headers_mut().insert(names::ATTEMPTS, attempts.into());
    }
    sign(&mut response, id, format);
    response
}

/// An error before there was a call.
pub(super) fn error(error: &Error, id: RequestId) -> Response {
    log(error, id, false);
    let mut response = of_error(error);
    advise(response.headers_mut(), error);
    stamp(&mut response, id);
    response
}

/// A handler that panicked. Its charge has settled while unwinding.
pub(super) fn panicked(id: RequestId, format: Format) -> Response {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let message = "The gateway failed while serving this call. Its log has the request id.";
    refusal(Error::gateway(status, "internal_error", message).into(), id, format)
}

pub(super) async fn not_found(State(surface): State<Arc<Surface>>, method: Method, uri: Uri) -> Response {
    let message = format!(
        "There is nothing at {method} {}. The API is below /v1: /v1/chat/completions, /v1/completions, /v1/embeddings, \
         /v1/messages, /v1/models.",
        shortened(uri.path())
    );
    stray(&surface, &uri, &Error::client(StatusCode::NOT_FOUND, "unknown_path", message))
}

pub(super) async fn method_not_allowed(State(surface): State<Arc<Surface>>, method: Method, uri: Uri) -> Response {
    let message = format!("{} does not answer to {method}.", shortened(uri.path()));
    stray(&surface, &uri, &Error::client(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
}

/// An answer to a request that no endpoint is meant by. It leaves no line in the log, or anybody could fill it.
fn stray(surface: &Surface, uri: &Uri, error: &Error) -> Response {
    let id = RequestId::new(surface.clock.unix_millis());
    let is_anthropics =
        uri.path().strip_prefix("/v1/messages").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let format = if is_anthropics { Format::Anthropic } else { Format::OpenAiChat };
    let mut response = of_call_error(error, id, format);
    advise(response.headers_mut(), error);
    sign(&mut response, id, format);
    response
}

/// JSON that is not an error. Nothing that is answered holds a map whose keys are no texts, which could not be written.
pub(super) fn json(value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// An error of a call, in the format of its client.
fn of_call_error(error: &Error, id: RequestId, format: Format) -> Response {
    let mut response = of_error(error);
    if format == Format::Anthropic {
        let mut buffer = [0; ulid::ULID_LEN];
        *response.body_mut() = Body::from(anthropic::error::render(error, Some(id.text(&mut buffer))));
    }
    response
}

fn of_error(error: &Error) -> Response {
    let mut response = Response::new(Body::from(openai_chat::render(error)));
    *response.status_mut() = error.status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// What the client's SDK should do about the error. A provider's own `Retry-After` has passed already.
fn advise(headers: &mut HeaderMap, error: &Error) {
    if !error.retryable {
        headers.insert(names::SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(wait) = error.retry_after {
        let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
        headers.entry(header::RETRY_AFTER).or_insert_with(|| seconds.into());
    }
    if error.status == StatusCode::UNAUTHORIZED && error.fault == Fault::Client {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

/// The call's id, under every name that clients of the format look for.
fn sign(response: &mut Response, id: RequestId, format: Format) {
    stamp(response, id);
    if format == Format::Anthropic
        && let Some(value) = response.headers().get(names::REQUEST_ID).cloned()
    {
        response.headers_mut().insert(names::ANTHROPIC_REQUEST_ID, value);
    }
}

pub(super) fn stamp(response: &mut Response, id: RequestId) {
    const NAME: HeaderName = names::REQUEST_ID;
    let mut buffer = [0; ulid::ULID_LEN];
    if let Ok(value) = HeaderValue::from_str(id.text(&mut buffer)) {
        response.headers_mut().insert(NAME, value);
    }
}

/// The cause of an error is for the log alone. A call that was refused before it had a charge leaves its line here;
/// callers without a good key leave none at the usual level, or anybody could fill the log.
fn log(error: &Error, id: RequestId, settled: bool) {
    let cause = error.cause.as_ref().map(tracing::field::display);
    let keyless = error.status == StatusCode::UNAUTHORIZED || error.code == "too_many_wrong_keys";
    let code = error.code;
    let error = Loggable(error);
    match error.0.fault {
        Fault::Client if !settled && !keyless => tracing::info!(%id, code, cause, "call refused: {error}"),
        Fault::Client => tracing::debug!(%id, code, cause, "call refused: {error}"),
        Fault::Upstream => tracing::info!(%id, code, cause, "call failed: {error}"),
        Fault::Gateway => tracing::warn!(%id, code, cause, "call failed: {error}"),
    }
}

/// An error as the log may have it: without a provider's words, and with what a client chose (the name of a model)
/// unable to begin a line of its own.
struct Loggable<'a>(&'a Error);

impl fmt::Display for Loggable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        if error.quotes_provider {
            return write!(f, "{} {}", error.status.as_u16(), error.code);
        }
        let text = error.to_string();
        if text.contains(char::is_control) { text.escape_debug().fmt(f) } else { f.write_str(&text) }
    }
}

fn shortened(path: &str) -> &str {
    let end = path.char_indices().nth(120).map_or(path.len(), |(at, _)| at);
    &path[..end]
}

/// A reply body that keeps its place among the calls in flight until it is gone.
struct Placed {
    body: ReplyBody,
    _place: OwnedSemaphorePermit,
}

impl http_body::Body for Placed {
    type Data = bytes::Bytes;
    type Error = crate::gateway::BrokenOff;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_should_wait_is_told_whole_seconds_and_never_too_few() {
        for (millis, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2"), (59_500, "60")] {
            let error = Error::client(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "Wait.")
                .with_retry_after(Duration::from_millis(millis));
            let mut headers = HeaderMap::new();
            advise(&mut headers, &error);
            assert_eq!(headers[header::RETRY_AFTER], seconds, "{millis}");
            // What a provider has said stands.
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
            advise(&mut headers, &error);
            assert_eq!(headers[header::RETRY_AFTER], "7");
        }
    }

    #[test]
    fn the_log_hears_neither_a_providers_words_nor_a_line_of_a_clients_making() {
        let mut error = Error::upstream(StatusCode::BAD_GATEWAY, "upstream_error", "The provider `p` says: canary");
        error.quotes_provider = true;
        assert_eq!(Loggable(&error).to_string(), "502 upstream_error");
        let error =
            Error::client(StatusCode::NOT_FOUND, "model_not_found", "The model `a\n\x1b[31mINFO b` is unknown.");
        assert_eq!(Loggable(&error).to_string(), r"404 model_not_found: The model `a\n\u{1b}[31mINFO b` is unknown.");
        let error = Error::client(StatusCode::NOT_FOUND, "model_not_found", "The model `ä` is unknown.");
        assert_eq!(Loggable(&error).to_string(), "404 model_not_found: The model `ä` is unknown.");
    }
}
