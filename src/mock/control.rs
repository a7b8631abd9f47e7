//! The control API under `/_mock`: scripts are queued and recorded requests looked at over HTTP.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{
    Mock, base64,
    behaviour::Behaviour,
    body::Body,
    record::{Outcome, Recorded},
    respond::response,
};

/// What a control request comes to: a value to show, or what was wrong with it.
type Answer = Result<Value, (StatusCode, String)>;

/// Answers a request to the control API; `body` is `None` when it is too large.
pub(super) fn respond(mock: &Mock, head: &Parts, body: Option<Bytes>) -> Response<Body> {
    let path = head.uri.path().trim_end_matches('/');
    let result = match (&head.method, path) {
        (&Method::GET, "/_mock") => Ok(state(mock)),
        (&Method::DELETE, "/_mock") => {
            mock.clear();
            Ok(state(mock))
        }
        (&Method::PUT | &Method::POST, "/_mock/script") => enqueue(mock, head.uri.query(), body),
        (&Method::DELETE, "/_mock/script") => {
            mock.0.scripts.clear();
            Ok(state(mock))
        }
        (&Method::PUT | &Method::POST, "/_mock/default") => set_default(mock, body),
        (&Method::GET, "/_mock/requests") => {
            Ok(mock.requests().iter().map(|request| shown(request, mock)).collect::<Value>())
        }
        (&Method::DELETE, "/_mock/requests") => {
            mock.0.log.clear();
            Ok(state(mock))
        }
        (method, path) => {
            Err((StatusCode::NOT_FOUND, format!("there is no {method} {path}; see `switchboard mock --help`")))
        }
    };
    let (status, value) = match result {
        Ok(value) => (StatusCode::OK, value),
        Err((status, message)) => (status, json!({ "error": { "message": message } })),
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response(status, headers, Body::plain(format!("{value:#}\n")))
}

fn state(mock: &Mock) -> Value {
    json!({
        "served": mock.served(),
        "open_streams": mock.open_streams(),
        "aborted": mock.aborted(),
        "recorded": mock.0.log.recorded(),
        "queued": mock.0.scripts.queued(),
        "default": what_is_set(&mock.0.scripts.default_script()),
    })
}

fn enqueue(mock: &Mock, query: Option<&str>, body: Option<Bytes>) -> Answer {
    let model = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("model="));
    let model = model.map(|model| percent_decode_str(model).decode_utf8_lossy());
    let scripts = match read(body)? {
        Value::Array(scripts) => scripts,
        script => vec![script],
    };
    let scripts = scripts.iter().map(script).collect::<Result<Vec<_>, _>>()?;
    for script in scripts {
        if !mock.0.scripts.enqueue(model.as_deref(), script) {
            return Err((StatusCode::INSUFFICIENT_STORAGE, "the queue of scripts is full".into()));
        }
    }
    Ok(state(mock))
}

fn set_default(mock: &Mock, body: Option<Bytes>) -> Answer {
    mock.set_default(script(&read(body)?)?);
    Ok(state(mock))
}

fn read(body: Option<Bytes>) -> Answer {
    let body = body.ok_or((StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".to_owned()))?;
    serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")))
}

fn script(value: &Value) -> Result<Behaviour, (StatusCode, String)> {
    Behaviour::from_json(&value.to_string())
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("this is not a script: {error}")))
}

/// A recorded request as JSON.
fn shown(request: &Recorded, mock: &Mock) -> Value {
    let mut headers = Map::new();
    for name in request.headers.keys() {
        let values = request.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(name.to_string(), values.collect::<Vec<_>>().join(", ").into());
    }
    let mut shown = json!({
        "number": request.number,
        "at_ms": millis(request.at.saturating_duration_since(mock.0.started)),
        "connection": request.connection,
        "http_version": if request.http_version == Version::HTTP_2 { "2" } else { "1.1" },
        "method": request.method.as_str(),
        "path": request.path,
        "model": request.model,
        "api_key": request.api_key,
        "headers": headers,
        "outcome": match request.outcome() {
            Outcome::Pending => json!({ "state": "pending" }),
            Outcome::Complete => json!({ "state": "complete" }),
            Outcome::Faulted => json!({ "state": "faulted" }),
            Outcome::Aborted { bytes_sent, after } => {
                json!({ "state": "aborted", "bytes_sent": bytes_sent, "after_ms": millis(after) })
            }
        },
    });
    match std::str::from_utf8(&request.body) {
        Ok(text) => shown["body"] = text.into(),
        Err(_) => {
            let mut coded = String::new();
            base64::encode(&request.body, &mut coded);
            shown["body_base64"] = coded.into();
        }
    }
    shown
}

/// What is set in a script; most of one is not.
fn what_is_set(script: &Behaviour) -> Value {
    let blank = serde_json::to_value(Behaviour::default()).unwrap_or_default();
    let mut script = serde_json::to_value(script).unwrap_or_default();
    if let Value::Object(members) = &mut script {
        members.retain(|name, value| blank[name] != *value);
    }
    script
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
