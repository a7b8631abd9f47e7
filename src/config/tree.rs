//! YAML text as a tree that remembers where everything stands, so that a complaint made later can point at it.
//!
//! Typed parsers stop at the first thing they dislike and forget positions once they have a value. Here the text is
//! read without types, from the parser's events; [`super::shape`] then holds the tree against the schema and collects
//! every complaint. What an operator's file may cost is bounded: nodes are counted after aliases have been expanded (a
//! "YAML bomb" stops at [`MAX_NODES`]), and nesting is limited, because the tree is walked and dropped by recursion.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag, options};

use super::complaint::{Severity, quoted};

/// Values in one document, aliases expanded.
const MAX_NODES: usize = 100_000;
/// Mappings and lists within each other.
const MAX_DEPTH: usize = 64;

/// A place in the text, counted from 1 in lines and characters. The default, 0:0, means the whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    pub line: usize,
    pub column: usize,
}

/// A stretch of text; the end is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub start: Mark,
    pub end: Mark,
}

/// One value and where it stands.
#[derive(Clone)]
pub(super) struct Node {
    pub range: Range,
    pub content: Content,
}

#[derive(Clone)]
pub(super) enum Content {
    /// `plain`: written without quotes, so that it may mean a number, a boolean or nothing.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(super) struct Entry {
    pub key: String,
    pub key_range: Range,
    pub value: Node,
}

/// Something wrong in the text, before it is known how to show it.
#[derive(Clone, Debug)]
pub(super) struct Flaw {
    pub severity: Severity,
    pub range: Range,
    pub path: Vec<String>,
    pub message: String,
    pub help: Option<String>,
}

impl Flaw {
    pub(super) fn error(range: Range, path: &[String], message: impl Into<String>, help: Option<String>) -> Self {
        Self { severity: Severity::Error, range, path: path.to_vec(), message: message.into(), help }
    }

    /// A flaw of the YAML itself, which belongs to no setting.
    fn syntax(range: Range, message: impl Into<String>, help: Option<String>) -> Self {
        Self::error(range, &[], message, help)
    }
}

/// What was read: the tree (`None` when the document is empty or does not parse) and what is wrong with it.
pub(super) struct Tree {
    pub root: Option<Node>,
    pub flaws: Vec<Flaw>,
    /// The text stopped making sense at some point; nothing after it was read.
    pub broken: bool,
}

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Tree {
    read_up_to(text, MAX_NODES)
}

/// Reads one YAML document of at most so many values.
pub(super) fn read_up_to(text: &str, max_nodes: usize) -> Tree {
    let mut parser_options = options! { simple_key_max_lookahead: 4096 };
    parser_options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, parser_options);
    let mut reader = Reader { parser, anchors: HashMap::new(), nodes: 0, max_nodes, flaws: Vec::new() };
    match reader.document() {
        Ok(root) => Tree { root, flaws: reader.flaws, broken: false },
        Err(flaw) => {
            reader.flaws.push(flaw);
            Tree { root: None, flaws: reader.flaws, broken: true }
        }
    }
}

impl Node {
    /// Whether nothing is written here: `key:`, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if is_null(text))
    }

    /// Nodes in this tree, and its depth.
    fn measure(&self) -> (usize, usize) {
        let add = |(count, depth): (usize, usize), node: &Node| {
            let (nodes, below) = node.measure();
            (count + nodes, depth.max(below))
        };
        let (count, depth) = match &self.content {
            Content::Scalar { .. } => (0, 0),
            Content::List(items) => items.iter().fold((0, 0), add),
            Content::Map(entries) => entries.iter().map(|entry| &entry.value).fold((0, 0), add),
        };
        (count + 1, depth + 1)
    }
}

/// YAML's core schema (1.2.2, §10.3.2): how nothing is spelled.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Finished anchored values, with their node count and depth.
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    max_nodes: usize,
    flaws: Vec<Flaw>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Flaw> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_flaw(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Flaw> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(..) if root.is_some() => {
                    let help = "remove the `---` line and what follows it".to_owned();
                    return Err(Flaw::syntax(range(&span), "the file holds a second YAML document", Some(help)));
                }
                Event::DocumentStart(..) => {}
                event => root = Some(self.node(event, &span, 0)?),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Result<Node, Flaw> {
        self.count(1, depth + 1, span)?;
        let mut range = range(span);
        let (content, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = tag.as_ref().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                if !text_tag {
                    self.refuse_tag(tag.as_deref(), span);
                }
                let plain = style == ScalarStyle::Plain && !text_tag;
                (Content::Scalar { text: text.into_owned(), plain }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let (items, end) = self.list(depth + 1)?;
                range.end = end;
                (Content::List(items), anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let (entries, end) = self.map(depth + 1)?;
                range.end = end;
                (Content::Map(entries), anchor)
            }
            Event::Alias(id) => return self.alias(id, span, depth),
            _ => return Err(Flaw::syntax(range, "a value was expected here", None)),
        };
        let node = Node { range, content };
        if anchor != 0 {
            let (count, height) = node.measure();
            self.anchors.insert(anchor, (node.clone(), count, height));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<(Vec<Node>, Mark), Flaw> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok((items, mark(span.end)));
            }
            items.push(self.node(event, &span, depth)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<(Vec<Entry>, Mark), Flaw> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        let mut first: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                merged.retain(|entry| !first.contains_key(&entry.key));
                entries.append(&mut merged);
                return Ok((entries, mark(span.end)));
            }
            let key_range = range(&span);
            let name = self.node(event, &span, depth)?;
            let (event, span) = self.next()?;
            let value = self.node(event, &span, depth)?;
            let Content::Scalar { text: key, plain } = name.content else {
                self.flaws.push(Flaw::syntax(key_range, "a key must be text, not a list or a mapping", None));
                continue;
            };
            if plain && key == "<<" {
                self.merge(value, &mut merged);
                continue;
            }
            if let Some(line) = first.get(&key) {
                let help = Some(format!("it is already set on line {line}"));
                self.flaws.push(Flaw::syntax(key_range, format!("duplicate key {}", quoted(&key)), help));
            } else {
                first.insert(key.clone(), key_range.start.line);
            }
            entries.push(Entry { key, key_range, value });
        }
    }

    /// `<<: *base` and `<<: [*first, *second]`: entries that hold where the mapping itself says nothing; an earlier
    /// one wins (<https://yaml.org/type/merge.html>).
    fn merge(&mut self, value: Node, merged: &mut Vec<Entry>) {
        match value.content {
            Content::Map(entries) => {
                for entry in entries {
                    if !merged.iter().any(|known| known.key == entry.key) {
                        merged.push(entry);
                    }
                }
            }
            Content::List(items) if items.iter().all(|item| matches!(item.content, Content::Map(_))) => {
                for item in items {
                    self.merge(item, merged);
                }
            }
            Content::List(_) | Content::Scalar { .. } => {
                self.flaws.push(Flaw::syntax(value.range, "`<<` takes an alias of a mapping, or a list of them", None));
            }
        }
    }

    fn alias(&mut self, id: usize, span: &Span, depth: usize) -> Result<Node, Flaw> {
        let Some((node, count, height)) = self.anchors.get(&id).cloned() else {
            return Err(Flaw::syntax(range(span), "an alias cannot refer to a value that contains it", None));
        };
        self.count(count, depth + height, span)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, depth: usize, span: &Span) -> Result<(), Flaw> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.max_nodes {
            let message = format!("the file holds more than {} values, aliases expanded", self.max_nodes);
            return Err(Flaw::syntax(range(span), message, None));
        }
        if depth > MAX_DEPTH {
            let message = format!("values are nested more than {MAX_DEPTH} deep");
            return Err(Flaw::syntax(range(span), message, None));
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: &Span) {
        if tag.is_some_and(Tag::is_custom) {
            let place = span.tag_span().as_ref().map_or_else(|| range(span), range);
            let help = "quote the value if the `!` belongs to it".to_owned();
            self.flaws.push(Flaw::syntax(place, "YAML tags have no meaning here", Some(help)));
        }
    }
}

fn mark(marker: Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

fn range(span: &Span) -> Range {
    Range { start: mark(span.start), end: mark(span.end) }
}

/// The parser's complaint in the words of somebody who writes YAML rather than of somebody who parses it.
fn scan_flaw(error: &ScanError) -> Flaw {
    let at = mark(*error.marker());
    let range = Range { start: at, end: at };
    let (message, help): (String, Option<&str>) = match error.kind() {
        ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation | ErrorKind::TabNotAllowed => {
            ("a tab where YAML allows only spaces".into(), Some("indent with spaces"))
        }
        ErrorKind::UnknownAnchor | ErrorKind::MissingAnchorOrAliasName => (
            "`*` begins an alias, and there is no anchor of that name".into(),
            Some("quote a value or key that begins with `*`, for example \"*\""),
        ),
        ErrorKind::RecursionLimitExceeded => (format!("values are nested more than {MAX_DEPTH} deep"), None),
        ErrorKind::UnclosedQuotedScalar => ("a quote is opened and not closed".into(), None),
        ErrorKind::InvalidQuotedScalarIndent => {
            ("a quote is opened and not closed, or its text goes on without indentation".into(), None)
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => (format!("`{open}` is closed by `{close}`"), None),
        ErrorKind::UnclosedFlowCollection { open } => (format!("`{open}` is opened and not closed"), None),
        ErrorKind::UnexpectedEofFlowSequence => ("`[` is opened and not closed".into(), None),
        ErrorKind::UnexpectedEofFlowMapping => ("`{` is opened and not closed".into(), None),
        ErrorKind::MappingValueNotAllowed => {
            ("a `key: value` is not allowed here".into(), Some("check the indentation, or quote text that holds `: `"))
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::SimpleKeyExpected => {
            ("a `key: value` was expected here".into(), Some("check the indentation and the colon"))
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            ("a value cannot begin with this character".into(), Some("put the value in quotes"))
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator => (
            "a comma or a closing bracket was expected here".into(),
            Some("within { } and [ ], put variables in quotes: \"${NAME}\""),
        ),
        kind => (format!("not valid YAML: {kind}"), None),
    };
    Flaw::syntax(range, message, help.map(str::to_owned))
}
