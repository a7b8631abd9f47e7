//! Which models a key may use.

use std::collections::HashSet;

/// Names and patterns of models. An empty one allows none; everything must be asked for, if only with `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelAccess {
    names: HashSet<Box<str>>,
    /// What comes before and after the `*` of each pattern.
    patterns: Vec<(Box<str>, Box<str>)>,
}

/// A name or pattern that can mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a model name or pattern: {why}", pattern.escape_debug())]
pub struct BadPattern {
    pub pattern: String,
    /// Its place in the list, from 0.
    pub place: usize,
    pub why: &'static str,
}

/// Longer than any model's name.
const MAX_LENGTH: usize = 256;

impl ModelAccess {
    /// # Errors
    /// A pattern that is empty or over-long, holds spaces or control characters, or more than one `*`.
    pub fn new(patterns: &[String]) -> Result<Self, BadPattern> {
        let mut access = Self::default();
        for (place, pattern) in patterns.iter().enumerate() {
            check(pattern).map_err(|why| BadPattern { pattern: pattern.clone(), place, why })?;
            match pattern.split_once('*') {
                Some((before, after)) => access.patterns.push((before.into(), after.into())),
                None => {
                    access.names.insert(pattern.as_str().into());
                }
            }
        }
        Ok(access)
    }

    /// The names among the entries, without the patterns, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Whether the model of this name may be used. Ask again for every model a call is led to, fallbacks included.
    pub fn allows(&self, name: &str) -> bool {
        self.names.contains(name) || self.patterns.iter().any(|(before, after)| matches(name, before, after))
    }
}

/// The two ends must not overlap: `ab*bc` does not match `abc`.
fn matches(name: &str, before: &str, after: &str) -> bool {
    name.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
}

fn check(pattern: &str) -> Result<(), &'static str> {
    if pattern.is_empty() {
        return Err("it is empty");
    }
    if pattern.len() > MAX_LENGTH {
        return Err("it is longer than 256 bytes");
    }
    if pattern.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it holds a space or a control character");
    }
    if pattern.matches('*').count() > 1 {
        return Err("it holds more than one `*`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(patterns: &[&str]) -> ModelAccess {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        ModelAccess::new(&patterns).unwrap()
    }

    #[test]
    fn nothing_is_allowed_that_was_not_asked_for() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&[], "gpt-5.5", false),
            (&[], "", false),
            (&["*"], "gpt-5.5", true),
            (&["*"], "openai/gpt-5.5", true),
            (&["gpt-5.5"], "gpt-5.5", true),
            (&["gpt-5.5"], "GPT-5.5", false),
            (&["gpt-5.5"], "gpt-5.5-pro", false),
            (&["gpt-5.5"], "openai/gpt-5.5", false),
            (&["openai/*"], "openai/gpt-5.5", true),
            (&["openai/*"], "openai/ft:a/b", true),
            (&["openai/*"], "openai", false),
            (&["openai/*"], "azure/openai/x", false),
            (&["*-mini"], "gpt-5.5-mini", true),
            (&["*-mini"], "gpt-5.5-mini-2", false),
            (&["gpt-*-mini"], "gpt-5.5-mini", true),
            (&["gpt-*-mini"], "gpt-mini", false),
            (&["ab*bc"], "abc", false),
            (&["ab*bc"], "abbc", true),
            (&["a", "b*"], "bee", true),
            (&["a", "b*"], "c", false),
        ];
        for (patterns, name, allowed) in cases {
            assert_eq!(access(patterns).allows(name), *allowed, "{patterns:?} {name}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        let long = "x".repeat(257);
        for pattern in ["", " ", "a b", "gpt-5.5 ", "a\n", "*/*", "**", long.as_str()] {
            assert!(ModelAccess::new(&[pattern.to_owned()]).is_err(), "{pattern:?}");
        }
    }
}
