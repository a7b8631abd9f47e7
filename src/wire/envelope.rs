//! A request body as it came: its bytes, and where its top-level members stand. The pass lane edits a few of them by
//! byte range and forwards the rest untouched, so number spelling, key order, escapes, whitespace and fields nobody
//! has heard of yet arrive as the client wrote them.

use std::{borrow::Cow, collections::HashSet};

use bytes::Bytes;
use smallvec::SmallVec;

pub use super::json::{Kind, Malformed, Problem, Value};
use super::{
    json::{Member, Name, Object, quoted},
    pieces::Assembly,
};

pub use super::pieces::Pieces;

/// A JSON object as bytes plus the byte ranges of its top-level members. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Envelope {
    bytes: Bytes,
    members: SmallVec<[Member; 16]>,
    /// The place of the closing brace.
    close: usize,
}

/// A change to one top-level member.
#[derive(Clone, Debug)]
pub enum Edit<'a> {
    /// Replaces the member's value, or appends the member. `value` is JSON text and is written as it is.
    Set { name: &'a str, value: Bytes },
    /// Takes the member out; nothing happens if it is absent.
    Remove { name: &'a str },
    /// Gives the member another name; nothing happens if it is absent. Where a member named `to` exists already, that
    /// one stays and the one named `from` is taken out.
    Rename { from: &'a str, to: &'a str },
}

/// What becomes of a member that stays.
struct Fate<'e> {
    rename: Option<&'e str>,
    /// Which edit sets its value.
    set: Option<usize>,
}

/// Up to this many members, comparing each name with all before it is faster than hashing.
const FEW_MEMBERS: usize = 24;

impl Envelope {
    /// Validates the whole document and notes where its members are. A byte order mark at the start is accepted and
    /// left off, since few servers bear one. Two members of one name, however spelt, are refused: the gateway and the
    /// provider might each believe another one.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        check_utf8(&bytes)?;
        let mut object = Object::open(&bytes)?;
        let mut members = SmallVec::<[Member; 16]>::new();
        let mut names = HashSet::new();
        while let Some(member) = object.next()? {
            let name = member.name(&bytes);
            let duplicate = if members.len() < FEW_MEMBERS {
                members.iter().any(|earlier| earlier.name(&bytes) == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|earlier| earlier.name(&bytes).bytes()));
                }
                !names.insert(name.bytes())
            };
            if duplicate {
                let problem = Problem::Duplicate(name.text().into_owned());
                return Err(Malformed::new(problem, member.name.range().start, &bytes));
            }
            members.push(member);
        }
        let close = object.close();
        drop(names);
        Ok(Self { bytes, members, close })
    }

    /// The document as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The value of a top-level member.
    pub fn get(&self, name: &str) -> Option<Value<'_>> {
        self.find(name).map(|index| self.members[index].value(&self.bytes))
    }

    /// All members in the order they were written.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'_, str>, Value<'_>)> {
        self.members.iter().map(|member| (member.name(&self.bytes).text(), member.value(&self.bytes)))
    }

    /// The document with these edits made, as pieces to be sent one after the other; what is not edited is not copied
    /// and keeps every byte. The edits are made at once, so their order does not matter: removing and renaming go by
    /// the names as they were, setting by the names as they will be. Of two values set for one name the last holds.
    pub fn patch(&self, edits: &[Edit<'_>]) -> Pieces {
        let mut out = Assembly::new(&self.bytes);
        let mut placed: SmallVec<[bool; 16]> = SmallVec::from_elem(false, edits.len());
        let mut previous: Option<usize> = None;
        out.keep(self.body_start()..self.members.first().map_or(self.close, |first| first.name.range().start));
        for (index, member) in self.members.iter().enumerate() {
            let Some(fate) = self.fate(index, edits) else { continue };
            let (name, value) = (member.name.range(), member.value.range());
            if let Some(previous) = previous {
                let separator = self.members[previous].value.range().end..self.members[previous + 1].name.range().start;
                out.keep(separator);
            }
            match fate.rename {
                Some(to) => out.insert(quoted(to)),
                None => out.keep(name.clone()),
            }
            out.keep(name.end..value.start);
            match fate.set.and_then(|set| Some((set, edits.get(set)?))) {
                Some((set, Edit::Set { value, .. })) => {
                    placed[set] = true;
                    out.insert(value.clone());
                }
                _ => out.keep(value),
            }
            previous = Some(index);
        }
        let mut any = previous.is_some();
        for (index, edit) in edits.iter().enumerate() {
            let Edit::Set { name, value } = edit else { continue };
            if placed[index] || last_set(edits, name) != Some(index) {
                continue;
            }
            out.insert(introduction(name, any));
            out.insert(value.clone());
            any = true;
        }
        out.keep(self.members.last().map_or(self.close, |last| last.value.range().end)..self.bytes.len());
        out.finish()
    }

    /// `None`: the member is taken out.
    fn fate<'e>(&self, index: usize, edits: &'e [Edit<'_>]) -> Option<Fate<'e>> {
        let name = self.members[index].name(&self.bytes);
        if is_removed(name, edits) {
            return None;
        }
        let rename = renamed(name, edits);
        if rename.is_some_and(|to| self.is_taken(to, index, edits)) {
            return None;
        }
        let set = edits.iter().rposition(|edit| match (edit, rename) {
            (Edit::Set { name: set, .. }, Some(to)) => *set == to,
            (Edit::Set { name: set, .. }, None) => name == **set,
            _ => false,
        });
        Some(Fate { rename, set })
    }

    /// Whether, after all edits, a member other than the one at `index` has a better claim to this name.
    fn is_taken(&self, to: &str, index: usize, edits: &[Edit<'_>]) -> bool {
        self.members.iter().enumerate().any(|(other, member)| {
            let name = member.name(&self.bytes);
            if other == index || is_removed(name, edits) {
                return false;
            }
            match renamed(name, edits) {
                Some(new) => new == to && other < index,
                None => name == *to,
            }
        })
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name(&self.bytes) == *name)
    }

    fn body_start(&self) -> usize {
        if self.bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 }
    }
}

fn is_removed(name: Name<'_>, edits: &[Edit<'_>]) -> bool {
    edits.iter().any(|edit| matches!(edit, Edit::Remove { name: removed } if name == **removed))
}

fn renamed<'e>(name: Name<'_>, edits: &'e [Edit<'_>]) -> Option<&'e str> {
    edits.iter().find_map(|edit| match edit {
        Edit::Rename { from, to } if from != to && name == **from => Some(*to),
        _ => None,
    })
}

fn last_set(edits: &[Edit<'_>], name: &str) -> Option<usize> {
    edits.iter().rposition(|edit| matches!(edit, Edit::Set { name: set, .. } if *set == name))
}

/// What stands before the value of an appended member.
fn introduction(name: &str, follows_another: bool) -> Bytes {
    let mut out = Vec::with_capacity(name.len() + 4);
    if follows_another {
        out.push(b',');
    }
    super::json::push_quoted(&mut out, name);
    out.push(b':');
    out.into()
}

fn check_utf8(bytes: &[u8]) -> Result<(), Malformed> {
    if simdutf8::basic::from_utf8(bytes).is_ok() {
        return Ok(());
    }
    let at = simdutf8::compat::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    Err(Malformed::new(Problem::Utf8, at, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn envelope(text: &str) -> Envelope {
        Envelope::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn patched(text: &str, edits: &[Edit<'_>]) -> String {
        let pieces = envelope(text).patch(edits);
        let whole = String::from_utf8(pieces.to_vec()).unwrap();
        assert_eq!(pieces.len(), whole.len());
        whole
    }

    fn set<'a>(name: &'a str, value: &'static str) -> Edit<'a> {
        Edit::Set { name, value: Bytes::from_static(value.as_bytes()) }
    }

    fn problem(bytes: &[u8]) -> Problem {
        Envelope::parse(Bytes::copy_from_slice(bytes)).unwrap_err().problem
    }

    #[test]
    fn members_are_found_by_their_decoded_names() {
        let envelope = envelope(r#" {"mod\u0065l" : "gpt\n", "n":2, "stream":true, "x":null} "#);
        assert_eq!(envelope.get("model").unwrap().as_str().unwrap(), "gpt\n");
        assert_eq!(envelope.get("n").unwrap().as_u64(), Some(2));
        assert_eq!(envelope.get("stream").unwrap().as_bool(), Some(true));
        assert!(envelope.get("x").unwrap().is_null());
        assert!(envelope.get("mod").is_none());
        let names: Vec<_> = envelope.members().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(names, ["model", "n", "stream", "x"]);
    }

    #[test]
    fn what_is_not_one_json_object_is_refused() {
        assert_eq!(problem(b"[1]"), Problem::NotAnObject);
        assert_eq!(problem(b" \"a\""), Problem::NotAnObject);
        assert!(matches!(problem(b""), Problem::Syntax(_)));
        assert!(matches!(problem(b"hello"), Problem::Syntax(_)));
        assert!(matches!(problem(b"{\"a\":1,}"), Problem::Syntax(_)));
        assert_eq!(problem(b"{} {}"), Problem::Trailing);
        assert_eq!(problem(b"{\"a\":\"\xff\"}"), Problem::Utf8);
        assert_eq!(problem(format!("{{\"a\":{}1{}}}", "[".repeat(512), "]".repeat(512)).as_bytes()), Problem::TooDeep);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(511), "]".repeat(511));
        assert!(Envelope::parse(deep.into()).is_ok());
    }

    #[test]
    fn a_name_used_twice_is_refused_however_it_is_spelt() {
        let twice = Envelope::parse(Bytes::from_static(br#"{"model":"a", "mod\u0065l":"b"}"#)).unwrap_err();
        assert_eq!((twice.problem, twice.at), (Problem::Duplicate("model".to_owned()), 14));
        // Among many members as well; nested members may repeat.
        let many = (0..200).map(|n| format!("\"k{n}\":{{\"a\":1,\"a\":2}}")).collect::<Vec<_>>().join(",");
        assert!(Envelope::parse(format!("{{{many}}}").into()).is_ok());
        assert_eq!(problem(format!("{{{many},\"\\u006b7\":1}}").as_bytes()), Problem::Duplicate("k7".to_owned()));
        // Half surrogate pairs are names like any other.
        assert!(Envelope::parse(Bytes::from_static(br#"{"\ud800":1,"\ud801":2}"#)).is_ok());
        assert!(matches!(problem(br#"{"\ud800":1,"\uD800":2}"#), Problem::Duplicate(_)));
    }

    #[test]
    fn a_hundred_thousand_members_are_read_in_linear_time() {
        let many = (0..100_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",");
        let envelope = envelope(&format!("{{{many}}}"));
        assert_eq!(envelope.members().count(), 100_000);
        assert_eq!(envelope.patch(&[set("k99999", "0")]).parts().len(), 3);
    }

    #[test]
    fn edits_change_what_they_name_and_nothing_else() {
        let body = "{ \"model\" : \"a\",\t\"n\":1.0e0 ,\n\"messages\":[ ] }";
        let remove = |name| Edit::Remove { name };
        let rename = |from, to| Edit::Rename { from, to };
        let cases: &[(&[Edit<'_>], &str)] = &[
            (&[], body),
            (&[set("model", "\"b\"")], "{ \"model\" : \"b\",\t\"n\":1.0e0 ,\n\"messages\":[ ] }"),
            (&[set("x", "2")], "{ \"model\" : \"a\",\t\"n\":1.0e0 ,\n\"messages\":[ ],\"x\":2 }"),
            (&[remove("model")], "{ \"n\":1.0e0 ,\n\"messages\":[ ] }"),
            (&[remove("n")], "{ \"model\" : \"a\",\t\"messages\":[ ] }"),
            (&[remove("messages")], "{ \"model\" : \"a\",\t\"n\":1.0e0 }"),
            (&[remove("n"), remove("messages")], "{ \"model\" : \"a\" }"),
            (&[remove("n"), remove("messages"), remove("model")], "{  }"),
            (&[remove("n"), remove("messages"), remove("model"), set("x", "1")], "{ \"x\":1 }"),
            (&[remove("absent"), rename("absent", "y")], body),
            (&[rename("n", "m")], "{ \"model\" : \"a\",\t\"m\":1.0e0 ,\n\"messages\":[ ] }"),
            (&[rename("n", "model")], "{ \"model\" : \"a\",\t\"messages\":[ ] }"),
            (&[rename("n", "m"), set("m", "3")], "{ \"model\" : \"a\",\t\"m\":3 ,\n\"messages\":[ ] }"),
            (&[rename("n", "m"), set("n", "3")], "{ \"model\" : \"a\",\t\"m\":1.0e0 ,\n\"messages\":[ ],\"n\":3 }"),
            (&[rename("model", "n"), rename("n", "model")], "{ \"n\" : \"a\",\t\"model\":1.0e0 ,\n\"messages\":[ ] }"),
            (&[rename("model", "z"), rename("n", "z")], "{ \"z\" : \"a\",\t\"messages\":[ ] }"),
            (&[remove("model"), rename("n", "model")], "{ \"model\":1.0e0 ,\n\"messages\":[ ] }"),
            (&[remove("model"), set("model", "0")], "{ \"n\":1.0e0 ,\n\"messages\":[ ],\"model\":0 }"),
            (&[set("x", "1"), set("x", "2")], "{ \"model\" : \"a\",\t\"n\":1.0e0 ,\n\"messages\":[ ],\"x\":2 }"),
            (&[set("q\"\n", "1")], "{ \"model\" : \"a\",\t\"n\":1.0e0 ,\n\"messages\":[ ],\"q\\\"\\n\":1 }"),
        ];
        for (edits, expected) in cases {
            assert_eq!(patched(body, edits), *expected, "{edits:?}");
            let mut reversed = edits.to_vec();
            reversed.reverse();
            if !matches!(edits, [Edit::Set { .. }, Edit::Set { .. }]) {
                assert_eq!(patched(body, &reversed), *expected, "reversed {edits:?}");
            }
        }
        assert_eq!(patched("{}", &[set("a", "1"), set("b", "2")]), r#"{"a":1,"b":2}"#);
        assert_eq!(patched(" { \n} ", &[set("a", "1")]), " { \n\"a\":1} ");
    }

    #[test]
    fn one_level_down_is_an_envelope_of_its_own() {
        let body = Bytes::from_static(br#"{"stream_options":{"include_obfuscation":false}}"#);
        let outer = Envelope::parse(body.clone()).unwrap();
        let inner = Envelope::parse(body.slice_ref(outer.get("stream_options").unwrap().raw)).unwrap();
        let options = inner.patch(&[set("include_usage", "true")]).to_vec();
        let whole = outer.patch(&[Edit::Set { name: "stream_options", value: options.into() }]);
        assert_eq!(whole.to_vec(), br#"{"stream_options":{"include_obfuscation":false,"include_usage":true}}"#);
    }

    #[test]
    fn nothing_is_copied_but_new_values() {
        let body = Bytes::from(format!("{{\"model\":\"a\",\"big\":\"{}\"}}", "x".repeat(1 << 20)));
        let pieces = Envelope::parse(body.clone()).unwrap().patch(&[set("model", "\"b\"")]);
        let range = body.as_ptr_range();
        assert_eq!(pieces.parts().iter().filter(|part| range.contains(&part.as_ptr())).count(), 2);
        assert_eq!(pieces.parts().len(), 3);
    }

    #[test]
    fn a_byte_order_mark_is_accepted_and_left_off() {
        assert_eq!(patched("\u{feff} {\"a\":1}", &[]), " {\"a\":1}");
        assert_eq!(patched("\u{feff}{\"a\":1}", &[set("a", "2")]), "{\"a\":2}");
    }

    fn objects() -> impl Strategy<Value = (Vec<(String, String)>, String)> {
        let value = prop_oneof![
            Just("1.50"),
            Just("\"a\\u0062\""),
            Just("[1, {\"n\":2}]"),
            Just("null"),
            Just("{ }"),
            Just("\",\\\"}\"")
        ];
        let member = ("[a-h]", value, "[ \n]{0,2}", "[ \n]{0,2}", "[ \n]{0,2}", "[ \n]{0,2}");
        (proptest::collection::vec(member, 0..8), "[ \n]{0,2}").prop_map(|(members, space)| {
            let mut names = std::collections::HashSet::new();
            let mut kept = Vec::new();
            let mut parts = Vec::new();
            for (name, value, a, b, c, d) in members {
                if names.insert(name.clone()) {
                    parts.push(format!("{a}\"{name}\"{b}:{c}{value}{d}"));
                    kept.push((name, value.to_owned()));
                }
            }
            (kept, format!("{space}{{{}{space}}}{space}", parts.join(",")))
        })
    }

    fn edits() -> impl Strategy<Value = Vec<(u8, String, String)>> {
        proptest::collection::vec((0..3u8, "[a-j]", "[a-j]"), 0..6)
    }

    /// What the edits should do, on a list of members.
    fn model(members: &[(String, String)], edits: &[Edit<'_>]) -> Vec<(String, String)> {
        let removed = |name: &str| edits.iter().any(|edit| matches!(edit, Edit::Remove { name: n } if *n == name));
        let renamed = |name: &str| {
            edits.iter().find_map(|edit| match edit {
                Edit::Rename { from, to } if *from == name && from != to => Some((*to).to_owned()),
                _ => None,
            })
        };
        let left: Vec<_> = members.iter().filter(|(name, _)| !removed(name)).collect();
        let fixed: Vec<_> =
            left.iter().filter(|(name, _)| renamed(name).is_none()).map(|(name, _)| name.clone()).collect();
        let mut out: Vec<(String, String)> = Vec::new();
        for (name, value) in left {
            let new = renamed(name);
            let taken = new.as_ref().is_some_and(|new| fixed.contains(new) || out.iter().any(|(name, _)| name == new));
            if !taken {
                out.push((new.unwrap_or_else(|| name.clone()), value.clone()));
            }
        }
        for edit in edits {
            if let Edit::Set { name, value } = edit {
                let value = String::from_utf8(value.to_vec()).unwrap();
                match out.iter_mut().find(|(other, _)| other == name) {
                    Some(member) => member.1 = value,
                    None => out.push(((*name).to_owned(), value)),
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_patch_does_what_it_says_and_keeps_the_rest((members, text) in objects(), edits in edits()) {
            let edits: Vec<_> = edits.iter().map(|(kind, a, b)| match kind {
                0 => Edit::Set { name: a, value: Bytes::copy_from_slice(format!("[\"{b}\"]").as_bytes()) },
                1 => Edit::Remove { name: a },
                _ => Edit::Rename { from: a, to: b },
            }).collect();
            let envelope = envelope(&text);
            prop_assert_eq!(envelope.patch(&[]).to_vec(), text.as_bytes());
            let whole = envelope.patch(&edits).to_vec();
            let after = Envelope::parse(whole.clone().into()).unwrap();
            let mut got: Vec<_> = after.members().map(|(name, value)| (name.into_owned(), String::from_utf8(value.raw.to_vec()).unwrap())).collect();
            let mut expected = model(&members, &edits);
            prop_assert_eq!(got.len(), expected.len());
            got[..].sort();
            expected[..].sort();
            prop_assert_eq!(&got, &expected, "{} -> {}", text, String::from_utf8_lossy(&whole));
        }
    }
}
