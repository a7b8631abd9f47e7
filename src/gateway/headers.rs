//! Which headers pass, in each direction. Requests are closed by default: a client's cookies, addresses and keys are
//! none of a provider's business. Answers are open by default, but for what describes the connection rather than the
//! answer, and what would let a provider set state in the client.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{Call, lane::Lane};
use crate::{
    accounting::Charge,
    providers::ProviderKey,
    quotas::RateLimits,
    routing::Candidate,
    types::Nanos,
    wire::{conversation::Format, openai_chat},
};

/// Headers of ours.
pub mod names {
    use http::HeaderName;

    pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    pub const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");
    pub const TARGET: HeaderName = HeaderName::from_static("x-switchboard-target");
    pub const ATTEMPTS: HeaderName = HeaderName::from_static("x-switchboard-attempts");
    pub const OVERHEAD: HeaderName = HeaderName::from_static("x-switchboard-overhead-ms");
    /// What a whole answer cost, in dollars.
    pub const COST: HeaderName = HeaderName::from_static("x-switchboard-cost-usd");
    /// Of a client that wants to see the cost of a stream beside its usage.
    pub const INCLUDE_COST: HeaderName = HeaderName::from_static("x-switchboard-include-cost");
    /// What could not be said in the other side's format.
    pub const LOSSY: HeaderName = HeaderName::from_static("x-switchboard-lossy");
    /// That a count of tokens is an estimate.
    pub const ESTIMATED: HeaderName = HeaderName::from_static("x-switchboard-estimated");
    /// Where Anthropic's clients look for the id of a call.
    pub const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
    pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
}

/// Client headers that every provider gets. A provider's `forward_headers` adds to them.
const FORWARDED: [HeaderName; 4] = [
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("x-client-request-id"),
    // How OpenRouter attributes calls to an app.
    HeaderName::from_static("http-referer"),
    HeaderName::from_static("x-title"),
];

/// Client headers that belong to a format, and pass where the provider speaks it.
const OF_OPENAI: [HeaderName; 1] = [HeaderName::from_static("openai-beta")];
const OF_ANTHROPIC: [HeaderName; 1] = [ANTHROPIC_VERSION];

/// Names what is in the body that not every call may use.
pub(super) const ANTHROPIC_BETA: HeaderName = HeaderName::from_static("anthropic-beta");

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// What a client that names none is taken to mean, and what translated calls are written in: it has sampling parameters,
/// which models before Claude Opus 4.7 take.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
/// The first version that has no sampling parameters. Versions are dates.
const WITHOUT_SAMPLING: &str = "2026-10-21";

/// Answer headers that stay here: about the connection, the encoding (the body is decoded), or the client's state.
const KEPT_BACK: [HeaderName; 18] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::SET_COOKIE,
    header::SERVER,
    header::DATE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    header::VIA,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("nel"),
];

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("switchboard/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// The headers of a call to a provider.
pub(super) fn for_upstream(call: &Call, candidate: &Candidate, key: &ProviderKey, lane: Lane) -> HeaderMap {
    let provider = &candidate.target.provider;
    let mut headers = HeaderMap::with_capacity(12 + provider.headers.len());
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::ACCEPT, if call.stream { EVENTS } else { JSON });
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::USER_AGENT, USER_AGENT);
    let of_format: &[HeaderName] = match lane.upstream {
        _ if !lane.is_pass() => &[],
        Format::OpenAiChat => &OF_OPENAI,
        Format::Anthropic => &OF_ANTHROPIC,
    };
    for name in FORWARDED.iter().chain(of_format).chain(&provider.forward_headers) {
        // Betas are governed with what they gate (`betas`).
        if *name == ANTHROPIC_BETA && lane.upstream == Format::Anthropic {
            continue;
        }
        for value in call.headers.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if lane.upstream == Format::Anthropic && !headers.contains_key(&ANTHROPIC_VERSION) {
        headers.insert(ANTHROPIC_VERSION, VERSION);
    }
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Some((name, value)) = &key.header {
        headers.insert(name.clone(), value.clone());
    }
    headers
}

/// Whether a call is made in a version of Anthropic's API that refuses sampling parameters.
pub(super) fn refuses_sampling(call: &Call, lane: Lane) -> bool {
    let version = call.headers.get(&ANTHROPIC_VERSION).and_then(|version| version.to_str().ok());
    let of_client = lane.is_pass() && lane.upstream == Format::Anthropic;
    of_client && version.is_some_and(|version| version.len() == WITHOUT_SAMPLING.len() && version >= WITHOUT_SAMPLING)
}

/// The provider's answer headers as the client may see them: what stays here is taken out, in place.
pub(super) fn for_client(headers: &mut HeaderMap) {
    // What `Connection` names belongs to the connection as well (RFC 9110, 7.6.1).
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&KEPT_BACK) {
        headers.remove(name);
    }
    let foreign: Vec<HeaderName> =
        headers.keys().filter(|name| belongs_to_provider_edge(name.as_str())).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
    for name in [names::REQUEST_ID, names::ANTHROPIC_REQUEST_ID] {
        if let Some(id) = headers.remove(&name) {
            headers.insert(names::UPSTREAM_REQUEST_ID, id);
        }
    }
}

/// What is left of the client's quotas, in the headers that the format's SDKs know. A provider's limits under the same
/// names are those of the operator's account: where the client has limits of its own, these are what it should heed.
pub(super) fn show_limits(headers: &mut HeaderMap, charge: &mut Charge, format: Format, unix_millis: u64) {
    if let Some((account, _)) = charge.account() {
        write_limits(headers, &account.rate_limits(unix_millis), format, unix_millis);
    }
}

fn write_limits(headers: &mut HeaderMap, limits: &RateLimits, format: Format, unix_millis: u64) {
    for (kind, limit) in limits.iter() {
        let (names, reset) = match format {
            Format::Anthropic => {
                let names = ["limit", "remaining", "reset"].map(|what| format!("anthropic-ratelimit-{kind}-{what}"));
                (names, moment(unix_millis, limit.resets_in))
            }
            Format::OpenAiChat => {
                let names = ["limit", "remaining", "reset"].map(|what| format!("x-ratelimit-{what}-{kind}"));
                (names, span(limit.resets_in))
            }
        };
        let values = [limit.limit.to_string(), limit.remaining.to_string(), reset];
        for (name, value) in names.into_iter().zip(values) {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// A moment as RFC 3339 has it, in whole seconds: Anthropic's way.
fn moment(unix_millis: u64, after: Duration) -> String {
    let at = Duration::from_millis(unix_millis).saturating_add(after).as_millis().div_ceil(1_000);
    let at = i64::try_from(at).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// A span of time as Go writes it: OpenAI's way (`12ms`, `1.5s`, `6m0s`, `1h0m0s`).
fn span(span: Duration) -> String {
    let millis = span.as_millis();
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = (millis % 60_000) as f64 / 1e3;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// What the provider says the answer cost: LiteLLM says it in a header.
pub(super) fn cost(headers: &HeaderMap) -> Option<Nanos> {
    openai_chat::read_dollars(headers.get("x-litellm-response-cost")?.to_str().ok()?)
}

/// Whether a client's header says yes.
pub(super) fn says_yes(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get(name).is_some_and(|value| matches!(value.as_bytes().trim_ascii(), b"true" | b"1"))
}

/// Headers that a provider's own front door sets for browsers, and ones that would pass for ours.
fn belongs_to_provider_edge(name: &str) -> bool {
    name.starts_with("access-control-") || name.starts_with("cf-") || name.starts_with("x-switchboard-")
}

/// Nobody means more than a day; a bad clock or a hostile answer may say so.
const LONGEST: Duration = Duration::from_secs(86_400);

/// How long a provider wants to be left alone: `retry-after-ms`, or `Retry-After` in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap, unix_millis: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()).map(|millis| millis / 1e3);
    let seconds = || text("retry-after").and_then(|text| text.parse::<f64>().ok());
    let wait = match millis.or_else(seconds) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        None => {
            let date = httpdate::parse_http_date(text("retry-after")?).ok()?;
            let at = date.duration_since(std::time::UNIX_EPOCH).ok()?;
            at.saturating_sub(Duration::from_millis(unix_millis))
        }
    };
    Some(wait.min(LONGEST))
}

/// How long until the last of the limits that are used up is full again, as `anthropic-ratelimit-…` and `x-ratelimit-…`
/// say it: of a limit, `remaining` is 0 and `reset` is a moment or a span of time.
pub(super) fn limit_resets(headers: &HeaderMap, unix_millis: u64) -> Option<Duration> {
    let used_up = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = name.as_str();
        let is_limit = name.contains("ratelimit") && name.contains("remaining");
        let is_zero = value.to_str().is_ok_and(|value| value.trim().parse() == Ok(0_u32));
        (is_limit && is_zero).then(|| name.replace("remaining", "reset"))
    };
    let resets = headers.iter().filter_map(used_up).filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?.trim();
        until(value, unix_millis).or_else(|| read_span(value))
    });
    resets.max().map(|wait| wait.min(LONGEST))
}

/// How long until a moment: RFC 3339, or Unix time in seconds or milliseconds.
fn until(text: &str, unix_millis: u64) -> Option<Duration> {
    let at = match text.parse::<u64>() {
        Ok(seconds @ 1_000_000_000..1_000_000_000_000) => seconds * 1_000,
        Ok(millis @ 1_000_000_000_000..) => millis,
        Ok(_) => return None,
        Err(_) => u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok()?,
    };
    Some(Duration::from_millis(at.saturating_sub(unix_millis)))
}

/// A span of time: `6m0s`, `12ms`, `1.5s`, or a number of seconds.
fn read_span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut rest, mut whole) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        whole = whole.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quotas::RateLimit;

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        // 1994-11-06 08:49:37 UTC, the date of RFC 9110's example.
        const NOW: u64 = 784_111_777_000;
        let cases = [
            ("retry-after", "7", Some(7_000)),
            ("retry-after", " 1.5 ", Some(1_500)),
            ("retry-after-ms", "250", Some(250)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("retry-after", "99999999", Some(86_400_000)),
            ("retry-after", "-1", None),
            ("retry-after", "soon", None),
            ("x-other", "1", None),
        ];
        for (name, value, millis) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(retry_after(&headers, NOW), millis.map(Duration::from_millis), "{name}: {value}");
        }
    }

    #[test]
    fn the_end_of_a_limit_that_is_used_up_is_read_from_every_makers_headers() {
        // 2026-11-30 12:00:00 UTC.
        const NOW: u64 = 1_796_040_000_000;
        type Case<'c> = (&'c [(&'static str, &'static str)], Option<u64>);
        let cases: &[Case<'_>] = &[
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "9"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-30T13:00:00Z"),
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "2026-11-30T12:00:07Z"),
                ],
                Some(7_000),
            ),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1m2.5s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "12ms"),
                ],
                Some(62_500),
            ),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1796040003000")], Some(3_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1796040004")], Some(4_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")], Some(30_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "2020-01-01T00:00:00Z")], Some(0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "2099-01-01T00:00:00Z")], Some(86_400_000)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "soon")], None),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "5y")], None),
            (&[("x-ratelimit-remaining", "0")], None),
            (&[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "30")], None),
        ];
        for (headers, millis) in cases {
            let named =
                headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            assert_eq!(limit_resets(&named.collect(), NOW), millis.map(Duration::from_millis), "{headers:?}");
        }
    }

    #[test]
    fn limits_are_shown_as_each_formats_sdks_know_them() {
        // 1994-11-06 08:49:37 UTC.
        const NOW: u64 = 784_111_777_000;
        let limit =
            |limit, remaining, millis| Some(RateLimit { limit, remaining, resets_in: Duration::from_millis(millis) });
        let limits = RateLimits {
            requests: limit(600, 599, 100),
            tokens: limit(150_000, 149_000, 360_000),
            output_tokens: limit(10, 0, 3_723_500),
            ..RateLimits::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-remaining-tokens", HeaderValue::from_static("7"));
        write_limits(&mut headers, &limits, Format::OpenAiChat, NOW);
        for (name, value) in [
            ("x-ratelimit-limit-requests", "600"),
            ("x-ratelimit-remaining-requests", "599"),
            ("x-ratelimit-reset-requests", "100ms"),
            ("x-ratelimit-remaining-tokens", "149000"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-ratelimit-reset-output-tokens", "1h2m3.5s"),
        ] {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
        let mut headers = HeaderMap::new();
        write_limits(&mut headers, &limits, Format::Anthropic, NOW);
        for (name, value) in [
            ("anthropic-ratelimit-requests-limit", "600"),
            ("anthropic-ratelimit-tokens-remaining", "149000"),
            ("anthropic-ratelimit-tokens-reset", "1994-11-06T08:55:37Z"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:38Z"),
        ] {
            assert_eq!(headers.get(name).unwrap(), value, "{name}");
        }
    }

    #[test]
    fn connection_state_and_foreign_marks_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("set-cookie", "a=b"),
            ("content-encoding", "gzip"),
            ("cf-ray", "1"),
            ("access-control-allow-origin", "*"),
            ("x-switchboard-target", "forged"),
            ("x-request-id", "theirs"),
            ("x-ratelimit-remaining-tokens", "7"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for_client(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-ratelimit-remaining-tokens", "x-upstream-request-id"]);
    }
}
