//! The version of the API that a request names in its header, and what the latest one does not take any more.

use http::{HeaderMap, HeaderValue};
use serde_json::Value;

use crate::mock::{ask::Ask, failure::Failure};

/// The version since which there are no sampling parameters and stricter rules for content.
const LATEST: &str = "2026-10-21";
/// The versions of the API that there are.
const VERSIONS: [&str; 3] = [LATEST, "2023-06-01", "2023-01-01"];

/// Refuses a request that does not name a version of the API, or has what its version does not take.
///
/// # Errors
/// What the API says to such a request.
pub(in crate::mock) fn check_version(headers: &HeaderMap, ask: Option<&Ask<'_>>) -> Result<(), Failure> {
    let Some(version) = headers.get("anthropic-version") else {
        return Err(Failure::bad_request("anthropic-version: header is required", None));
    };
    let named: Vec<_> = headers.get_all("anthropic-version").iter().map(HeaderValue::as_bytes).collect();
    let named = String::from_utf8_lossy(&named.join(&b", "[..])).into_owned();
    if !VERSIONS.contains(&&*named) {
        return Err(Failure::bad_request(format!("anthropic-version: \"{named}\" is not a valid version"), None));
    }
    match ask {
        Some(ask) if version == LATEST => check_latest(ask),
        _ => Ok(()),
    }
}

fn check_latest(ask: &Ask<'_>) -> Result<(), Failure> {
    let gone = [("temperature", ask.temperature), ("top_p", ask.top_p), ("top_k", ask.top_k)];
    if let Some((name, _)) = gone.iter().find(|(_, value)| value.is_some()) {
        return Err(Failure::bad_request(format!("{name}: Extra inputs are not permitted"), None));
    }
    let messages = ask.messages.and_then(|raw| serde_json::from_str::<Vec<Value>>(raw.get()).ok());
    for (number, message) in messages.iter().flatten().enumerate() {
        let is_assistant = message["role"] == "assistant";
        for (place, part) in parts(message) {
            let path = format!("messages.{number}.{place}");
            if is_assistant && part["type"] == "document" {
                let message = format!("{path}: document blocks are not permitted in assistant messages");
                return Err(Failure::bad_request(message, None));
            }
            let inner = parts(part).into_iter().filter(|_| part["type"] == "search_result");
            let cited = inner.map(|(inner, part)| (format!("{path}.{inner}"), part)).chain([(path.clone(), part)]);
            let mut cited = cited.filter(|(_, part)| !is_assistant && is_cited(part));
            if let Some((path, _)) = cited.next() {
                let message = format!("{path}.citations: citations are not permitted in user messages");
                return Err(Failure::bad_request(message, None));
            }
        }
    }
    Ok(())
}

/// The parts of some content, each with its place.
fn parts(holder: &Value) -> Vec<(String, &Value)> {
    let parts = holder["content"].as_array().map_or(&[][..], Vec::as_slice);
    parts.iter().enumerate().map(|(number, part)| (format!("content.{number}"), part)).collect()
}

fn is_cited(part: &Value) -> bool {
    part["type"] == "text" && part["citations"].as_array().is_some_and(|citations| !citations.is_empty())
}
