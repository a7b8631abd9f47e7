//! Keys declared in the file: checked whole, then swapped in at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{
    access::ModelAccess,
    labels::{check_project, check_tags, sorted},
    manage::check_name,
    presented::{MAX_LENGTH, is_well_formed},
    principal::{Known, Principal, Standing},
    settings::KeySettings,
};
use crate::store::KeyHash;

/// The keys of one version of the file, found by hash. A look into a table of hashes takes a time that says nothing
/// about the keys in it.
#[derive(Debug, Default)]
pub struct DeclaredKeys {
    pub(super) keys: HashMap<KeyHash, Arc<Known>>,
}

/// What is wrong with one declared key. It never holds the key's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys[{index}].{field}: {message}")]
pub struct BadDeclaredKey {
    /// Its place in the list, from 0.
    pub index: usize,
    /// The member at fault.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// The shortest value an operator may choose.
const MIN_LENGTH: usize = 16;

impl DeclaredKeys {
    /// # Errors
    /// Every complaint: names and values used twice, values that are too short or that no client could send, patterns
    /// that mean nothing.
    pub fn new(settings: &[KeySettings]) -> Result<Self, Vec<BadDeclaredKey>> {
        let mut keys = HashMap::with_capacity(settings.len());
        let mut names = HashSet::new();
        let mut complaints = Vec::new();
        for (index, key) in settings.iter().enumerate() {
            let mut complain = |field, message| complaints.push(BadDeclaredKey { index, field, message });
            if let Err(message) = check_name(&key.name) {
                complain("name", message);
            }
            if !names.insert(key.name.as_str()) {
                complain("name", format!("another declared key is called `{}` too; give each its own name", key.name));
            }
            if let Err(message) = check_value(key.value.expose()) {
                complain("value", message);
            }
            if let Err(message) = check_project(&key.project) {
                complain("project", message);
            }
            if let Err(message) = check_tags(&key.tags) {
                complain("tags", message);
            }
            match known(key) {
                Ok(known) => {
                    if keys.insert(KeyHash::of(key.value.expose()), Arc::new(known)).is_some() {
                        complain("value", "another declared key has the same value; give each its own".to_owned());
                    }
                }
                Err(error) => complain("models", error.to_string()),
            }
        }
        if complaints.is_empty() { Ok(Self { keys }) } else { Err(complaints) }
    }

    /// How many keys are declared.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is declared.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

fn known(key: &KeySettings) -> Result<Known, super::access::BadPattern> {
    let principal = Principal {
        id: format!("declared:{}", key.name).into(),
        name: key.name.as_str().into(),
        project: key.project.as_str().into(),
        tags: sorted(&key.tags),
        models: ModelAccess::new(&key.models)?,
        expires: key.expires,
    };
    let standing = if key.enabled { Standing::Good } else { Standing::Disabled };
    Ok(Known { principal: Arc::new(principal), standing })
}

fn check_value(value: &str) -> Result<(), String> {
    if value.len() < MIN_LENGTH {
        return Err(format!("the key is shorter than {MIN_LENGTH} characters; use a long random one"));
    }
    if !is_well_formed(value.as_bytes()) {
        return Err(format!(
            "no client could send this key: use at most {MAX_LENGTH} visible ASCII characters without spaces"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Secret;

    fn key(name: &str, value: &str) -> KeySettings {
        KeySettings {
            name: name.to_owned(),
            value: Secret::new(value),
            project: "default".to_owned(),
            tags: Vec::new(),
            models: vec!["*".to_owned()],
            expires: None,
            enabled: true,
        }
    }

    #[test]
    fn every_complaint_is_told_and_none_shows_a_key() {
        let bad_models = KeySettings { models: vec!["*/*".to_owned()], ..key("e", "0123456789-canary-5") };
        let settings = [
            key("a", "0123456789-canary-1"),
            key("a", "0123456789-canary-2"),
            key("b", "canary-short"),
            key("c", "0123456789-canary 3"),
            key("d", "0123456789-canary-1"),
            bad_models,
            key("", "0123456789-canary-6"),
            KeySettings { project: "A B".to_owned(), ..key("f", "0123456789-canary-7") },
            KeySettings { tags: vec![String::new()], ..key("g", "0123456789-canary-8") },
        ];
        let complaints = DeclaredKeys::new(&settings).unwrap_err();
        let places: Vec<(usize, &str)> = complaints.iter().map(|bad| (bad.index, bad.field)).collect();
        let wanted = [
            (1, "name"),
            (2, "value"),
            (3, "value"),
            (4, "value"),
            (5, "models"),
            (6, "name"),
            (7, "project"),
            (8, "tags"),
        ];
        assert_eq!(places, wanted);
        let told = format!("{complaints:?} {}", complaints.iter().map(ToString::to_string).collect::<String>());
        assert!(!told.contains("canary"), "{told}");
    }
}
