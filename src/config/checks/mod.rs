//! What types cannot say. Targets, fallbacks and aliases are checked where routes are built.

mod admin;
mod keys;
mod prices;
mod providers;
mod quotas;
pub(super) mod routes;
mod server;

use super::{complaint::Severity, document::Document, settings::Settings, tree::Flaw};

/// Everything wrong with `settings`, which `document` was read into.
pub(super) fn check(settings: &Settings, document: &Document) -> Vec<Flaw> {
    let mut report = Report { document, flaws: Vec::new() };
    server::check(settings, &mut report);
    providers::check(settings, &mut report);
    prices::check(settings, &mut report);
    keys::check(settings, &mut report);
    admin::check(settings, &mut report);
    quotas::check(settings, &mut report);
    report.flaws
}

/// Collects flaws under their places in the file.
struct Report<'a> {
    document: &'a Document,
    flaws: Vec<Flaw>,
}

impl Report<'_> {
    fn error(&mut self, path: &[&str], message: impl Into<String>) {
        self.add(Severity::Error, path, message.into(), None);
    }

    fn error_with_help(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Error, path, message.into(), Some(help.into()));
    }

    fn warning(&mut self, path: &[&str], message: impl Into<String>, help: impl Into<String>) {
        self.add(Severity::Warning, path, message.into(), Some(help.into()));
    }

    fn add(&mut self, severity: Severity, path: &[&str], message: String, help: Option<String>) {
        let path: Vec<String> = path.iter().map(|&step| step.to_owned()).collect();
        self.flaws.push(self.document.complain(severity, &path, message, help));
    }
}
