//! Which models a key may use.

use std::collections::HashSet;

use super::pattern::Pattern;

/// The models a key may use, by name or by pattern with one `*`. An empty list means none; `*` means all.
#[derive(Clone, Debug, Default)]
pub struct ModelAccess {
    names: HashSet<Box<str>>,
    patterns: Vec<Pattern>,
}

impl ModelAccess {
    /// Entries that [`ModelAccess::is_valid`] refuses allow nothing.
    pub fn new(entries: &[String]) -> Self {
        let mut access = Self::default();
        for entry in entries {
            match Pattern::parse(entry) {
                Some(pattern) => access.patterns.push(pattern),
                // A name cannot hold a `*`, so an entry with several of them matches none.
                None => _ = access.names.insert(entry.as_str().into()),
            }
        }
        access
    }

    /// Whether `entry` can match anything: not empty, and at most one `*`.
    pub fn is_valid(entry: &str) -> bool {
        !entry.is_empty() && entry.matches('*').count() <= 1
    }

    /// Whether `name` itself is on the list. What a *call* may use is [`super::Resolved::permitted`], which also looks
    /// at the model behind an alias or a pattern.
    ///
    /// The name of a pattern (`openai/*`) is allowed only by a pattern that matches all that it does: the literal text
    /// before a `*` here holds no `*`, so it can only match the literal text of the other.
    pub fn allows(&self, name: &str) -> bool {
        self.names.contains(name) || self.patterns.iter().any(|pattern| pattern.captures(name).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_allows_what_it_names_and_nothing_else() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&[], "gpt-5.5", false),
            (&[], "", false),
            (&["*"], "gpt-5.5", true),
            (&["*"], "openai/*", true),
            (&["gpt-5.5"], "gpt-5.5", true),
            (&["gpt-5.5"], "gpt-5.5-mini", false),
            (&["gpt-5.5"], "GPT-5.5", false),
            (&["openai/*"], "openai/gpt-5.5", true),
            (&["openai/*"], "openai/*", true),
            (&["openai/gpt-*"], "openai/*", false),
            (&["open*"], "openai/*", true),
            (&["azure/*", "*-mini"], "gpt-5.5-mini", true),
            (&["azure/*", "*-mini"], "openai/gpt-5.5", false),
            (&["a*b*"], "axbx", false),
            (&["**"], "x", false),
        ];
        for (entries, name, expected) in cases {
            let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
            assert_eq!(ModelAccess::new(&entries).allows(name), *expected, "{entries:?} {name}");
        }
    }

    #[test]
    fn entries_that_can_match_nothing_are_known() {
        for (entry, valid) in [("*", true), ("gpt", true), ("a*b", true), ("", false), ("**", false), ("a*b*", false)] {
            assert_eq!(ModelAccess::is_valid(entry), valid, "{entry}");
        }
    }
}
