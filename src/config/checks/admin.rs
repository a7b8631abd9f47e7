//! The admin API: its key, and an address of its own.

use std::collections::HashSet;

use super::Report;
use crate::config::{discover::ADMIN_KEY_VARIABLE, settings::Settings};

/// Shorter keys can be guessed.
const MIN_KEY: usize = 16;

/// A key of fewer different characters was typed by somebody who wanted to get on.
const MIN_DIFFERENT: usize = 8;

pub(super) fn check(settings: &Settings, report: &mut Report<'_>) {
    let at = ["admin", "key"];
    let Some(key) = &settings.admin.key else { return address(settings, report) };
    let key = key.expose();
    // A key from the environment is at no place in the file.
    let name = if report.document.is_written(&at) { "this key" } else { ADMIN_KEY_VARIABLE };
    let help = "for example the output of `openssl rand -hex 32`";
    let different = key.bytes().collect::<HashSet<_>>().len();
    if key.is_empty() {
        report.error_with_help(&at, format!("{name} is empty"), help);
    } else if !key.bytes().all(|b| b.is_ascii_graphic()) {
        let help = "a key is sent in a header: letters, digits and signs, without spaces";
        report.error_with_help(&at, format!("{name} holds characters that cannot be sent"), help);
    } else if key.len() < MIN_KEY {
        let message = format!("{name} is short enough to be guessed: the admin key has at least {MIN_KEY} characters");
        report.error_with_help(&at, message, help);
    } else if different < MIN_DIFFERENT {
        report.error_with_help(&at, format!("{name} repeats a few characters, so that it can be guessed"), help);
    }
    if let Some(index) = settings.keys.iter().position(|declared| declared.value.expose() == key) {
        let help = "calls made with the admin key would pass every limit: it is a key of its own";
        report.error_with_help(&at, format!("{name} is the same key as keys[{index}]"), help);
    }
    address(settings, report);
}

fn address(settings: &Settings, report: &mut Report<'_>) {
    // Port 0 is another free port each time.
    if settings.admin.listen.is_some_and(|listen| listen == settings.listen && listen.port() != 0) {
        let help = "leave it out to serve the admin API at `listen`";
        report.error_with_help(&["admin", "listen"], "this is the address of `listen`", help);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Environment, parse};

    fn complaints(text: &str, variable: Option<&str>) -> String {
        let env = Environment::of(variable.map(|value| ("SWITCHBOARD_ADMIN_KEY", value)));
        parse(text, None, &env).map_or_else(|complaints| complaints.to_string(), |_| String::new())
    }

    #[test]
    fn a_weak_admin_key_is_refused_wherever_it_comes_from() {
        let declared = "keys: [{ name: a, value: canary-0123456789, models: [a] }]";
        let cases = [
            ("0123456789abcdef", ""),
            ("canary-short", "short enough to be guessed"),
            ("canary canary 0123", "cannot be sent"),
            ("aaaaaaaaaaaaaaaaaaaaaaaa", "repeats a few characters"),
            ("1234123412341234", "repeats a few characters"),
            ("canary-0123456789", "the same key as keys[0]"),
        ];
        for (key, words) in cases {
            let inline = complaints(&format!("admin: {{ key: \"{key}\" }}\n{declared}"), None);
            let outside = complaints(declared, Some(key));
            for told in [&inline, &outside] {
                assert!(told.contains(words) && told.is_empty() == words.is_empty(), "{key}: {told}");
                assert!(!told.contains("canary"), "a key is shown: {told}");
            }
            assert!(words.is_empty() || outside.contains("SWITCHBOARD_ADMIN_KEY"), "{outside}");
        }
    }

    #[test]
    fn two_listeners_need_two_addresses() {
        let same = "listen: 127.0.0.1:8080\nadmin: { listen: \"127.0.0.1:8080\" }";
        assert!(complaints(same, None).contains("the address of `listen`"));
        assert_eq!(complaints(&same.replacen("8080", "8081", 1), None), "");
        assert_eq!(complaints(&same.replace("8080", "0"), None), "");
    }
}
