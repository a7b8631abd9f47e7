//! From a path, or none, to settings.

use std::{
    fmt::{self, Write},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use serde_path_to_error::Segment;
use sha2::{Digest, Sha256};

use super::{
    checks::{check, routes},
    complaint::{Complaint, Complaints, Severity},
    discover::{discover, fill_admin_key, fill_keys},
    document::{Document, Hidden, spell},
    environment::{Environment, describe, read_at_most},
    prices,
    schema::settings_schema,
    settings::Settings,
    shape::conform,
    tree::{self, Flaw, Mark, Range},
    vendors,
    watch::Watch,
};
use crate::{
    catalog::{Book, Catalog},
    shared::settings::RedisSettings,
    store::settings::DatabaseSettings,
    types::{Secret, Size},
};

/// The longest configuration file, in bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// The variable that names the configuration file when `--config` does not.
const FILE_VARIABLE: &str = "SWITCHBOARD_CONFIG";
/// Where the configuration file is looked for when nobody names one.
const PLACES: [&str; 2] = ["switchboard.yaml", "/etc/switchboard/switchboard.yaml"];
/// Complaints shown of one file; who has more reads no more.
const MAX_COMPLAINTS: usize = 100;

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub source: Source,
    /// What was found and what is missing, a sentence each, for the start-up screen.
    pub notes: Vec<String>,
    /// What is allowed but probably not meant.
    pub warnings: Complaints,
    /// Every price that is known, those of the configuration and of its price file first.
    pub catalog: Catalog,
    /// The version of this configuration: the first 12 hexadecimal digits of the SHA-256 of the file's text. Two
    /// replicas with the same text have the same version.
    pub hash: String,
    /// What was typed on the command line, over what the file says.
    pub flags: Flags,
    document: Option<Document>,
    watch: Watch,
}

/// Settings typed on the command line: they win over the file, at the start and at every reload.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub listen: Option<SocketAddr>,
    pub data_dir: Option<PathBuf>,
    /// The URL of the database; the file's other settings of it stay.
    pub database: Option<Secret>,
    /// The URL of Redis; the file's other settings of it stay.
    pub redis: Option<Secret>,
}

impl Flags {
    pub fn apply(&self, settings: &mut Settings) {
        if let Some(listen) = self.listen {
            settings.listen = listen;
        }
        if let Some(data_dir) = &self.data_dir {
            settings.data_dir.clone_from(data_dir);
        }
        if let Some(url) = &self.database {
            let database = settings.database.get_or_insert_with(|| DatabaseSettings::at(url.clone()));
            database.url.clone_from(url);
        }
        if let Some(url) = &self.redis {
            let redis = settings.redis.get_or_insert_with(|| RedisSettings::at(url.clone()));
            redis.urls = vec![url.clone()];
        }
    }
}

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// There was no file: providers were found by their usual environment variables.
    Environment,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Environment => f.write_str("The environment"),
        }
    }
}

/// Loads the configuration from `path`; without one, from the file that `SWITCHBOARD_CONFIG` names, from
/// `./switchboard.yaml`, from `/etc/switchboard/switchboard.yaml`, or, if there is none, from the environment alone.
///
/// # Errors
/// Everything that is wrong with the file, warnings included. A file that was named must exist.
pub fn load(path: Option<&Path>, env: &Environment) -> Result<Loaded, Complaints> {
    load_from(path, &PLACES.map(Path::new), env)
}

/// As [`load`], with the places where a file is looked for that nobody named.
pub(super) fn load_from(path: Option<&Path>, places: &[&Path], env: &Environment) -> Result<Loaded, Complaints> {
    match find(path, places, env) {
        Some(file) => load_file(&file, env),
        None => {
            let (mut settings, mut notes) =
                discover(env, vendors::hosted().map(|vendor| (vendor.name, vendor.key_env)));
            notes.extend(fill_admin_key(&mut settings, env));
            let document = Document::new(None, "", None, Hidden::AllButKeys);
            let flaws = check(&settings, &document);
            if flaws.iter().any(|flaw| flaw.severity == Severity::Error) {
                return Err(complaints(&document, flaws));
            }
            let (source, warnings) = (Source::Environment, Complaints::default());
            let hash = hash(&settings.providers.keys().cloned().collect::<Vec<_>>().join("\n"));
            Ok(Loaded {
                settings,
                source,
                notes,
                warnings,
                catalog: Catalog::embedded(),
                hash,
                flags: Flags::default(),
                document: None,
                watch: Watch::default(),
            })
        }
    }
}

/// Reads a configuration from its text. `file` is only named in complaints; files that the text names are read.
///
/// # Errors
/// Everything that is wrong with it, warnings included.
pub fn parse(text: &str, file: Option<&Path>, env: &Environment) -> Result<Settings, Complaints> {
    let Read { settings, complaints, .. } = read(text, file, env, &mut Watch::default());
    settings.ok_or(complaints)
}

impl Loaded {
    /// Which Redis is meant, with what was typed on the command line.
    pub fn redis(&self) -> Option<RedisSettings> {
        let mut settings = self.settings.clone();
        self.flags.apply(&mut settings);
        settings.redis
    }

    /// A complaint by a later stage about the setting at `path` (`["models", "gpt", "targets", "0", "model"]`), or
    /// about the nearest one above it that is written in the file.
    pub fn complain(&self, path: &[String], message: impl Into<String>, help: Option<String>) -> Complaint {
        let (severity, message) = (Severity::Error, message.into());
        match &self.document {
            Some(document) => document.complaint(document.complain(severity, path, message, help)),
            None => {
                let path = spell(path);
                Complaint { file: None, line: 0, column: 0, path, message, help, severity, excerpt: None }
            }
        }
    }

    /// Something to ask once a second whether the configuration should be loaded again.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The file to load again, if the configuration came from one.
    pub fn file(&self) -> Option<PathBuf> {
        match &self.source {
            Source::File(file) => Some(file.clone()),
            Source::Environment => None,
        }
    }

    /// `3 providers, 2 models, 1 alias, 1 key`.
    pub fn summary(&self) -> String {
        let Settings { providers, models, aliases, keys, .. } = &self.settings;
        let counts = [
            (providers.len(), "provider", "providers"),
            (models.len(), "model", "models"),
            (aliases.len(), "alias", "aliases"),
            (keys.len(), "key", "keys"),
        ];
        let counts = counts.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
        counts.join(", ")
    }
}

/// Which file is meant, if any.
fn find(path: Option<&Path>, places: &[&Path], env: &Environment) -> Option<PathBuf> {
    let named = || env.first(&[FILE_VARIABLE]).map(|(_, file)| PathBuf::from(file));
    let usual = || places.iter().find(|place| place.symlink_metadata().is_ok()).map(|place| place.to_path_buf());
    path.map(Path::to_owned).or_else(named).or_else(usual)
}

fn load_file(file: &Path, env: &Environment) -> Result<Loaded, Complaints> {
    let mut watch = Watch::default();
    watch.add(file);
    let text = read_text(file, Size(MAX_FILE))?;
    let Read { settings, complaints, prices, document, notes } = read(&text, Some(file), env, &mut watch);
    let Some(settings) = settings else { return Err(complaints) };
    let (source, hash) = (Source::File(file.to_owned()), hash(&text));
    let catalog = prices::catalog(&settings, prices);
    Ok(Loaded {
        settings,
        source,
        notes,
        warnings: complaints,
        catalog,
        hash,
        flags: Flags::default(),
        document: Some(document),
        watch,
    })
}

/// The text of a file, or why there is none.
pub(super) fn read_text(file: &Path, most: Size) -> Result<String, Complaints> {
    let refuse = |at: Mark, message: String, help: Option<&str>| {
        let flaw = Flaw::error(Range { start: at, end: at }, &[], message, help.map(str::to_owned));
        Complaints::from(Document::new(Some(file), "", None, Hidden::AllButKeys).complaint(flaw))
    };
    let bytes = read_at_most(file, most.0).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => {
            refuse(Mark::default(), format!("the file is larger than {}", largest(most)), None)
        }
        _ => refuse(Mark::default(), format!("the file cannot be read: {}", describe(&error)), None),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let (bytes, valid) = (error.as_bytes(), error.utf8_error().valid_up_to());
        let before = String::from_utf8_lossy(&bytes[..valid]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        let byte = bytes.get(valid).copied().unwrap_or_default();
        let message = format!("the file is not UTF-8 text: byte 0x{byte:02x}");
        refuse(Mark { line, column }, message, Some("save it as UTF-8"))
    })
}

/// `4 MiB`.
fn largest(size: Size) -> String {
    format!("{} MiB", size.0 >> 20)
}

/// What came of a text.
struct Read {
    /// `None` when a complaint is an error.
    settings: Option<Settings>,
    complaints: Complaints,
    /// Those of the price file that the settings name.
    prices: Option<Arc<Book>>,
    document: Document,
    notes: Vec<String>,
}

fn read(text: &str, file: Option<&Path>, env: &Environment, watch: &mut Watch) -> Read {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() as u64 > MAX_FILE {
        let flaw = Flaw::error(Range::default(), &[], "the file is larger than 4 MiB", None);
        return refused(Document::new(file, "", None, Hidden::AllButKeys), vec![flaw]);
    }
    let tree = tree::read(text);
    if tree.broken {
        return refused(Document::new(file, text, None, Hidden::AllButKeys), tree.flaws);
    }
    let conformed = conform(tree.root.as_ref(), settings_schema(), env, watch);
    let document = Document::new(file, text, tree.root, Hidden::These(conformed.hidden));
    let mut flaws = tree.flaws;
    flaws.extend(conformed.flaws);
    let mut notes = Vec::new();
    let settings = typed(conformed.value, &document, &mut flaws).map(|mut settings| {
        notes = fill_keys(&mut settings, env);
        notes.extend(fill_admin_key(&mut settings, env));
        // What is at fault already is not complained about twice, nor what only follows from it.
        let known: Vec<_> = flaws.iter().map(|flaw| flaw.path.clone()).collect();
        let related =
            |path: &[String]| known.iter().any(|k| !k.is_empty() && (k.starts_with(path) || path.starts_with(k)));
        flaws.extend(check(&settings, &document).into_iter().filter(|flaw| !related(&flaw.path)));
        let errors = routes::complaints(&settings).into_iter().filter(|error| !related(&error.path));
        flaws.extend(errors.map(|error| document.complain(Severity::Error, &error.path, error.message, None)));
        settings
    });
    let usable = flaws.iter().all(|flaw| flaw.severity != Severity::Error);
    let mut complaints = complaints(&document, flaws);
    let mut settings = settings.filter(|_| usable);
    let prices = settings.as_ref().map_or(Ok(None), |settings| prices::own_file(settings, watch));
    let prices = prices.unwrap_or_else(|of_the_file| {
        complaints.0.extend(of_the_file.0);
        settings = None;
        None
    });
    Read { settings, complaints, prices, document, notes }
}

fn refused(document: Document, flaws: Vec<Flaw>) -> Read {
    let complaints = complaints(&document, flaws);
    Read { settings: None, complaints, prices: None, document, notes: Vec::new() }
}

/// The settings that `value` holds. The schema has been checked, so that only what it does not say can fail here.
fn typed(value: Value, document: &Document, flaws: &mut Vec<Flaw>) -> Option<Settings> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| {
            let path: Vec<String> = error.path().iter().map(step).collect();
            // The message may hold the value, which may be a secret; the place says enough.
            let message = "this cannot be understood".to_owned();
            flaws.push(document.complain(Severity::Error, &path, message, None));
        })
        .ok()
}

pub(super) fn step(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => index.to_string(),
        other => other.to_string(),
    }
}

/// In the order of the file, each once: an alias brings the same flaw as often as it is used.
pub(super) fn complaints(document: &Document, mut flaws: Vec<Flaw>) -> Complaints {
    flaws.sort_by_key(|flaw| flaw.range.start);
    let mut seen = std::collections::HashSet::new();
    flaws.retain(|flaw| seen.insert((flaw.range, flaw.message.clone())));
    let more = flaws.len().saturating_sub(MAX_COMPLAINTS);
    if more > 0 {
        // Errors first: a cut must never leave warnings alone.
        flaws.sort_by_key(|flaw| flaw.severity);
        flaws.truncate(MAX_COMPLAINTS);
        let severity = flaws.first().map_or(Severity::Warning, |flaw| flaw.severity);
        let message = format!("and {more} more complaints");
        flaws.push(Flaw { severity, ..Flaw::error(Range::default(), &[], message, None) });
    }
    Complaints(flaws.into_iter().map(|flaw| document.complaint(flaw)).collect())
}

/// Twelve hexadecimal digits are enough to tell versions of one file apart.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(6).fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
