//! Complaints about a configuration: what is wrong, where, and what to write instead.

use std::{fmt, path::PathBuf};

pub(super) use crate::types::nearest;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but probably does not do what was meant.
    Warning,
}

/// One thing wrong with a configuration. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file at fault; `None` when the configuration did not come from one.
    pub file: Option<PathBuf>,
    /// From 1; 0 when the whole file is meant, or there is none.
    pub line: usize,
    /// In characters, from 1; 0 as for `line`.
    pub column: usize,
    /// The setting, for example `models.gpt.targets[0].weight`; empty when the YAML itself is at fault.
    pub path: String,
    /// What is wrong, in a sentence without a full stop.
    pub message: String,
    /// What to do about it, for example ``did you mean `targets`?``.
    pub help: Option<String>,
    pub severity: Severity,
    /// The line at fault, as far as it may be shown.
    pub excerpt: Option<Excerpt>,
}

/// A line of the file with its secrets taken out, and the part of it that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The line; each hidden stretch is a single `…`.
    pub line: String,
    /// How many characters of `line` stand before the part that is meant.
    pub indent: usize,
    /// How many characters are meant; at least 1.
    pub width: usize,
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints(pub Vec<Complaint>);

impl Complaints {
    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|complaint| complaint.severity == Severity::Error)
    }

    /// `2 errors, 1 warning`.
    pub fn count(&self) -> String {
        let errors = self.0.iter().filter(|complaint| complaint.severity == Severity::Error).count();
        let parts = [(errors, "error"), (self.0.len() - errors, "warning")];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<_> = parts.map(|(n, word)| format!("{n} {word}{}", if *n == 1 { "" } else { "s" })).collect();
        if parts.is_empty() { "no complaints".to_owned() } else { parts.join(", ") }
    }
}

impl std::error::Error for Complaints {}

impl From<Complaint> for Complaints {
    fn from(complaint: Complaint) -> Self {
        Self(vec![complaint])
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, complaint) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            write!(f, "{gap}{complaint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if !self.path.is_empty() {
            write!(f, " ({})", self.path)?;
        }
        f.write_str("\n")?;
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        if let Some(Excerpt { line, indent, width }) = &self.excerpt {
            writeln!(f, "{gutter} |\n{number} | {line}\n{gutter} | {}{}", " ".repeat(*indent), "^".repeat(*width))?;
        }
        if let Some(help) = &self.help {
            writeln!(f, "{gutter} = {help}")?;
        }
        Ok(())
    }
}

/// `word` in backticks, fit for a terminal: short, and without control characters.
pub(super) fn quoted(word: &str) -> String {
    let mut shown: String = word.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if word.chars().nth(60).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// ``did you mean `x`?``, or the names to choose from.
pub(super) fn suggestion(word: &str, names: &[&str]) -> Option<String> {
    if let Some(name) = nearest(word, names.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| format!("known here: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let names = ["targets", "timeout", "strategy", "max_tokens"];
        let cases = [
            ("tragets", Some("targets")),
            ("Timeout", Some("timeout")),
            ("max-tokens", Some("max_tokens")),
            ("target", Some("targets")),
            ("weather", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
        assert_eq!(nearest(&"t".repeat(100_000), names), None);
    }

    #[test]
    fn words_of_the_file_are_shown_short_and_without_control_characters() {
        assert_eq!(quoted("a\x1b[31m"), "`a\u{fffd}[31m`");
        assert_eq!(quoted(&"x".repeat(61)).chars().count(), 63);
    }
}
