//! Objects read by name, and written back in the order they came in. An object's members are taken one by one by
//! those who understand them; what nobody took stays in the object's [`Rest`], together with the place of every member,
//! so that writing the same format again gives the same members in the same order.

use std::fmt::{self, Write};

use super::{
    loss::Losses,
    text::{Raw, Text},
};
use crate::wire::json::{Kind, Value};

/// Where in a document a value stands; printed as `messages[2].content[0].source`.
#[derive(Clone, Copy)]
pub struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Name(&'p str),
    Index(usize),
}

/// A field that is not what its format wants it to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadField {
    /// The field, such as `messages[2].content[0].source.media_type`; empty for the document itself.
    pub path: String,
    /// What is wrong with it: completes a sentence that begins with the field.
    pub problem: String,
}

/// The members of an object while they are being read.
#[derive(Debug)]
pub(in crate::wire) struct Fields<'a> {
    members: Vec<Member<'a>>,
}

/// An object's members as they came, in order: what has a home in the neutral form is marked, all else is kept here.
#[derive(Clone, Debug, Default)]
pub struct Rest<'a> {
    members: Vec<Member<'a>>,
}

#[derive(Clone, Debug)]
struct Member<'a> {
    name: Text<'a>,
    value: Value<'a>,
    known: bool,
}

/// What became of a member that was to be written.
pub(in crate::wire) enum Wrote {
    Value,
    /// It has no value now. One that said nothing when it came (`null`, `[]`, `""`) is written as it was.
    Nothing,
    /// As it came.
    Same,
}

/// Up to this many members, comparing each name with all before it is faster than hashing.
const FEW_MEMBERS: usize = 24;

impl fmt::Display for BadField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}` ", self.path)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for BadField {}

impl<'p> Path<'p> {
    pub(in crate::wire) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    pub(in crate::wire) fn name(&'p self, name: &'p str) -> Path<'p> {
        Path { parent: Some(self), step: Step::Name(name) }
    }

    pub(in crate::wire) fn index(&'p self, index: usize) -> Path<'p> {
        Path { parent: Some(self), step: Step::Index(index) }
    }

    /// An error about the value at this place.
    pub(in crate::wire) fn bad(&self, problem: impl Into<String>) -> BadField {
        BadField { path: self.to_string(), problem: problem.into() }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if matches!(self.step, Step::Name(_)) && !matches!(parent.step, Step::Root) {
                f.write_char('.')?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl<'a> Fields<'a> {
    /// The members of an object. Anything else is refused, and so is a name used twice: whoever reads the document
    /// next might believe the other one.
    pub(in crate::wire) fn read(value: Value<'a>, path: &Path<'_>) -> Result<Self, BadField> {
        if value.kind != Kind::Object {
            return Err(path.bad("must be an object"));
        }
        let mut members: Vec<Member<'a>> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for (name, value) in value.members() {
            let duplicate = if members.len() < FEW_MEMBERS {
                members.iter().any(|earlier| earlier.name == Text::spelt(name.spelling()))
            } else {
                if seen.is_empty() {
                    seen.extend(members.iter().map(|earlier| earlier.name.decode().into_owned()));
                }
                !seen.insert(name.text().into_owned())
            };
            if duplicate {
                return Err(path.name(&name.text()).bad("is given twice"));
            }
            members.push(Member { name: Text::spelt(name.spelling()), value, known: false });
        }
        Ok(Self { members })
    }

    /// Takes a member; it no longer belongs to the rest.
    pub(in crate::wire) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let member = self.members.iter_mut().find(|member| member.name == *name)?;
        member.known = true;
        Some(member.value)
    }

    /// Looks at a member and leaves it where it is.
    pub(in crate::wire) fn peek(&self, name: &str) -> Option<Value<'a>> {
        self.members.iter().find(|member| member.name == *name).map(|member| member.value)
    }

    /// Takes a member unless it is `null`.
    pub(in crate::wire) fn some(&mut self, name: &str) -> Option<Value<'a>> {
        self.take(name).filter(|value| !value.is_null())
    }

    pub(in crate::wire) fn raw(&mut self, name: &str) -> Option<Raw<'a>> {
        self.some(name).map(Raw::of)
    }

    /// An object as it came.
    pub(in crate::wire) fn object(&mut self, name: &str, path: &Path<'_>) -> Result<Option<Raw<'a>>, BadField> {
        let Some(value) = self.some(name) else { return Ok(None) };
        if value.kind == Kind::Object {
            Ok(Some(Raw::of(value)))
        } else {
            Err(path.name(name).bad("must be an object"))
        }
    }

    pub(in crate::wire) fn text(&mut self, name: &str, path: &Path<'_>) -> Result<Option<Text<'a>>, BadField> {
        let Some(value) = self.some(name) else { return Ok(None) };
        Text::of(value).map(Some).ok_or_else(|| path.name(name).bad("must be a string"))
    }

    pub(in crate::wire) fn need_text(&mut self, name: &str, path: &Path<'_>) -> Result<Text<'a>, BadField> {
        self.text(name, path)?.ok_or_else(|| path.name(name).bad("is missing"))
    }

    pub(in crate::wire) fn flag(&mut self, name: &str, path: &Path<'_>) -> Result<Option<bool>, BadField> {
        let Some(value) = self.some(name) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| path.name(name).bad("must be true or false"))
    }

    pub(in crate::wire) fn number(&mut self, name: &str, path: &Path<'_>) -> Result<Option<Raw<'a>>, BadField> {
        let Some(value) = self.some(name) else { return Ok(None) };
        if value.kind == Kind::Number { Ok(Some(Raw::of(value))) } else { Err(path.name(name).bad("must be a number")) }
    }

    pub(in crate::wire) fn count(&mut self, name: &str, path: &Path<'_>) -> Result<Option<u64>, BadField> {
        let Some(value) = self.some(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| path.name(name).bad("must be a whole number, and not negative"))
    }

    /// The items of a list; none if it is absent.
    pub(in crate::wire) fn list(&mut self, name: &str, path: &Path<'_>) -> Result<Option<Value<'a>>, BadField> {
        let Some(value) = self.some(name) else { return Ok(None) };
        if value.kind == Kind::Array { Ok(Some(value)) } else { Err(path.name(name).bad("must be a list")) }
    }

    pub(in crate::wire) fn rest(self) -> Rest<'a> {
        Rest { members: self.members }
    }
}

impl<'a> Rest<'a> {
    /// The members nobody took.
    pub(in crate::wire) fn unknown(&self) -> impl Iterator<Item = (&Text<'a>, Value<'a>)> {
        self.members.iter().filter(|member| !member.known).map(|member| (&member.name, member.value))
    }

    /// The value of a member, taken or not, as it came.
    pub(in crate::wire) fn get(&self, name: &str) -> Option<Value<'a>> {
        self.members.iter().find(|member| member.name == *name).map(|member| member.value)
    }

    /// Notes the members nobody took as lost, but for those of no consequence.
    pub(in crate::wire) fn note(&self, path: impl fmt::Display, harmless: &[&str], losses: &mut Losses) {
        for (name, _) in self.unknown().filter(|(_, value)| !value.is_empty()) {
            let name = name.decode();
            if !harmless.contains(&&*name) {
                losses.note(format_args!("{path}.{name}"), "the target's format has no such member");
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.known && member.name == *name)
    }
}

/// Writes an object: first the members of `rest` in their order, then those of `names` that were not among them.
/// `write` appends the value of the member it is given the name of.
pub(in crate::wire) fn write_object(
    out: &mut Vec<u8>,
    rest: &Rest<'_>,
    names: &[&str],
    mut write: impl FnMut(&str, &mut Vec<u8>) -> Wrote,
) {
    out.push(b'{');
    let begin = out.len();
    for member in &rest.members {
        let start = introduce(out, begin, member.name.spelling());
        let wrote = if member.known { write(&member.name.decode(), out) } else { Wrote::Same };
        match wrote {
            Wrote::Value => {}
            Wrote::Nothing if !member.value.is_empty() => out.truncate(start),
            Wrote::Nothing | Wrote::Same => out.extend_from_slice(member.value.raw),
        }
    }
    for name in names.iter().filter(|name| !rest.has(name)) {
        let start = introduce(out, begin, name.as_bytes());
        if !matches!(write(name, out), Wrote::Value) {
            out.truncate(start);
        }
    }
    out.push(b'}');
}

/// Writes a list of whatever `write` appends for each item.
pub(in crate::wire) fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    let begin = out.len();
    for item in items {
        if out.len() > begin {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// The comma, the name and the colon; returns where they begin.
fn introduce(out: &mut Vec<u8>, begin: usize, name: &[u8]) -> usize {
    let start = out.len();
    if start > begin {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
    start
}
