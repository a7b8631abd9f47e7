//! What calls are sorted by afterwards: the project a key belongs to, and its tags. Both are written into every row of
//! the ledger and into URLs of its queries, so they are short and plain.

use std::{collections::BTreeSet, sync::Arc};

/// The project of keys that name none.
pub const DEFAULT_PROJECT: &str = "default";

/// The most tags that a key or a project has.
pub const MAX_TAGS: usize = 16;

const MAX_LENGTH: usize = 64;

/// # Errors
/// A sentence on what is wrong with the id of a project.
pub fn check_project(id: &str) -> Result<(), String> {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    let begins_well = id.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if begins_well && id.len() <= MAX_LENGTH && id.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!(
        "a project's id is 1 to {MAX_LENGTH} lower-case letters, digits, `-`, `_` and `.`, and begins with a letter or \
         digit"
    ))
}

/// # Errors
/// A sentence on what is wrong with the tags of a key or a project, and the place of the one that is, if it is one.
pub fn check_tags(tags: &[String]) -> Result<(), (Option<usize>, String)> {
    if tags.len() > MAX_TAGS {
        return Err((None, format!("there are {} tags; at most {MAX_TAGS} are kept", tags.len())));
    }
    let is_good = |tag: &String| {
        (1..=MAX_LENGTH).contains(&tag.len()) && !tag.contains(|c: char| c == ',' || !c.is_ascii_graphic())
    };
    let Some(place) = tags.iter().position(|tag| !is_good(tag)) else { return Ok(()) };
    let why = format!(
        "the tag `{}` cannot be used: a tag is 1 to {MAX_LENGTH} visible ASCII characters without commas and spaces",
        tags[place].escape_debug()
    );
    Err((Some(place), why))
}

/// The tags in order, each once.
pub(super) fn sorted(tags: &[String]) -> Arc<[Arc<str>]> {
    let tags: BTreeSet<&str> = tags.iter().map(String::as_str).collect();
    tags.into_iter().map(Arc::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_tags_are_short_and_plain() {
        for id in ["a", "default", "team-1.search_eu", "7"] {
            assert_eq!(check_project(id), Ok(()), "{id}");
        }
        for id in ["", "-a", "A", "a b", "a/b", "ü", "a'; --", &"a".repeat(65)] {
            assert!(check_project(id).is_err(), "{id}");
        }
        let tags = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>();
        assert_eq!(check_tags(&tags(&["team:search", "Prod", "a=b"])), Ok(()));
        for bad in ["", "a b", "a,b", "ü", "a\0", &"a".repeat(65)] {
            assert!(check_tags(&tags(&[bad])).is_err(), "{bad}");
        }
        assert!(check_tags(&vec!["a".to_owned(); MAX_TAGS + 1]).is_err());
        assert_eq!(*sorted(&tags(&["b", "a", "b"])), [Arc::from("a"), Arc::from("b")]);
    }
}
