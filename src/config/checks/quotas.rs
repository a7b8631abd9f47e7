//! Quotas declared in the file, and the webhook.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue, Uri};

use super::Report;
use crate::{
    config::{complaint::quoted, settings::Settings},
    quotas::{Rule, settings::Action},
    types::nearest,
};

pub(super) fn check(settings: &Settings, report: &mut Report<'_>) {
    let mut names: HashMap<String, usize> = HashMap::new();
    for (index, quota) in settings.quotas.iter().enumerate() {
        let place = index.to_string();
        if let Err(wrong) = Rule::new("declared:", quota) {
            for bad in wrong {
                let path: Vec<&str> =
                    ["quotas", place.as_str()].into_iter().chain(bad.path.iter().map(String::as_str)).collect();
                report.error(&path, bad.message);
            }
        }
        let name = quota.name.clone().unwrap_or_else(|| quota.derived_name());
        if let Some(earlier) = names.get(&name) {
            let message = format!("quotas[{earlier}] is called {}, too", quoted(&name));
            report.error_with_help(&["quotas", &place], message, "give one of them another `name`");
        } else {
            names.insert(name, index);
        }
        if let Action::Downgrade(to) = &quota.action {
            let known = || settings.models.keys().chain(settings.aliases.keys()).map(String::as_str);
            let covered = |pattern: &str| {
                pattern.split_once('*').is_some_and(|(before, after)| to.starts_with(before) && to.ends_with(after))
            };
            if !settings.models.is_empty() && !known().any(|name| name == to || covered(name)) {
                let help = nearest(to, known()).map(|name| format!("did you mean {}?", quoted(name)));
                let message = format!("there is no model {}", quoted(to));
                let path = ["quotas", &place, "action", "downgrade"];
                report.error_with_help(&path, message, help.unwrap_or_else(|| "name one of `models`".to_owned()));
            }
        }
        let wants_webhook = !quota.warn_at.is_empty() || quota.action == Action::Warn;
        if wants_webhook && settings.webhook.is_none() {
            let help = "set `webhook: { url: … }`";
            report.warning(&["quotas", &place], "this quota warns, but there is no `webhook` to tell", help);
        }
    }
    webhook(settings, report);
}

fn webhook(settings: &Settings, report: &mut Report<'_>) {
    let Some(webhook) = &settings.webhook else { return };
    let uri = webhook.url.expose().parse::<Uri>().ok();
    let usable = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some_and(|a| !a.host().is_empty())
    });
    if !usable {
        report.error_with_help(&["webhook", "url"], "this is no web address", "https://example.com/hooks/switchboard");
    }
    if webhook.timeout.0.is_zero() {
        report.error_with_help(&["webhook", "timeout"], "this is too short", "at least 1ms");
    }
    for (name, value) in &webhook.headers {
        if name.parse::<HeaderName>().is_err() {
            report.error(&["webhook", "headers", name], "this is no name of a header");
        } else if HeaderValue::from_str(value.expose()).is_err() {
            report.error(&["webhook", "headers", name], "this value cannot be sent in a header");
        }
    }
}
