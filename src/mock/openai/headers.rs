//! The headers of the OpenAI API.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::mock::saying::id;

/// The headers the provider sends with every answer; `number` is the request's, `elapsed` the time it took.
pub(in crate::mock) fn headers(number: u64, elapsed: Duration) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(20);
    let fixed = [
        ("openai-organization", "mock"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-tokens", "1999000"),
        ("x-ratelimit-reset-tokens", "30ms"),
    ];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    headers.insert(HeaderName::from_static("openai-processing-ms"), HeaderValue::from(elapsed));
    if let Ok(id) = HeaderValue::try_from(format!("req_{}", id(number, 32))) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    headers
}
