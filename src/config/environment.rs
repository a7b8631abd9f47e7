//! The one door to environment variables and to secret files.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The longest file that `${file:…}` takes, in bytes.
const MAX_SECRET_FILE: u64 = 64 * 1024;

/// Where variables come from: the process, or a fixed table in tests. Files are the file system's in both.
pub struct Environment(Variables);

enum Variables {
    Process,
    Fixed(HashMap<String, String>),
}

/// Why a variable has no value that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUnicode;

impl Environment {
    /// The environment of this process, read at the moment of each question.
    pub fn process() -> Self {
        Self(Variables::Process)
    }

    /// These variables and no others.
    pub fn of<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Variables::Fixed(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }

    /// The value of `name`, if it is set to text.
    pub fn get(&self, name: &str) -> Option<String> {
        self.variable(name).ok().flatten()
    }

    /// The value of `name`, if it is set.
    #[expect(clippy::disallowed_methods, reason = "this is the door that the ban points to")]
    pub(super) fn variable(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        match &self.0 {
            Variables::Process => std::env::var_os(name).map(|v| v.into_string().map_err(|_| NotUnicode)).transpose(),
            Variables::Fixed(table) => Ok(table.get(name).cloned()),
        }
    }

    /// The first of `names` that is set to something, and its value.
    pub(super) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names.iter().find_map(|name| {
            let value = self.get(name)?;
            let value = value.trim();
            (!value.is_empty()).then(|| (*name, value.to_owned()))
        })
    }

    /// The text of a secret file without its trailing line breaks.
    pub(super) fn file(&self, path: &Path) -> Result<String, String> {
        let bytes = read_at_most(path, MAX_SECRET_FILE).map_err(|error| describe(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Variables::Process => "Environment(process)",
            Variables::Fixed(_) => "Environment(fixed)",
        })
    }
}

/// All of a file, or an error if it is longer than `limit` bytes.
pub(super) fn read_at_most(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Why a file cannot be used, in words without the operating system's error number.
pub(super) fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "it is a directory".into(),
        _ => error.to_string(),
    }
}
