//! On whose behalf a call is made, as its client says: for attribution only, never for access.
//!
//! | | from, the first that says something |
//! |---|---|
//! | end user | header `x-switchboard-user`, member `safety_identifier`, member `user`, `metadata.user_id` |
//! | tags | all of: the key's own, header `x-switchboard-tags: a, b`, `metadata.tags` (a text with commas, or a list) |
//! | workflow | header `x-switchboard-workflow`, `metadata.workflow` |
//! | session | header `x-switchboard-session`, `metadata.session`, `metadata.session_id` |
//! | step | header `x-switchboard-step`, `metadata.step` |
//!
//! Everything is bounded, and nothing that a client says of itself fails its call: what is too long is cut at a
//! character, control characters are taken out, tags after the tenth are left out. The headers stay here; the members
//! of the body are the provider's as well, and pass.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::{
    store::ledger::Who,
    wire::{
        envelope::{Envelope, Value},
        json::Kind,
    },
};

pub const USER: HeaderName = HeaderName::from_static("x-switchboard-user");
pub const TAGS: HeaderName = HeaderName::from_static("x-switchboard-tags");
pub const WORKFLOW: HeaderName = HeaderName::from_static("x-switchboard-workflow");
pub const SESSION: HeaderName = HeaderName::from_static("x-switchboard-session");
pub const STEP: HeaderName = HeaderName::from_static("x-switchboard-step");

/// The most tags that a call has.
const MOST_TAGS: usize = 10;
/// The longest tag, in bytes.
const LONGEST_TAG: usize = 64;
/// The longest of the other texts, in bytes.
const LONGEST: usize = 256;

/// Adds what the request says to what its key says.
#[must_use]
pub fn asking(key: Who, headers: &HeaderMap, request: &Envelope) -> Who {
    let header = |name: &HeaderName| headers.get(name).and_then(|value| clean(&text_of(value.as_bytes()), LONGEST));
    let member = |name: &str| request.get(name).and_then(|value| text(value, LONGEST));
    let metadata = request.get("metadata").filter(|value| value.kind == Kind::Object);
    let noted = |name: &str| text(metadata?.get(name)?, LONGEST);
    let mut who = Who {
        end_user: header(&USER)
            .or_else(|| member("safety_identifier"))
            .or_else(|| member("user"))
            // Anthropic's place for it.
            .or_else(|| noted("user_id")),
        workflow: header(&WORKFLOW).or_else(|| noted("workflow")),
        session: header(&SESSION).or_else(|| noted("session")).or_else(|| noted("session_id")),
        step: header(&STEP).or_else(|| noted("step")),
        ..key
    };
    for value in headers.get_all(&TAGS) {
        add_tags(&mut who.tags, &text_of(value.as_bytes()));
    }
    match metadata.and_then(|metadata| metadata.get("tags")) {
        Some(list) if list.kind == Kind::Array => {
            for tag in list.items().take(MOST_TAGS).filter_map(|tag| text(tag, LONGEST_TAG)) {
                add_tag(&mut who.tags, &tag);
            }
        }
        Some(tags) => add_tags(&mut who.tags, &tags.as_str().unwrap_or_default()),
        None => {}
    }
    who
}

fn add_tags(tags: &mut Vec<Arc<str>>, list: &str) {
    // A list of nothing but commas must end as well.
    list.split(',').take(4 * MOST_TAGS).for_each(|tag| add_tag(tags, tag));
}

fn add_tag(tags: &mut Vec<Arc<str>>, tag: &str) {
    let Some(tag) = clean(tag, LONGEST_TAG) else { return };
    if tags.len() < MOST_TAGS && tags.iter().all(|known| **known != *tag) {
        tags.push(tag.into());
    }
}

/// The text of a header, whose bytes may be any.
fn text_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// A text, or a number as it is written.
fn text(value: Value<'_>, longest: usize) -> Option<Box<str>> {
    match value.kind {
        Kind::String => clean(&value.as_str()?, longest),
        Kind::Number => clean(std::str::from_utf8(value.raw).ok()?, longest),
        _ => None,
    }
}

/// A text without control characters and without space around it, cut; `None` when nothing is left.
fn clean(text: &str, longest: usize) -> Option<Box<str>> {
    let text = text.trim();
    let cut = &text[..text.floor_char_boundary(longest)];
    let clean: Box<str> = match cut.contains(is_unseen) {
        false => cut.trim_end().into(),
        true => cut.chars().filter(|character| !is_unseen(*character)).collect::<String>().trim().into(),
    };
    Some(clean).filter(|clean| !clean.is_empty())
}

/// Characters that only change how others are shown: control characters, and those that turn the direction of a line.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;

    fn ask(headers: &[(HeaderName, &str)], body: &str) -> Who {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let key = Who { project: "default".into(), tags: vec!["ci".into()], ..Who::default() };
        asking(key, &map, &Envelope::parse(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    fn tags(who: &Who) -> Vec<&str> {
        who.tags.iter().map(|tag| &**tag).collect()
    }

    #[test]
    fn the_end_user_is_the_first_that_is_named() {
        let all = r#"{"user":"u","safety_identifier":"s"}"#;
        let cases = [
            (Some("h"), all, Some("h")),
            (Some("  "), all, Some("s")),
            (None, all, Some("s")),
            (None, r#"{"user":"u","safety_identifier":null}"#, Some("u")),
            (None, r#"{"user":42}"#, Some("42")),
            (None, r#"{"user":{"id":"u"}}"#, None),
            (None, r#"{"metadata":{"user":"u"}}"#, None),
            (None, r#"{"metadata":{"user_id":"u"}}"#, Some("u")),
            (None, r#"{"user":"a","metadata":{"user_id":"u"}}"#, Some("a")),
        ];
        for (header, body, expected) in cases {
            let header: Vec<_> = header.map(|user| (USER, user)).into_iter().collect();
            assert_eq!(ask(&header, body).end_user.as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_workflow_its_session_and_its_step_come_from_headers_or_metadata() {
        let body = r#"{"metadata":{"workflow":"w","session":"s","session_id":"i","step":"3"}}"#;
        let who = ask(&[], body);
        assert_eq!(
            (who.workflow.as_deref(), who.session.as_deref(), who.step.as_deref()),
            (Some("w"), Some("s"), Some("3"))
        );
        let who = ask(&[(WORKFLOW, "W"), (SESSION, "S"), (STEP, "plan/search")], body);
        assert_eq!(
            (who.workflow.as_deref(), who.session.as_deref(), who.step.as_deref()),
            (Some("W"), Some("S"), Some("plan/search"))
        );
        assert_eq!(ask(&[], r#"{"metadata":{"session_id":"i"}}"#).session.as_deref(), Some("i"));
        assert_eq!(ask(&[], r#"{"metadata":"workflow"}"#).workflow, None);
    }

    #[test]
    fn tags_of_all_places_are_joined_once_each() {
        let who = ask(&[(TAGS, "a, b,,ci"), (TAGS, "c")], r#"{"metadata":{"tags":["b","d",7,null]}}"#);
        assert_eq!(tags(&who), ["ci", "a", "b", "c", "d", "7"]);
        assert_eq!(tags(&ask(&[], r#"{"metadata":{"tags":"x,y"}}"#)), ["ci", "x", "y"]);
    }

    #[test]
    fn nothing_is_unbounded_and_nothing_controls_a_terminal() {
        let many: Vec<String> = (0..1_000).map(|n| format!("t{n}")).collect();
        let who = ask(&[(TAGS, &many.join(","))], r#"{"user":"a\u001b[31m\u0007b\n"}"#);
        assert_eq!((who.tags.len(), &*who.tags[9]), (MOST_TAGS, "t8"));
        assert_eq!(who.end_user.as_deref(), Some("a[31mb"));
        let long = "ä".repeat(10_000);
        let body = format!(r#"{{"user":"{long}","metadata":{{"tags":["{long}"]}}}}"#);
        let who = ask(&[(WORKFLOW, &long)], &body);
        assert_eq!(who.end_user.map(|user| user.len()), Some(LONGEST));
        assert_eq!(who.workflow.map(|workflow| workflow.len()), Some(LONGEST));
        assert_eq!(who.tags[1].len(), LONGEST_TAG);
    }
}
