//! Reading JSON without building a tree. A document is validated once, in one pass, by [`scan::Scanner`]; what is of
//! interest is then looked at as slices of the original bytes. Nothing here allocates unless a string has escapes.
//!
//! Strict RFC 8259 with three liberties that its section 9 allows, each of which differs from `serde_json`: nesting up
//! to [`MAX_DEPTH`], numbers of any magnitude, and `\u` escapes that name half a surrogate pair (such a string is
//! carried along, but has no `&str`).

mod object;
mod scan;
mod text;

use std::{borrow::Cow, fmt, ops::Range};

pub use object::{Member, Object};
pub(super) use text::push_quoted;
pub use text::{Name, quoted};

use scan::{Scanner, Snag};

/// How deep arrays and objects may nest, the document itself included.
pub const MAX_DEPTH: usize = 512;

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    Object,
    Array,
    True,
    False,
    Null,
}

/// One JSON value, as the bytes it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a> {
    /// The value's own bytes, without surrounding whitespace; a string has its quotes.
    pub raw: &'a [u8],
    pub kind: Kind,
}

/// Why a document was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub problem: Problem,
    /// Offset in bytes from the start of the document.
    pub at: usize,
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
}

/// What is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Utf8,
    /// What was expected at this place.
    Syntax(&'static str),
    NotAnObject,
    /// The name, decoded, that a second member of the top-level object bears.
    Duplicate(String),
    TooDeep,
    /// Something follows the end of the document.
    Trailing,
}

impl<'a> Value<'a> {
    /// Validates a whole document, whatever its kind. UTF-8 is checked where a string is decoded, not here.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut scanner = Scanner::new(bytes);
        scanner.skip_bom();
        scanner.whitespace();
        let start = scanner.at;
        let kind = scanner.value(0).map_err(|snag| Malformed::snag(snag, &scanner))?;
        let end = scanner.at;
        scanner.whitespace();
        match scanner.peek() {
            None => Ok(Self { raw: &bytes[start..end], kind }),
            Some(_) => Err(Malformed::new(Problem::Trailing, scanner.at, bytes)),
        }
    }

    /// The text of a string. `None` for other kinds, for half a surrogate pair and for bytes that are not UTF-8.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        text::decode(self.string_content()?)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }
    }

    /// A number written as a non-negative integer that fits; `1.0` and `1e3` are not.
    pub fn as_u64(&self) -> Option<u64> {
        if self.kind != Kind::Number {
            return None;
        }
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    /// A number that is whole and not negative, however it is written: some servers write counts as `10.0`. None above 2^53,
    /// from where on a fraction cannot be told.
    pub fn as_count(&self) -> Option<u64> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        let is_count = |number: &f64| (0.0..=EXACT).contains(number) && number.fract() == 0.0;
        self.as_u64().or_else(|| self.as_f64().filter(is_count).map(|number| number as u64))
    }

    /// Any number, rounded to the nearest double; infinite when out of range.
    pub fn as_f64(&self) -> Option<f64> {
        if self.kind != Kind::Number {
            return None;
        }
        std::str::from_utf8(self.raw).ok()?.parse().ok()
    }

    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// Whether there is nothing in it: `null`, `false`, an empty string, or a container of nothing but such.
    pub fn is_empty(&self) -> bool {
        self.is_empty_within(8)
    }

    /// The members of an object, in order; none for other kinds. The value must have been validated.
    pub fn members(&self) -> impl Iterator<Item = (Name<'a>, Value<'a>)> + use<'a> {
        let raw = self.raw;
        let mut object = (self.kind == Kind::Object).then(|| Object::open(raw).ok()).flatten();
        std::iter::from_fn(move || {
            let member = object.as_mut()?.next().ok()??;
            Some((member.name(raw), member.value(raw)))
        })
    }

    /// The member of this name; the first, should there be several.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.members().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
    }

    /// The items of an array, in order; none for other kinds. The value must have been validated.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let raw = self.raw;
        let mut scanner = Scanner::new(raw);
        let mut open = self.kind == Kind::Array && scanner.take(b'[');
        std::iter::from_fn(move || {
            if !open {
                return None;
            }
            scanner.whitespace();
            let start = scanner.at;
            let kind = scanner.value(0).ok();
            let end = scanner.at;
            scanner.whitespace();
            open = scanner.take(b',');
            Some(Value { raw: &raw[start..end], kind: kind? })
        })
    }

    fn string_content(&self) -> Option<&'a [u8]> {
        if self.kind != Kind::String {
            return None;
        }
        self.raw.get(1..self.raw.len().checked_sub(1)?)
    }

    fn is_empty_within(&self, depth: usize) -> bool {
        match self.kind {
            Kind::Null | Kind::False => true,
            Kind::True | Kind::Number => false,
            Kind::String => self.raw.len() <= 2,
            // Whoever nests this deep means something by it.
            Kind::Object | Kind::Array if depth == 0 => false,
            Kind::Object => self.members().all(|(_, value)| value.is_empty_within(depth - 1)),
            Kind::Array => self.items().all(|value| value.is_empty_within(depth - 1)),
        }
    }
}

impl Malformed {
    pub(super) fn new(problem: Problem, at: usize, document: &[u8]) -> Self {
        let before = &document[..at.min(document.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        Self {
            problem,
            at,
            line: 1 + memchr::memchr_iter(b'\n', before).count(),
            column: 1 + before.len() - line_start,
        }
    }

    fn snag(snag: Snag, scanner: &Scanner<'_>) -> Self {
        let problem = match snag {
            Snag::Expected(what) => Problem::Syntax(what),
            Snag::TooDeep => Problem::TooDeep,
        };
        Self::new(problem, scanner.at, scanner.bytes)
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Problem::Utf8 => write!(f, "the text is not valid UTF-8")?,
            Problem::Syntax(expected) => write!(f, "the text is not valid JSON: expected {expected}")?,
            Problem::NotAnObject => write!(f, "the JSON document must be an object, and another value begins")?,
            Problem::Duplicate(name) => write!(f, "the JSON object has two members named `{name}`, the second")?,
            Problem::TooDeep => write!(f, "the JSON document nests deeper than {MAX_DEPTH} levels")?,
            Problem::Trailing => write!(f, "the text goes on after the end of the JSON document")?,
        }
        write!(f, " at byte {} (line {}, column {})", self.at, self.line, self.column)
    }
}

impl std::error::Error for Malformed {}

/// A byte range kept in half the space; documents are below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn value(text: &str) -> Value<'_> {
        Value::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_grammar_is_exactly_that_of_the_rfc() {
        let good = [
            "0",
            "-0",
            "-0.5e+10",
            "1E5",
            "1e-999",
            "\"\"",
            "\"\\u00e9\\n\\/\"",
            "\"\\ud800\"",
            "[]",
            " [ ] ",
            "{ }",
            "[1,2]",
            "{\"a\":{\"b\":[{}]}}",
            "true",
            "false",
            "null",
            "\t\r\n 1 \n",
            "\u{feff}{}",
            "[[],[]]",
        ];
        for text in good {
            assert!(Value::parse(text.as_bytes()).is_ok(), "{text}");
        }
        let bad = [
            "",
            " ",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "0x1",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123\"",
            "\"a\nb\"",
            "\"\t\"",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "{,}",
            "[}",
            "{]",
            "[1}",
            "{\"a\":1]",
            "tru",
            "nul",
            "True",
            "1 2",
            "{} x",
            "[",
            "{\"a\":[",
            "'a'",
            "// c\n1",
            "NaN",
            "\u{a0}1",
        ];
        for text in bad {
            assert!(Value::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_is_limited_and_costs_no_stack() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(Value::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        let refused = Value::parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err();
        assert_eq!((refused.problem, refused.at), (Problem::TooDeep, MAX_DEPTH));
        assert_eq!(Value::parse("[".repeat(1 << 20).as_bytes()).unwrap_err().problem, Problem::TooDeep);
    }

    #[test]
    fn a_complaint_names_the_place() {
        let text = Value::parse(b"{\n  \"a\": 1,\n  \"b\" 2\n}").unwrap_err().to_string();
        assert_eq!(
            text,
            "the text is not valid JSON: expected `:` after the member's name at byte 18 (line 3, column 7)"
        );
    }

    #[test]
    fn strings_are_unescaped() {
        let cases = [
            (r#""""#, Some("")),
            (r#""plain é 😀""#, Some("plain é 😀")),
            (r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t")),
            (r#""\u0041\u00e9\u20AC\ud83d\ude00""#, Some("Aé€😀")),
            (r#""\ud83d""#, None),
            (r#""\ude00\ud83d""#, None),
            (r#""\ud83d\u0041""#, None),
            ("1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text).as_str().as_deref(), expected, "{text}");
        }
        assert_eq!(Value { raw: b"\"\xff\"", kind: Kind::String }.as_str(), None);
    }

    #[test]
    fn numbers_are_read_or_refused() {
        for (text, whole, double) in [
            ("0", Some(0), 0.0),
            ("18446744073709551615", Some(u64::MAX), 18_446_744_073_709_551_615.0),
            ("18446744073709551616", None, 18_446_744_073_709_551_616.0),
            ("-1", None, -1.0),
            ("1.0", None, 1.0),
            ("1e999", None, f64::INFINITY),
        ] {
            assert_eq!(value(text).as_u64(), whole, "{text}");
            assert_eq!(value(text).as_f64(), Some(double), "{text}");
        }
        assert_eq!((value("\"1\"").as_u64(), value("null").as_f64()), (None, None));
    }

    #[test]
    fn members_and_items_are_walked_in_order() {
        let object = value(r#"{ "a" : [ 1 , "two",{ } ] , "\u0062":null }"#);
        let names: Vec<_> = object.members().map(|(name, _)| name.text().into_owned()).collect();
        assert_eq!(names, ["a", "b"]);
        let items: Vec<_> = object.get("a").unwrap().items().map(|item| item.raw).collect();
        assert_eq!(items, [b"1".as_slice(), b"\"two\"", b"{ }"]);
        assert!(object.get("b").unwrap().is_null());
        assert_eq!(value("[]").items().count() + value("{}").members().count() + value("1").items().count(), 0);
    }

    #[test]
    fn emptiness_looks_into_containers() {
        for empty in ["null", "false", "\"\"", "[]", "{}", "[null,{\"a\":\"\"}]", "{\"a\":[[]]}"] {
            assert!(value(empty).is_empty(), "{empty}");
        }
        for full in ["0", "true", "\" \"", "[0]", "{\"a\":{\"b\":\"c\"}}"] {
            assert!(!value(full).is_empty(), "{full}");
        }
    }

    #[test]
    fn quoting_agrees_with_reading() {
        for text in ["", "plain", "\"\\\n\r\t\u{0}\u{1f}\u{7f}é😀", "a long text without anything special, really"] {
            let quoted = quoted(text);
            assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
            assert_eq!(Value::parse(&quoted).unwrap().as_str().unwrap(), text);
        }
    }

    #[test]
    fn a_string_ends_at_the_same_place_whatever_its_length() {
        for length in 0..300 {
            for special in ["\"", "\\", "\n", "\u{1f}"] {
                let text =
                    ["é".repeat(length / 2), "a".repeat(length % 2), special.to_owned(), "tail".repeat(20)].concat();
                assert_eq!(scan::skip_plain(text.as_bytes(), 0), length, "{length} {special:?}");
            }
            assert_eq!(scan::skip_plain(&vec![0x80; length], 0), length);
        }
    }

    /// JSON texts, and texts a few bytes away from being JSON.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let space = "[ \n\t]{0,2}";
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,3})?",
            "\"([ -!#-\\[\\]-~éλ😀]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,70}\"",
        ];
        let document = leaf.prop_recursive(5, 60, 6, move |inner| {
            let item = (space, inner, space).prop_map(|(before, value, after)| format!("{before}{value}{after}"));
            let member =
                (space, "\"[a-c]{0,3}\"", space, item.clone()).prop_map(|(a, name, b, v)| format!("{a}{name}{b}:{v}"));
            prop_oneof![
                proptest::collection::vec(item, 0..6).prop_map(|items| format!("[{}]", items.join(","))),
                proptest::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        });
        let change = (
            any::<proptest::sample::Index>(),
            proptest::option::of(proptest::sample::select(b"{}[]\",:\\u0-.e \n\x01t".to_vec())),
        );
        (document, proptest::collection::vec(change, 0..3)).prop_map(|(text, changes)| {
            let mut bytes = text.into_bytes();
            for (place, byte) in changes {
                let at = place.index(bytes.len().max(1));
                match byte {
                    Some(byte) => bytes.insert(at.min(bytes.len()), byte),
                    None if !bytes.is_empty() => drop(bytes.remove(at)),
                    None => {}
                }
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_accepted_is_what_serde_json_accepts(text in nearly_json()) {
            let expected = serde_json::from_slice::<IgnoredAny>(&text);
            let ours = Value::parse(&text);
            prop_assert_eq!(ours.is_ok(), expected.is_ok(), "{:?} {:?}", ours.err(), expected.err());
        }

        #[test]
        fn strings_decode_as_serde_json_decodes_them(text in "\"([a-zé]|\\\\[\"\\\\/bfnrt]|\\\\u[dD][89a-fA-F][0-9a-f]{2}|\\\\u[0-9a-f]{4}){0,12}\"") {
            let expected = serde_json::from_str::<String>(&text).ok();
            let ours = Value::parse(text.as_bytes()).unwrap().as_str().map(Cow::into_owned);
            prop_assert_eq!(ours, expected);
        }
    }
}
