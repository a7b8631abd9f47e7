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
