//! The headers that Anthropic's API sends with every answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::failure::request_id;

/// Limits: the name, how much is allowed, how much of it is left, and the seconds until nothing of it is used.
const LIMITS: [(&str, &str, &str, u64); 4] = [
    ("requests", "4000", "3999", 1),
    ("tokens", "4800000", "4799000", 2),
    ("input-tokens", "4000000", "3999000", 2),
    ("output-tokens", "800000", "800000", 1),
];

/// The headers the provider sends with every answer; `number` is the request's, `now` the time in Unix seconds.
pub(in crate::mock) fn headers(number: u64, now: u64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(24);
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    };
    for (name, limit, remaining, seconds) in LIMITS {
        add(&format!("anthropic-ratelimit-{name}-limit"), limit);
        add(&format!("anthropic-ratelimit-{name}-remaining"), remaining);
        add(&format!("anthropic-ratelimit-{name}-reset"), &rfc3339(now.saturating_add(seconds)));
    }
    add("anthropic-organization-id", "00000000-0000-4000-8000-000000000000");
    add("request-id", &request_id(number));
    headers
}

fn rfc3339(unix_seconds: u64) -> String {
    let moment = i64::try_from(unix_seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    moment.unwrap_or(jiff::Timestamp::MAX).to_string()
}
