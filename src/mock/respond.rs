//! From a request to the response: read, recorded, given its script, answered.

use std::{future::pending, io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    Mock, anthropic,
    ask::Ask,
    behaviour::{Behaviour, ContentLength, Reset},
    body::{Body, Broken, Played, Transport},
    compress::Encoder,
    control,
    endpoint::{Endpoint, Format},
    failure::Failure,
    fate::Fate,
    openai,
    player::wait,
    record::Exchange,
    reply::{Asked, Reply},
};

/// The largest request body that is read.
const MOST_BODY: usize = 256 << 20;

const HTML: &str = "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\
                    <body><h1>502 Bad Gateway</h1><hr>proxy</body></html>\n";

/// A connection, as its requests see it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) fate: Arc<Fate>,
}

/// What goes into the response, before the faults of transport.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    reply: Reply,
}

/// Answers a request.
///
/// # Errors
/// [`Broken`] when the connection ends in place of an answer.
pub(super) async fn respond(
    mock: Mock,
    connection: Connection,
    request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with("/_mock") {
        let body = read(body).await?;
        return Ok(control::respond(&mock, &head, body));
    }
    let exchange = mock.0.log.open(&mock.0.clock);
    let format = Format::of(head.uri.path(), &head.headers);
    let Some(body) = read(body).await? else {
        let failure = Failure::bad_request("The request body is too large.", None).with_status(413);
        return Ok(refuse(&mock, format, &failure, exchange));
    };
    let (endpoint, ask, script) = match prepare(&mock, &connection, format, &head, &body, &exchange) {
        Ok(prepared) => prepared,
        Err(failure) => return Ok(refuse(&mock, format, &failure, exchange)),
    };
    wait(&mock.0.clock, script.delay).await;
    if script.hang {
        pending::<()>().await;
    }
    if script.reset == Some(Reset::BeforeHead) {
        exchange.faulted();
        connection.fate.reset();
        return Err(Broken);
    }
    match answer(&mock, &endpoint, &ask, &script, &exchange) {
        Ok(answer) => send(&mock, answer, script, exchange, connection.fate, head.version).await,
        Err(failure) => Ok(refuse(&mock, format, &failure, exchange)),
    }
}

/// Records the request, and finds out what is asked and which script answers it.
fn prepare<'a>(
    mock: &Mock,
    connection: &Connection,
    format: Format,
    head: &Parts,
    body: &'a Bytes,
    exchange: &Exchange,
) -> Result<(Endpoint, Ask<'a>, Arc<Behaviour>), Failure> {
    let default = mock.0.scripts.default_script();
    let ask = if body.is_empty() { Ok(Ask::default()) } else { Ask::read(body) };
    let api_key = api_key(&head.headers, format);
    if default.record != Some(false) {
        let model = ask.as_ref().ok().and_then(|ask| ask.model.clone());
        exchange.record(head, body.clone(), model, api_key, connection.number);
    }
    if let Some(failure) = wrong_key(&default, api_key, format) {
        return Err(failure);
    }
    if format == Format::Anthropic {
        anthropic::check_version(&head.headers, ask.as_ref().ok())?;
    }
    let endpoint = endpoint(head)?;
    let ask = ask?;
    // Listing models is not scripted: it must not take what waits for a call.
    if !endpoint.is_post() {
        return Ok((endpoint, ask, Arc::default()));
    }
    let script = mock.0.scripts.choose(format, &ask, &head.headers);
    let script = script.map_err(|message| Failure::bad_request(message, Some("mock")))?;
    Ok((endpoint, ask, script))
}

/// The whole request body; `None` when it is too large.
async fn read(mut body: Incoming) -> Result<Option<Bytes>, Broken> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > MOST_BODY {
            return Ok(None);
        }
        // Most bodies come in one frame, which then need not be copied.
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(Some(first));
    }
    Ok(Some([first, rest.freeze()].concat().into()))
}

fn api_key(headers: &HeaderMap, format: Format) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
    // Anthropic takes its own header when there are both.
    let first = text("x-api-key").filter(|_| format == Format::Anthropic);
    first.or(bearer).or_else(|| text("api-key")).or_else(|| text("x-api-key"))
}

fn wrong_key(default: &Behaviour, key: Option<&str>, format: Format) -> Option<Failure> {
    if default.require_key.is_empty() || key.is_some_and(|key| default.require_key.iter().any(|known| known == key)) {
        return None;
    }
    Some(match key {
        Some(_) => Failure::usual(401),
        None if format == Format::Anthropic => {
            Failure::bad_request("x-api-key header is required", None).with_status(401)
        }
        None => Failure::bad_request("You didn't provide an API key.", None).with_status(401),
    })
}

fn endpoint(head: &Parts) -> Result<Endpoint, Failure> {
    let (method, path) = (&head.method, head.uri.path());
    let unknown = || Failure::not_found(format!("Invalid URL ({method} {path})"));
    let endpoint = Endpoint::find(path, &head.headers).ok_or_else(unknown)?;
    let is_right = if endpoint.is_post() { method == http::Method::POST } else { method == http::Method::GET };
    let wrong = || Failure::bad_request(format!("Not allowed to {method} on {path}."), None).with_status(405);
    if is_right { Ok(endpoint) } else { Err(wrong()) }
}

fn answer(
    mock: &Mock,
    endpoint: &Endpoint,
    ask: &Ask<'_>,
    script: &Arc<Behaviour>,
    exchange: &Exchange,
) -> Result<Answer, Failure> {
    let format = endpoint.format();
    let seconds = mock.0.clock.unix_millis() / 1_000;
    let status = script.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let text = |text: &str| Reply::Whole(Bytes::copy_from_slice(text.as_bytes()), false);
    let (reply, content_type) = if let Some(body) = &script.body {
        (text(body), "application/json")
    } else if script.empty_body {
        (text(""), "application/json")
    } else if script.html {
        (text(HTML), "text/html")
    } else if status.as_u16() >= 400 {
        let json = error(format, &Failure::scripted(script), exchange.number);
        let length = if script.invalid_json { json.len() / 2 } else { json.len() };
        (Reply::Whole(Bytes::from(json).slice(..length), false), "application/json")
    } else {
        let (reply, billed) = Reply::new(&Asked { endpoint, ask, script, number: exchange.number, created: seconds })?;
        billed.into_iter().for_each(|billed| exchange.bill(billed));
        let content_type = if reply.is_stream() { "text/event-stream; charset=utf-8" } else { "application/json" };
        (reply, content_type)
    };
    let mut headers = headers(mock, format, exchange);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    add_scripted(&mut headers, script, mock);
    Ok(Answer { status, headers, reply })
}

fn add_scripted(headers: &mut HeaderMap, script: &Behaviour, mock: &Mock) {
    if let Some(seconds) = script.retry_after {
        let value = if script.retry_after_date {
            // Beyond the year 9999 there is no HTTP date.
            let at = mock.0.clock.wall() + Duration::from_secs(seconds.min(200_000_000_000));
            HeaderValue::try_from(httpdate::fmt_http_date(at)).ok()
        } else {
            Some(HeaderValue::from(seconds))
        };
        headers.extend(value.map(|value| (header::RETRY_AFTER, value)));
    }
    if let Some(millis) = script.retry_after_ms {
        headers.insert(HeaderName::from_static("retry-after-ms"), HeaderValue::from(millis));
    }
    let content_type = script.content_type.iter().map(|value| ("content-type", value));
    for (name, value) in content_type.chain(script.headers.iter().map(|(name, value)| (name.as_str(), value))) {
        // They were checked when the script was read.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            headers.insert(name, value);
        }
    }
}

/// Makes the response: in one piece where nothing forbids it, else played.
async fn send(
    mock: &Mock,
    answer: Answer,
    script: Arc<Behaviour>,
    exchange: Exchange,
    fate: Arc<Fate>,
    version: Version,
) -> Result<Response<Body>, Broken> {
    let Answer { status, mut headers, reply } = answer;
    let mut encoder = script.encoding.map(Encoder::new);
    headers.extend(script.encoding.map(|encoding| (header::CONTENT_ENCODING, encoding.header())));
    let mut length = None;
    let reply = match reply {
        Reply::Whole(body, is_stream) => {
            // A body that is there is compressed at once, so that its length is known.
            let body = match encoder.take() {
                Some(mut encoder) => compressed(&mut encoder, &body).await.map_err(|_| Broken)?,
                None => body,
            };
            if !is_stream && !is_touched(&script) {
                return Ok(response(status, headers, Body::whole(body, exchange)));
            }
            length = if is_stream { None } else { declared(&script, body.len() as u64) };
            Reply::Whole(body, is_stream)
        }
        streamed => streamed,
    };
    headers.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
    if script.content_length != ContentLength::Right && length.is_some() {
        exchange.faulted();
    }
    let transport = Transport { fate, is_http2: version == Version::HTTP_2, length };
    let played = Played::new(reply, script, mock.0.clock.clone(), encoder, exchange, transport);
    Ok(response(status, headers, Body::Played(Box::new(played))))
}

async fn compressed(encoder: &mut Encoder, body: &[u8]) -> io::Result<Bytes> {
    let start = encoder.encode(body).await?;
    Ok([start, encoder.finish().await?].concat().into())
}

/// Whether the script meddles with how a body travels.
fn is_touched(script: &Behaviour) -> bool {
    script.reset.is_some()
        || script.cut_at_byte.is_some()
        || script.hang_after_chunks.is_some()
        || script.end_after_chunk.is_some()
        || script.split.is_some()
        || script.split_random.is_some()
        || script.content_length != ContentLength::Right
}

/// What the `content-length` of a body of `length` bytes says.
fn declared(script: &Behaviour, length: u64) -> Option<u64> {
    match script.content_length {
        ContentLength::Absent => None,
        ContentLength::Long => Some(length + 10),
        ContentLength::Short => Some(length / 2),
        // An end that is correct, though too early, cannot have declared more.
        ContentLength::Right => script.end_after_chunk.is_none().then_some(length),
    }
}

fn refuse(mock: &Mock, format: Format, failure: &Failure, exchange: Exchange) -> Response<Body> {
    let status = StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut headers = headers(mock, format, &exchange);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response(status, headers, Body::whole(error(format, failure, exchange.number).into(), exchange))
}

/// An error in the shape of the format.
fn error(format: Format, failure: &Failure, number: u64) -> String {
    match format {
        Format::OpenAi => openai::error(failure),
        Format::Anthropic => anthropic::error(failure, number),
    }
}

/// The headers the provider sends with every answer.
fn headers(mock: &Mock, format: Format, exchange: &Exchange) -> HeaderMap {
    let clock = &mock.0.clock;
    match format {
        Format::OpenAi => openai::headers(exchange.number, clock.now().saturating_duration_since(exchange.at)),
        Format::Anthropic => anthropic::headers(exchange.number, clock.unix_millis() / 1_000),
    }
}

pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
