//! Noticing that a file has changed, by asking the file system rather than by subscribing to it: notifications do not
//! cross network mounts and miss the swapped symbolic links by which Kubernetes updates a mounted config map.

use std::path::{Path, PathBuf};

/// The files that a configuration was read from, and how they looked.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    files: Vec<Watched>,
}

#[derive(Clone, Debug)]
struct Watched {
    path: PathBuf,
    /// As it was when it was last reported, or at first.
    known: Option<Fingerprint>,
    /// As it was at the last question.
    seen: Option<Fingerprint>,
}

/// What changes when a file does: its content's time and size, or the file that its name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    modified: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Watch {
    /// Watches `path`, too. To be called before the file is read: a change during the reading is then noticed.
    pub(super) fn add(&mut self, path: &Path) {
        if !self.files.iter().any(|file| file.path == path) {
            let known = fingerprint(path);
            self.files.push(Watched { path: path.to_owned(), seen: known.clone(), known });
        }
    }

    /// Whether a file has changed since the last time this said so. A change is reported when the file looks the same
    /// in two questions running, so that one that is being written is not read half-way; a file that is missing has not
    /// changed, because editors and deployments replace files by removing them first.
    ///
    /// Costs one `stat` per file. Ask about once a second.
    pub fn changed(&mut self) -> bool {
        // Every file is asked, so no short circuit.
        self.files.iter_mut().fold(false, |changed, file| file.changed() | changed)
    }

    /// The files watched: the configuration itself first, then the secret files it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }
}

impl Watched {
    fn changed(&mut self) -> bool {
        let now = fingerprint(&self.path);
        let settled = now == self.seen;
        self.seen = now.clone();
        if now.is_none() || now == self.known || !settled {
            return false;
        }
        self.known = now;
        true
    }
}

/// How a file looks, symbolic links followed; `None` when there is none.
#[cfg(unix)]
fn fingerprint(path: &Path) -> Option<Fingerprint> {
    use std::os::unix::fs::MetadataExt;

    let found = path.metadata().ok()?;
    let modified = (found.mtime(), found.mtime_nsec());
    Some(Fingerprint { modified, size: found.len(), inode: (found.dev(), found.ino()) })
}

/// How a file looks; `None` when there is none.
#[cfg(not(unix))]
fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let found = path.metadata().ok()?;
    let modified = found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let modified = (i64::try_from(modified.as_secs()).ok()?, i64::from(modified.subsec_nanos()));
    Some(Fingerprint { modified, size: found.len(), inode: (0, 0) })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_change_is_reported_once_and_only_when_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("switchboard.yaml");
        fs::write(&file, "a").unwrap();
        let mut watch = Watch::default();
        watch.add(&file);
        assert!(!watch.changed());

        fs::write(&file, "").unwrap();
        assert!(!watch.changed(), "it may still be being written");
        fs::write(&file, "whole").unwrap();
        assert!(!watch.changed(), "it looked different a moment ago");
        assert!(watch.changed());
        assert!(!watch.changed());

        fs::remove_file(&file).unwrap();
        assert!(!watch.changed() && !watch.changed(), "a missing file is not a change");
        fs::write(&file, "again, and longer").unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
    }

    #[test]
    fn a_swapped_symbolic_link_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["v1", "v2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), "same size").unwrap();
        }
        // A mounted config map: file -> ..data/file, ..data -> v1, then ..data -> v2 by a rename.
        symlink(at("v1"), at("..data")).unwrap();
        symlink(at("..data").join("file"), at("file")).unwrap();
        let mut watch = Watch::default();
        watch.add(&at("other"));
        watch.add(&at("file"));
        assert!(!watch.changed());
        symlink(at("v2"), at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        assert!(!watch.changed());
        assert!(watch.changed());
        assert!(!watch.changed());
    }
}
