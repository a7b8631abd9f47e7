//! Where a journal lives. Every start of a gateway makes itself a new folder under `journal/` in the data directory and
//! holds an exclusive lock in it, which the system gives back when the process ends, however it ends. Folders whose lock
//! is free belong to nobody any more: whoever takes the lock ships what is in them. So several gateways may share a data
//! directory, and one that is gone for good is inherited by the others.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::types::{Clock, RequestId};

/// The file in a folder that its owner holds locked.
const LOCK: &str = "lock";

/// The folder of what could not be shipped: damaged segments, rows that the store refused.
const SET_ASIDE: &str = "set-aside";

/// A folder of segments that this process owns.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Held for as long as the folder is owned.
    lock: File,
}

/// A segment on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Its place in the order of the folder.
    pub number: u64,
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Folder {
    /// Makes a new folder under `root`, which is made as well when it is missing.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn create(root: &Path, clock: &Clock) -> io::Result<Self> {
        private_dir(root)?;
        loop {
            let path = root.join(RequestId::new(clock.unix_millis()).to_string());
            private_dir(&path)?;
            // Between the two steps another gateway may take the empty folder for an abandoned one.
            match Self::take(path) {
                Ok(Some(folder)) => return Ok(folder),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes every folder under `root` that nobody owns. Those this process owns are locked, so they are not among them.
    ///
    /// # Errors
    /// When `root` cannot be listed. A folder that cannot be looked at is left alone.
    pub fn abandoned(root: &Path) -> io::Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(root)? {
            let path = entry?.path();
            let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.len() == 26);
            if is_ours && path.is_dir() {
                found.extend(Self::take(path).ok().flatten());
            }
        }
        found.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(found)
    }

    /// Takes the folder at `path` unless it has an owner.
    fn take(path: PathBuf) -> io::Result<Option<Self>> {
        let name = path.join(LOCK);
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&name)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had the lock before may have removed the folder with it: then this lock is of a file that is gone.
        let folder = Self { path, lock };
        Ok(folder.is_there().then_some(folder))
    }

    /// Whether the folder is still the one whose lock is held: nobody removed it or put another in its place.
    pub fn is_there(&self) -> bool {
        let there = fs::metadata(self.path.join(LOCK));
        there.is_ok_and(|there| {
            self.lock.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
        })
    }

    /// Its name: unique, and in the order of the starts.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a segment.
    pub fn segment(&self, number: u64) -> PathBuf {
        self.path.join(format!("{number:08}.seg"))
    }

    /// Makes a segment's file, empty.
    ///
    /// # Errors
    /// When the disk says no, or there is one of that number.
    pub fn create_segment(&self, number: u64) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.segment(number))
    }

    /// The segments that are there, in order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn segments(&self) -> io::Result<Vec<SegmentFile>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let (Some(number), Some("seg")) = (stem, path.extension().and_then(|extension| extension.to_str())) {
                found.push(SegmentFile { number, bytes: entry.metadata()?.len(), path });
            }
        }
        found.sort_by_key(|segment| segment.number);
        Ok(found)
    }

    /// Removes the folder unless there are segments in it, and says whether it did. It stays locked either way.
    pub fn remove_if_empty(&self) -> bool {
        // What fails to be removed is tried again by whoever looks for abandoned folders next.
        self.segments().is_ok_and(|left| left.is_empty())
            && fs::remove_file(self.path.join(LOCK)).and_then(|()| fs::remove_dir(&self.path)).is_ok()
    }
}

/// Moves a segment to where people will look for it, and says where that is.
///
/// # Errors
/// When the disk says no; the file stays.
pub fn set_aside(segment: &Path) -> io::Result<PathBuf> {
    let to = place_aside(segment)?;
    fs::rename(segment, &to)?;
    Ok(to)
}

/// Copies a segment that is still needed to where people will look for it, and says where that is.
///
/// # Errors
/// When the disk says no.
pub fn copy_aside(segment: &Path) -> io::Result<PathBuf> {
    let to = place_aside(segment)?;
    fs::copy(segment, &to)?;
    Ok(to)
}

/// Appends `lines` to the rows that the store refused, below `root`, and says in which file.
///
/// # Errors
/// When the disk says no, or the file has reached its bound of 64 MiB.
pub fn keep_refused(root: &Path, lines: &[u8]) -> io::Result<PathBuf> {
    const BOUND: u64 = 64 << 20;
    let path = set_aside_dir(root)?.join("refused.jsonl");
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    if file.metadata()?.len() > BOUND {
        return Err(io::Error::new(io::ErrorKind::StorageFull, format!("{} has reached 64 MiB", path.display())));
    }
    file.write_all(lines)?;
    Ok(path)
}

fn place_aside(segment: &Path) -> io::Result<PathBuf> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let folder = segment.parent().unwrap_or(segment);
    let dir = set_aside_dir(folder.parent().unwrap_or(folder))?;
    Ok(dir.join(format!("{}-{}.damaged", name(folder), name(segment))))
}

fn set_aside_dir(root: &Path) -> io::Result<PathBuf> {
    let dir = root.join(SET_ASIDE);
    private_dir(&dir)?;
    Ok(dir)
}

/// Makes a directory for this user alone: rows name keys and end users.
fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
