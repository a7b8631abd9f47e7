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
