//! Reading segments back: those of gateways that died, and those of this one whose rows had no room in memory.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use super::{
    folder::{Folder, SegmentFile, set_aside},
    format::{Cursor, Found, Kind, Unreadable},
};
use crate::{store::ledger::CallRow, types::Outcome};

/// Rows that are handed out at once.
const BATCH: usize = 500;

/// How much of a segment is read. Ours end soon after 8 MiB.
const LARGEST: u64 = 64 << 20;

/// The settled rows of one segment, a batch at a time.
#[derive(Debug)]
pub struct SegmentRows {
    bytes: Vec<u8>,
    cursor: Cursor,
    /// Where the first damage is.
    damaged_at: Option<usize>,
}

/// What a dead gateway left, read in batches. All of it is blocking file I/O.
#[derive(Debug)]
pub struct Recovery {
    folder: Folder,
    segments: Vec<Left>,
    /// The segment that is being read.
    current: Option<SegmentRows>,
    next: usize,
    /// Calls that are open so far: the segment of the last `opened`, and its place there.
    opens: HashMap<Box<str>, (usize, usize)>,
    stage: Stage,
}

/// Rows for the store.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    pub rows: Vec<CallRow>,
    /// They are calls whose end nobody knows.
    pub lost: bool,
}

/// A segment of a dead gateway.
#[derive(Debug)]
struct Left {
    file: SegmentFile,
    state: LeftState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeftState {
    Whole,
    Damaged,
    /// Another version wrote it. It stays where it is.
    Foreign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Settled,
    /// Lost calls of this segment come next.
    Lost(usize),
}

impl SegmentRows {
    /// Reads the segment at `path`. What can never be read is logged.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn open(path: &Path) -> io::Result<Result<Self, Unreadable>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(match Cursor::new(&bytes) {
            Ok(cursor) => Ok(Self { bytes, cursor, damaged_at: None }),
            Err(why) => {
                tracing::error!(file = %path.display(), "a segment of the ledger's journal cannot be read: {why}");
                Err(why)
            }
        })
    }

    /// The next settled rows; none at the end. `note` hears of every record in between, and where it is.
    fn batch(&mut self, path: &Path, mut note: impl FnMut(Kind, &str, usize)) -> Vec<CallRow> {
        let mut rows = Vec::new();
        while rows.len() < BATCH {
            let (from, to) = match self.cursor.next(&self.bytes) {
                None => break,
                Some(Found::Tail { from }) => {
                    tracing::debug!(file = %path.display(), offset = from, "the last record was not written to its end");
                    continue;
                }
                Some(Found::Damage { from, to }) => (from, to),
                Some(Found::Record(record)) => {
                    let row = if record.kind == Kind::Settled { record.row() } else { None };
                    match (record.id(), row) {
                        (Some(id), None) if record.kind == Kind::Opened => {
                            note(Kind::Opened, id, record.at);
                            continue;
                        }
                        (Some(id), Some(row)) => {
                            note(Kind::Settled, id, record.at);
                            rows.push(row);
                            continue;
                        }
                        _ => (record.at, record.end()),
                    }
                }
            };
            self.damaged_at.get_or_insert(from);
            tracing::error!(
                file = %path.display(), offset = from, bytes = to - from,
                "a segment of the ledger's journal is damaged: what stood there is left out, what follows is read"
            );
        }
        rows
    }

    /// The next settled rows of the segment at `path`; none at the end.
    pub fn settled(&mut self, path: &Path) -> Vec<CallRow> {
        self.batch(path, |_, _, _| {})
    }

    /// The last `opened` of each of these calls.
    pub fn opened(&mut self, ids: &HashSet<Arc<str>>) -> Vec<CallRow> {
        let mut last = HashMap::new();
        while let Some(found) = self.cursor.next(&self.bytes) {
            if let Found::Record(record) = found
                && let (Kind::Opened, Some(id)) = (record.kind, record.id())
                && ids.contains(id)
            {
                last.insert(id, record);
            }
        }
        last.into_values().filter_map(|record| record.row()).collect()
    }

    /// Whether what was read so far is damaged.
    pub fn is_damaged(&self) -> bool {
        self.damaged_at.is_some()
    }
}

impl Recovery {
    /// Begins to read what is in `folder`.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn begin(folder: Folder) -> io::Result<Self> {
        let segments = folder.segments()?.into_iter().map(|file| Left { file, state: LeftState::Whole }).collect();
        Ok(Self { folder, segments, current: None, next: 0, opens: HashMap::new(), stage: Stage::Settled })
    }

    /// What the folder holds on the disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|left| left.file.bytes).sum()
    }

    /// The folder's name.
    pub fn name(&self) -> &str {
        self.folder.name()
    }

    /// The next rows; `None` when all have been handed out. First come the settled ones of all segments, then the calls
    /// that were opened and not settled.
    ///
    /// # Errors
    /// When the disk says no; what was handed out may be handed out again.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        while self.stage == Stage::Settled {
            let rows = self.settled()?;
            if !rows.is_empty() {
                return Ok(Some(Batch { rows, lost: false }));
            }
        }
        while let Stage::Lost(index) = self.stage {
            if index >= self.segments.len() {
                break;
            }
            self.stage = Stage::Lost(index + 1);
            let rows = self.lost(index)?;
            if !rows.is_empty() {
                return Ok(Some(Batch { rows, lost: true }));
            }
        }
        Ok(None)
    }

    /// Removes what has been handed out, in order, so that no `settled` goes before its `opened`. Damaged segments are
    /// set aside. Gives the folder back when something stays in it: a segment of another version, and those with calls
    /// that may have ended in it.
    pub fn finish(self) -> Option<Folder> {
        let foreign = self.has_foreign();
        for (index, left) in self.segments.iter().enumerate() {
            let path = &left.file.path;
            let done = match left.state {
                LeftState::Foreign => Ok(()),
                _ if foreign && self.opens.values().any(|(segment, _)| *segment == index) => Ok(()),
                LeftState::Whole => fs::remove_file(path),
                LeftState::Damaged => set_aside(path).map(|to| {
                    tracing::error!(file = %to.display(), "the damaged segment was kept");
                }),
            };
            if let Err(error) = done {
                tracing::warn!(file = %path.display(), "a segment that is in the store could not be removed: {error}");
                break;
            }
        }
        if self.folder.remove_if_empty() { None } else { Some(self.folder) }
    }

    fn has_foreign(&self) -> bool {
        self.segments.iter().any(|left| left.state == LeftState::Foreign)
    }

    fn settled(&mut self) -> io::Result<Vec<CallRow>> {
        let index = self.next;
        let Some(left) = self.segments.get_mut(index) else {
            // A segment of another version may hold the ends of calls that look lost here.
            self.stage = Stage::Lost(if self.has_foreign() { self.segments.len() } else { 0 });
            return Ok(Vec::new());
        };
        let current = match self.current.take() {
            Some(current) => Ok(current),
            None => SegmentRows::open(&left.file.path)?,
        };
        let mut current = match current {
            Ok(current) => current,
            Err(why) => {
                let foreign = matches!(why, Unreadable::Version(_));
                left.state = if foreign { LeftState::Foreign } else { LeftState::Damaged };
                self.next += 1;
                return Ok(Vec::new());
            }
        };
        let opens = &mut self.opens;
        let rows = current.batch(&left.file.path, |kind, id, at| match kind {
            Kind::Opened => {
                opens.insert(id.into(), (index, at));
            }
            Kind::Settled => {
                opens.remove(id);
            }
        });
        if current.is_damaged() {
            left.state = LeftState::Damaged;
        }
        if rows.is_empty() {
            self.next += 1;
        } else {
            self.current = Some(current);
        }
        Ok(rows)
    }

    /// The calls whose last `opened` is in this segment and that were never settled.
    fn lost(&mut self, index: usize) -> io::Result<Vec<CallRow>> {
        if !self.opens.values().any(|(segment, _)| *segment == index) {
            return Ok(Vec::new());
        }
        let Some(left) = self.segments.get_mut(index) else { return Ok(Vec::new()) };
        let path = &left.file.path;
        let Ok(mut segment) = SegmentRows::open(path)? else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        while let Some(found) = segment.cursor.next(&segment.bytes) {
            let Found::Record(record) = found else { continue };
            let Some(id) = record.id().filter(|id| self.opens.get(*id) == Some(&(index, record.at))) else { continue };
            match record.row() {
                Some(row) => rows.push(CallRow { outcome: Outcome::Lost, ..row }),
                None => {
                    tracing::error!(file = %path.display(), offset = record.at, "the call {id} cannot be read");
                    left.state = LeftState::Damaged;
                }
            }
        }
        Ok(rows)
    }
}
