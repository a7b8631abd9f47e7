//! Prices that stand in the configuration, and where more are fetched.

use http::Uri;

use super::{
    Report,
    server::{at_most_a_day, positive, within},
};
use crate::{
    config::{
        complaint::{nearest, quoted},
        settings::Settings,
    },
    types::{Period, Size},
};

/// Prices change by the day; who asks more often gains nothing and annoys the server.
const OFTEN: Period = Period::from_secs(60);
const MONTH: Period = Period::from_secs(31 * 86_400);

pub(super) fn check(settings: &Settings, report: &mut Report<'_>) {
    let prices = &settings.prices;
    for target in prices.models.keys() {
        let place = ["prices", "models", target];
        match target.split_once('/') {
            Some((provider, model)) if !model.is_empty() => known_provider(&place, provider, settings, report),
            _ => {
                let help = "as a target is written: provider/model, or provider/* for all of its models";
                report.error_with_help(&place, "this is not the name of a target", help);
            }
        }
    }
    for wrong in prices.overrides().err().into_iter().flatten() {
        let path: Vec<&str> = std::iter::once("prices").chain(wrong.path.iter().map(String::as_str)).collect();
        report.error(&path, wrong.message);
    }
    if prices.ceiling.as_ref().is_some_and(|ceiling| ceiling.times.is_some()) {
        report.error(&["prices", "ceiling", "times"], "a ceiling is a price, there is nothing to multiply");
    }
    if let Some(url) = &prices.url {
        let uri = url.parse::<Uri>().ok();
        let web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
        if !uri.as_ref().is_some_and(web) {
            let help = "an address such as https://example.com/prices.yaml";
            report.error_with_help(&["prices", "url"], "this is not a web address", help);
        }
    }
    within(&["prices", "refresh"], prices.refresh, OFTEN..=MONTH, report);
    positive(&["prices", "timeout"], prices.timeout, report);
    at_most_a_day(&["prices", "timeout"], prices.timeout, report);
    within(&["prices", "max_size"], prices.max_size, Size::kib(1)..=Size::mib(64), report);
}

fn known_provider(place: &[&str], provider: &str, settings: &Settings, report: &mut Report<'_>) {
    if settings.providers.contains_key(provider) {
        return;
    }
    let message = format!("there is no provider {}", quoted(provider));
    match nearest(provider, settings.providers.keys().map(String::as_str)) {
        Some(name) => report.error_with_help(place, message, format!("did you mean `{name}`?")),
        None => report.error_with_help(
            place,
            message,
            "prices are set for the providers of this file, by their names in it",
        ),
    }
}
