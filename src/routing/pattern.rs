//! Names with one `*`, and the nearest of several names.

/// A name with one `*`, which stands for any text, also for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    before: Box<str>,
    after: Box<str>,
}

impl Pattern {
    /// `None` if `text` does not hold exactly one `*`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.split_once('*')?;
        (!after.contains('*')).then(|| Self { before: before.into(), after: after.into() })
    }

    /// What `*` stands for in `name`, or `None` if the pattern does not match it.
    pub(super) fn captures<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(&*self.before)?.strip_suffix(&*self.after)
    }

    /// The pattern with `star` in the place of its `*`.
    pub(super) fn fill(&self, star: &str) -> String {
        [&*self.before, star, &*self.after].concat()
    }

    /// How specific the pattern is: the length of its literal text, then of the part before the `*`.
    pub(super) fn rank(&self) -> (usize, usize) {
        (self.before.len() + self.after.len(), self.before.len())
    }
}

/// The name in `among` that `name` was most likely meant to be, or `None` if none is near. Comparing costs the product
/// of the lengths, so very long names, which a client can send, are near to nothing.
pub fn nearest<'a>(name: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 128;
    const NEAR: f64 = 0.6;
    if name.len() > LONGEST {
        return None;
    }
    among
        .into_iter()
        .filter(|other| other.len() <= LONGEST)
        .map(|other| (similarity(name, other), other))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, other)| other)
}

/// 1 for equal texts, 0 for wholly different ones: 1 − edit distance ÷ length of the longer.
fn similarity(a: &str, b: &str) -> f64 {
    let longer = a.chars().count().max(b.chars().count()).max(1);
    1.0 - strsim::osa_distance(a, b) as f64 / longer as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_at_its_place() {
        let cases = [
            ("openai/*", "openai/gpt-5.5", Some("gpt-5.5")),
            ("openai/*", "openai/a/b", Some("a/b")),
            ("openai/*", "openai/", Some("")),
            ("openai/*", "openai", None),
            ("*-mini", "gpt-mini", Some("gpt")),
            ("gpt-*-mini", "gpt-5-mini", Some("5")),
            ("gpt-*-mini", "gpt-mini", None),
            ("*", "anything", Some("anything")),
            ("é*é", "éxé", Some("x")),
            ("aba*aba", "aba", None),
        ];
        for (pattern, name, star) in cases {
            assert_eq!(Pattern::parse(pattern).unwrap().captures(name), star, "{pattern} {name}");
        }
        for text in ["gpt-5.5", "", "a*b*", "**"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_unless_all_are_far() {
        let names = ["gpt-5.5", "gpt-5.5-mini", "claude-opus-4-7"];
        let cases = [
            ("gpt5.5", Some("gpt-5.5")),
            ("gpt-5.5-mnii", Some("gpt-5.5-mini")),
            ("claude-opus", Some("claude-opus-4-7")),
            ("llama", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
        let long = "g".repeat(1 << 20);
        assert_eq!(nearest(&long, [&*long]), None);
    }
}
