//! Keys declared in the file.

use std::collections::HashMap;

use super::Report;
use crate::{
    auth::labels::{check_project, check_tags},
    config::{complaint::quoted, settings::Settings},
};

/// Shorter keys can be guessed.
const MIN_KEY: usize = 16;

pub(super) fn check(settings: &Settings, report: &mut Report<'_>) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut values: HashMap<&str, usize> = HashMap::new();
    for (index, key) in settings.keys.iter().enumerate() {
        let place = index.to_string();
        let at = |member| ["keys", place.as_str(), member];
        if key.name.trim().is_empty() {
            report.error(&at("name"), "a key must have a name");
        }
        match names.get(key.name.as_str()) {
            Some(earlier) => {
                report.error(&at("name"), format!("keys[{earlier}] is called {}, too", quoted(&key.name)));
            }
            None => drop(names.insert(&key.name, index)),
        }
        let value = key.value.expose();
        if value.is_empty() {
            report.error(&at("value"), "this key is empty");
        } else if !value.bytes().all(|b| b.is_ascii_graphic()) {
            let help = "a key is sent in a header: letters, digits and signs, without spaces";
            report.error_with_help(&at("value"), "this key holds characters that cannot be sent", help);
        } else if value.len() < MIN_KEY {
            let help = format!("at least {MIN_KEY} characters; `switchboard keys create` makes a good one");
            report.error_with_help(&at("value"), "this key is short enough to be guessed", help);
        }
        match values.get(value) {
            Some(earlier) => report.error(&at("value"), format!("this is the same key as keys[{earlier}]")),
            None => drop(values.insert(value, index)),
        }
        if let Err(message) = check_project(&key.project) {
            report.error(&at("project"), message);
        }
        if let Err((entry, message)) = check_tags(&key.tags) {
            let entry = entry.map(|entry| entry.to_string());
            let path: Vec<&str> = at("tags").into_iter().chain(entry.as_deref()).collect();
            report.error(&path, message);
        }
        if key.models.is_empty() {
            let help = "list models or patterns, for example [\"*\"] for all";
            report.warning(&["keys", &place], "this key may use no model", help);
        }
    }
}
