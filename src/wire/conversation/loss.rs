//! What a translation could not say. Every loss is named: in a header, in the receipt, or, by policy, as a refusal.

use std::borrow::Cow;

use super::text::Text;

/// Something the source said for which the target format, or this target, has no words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where it stood in the source: `logit_bias`, `messages[2].content[0]`.
    pub path: String,
    pub why: Cow<'static, str>,
}

/// The losses of one translation: each place once, and a bounded number of them.
#[derive(Clone, Debug, Default)]
pub struct Losses {
    list: Vec<Loss>,
    /// How many more there were.
    more: usize,
}

/// More places than this are counted only.
const MAX_LOSSES: usize = 64;

impl Losses {
    pub fn note(&mut self, path: impl std::fmt::Display, why: impl Into<Cow<'static, str>>) {
        if self.list.len() >= MAX_LOSSES {
            self.more += 1;
            return;
        }
        let loss = Loss { path: path.to_string(), why: why.into() };
        if !self.list.contains(&loss) {
            self.list.push(loss);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many losses are not listed.
    pub fn unlisted(&self) -> usize {
        self.more
    }

    pub fn extend(&mut self, other: Losses) {
        self.more += other.more;
        for loss in other.list {
            self.note(loss.path, loss.why);
        }
    }

    /// The places, for the header `x-switchboard-lossy`: visible ASCII only, separated by commas.
    pub fn header(&self) -> String {
        let mut header = String::new();
        for loss in &self.list {
            if !header.is_empty() {
                header.push_str(", ");
            }
            header.extend(loss.path.chars().map(|c| if c.is_ascii_graphic() && c != ',' { c } else { '?' }));
        }
        if self.more > 0 {
            header.push_str(", and more");
        }
        header
    }
}

/// A request in a target's format.
#[derive(Clone, Debug)]
pub struct Encoded {
    pub body: bytes::Bytes,
    pub losses: Losses,
    /// What was done to the request that its reply must not show.
    pub undo: Undo,
}

/// What a reply's decoder has to undo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undo {
    /// The answer comes as a call of the tool [`JSON_TOOL`].
    pub json_tool: bool,
    /// Tools that go by another name, because the provider would not take theirs: the name sent, and the tool's own.
    pub names: Vec<(String, String)>,
}

impl Undo {
    /// A tool's own name.
    pub(in crate::wire) fn name<'a>(&self, sent: Text<'a>) -> Text<'a> {
        match self.names.iter().find(|(short, _)| sent == *short.as_str()) {
            Some((_, own)) => Text::new(own),
            None => sent,
        }
    }
}

/// The tool that a model is made to call where JSON output has no parameter of its own. Its calls are the answer.
pub const JSON_TOOL: &str = "switchboard_json_output";
