//! Keys declared in the file: checked whole, then swapped in at once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arc_swap::ArcSwapOption;

use super::{
    labels::{check_project, check_tags, sorted},
    manage::check_name,
    presented::{MAX_LENGTH, is_well_formed},
    principal::{Known, Standing},
    projects::Project,
    rights::Rights,
    settings::{KeySettings, ProjectSettings},
};
use crate::{quotas::settings::QuotaSettings, store::KeyHash};

/// The keys and projects of one version of the file; keys are found by hash. A look into a table of hashes takes a time
/// that says nothing about the keys in it.
#[derive(Debug, Default)]
pub struct Declared {
    pub(super) keys: HashMap<KeyHash, Arc<Known>>,
    pub(super) projects: HashMap<Arc<str>, Arc<Project>>,
    /// As the file has them, for whoever asks what there is.
    pub(super) key_settings: Vec<KeySettings>,
    pub(super) project_settings: BTreeMap<String, ProjectSettings>,
    pub(super) quota_settings: Vec<QuotaSettings>,
}

/// What is wrong with one declared key or project. It never holds a key's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", path.join("."))]
pub struct BadDeclared {
    /// The place in the settings: `keys`, its index from 0, the member at fault, and its entry.
    pub path: Vec<String>,
    /// What is wrong and what to do.
    pub message: String,
}

/// The shortest value an operator may choose.
const MIN_LENGTH: usize = 16;

/// What the id of a declared key begins with, before its name.
pub const DECLARED: &str = "declared:";

impl Declared {
    /// # Errors
    /// Every complaint: names and values used twice, values that are too short or that no client could send, rights
    /// that mean nothing.
    pub fn new(keys: &[KeySettings], projects: &BTreeMap<String, ProjectSettings>) -> Result<Self, Vec<BadDeclared>> {
        let mut complaints = Vec::new();
        let mut declared = Self { key_settings: keys.to_vec(), project_settings: projects.clone(), ..Self::default() };
        for (id, settings) in projects {
            let path = ["projects".to_owned(), id.clone()];
            match project(id, settings) {
                Ok(project) => drop(declared.projects.insert(project.id.clone(), Arc::new(project))),
                Err(bad) => complaints.extend(bad.into_iter().map(|bad| bad.at(&path))),
            }
        }
        let mut names = HashSet::new();
        for (index, settings) in keys.iter().enumerate() {
            let path = ["keys".to_owned(), index.to_string()];
            let mut complain = |bad: Bad| complaints.push(bad.at(&path));
            if !names.insert(settings.name.as_str()) {
                let message = format!("another declared key is called `{}` too; give each its own name", settings.name);
                complain(Bad::new("name", message));
            }
            match known(settings) {
                Ok(known) => {
                    let hash = KeyHash::of(settings.value.expose());
                    if declared.keys.insert(hash, Arc::new(known)).is_some() {
                        let message = "another declared key has the same value; give each its own";
                        complain(Bad::new("value", message.to_owned()));
                    }
                }
                Err(bad) => bad.into_iter().for_each(complain),
            }
        }
        if complaints.is_empty() { Ok(declared) } else { Err(complaints) }
    }

    /// With the file's quotas, which were checked elsewhere and are shown with stored ones.
    #[must_use]
    pub fn with_quotas(self, quotas: &[QuotaSettings]) -> Self {
        Self { quota_settings: quotas.to_vec(), ..self }
    }

    /// How many keys are declared.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is declared.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// What is wrong within a key or a project.
struct Bad {
    member: &'static str,
    entry: Option<usize>,
    message: String,
}

impl Bad {
    fn new(member: &'static str, message: String) -> Self {
        Self { member, entry: None, message }
    }

    fn of_tags((entry, message): (Option<usize>, String)) -> Self {
        Self { member: "tags", entry, message }
    }

    fn at(self, path: &[String]) -> BadDeclared {
        let inner = std::iter::once(self.member.to_owned()).chain(self.entry.map(|entry| entry.to_string()));
        // The id of a project is a member's name itself.
        let inner = inner.filter(|step| !step.is_empty());
        BadDeclared { path: path.iter().cloned().chain(inner).collect(), message: self.message }
    }
}

fn rights(models: &[String], endpoints: &[String], addresses: &[String], bad: &mut Vec<Bad>) -> Rights {
    Rights::new(models, endpoints, addresses).unwrap_or_else(|found| {
        bad.extend(found.into_iter().map(|one| Bad { member: one.member, entry: one.place, message: one.message }));
        Rights::default()
    })
}

fn project(id: &str, settings: &ProjectSettings) -> Result<Project, Vec<Bad>> {
    let mut bad = Vec::new();
    bad.extend(check_project(id).err().map(|message| Bad::new("", message)));
    if let Some(name) = &settings.name {
        bad.extend(check_name(name).err().map(|message| Bad::new("name", message)));
    }
    bad.extend(check_tags(&settings.tags).err().map(Bad::of_tags));
    let ProjectSettings { models, endpoints, addresses, log_content, archived, .. } = settings;
    let rights = rights(models, endpoints, addresses, &mut bad);
    if !bad.is_empty() {
        return Err(bad);
    }
    Ok(Project { id: id.into(), rights, log_content: *log_content, is_archived: *archived })
}

fn known(key: &KeySettings) -> Result<Known, Vec<Bad>> {
    let mut bad = Vec::new();
    bad.extend(check_name(&key.name).err().map(|message| Bad::new("name", message)));
    bad.extend(check_value(key.value.expose()).err().map(|message| Bad::new("value", message)));
    bad.extend(check_project(&key.project).err().map(|message| Bad::new("project", message)));
    bad.extend(check_tags(&key.tags).err().map(Bad::of_tags));
    if key.max_tokens == Some(0) {
        bad.push(Bad::new("max_tokens", "a ceiling of 0 lets no call through; leave it out for none".to_owned()));
    }
    let own = rights(&key.models, &key.endpoints, &key.addresses, &mut bad);
    if !bad.is_empty() {
        return Err(bad);
    }
    Ok(Known {
        id: format!("{DECLARED}{}", key.name).into(),
        name: key.name.as_str().into(),
        project: key.project.as_str().into(),
        tags: sorted(&key.tags),
        max_tokens: key.max_tokens,
        log_content: key.log_content,
        expires: key.expires,
        own: Arc::new(own),
        standing: if key.enabled { Standing::Good } else { Standing::Disabled },
        replaced: None,
        last: ArcSwapOption::empty(),
    })
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
            endpoints: vec!["*".to_owned()],
            addresses: vec!["*".to_owned()],
            max_tokens: None,
            log_content: None,
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
            KeySettings { endpoints: vec!["chats".to_owned()], ..key("h", "0123456789-canary-9") },
            KeySettings { addresses: vec!["*".to_owned(), "10/8".to_owned()], ..key("i", "0123456789-canary-10") },
            KeySettings { max_tokens: Some(0), ..key("j", "0123456789-canary-11") },
        ];
        let project = ProjectSettings {
            name: Some(String::new()),
            tags: Vec::new(),
            models: vec!["*/*".to_owned()],
            endpoints: Vec::new(),
            addresses: Vec::new(),
            log_content: None,
            archived: false,
        };
        let projects = BTreeMap::from([("Search".to_owned(), project)]);
        let complaints = Declared::new(&settings, &projects).unwrap_err();
        let places: Vec<String> = complaints.iter().map(|bad| bad.path.join(".")).collect();
        let wanted = [
            "projects.Search",
            "projects.Search.name",
            "projects.Search.models.0",
            "keys.1.name",
            "keys.2.value",
            "keys.3.value",
            "keys.4.value",
            "keys.5.models.0",
            "keys.6.name",
            "keys.7.project",
            "keys.8.tags.0",
            "keys.9.endpoints.0",
            "keys.10.addresses.1",
            "keys.11.max_tokens",
        ];
        assert_eq!(places, wanted);
        let told = format!("{complaints:?} {}", complaints.iter().map(ToString::to_string).collect::<String>());
        assert!(!told.contains("canary"), "{told}");
    }
}
