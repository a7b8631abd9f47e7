//! Providers: their kind, address, keys and headers.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue, Uri};

use super::{
    Report,
    server::{readable, timeout},
};
use crate::{
    config::{
        complaint::{nearest, quoted},
        discover::example,
        settings::Settings,
        vendors::{self, MOCK, VendorFacts},
    },
    providers::settings::ProviderSettings,
    types::Secret,
};

/// Client headers that never reach a provider: the gateway's own credentials, and what belongs to one connection.
const NEVER_FORWARDED: [&str; 16] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers that HTTP itself sets on a call.
const NEVER_SET: [&str; 8] =
    ["host", "content-length", "connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

pub(super) fn check(settings: &Settings, report: &mut Report<'_>) {
    for (name, provider) in &settings.providers {
        let path = ["providers", name.as_str()];
        if name.is_empty() || name.contains(|c: char| c == '/' || c == '*' || c.is_whitespace() || c.is_control()) {
            let help = "it becomes the part before the `/` of a target such as openai/gpt-5.5";
            report.error_with_help(&path, "a provider's name must not be empty or hold `/`, `*` or spaces", help);
        }
        let vendor = kind(name, provider, report);
        if let Some(vendor) = vendor {
            address(name, provider, &vendor, report);
            keys(name, provider, &vendor, report);
        }
        headers(name, provider, report);
        timeout(&["providers", name, "timeout"], &provider.timeout, report);
        if let Some(file) = &provider.ca_file {
            readable(&["providers", name, "ca_file"], file, report);
        }
    }
    if settings.providers.is_empty() && !settings.models.is_empty() {
        report.warning(&["models"], "there are models but no providers", "add one under `providers`");
    }
    if settings.models.is_empty() && !settings.providers.is_empty() {
        let message = "there are providers but no models, so nothing can be called";
        report.warning(&["providers"], message, format!("add `models`, {}", example(&settings.providers)));
    }
}

fn kind(name: &str, provider: &ProviderSettings, report: &mut Report<'_>) -> Option<VendorFacts> {
    let kind = provider.kind.as_deref().unwrap_or(name);
    let vendor = vendors::find(kind);
    if let Some(gone) = vendors::retired(kind) {
        report.error_with_help(&["providers", name], format!("{} is gone", gone.title), gone.why);
    } else if vendor.is_none() {
        let near = nearest(kind, vendors::kinds().map(|vendor| vendor.name));
        let help = match (near, &provider.kind) {
            (Some(near), Some(_)) => format!("did you mean `{near}`?"),
            (Some(near), None) => format!("did you mean `{near}`? Else say with `kind` which vendor it is"),
            (None, Some(_)) => "for a vendor that is not in the table, write openai_compatible and a base_url".into(),
            (None, None) => "say with `kind` which vendor it is, for example openai_compatible".into(),
        };
        let path: &[&str] = if provider.kind.is_some() { &["providers", name, "kind"] } else { &["providers", name] };
        report.error_with_help(path, format!("no vendor is called {}", quoted(kind)), help);
    }
    vendor
}

fn address(name: &str, provider: &ProviderSettings, vendor: &VendorFacts, report: &mut Report<'_>) {
    let path = ["providers", name, "base_url"];
    match &provider.base_url {
        None if vendor.needs_base_url => {
            let message = format!("`base_url` is missing: {} has no address of its own", quoted(vendor.name));
            report.error_with_help(&["providers", name], message, "for example http://127.0.0.1:8000/v1");
        }
        Some(_) if vendor.name == MOCK => report.error(&path, "the mock is built in and has no address"),
        Some(url) => {
            if let Err(why) = check_url(url) {
                report.error_with_help(&path, why, "for example https://llm.example.com/v1");
            }
        }
        None => {}
    }
}

/// `http` or `https`, a host, a path, and nothing else.
fn check_url(url: &str) -> Result<(), &'static str> {
    if url.is_empty() {
        return Err("this is empty");
    }
    let uri: Uri = url.parse().map_err(|_| "this is not a URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("a URL must begin with http:// or https://");
    }
    let authority = uri.authority().ok_or("a URL must name a host")?;
    if authority.host().is_empty() {
        return Err("a URL must name a host");
    }
    if authority.as_str().contains('@') {
        return Err("a URL must not hold a user name or password; use `api_key` or `headers`");
    }
    if uri.query().is_some() || url.contains('#') {
        return Err("a base URL must not have a query or a fragment");
    }
    Ok(())
}

fn keys(name: &str, provider: &ProviderSettings, vendor: &VendorFacts, report: &mut Report<'_>) {
    if provider.api_key.is_some() && !provider.api_keys.is_empty() {
        let message = "`api_key` and `api_keys` are both set";
        report.error_with_help(&["providers", name, "api_keys"], message, "put every key into `api_keys`");
    }
    if let Some(key) = &provider.api_key {
        key_value(&["providers", name, "api_key"], key, report);
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (index, key) in provider.api_keys.iter().enumerate() {
        let place = index.to_string();
        let path = ["providers", name, "api_keys", place.as_str()];
        key_value(&path, key, report);
        match first.get(key.expose()) {
            Some(earlier) => report.error(&path, format!("this is the same key as api_keys[{earlier}]")),
            None => drop(first.insert(key.expose(), index)),
        }
    }
    let signs = provider
        .headers
        .keys()
        .any(|header| NEVER_FORWARDED.iter().any(|sensitive| header.eq_ignore_ascii_case(sensitive)));
    if provider.api_key.is_none() && provider.api_keys.is_empty() && !vendor.local && !signs {
        let variables = vendor.key_env.join(" or ");
        let message = match vendor.key_env {
            [] => "this provider has no key: its calls will be refused".to_owned(),
            _ => format!("this provider has no key, and {variables} is not set: its calls will be refused"),
        };
        report.warning(&["providers", name], message, "set the variable or `api_key`");
    }
}

fn key_value(path: &[&str], key: &Secret, report: &mut Report<'_>) {
    let text = key.expose();
    if text.is_empty() {
        report.error(path, "this key is empty");
    } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
        let help = "is there a space, a line break or a quote too many?";
        report.error_with_help(path, "this key holds characters that no key has", help);
    }
}

fn headers(name: &str, provider: &ProviderSettings, report: &mut Report<'_>) {
    for (header, value) in &provider.headers {
        let path = ["providers", name, "headers", header.as_str()];
        if HeaderName::try_from(header.as_str()).is_err() {
            report.error(&path, format!("{} is not the name of a header", quoted(header)));
        } else if NEVER_SET.iter().any(|own| header.eq_ignore_ascii_case(own)) {
            report.error(&path, format!("{} is set by HTTP itself", quoted(header)));
        }
        if HeaderValue::from_str(value.expose()).is_err() {
            report.error(&path, "this cannot be the value of a header");
        }
    }
    for (index, header) in provider.forward_headers.iter().enumerate() {
        let place = index.to_string();
        let path = ["providers", name, "forward_headers", place.as_str()];
        if HeaderName::try_from(header.as_str()).is_err() {
            report.error(&path, format!("{} is not the name of a header", quoted(header)));
        } else if NEVER_FORWARDED.iter().any(|own| header.eq_ignore_ascii_case(own)) {
            let message = format!("{} never leaves the gateway", quoted(header));
            report.error_with_help(&path, message, "to send a fixed value, use `headers` or `api_key`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn a_base_url_is_a_scheme_a_host_and_a_path() {
        for url in ["http://127.0.0.1:8000/v1", "https://a.example", "https://a.example/v1/", "http://[::1]:8/v1"] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        let wrong =
            ["", "a.example/v1", "ftp://a.example", "/v1", "https://", "http://a b", "https://:80/", "localhost:80"];
        for url in wrong.into_iter().chain(["https://me:pw@a.example", "https://a.example?x=1", "https://a.example/#x"])
        {
            assert!(check_url(url).is_err(), "{url}");
        }
    }
}
