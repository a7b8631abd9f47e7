//! The file at hand: it turns a place or a path into a complaint that shows the line, without the secrets in it.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    complaint::{Complaint, Excerpt, Severity},
    schema::settings_schema,
    shape::{looks_secret, may_hold_secrets},
    tree::{Content, Flaw, Mark, Node, Range},
};

/// How much of a long line is shown.
const MAX_EXCERPT: usize = 120;

/// A file's text, its tree, and what of it must not be shown.
pub(super) struct Document {
    file: Option<PathBuf>,
    text: String,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    pub root: Option<Node>,
    hidden: Hidden,
}

/// What of a text must not be shown.
pub(super) enum Hidden {
    /// The tree is known, and these stretches of it are secret.
    These(Vec<Range>),
    /// The text did not parse, so that nobody knows what is a secret: only the key of a line is shown, except in
    /// sections that hold none.
    AllButKeys,
}

impl Document {
    pub(super) fn new(file: Option<&Path>, text: &str, root: Option<Node>, hidden: Hidden) -> Self {
        let text = text.to_owned();
        Self { file: file.map(Path::to_owned), lines: line_starts(&text), text, root, hidden }
    }

    pub(super) fn complaint(&self, flaw: Flaw) -> Complaint {
        let Flaw { severity, range, path, message, help } = flaw;
        let path = self.spell(&path);
        let Mark { line, column } = range.start;
        let excerpt = if line == 0 { None } else { self.excerpt(range) };
        Complaint { file: self.file.clone(), line, column, path, message, help, severity, excerpt }
    }

    /// A complaint about the setting at `path`, or about the nearest one above it that is written down.
    pub(super) fn complain(&self, severity: Severity, path: &[String], message: String, help: Option<String>) -> Flaw {
        Flaw { severity, range: self.locate(path), path: path.to_vec(), message, help }
    }

    /// Where `path` is written: a scalar itself, but the key of a mapping or a list.
    fn locate(&self, path: &[String]) -> Range {
        let Some(mut node) = self.root.as_ref() else { return Range::default() };
        // Whatever belongs to the root belongs to the whole file.
        let mut range = Range::default();
        for step in path {
            let Some((key_range, next)) = child(node, step) else { break };
            range = place(key_range, next);
            node = next;
        }
        range
    }

    /// Whether the file itself says something at `path`.
    pub(super) fn is_written(&self, path: &[&str]) -> bool {
        let mut node = self.root.as_ref();
        for step in path {
            node = node.and_then(|node| child(node, step)).map(|(_, node)| node);
        }
        node.is_some()
    }

    /// `models["gpt-5.5"].targets[0]`: names are quoted where they hold more than letters, digits, `_`, `-` and `/`.
    fn spell(&self, path: &[String]) -> String {
        let mut spelled = String::new();
        let mut node = self.root.as_ref();
        for step in path {
            if matches!(node.map(|node| &node.content), Some(Content::List(_))) {
                spelled.push_str(&format!("[{step}]"));
            } else {
                push_name(&mut spelled, step);
            }
            node = node.and_then(|node| child(node, step)).map(|(_, node)| node);
        }
        spelled
    }

    /// The line on which `range` begins, without what is hidden.
    fn excerpt(&self, range: Range) -> Option<Excerpt> {
        let Mark { line: number, column } = range.start;
        let start = *self.lines.get(number.checked_sub(1)?)?;
        let end = self.lines.get(number).copied().unwrap_or(self.text.len());
        let text = self.text.get(start..end)?.trim_end_matches(['\r', '\n']);
        let secret = self.secret_columns(number, text);
        let length = text.chars().count();
        let last = if range.end.line == number { range.end.column } else { length + 1 };

        let mut line = String::new();
        let (mut shown, mut indent, mut width) = (0, None, 0);
        let mut masking = false;
        // The window keeps what is meant in view when the line is long.
        let first_shown = column.saturating_sub(MAX_EXCERPT / 2).min((length + 1).saturating_sub(MAX_EXCERPT));
        for (index, letter) in text.chars().enumerate() {
            let here = index + 1;
            if here < first_shown || shown >= MAX_EXCERPT {
                continue;
            }
            let masked = secret.iter().any(|(from, to)| (*from..*to).contains(&here));
            let skip = masked && masking;
            masking = masked;
            if here >= column && indent.is_none() {
                indent = Some(if skip { shown - 1 } else { shown });
            }
            if !skip {
                line.push(if masked { '…' } else { printable(letter) });
                shown += 1;
            }
            if here >= column && here < last {
                width = shown - indent.unwrap_or(shown);
            }
        }
        let line = line.trim_end().to_owned();
        let indent = indent.unwrap_or(shown);
        Some(Excerpt { line, indent, width: width.max(1) })
    }

    /// The columns of line `number` that must not be shown, from 1, ends exclusive.
    fn secret_columns(&self, number: usize, text: &str) -> Vec<(usize, usize)> {
        match &self.hidden {
            Hidden::AllButKeys if self.is_harmless(number, text) => Vec::new(),
            Hidden::AllButKeys => vec![(key_length(text) + 1, usize::MAX)],
            Hidden::These(ranges) => {
                let on_line = ranges.iter().filter(|r| r.start.line <= number && number <= r.end.line);
                on_line
                    .map(|r| {
                        let from = if r.start.line == number { r.start.column } else { 1 };
                        let to = if r.end.line == number { r.end.column } else { usize::MAX };
                        (from, to)
                    })
                    .collect()
            }
        }
    }

    /// Whether line `number` of a text that does not parse belongs to a section without secrets, as far as its looks
    /// say: the last line before it that begins with a name and a colon begins such a section.
    fn is_harmless(&self, number: usize, text: &str) -> bool {
        let before = self.lines.get(..number).into_iter().flatten().rev();
        let mut starts = before.filter_map(|start| self.text.get(*start..));
        let section = starts.find(|line| !line.starts_with(|c: char| c.is_whitespace() || "#-]}".contains(c)));
        let section =
            section.map(|line| line.split(|c: char| c != '_' && !c.is_ascii_lowercase()).next().unwrap_or(line));
        section.is_some_and(has_no_secrets) && !looks_secret(text)
    }
}

/// The text may hold secrets.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("file", &self.file).finish_non_exhaustive()
    }
}

/// The member or item of `node` that is called `step`, and its key.
fn child<'n>(node: &'n Node, step: &str) -> Option<(Option<Range>, &'n Node)> {
    match &node.content {
        Content::Map(entries) => {
            entries.iter().find(|entry| entry.key == step).map(|entry| (Some(entry.key_range), &entry.value))
        }
        Content::List(items) => items.get(step.parse::<usize>().ok()?).map(|item| (None, item)),
        Content::Scalar { .. } => None,
    }
}

/// Where a complaint about `node` points: at the key of a collection, at a scalar itself.
pub(super) fn place(key: Option<Range>, node: &Node) -> Range {
    match (&node.content, key) {
        (Content::Scalar { .. }, Some(key)) if node.range.start == node.range.end => key,
        (Content::Map(_) | Content::List(_), Some(key)) => key,
        // Only the beginning of a collection without a key: its end may be many lines below.
        (Content::Map(_) | Content::List(_), None) => Range { start: node.range.start, end: node.range.start },
        (Content::Scalar { .. }, _) => node.range,
    }
}

/// A path without a tree to look it up in: whole numbers are taken for places in lists.
pub(super) fn spell(path: &[String]) -> String {
    let mut spelled = String::new();
    for step in path {
        if !spelled.is_empty() && !step.is_empty() && step.bytes().all(|b| b.is_ascii_digit()) {
            spelled.push_str(&format!("[{step}]"));
        } else {
            push_name(&mut spelled, step);
        }
    }
    spelled
}

fn push_name(spelled: &mut String, name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/');
    if !name.is_empty() && name.len() <= 60 && name.chars().all(plain) {
        if !spelled.is_empty() {
            spelled.push('.');
        }
        spelled.push_str(name);
    } else {
        let name: String = name.chars().take(60).map(printable).collect();
        spelled.push_str(&format!("[\"{name}\"]"));
    }
}

/// The length in characters of `  - key:`, or 0 where the line has no key. A key is one word; a word at the end of
/// a secret of several lines could only be taken for one if a colon and a space followed it.
fn key_length(line: &str) -> usize {
    let after = line.trim_start_matches([' ', '\t', '-']);
    let start = line.len() - after.len();
    let Some(colon) = after.find(": ").or_else(|| after.strip_suffix(':').map(str::len)) else { return 0 };
    let key = after[..colon].trim_matches('"');
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.' | '*');
    if key.len() > 60 || !key.chars().all(plain) { 0 } else { start + colon + 1 }
}

/// Whether `section` is a section of the settings, and one that cannot hold secrets.
fn has_no_secrets(section: &str) -> bool {
    let section = settings_schema().get("properties").and_then(|sections| sections.get(section));
    section.is_some_and(|schema| !may_hold_secrets(settings_schema(), schema))
}

fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Lines end in LF, CRLF or CR (YAML 1.2.2, §5.4).
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends_line = |at: usize, byte: u8| byte == b'\n' || (byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
    let breaks = bytes.iter().enumerate().filter(|(at, byte)| ends_line(*at, **byte));
    std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(line: usize, from: usize, to: usize) -> Range {
        Range { start: Mark { line, column: from }, end: Mark { line, column: to } }
    }

    #[test]
    fn hidden_stretches_become_one_sign_and_the_caret_moves_with_them() {
        let text = "a: {k: secret, b: 1}\r\nlast: x";
        let document = Document::new(None, text, None, Hidden::These(vec![range(1, 8, 14)]));
        let excerpt = |r| document.excerpt(r).unwrap();
        assert_eq!(excerpt(range(1, 16, 17)), Excerpt { line: "a: {k: …, b: 1}".into(), indent: 10, width: 1 });
        assert_eq!(excerpt(range(1, 8, 14)), Excerpt { line: "a: {k: …, b: 1}".into(), indent: 7, width: 1 });
        assert_eq!(excerpt(range(1, 10, 11)).indent, 7, "inside the hidden stretch");
        assert_eq!(excerpt(range(2, 1, 5)), Excerpt { line: "last: x".into(), indent: 0, width: 4 });
        assert_eq!(document.excerpt(range(9, 1, 2)), None);
    }

    #[test]
    fn a_text_that_does_not_parse_shows_its_keys_alone() {
        let text = "api_key: sk-live\n  - \"a/*\": [x\n    secret\n  user pass: x\nproviders:\n  a: b\n\
                    models:\n  a: [b\n  a: sk-c\n{}";
        let document = Document::new(None, text, None, Hidden::AllButKeys);
        let lines: Vec<_> = (1..=10).map(|line| document.excerpt(range(line, 1, 2)).unwrap().line).collect();
        let shown = ["api_key:…", "  - \"a/*\":…", "…", "…", "providers:", "  a:…", "models:", "  a: [b", "  a:…", "…"];
        assert_eq!(lines, shown);
    }

    #[test]
    fn a_long_line_is_cut_around_what_is_meant() {
        let text = format!("{}HERE{}", "x".repeat(1_000), "y".repeat(1_000));
        let document = Document::new(None, &text, None, Hidden::These(Vec::new()));
        let Excerpt { line, indent, width } = document.excerpt(range(1, 1_001, 1_005)).unwrap();
        assert!(line.chars().count() <= MAX_EXCERPT);
        assert_eq!(&line[indent..indent + width], "HERE");
    }

    #[test]
    fn paths_are_spelled_as_one_would_write_them() {
        let path = |steps: &[&str]| spell(&steps.iter().map(|&step| step.to_owned()).collect::<Vec<_>>());
        assert_eq!(path(&["models", "gpt-5.5", "targets", "0", "weight"]), "models[\"gpt-5.5\"].targets[0].weight");
        assert_eq!(path(&["models", "openai/gpt"]), "models.openai/gpt");
    }
}
