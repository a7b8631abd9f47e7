//! The write-ahead journal: what is owed to the ledger, on the local disk before a provider hears of it.
//!
//! `opened` is written before the bytes of an attempt go upstream, `settled` when the call has ended. A writer ships
//! settled rows to the store, after which their segments are removed. Whatever a gateway leaves behind when it dies is
//! shipped by the next one ([`Recovery`]): settled rows as they are, and a call that was opened and never settled as a
//! row that was lost, with the usage estimated before it was sent.
//!
//! What this promises: a process may die at any moment, however it dies, and no call is lost or counted twice. A write is
//! handed to the system and not forced to the disk, so a power cut may take the last seconds.
//!
//! Segments are removed out of order: each counts the calls whose last `opened` is in it and the settled rows in it that
//! are not yet in the store, and goes when it has neither. So a stream of an hour keeps one segment and not the whole
//! journal; and when many streams keep many segments, those that hold little else are emptied by writing what they keep
//! once more ([`Journal::carry`]). Until all segments of a call are gone, a crash may leave an `opened` whose `settled` was removed. It is
//! shipped once more, as lost, and the store, which has the call's row already, ignores it.
//!
//! What cannot be written (a full disk, a failing one, the journal at its bound) is not kept here, and the ledger keeps
//! the row in memory alone. The last eighth of the bound is for settled rows: a call that was let in should not lose its
//! receipt to one that comes after it.

mod folder;
mod format;
mod recovery;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub use folder::{Folder, copy_aside, keep_refused};
pub use format::{Buffer, Cursor, Found, Kind, Record, TooLarge, Unreadable, header};
pub use recovery::{Batch, Recovery, SegmentRows};

use crate::{store::ledger::CallRow, types::Clock};

/// A segment that has reached this length is followed by the next. Tests need many.
const SEGMENT: u64 = if cfg!(test) { 16 << 10 } else { 8 << 20 };

/// How long a disk that failed is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// The journal of this process. Not shared: the ledger holds it behind its lock.
#[derive(Debug)]
pub struct Journal {
    folder: Folder,
    clock: Clock,
    max_bytes: u64,
    marker: u32,
    buffer: Buffer,
    active: Option<Active>,
    segments: BTreeMap<u64, Segment>,
    /// Calls whose last `opened` is in the journal and that have not settled, and in which segment it is.
    opens: HashMap<Arc<str>, u64>,
    last: u64,
    bytes: u64,
    /// What folders taken over from dead gateways hold. They count against the bound.
    inherited: u64,
    condition: Condition,
    /// How much the pretended disk of a test still takes.
    #[cfg(test)]
    pub(in crate::accounting) room: Option<std::sync::Arc<std::sync::atomic::AtomicU64>>,
}

/// The segment that is written to.
#[derive(Debug)]
struct Active {
    number: u64,
    file: File,
    bytes: u64,
}

/// What is known of a segment without reading it.
#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    /// Calls whose last `opened` is here and that have not settled.
    opens: usize,
    /// Settled rows that are not in the store yet.
    unshipped: usize,
    /// Some of those are not in memory and have to be read from here: since when, in Unix milliseconds.
    spilled: Option<u64>,
}

/// Whether the journal takes records. Changes are logged, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Writable,
    /// At its bound; it takes settled rows as long as the reserve lasts.
    Full,
    /// The disk failed. It is tried again at this time.
    Failing(Instant),
}

impl Journal {
    /// Opens a new journal in a folder of its own under `root`, and holds it to `max_bytes`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(root: &Path, max_bytes: u64, clock: Clock) -> io::Result<Self> {
        let folder = Folder::create(root, &clock)?;
        let marker = fastrand::u32(1..);
        Ok(Self {
            folder,
            clock,
            max_bytes,
            marker,
            buffer: Buffer::new(marker),
            active: None,
            segments: BTreeMap::new(),
            opens: HashMap::new(),
            last: 0,
            bytes: 0,
            inherited: 0,
            condition: Condition::Writable,
            #[cfg(test)]
            room: None,
        })
    }

    /// Writes that an attempt of this call is about to be sent. `false`: it could not be written.
    pub fn opened(&mut self, row: &CallRow) -> bool {
        self.buffer.clear();
        if self.buffer.push(Kind::Opened, row).is_err() {
            return false;
        }
        let Some(number) = self.write(Kind::Opened) else { return false };
        let before = match self.opens.get_mut(&row.id) {
            Some(segment) => Some(std::mem::replace(segment, number)),
            None => self.opens.insert(row.id.clone(), number),
        };
        if before != Some(number) {
            self.segment(number).opens += 1;
            self.released(before);
        }
        true
    }

    /// Writes rows of calls that have ended, in one go, and says in which segment each of them is; `None`: in none.
    pub fn settled(&mut self, rows: &[CallRow]) -> Vec<Option<u64>> {
        self.buffer.clear();
        let fits: Vec<bool> = rows.iter().map(|row| self.buffer.push(Kind::Settled, row).is_ok()).collect();
        let written = if self.buffer.as_bytes().is_empty() { None } else { self.write(Kind::Settled) };
        let Some(number) = written else { return vec![None; rows.len()] };
        for (row, _) in rows.iter().zip(&fits).filter(|(_, fits)| **fits) {
            let before = self.opens.remove(&row.id);
            self.released(before);
            self.segment(number).unshipped += 1;
        }
        fits.into_iter().map(|fits| fits.then_some(number)).collect()
    }

    /// Notes that the call's row is in the store, or is given up; `segment` is where [`Journal::settled`] put it.
    pub fn shipped(&mut self, id: &str, segment: Option<u64>) {
        match segment {
            Some(number) => {
                if let Some(segment) = self.segments.get_mut(&number) {
                    segment.unshipped = segment.unshipped.saturating_sub(1);
                }
            }
            // Its `settled` was never written, so its `opened` was still wanted.
            None => {
                let before = self.opens.remove(id);
                self.released(before);
            }
        }
    }

    /// Notes that a row in this segment is not in memory, and has to be read back.
    pub fn spill(&mut self, number: u64) {
        let now = self.clock.unix_millis();
        self.segment(number).spilled.get_or_insert(now);
    }

    /// Whether there are rows to be read back.
    pub fn has_spilled(&self) -> bool {
        self.segments.values().any(|segment| segment.spilled.is_some())
    }

    /// Whether there are rows to be read back in this segment or one before it.
    pub fn has_spilled_up_to(&self, number: u64) -> bool {
        self.segments.range(..=number).any(|(_, segment)| segment.spilled.is_some())
    }

    /// The number of the last segment that was made; 0 before the first.
    pub fn last_segment(&self) -> u64 {
        self.last
    }

    /// The first segment with rows to be read back, which is written to no more, and whether it is the last such.
    pub fn next_spilled(&mut self) -> Option<(u64, PathBuf, bool)> {
        let mut spilled =
            self.segments.iter().filter(|(_, segment)| segment.spilled.is_some()).map(|(number, _)| *number);
        let (number, is_last) = (spilled.next()?, spilled.next().is_none());
        if self.active.as_ref().is_some_and(|active| active.number == number) {
            self.active = None;
        }
        Some((number, self.folder.segment(number), is_last))
    }

    /// Notes that all settled rows in this segment are in the store. Says how many of them were not before.
    pub fn read_back(&mut self, number: u64) -> usize {
        let Some(segment) = self.segments.get_mut(&number) else { return 0 };
        segment.spilled = None;
        std::mem::take(&mut segment.unshipped)
    }

    /// A segment that takes much more than the calls under way in it are worth, and their ids, when the journal is half
    /// full. The caller reads their `opened` from the file and hands it to [`Journal::carry`].
    pub fn sparse(&self) -> Option<(u64, PathBuf, HashSet<Arc<str>>)> {
        /// A record is seldom longer.
        const EACH: u64 = 512;
        if self.bytes() <= self.max_bytes / 2 || !self.is_writable() {
            return None;
        }
        let active = self.active.as_ref().map(|active| active.number);
        let is_sparse = |segment: &Segment| segment.unshipped == 0 && segment.opens as u64 * EACH < segment.bytes / 4;
        let mut sealed = self.segments.iter().filter(|(number, _)| Some(**number) != active);
        let (number, _) = sealed.find(|(_, segment)| is_sparse(segment))?;
        let ids = self.opens.iter().filter(|(_, segment)| *segment == number).map(|(id, _)| id.clone()).collect();
        Some((*number, self.folder.segment(*number), ids))
    }

    /// Writes the last `opened` of a call again, unless it has settled or has been sent again since it was read from this
    /// segment.
    pub fn carry(&mut self, from: u64, row: &CallRow) {
        if self.opens.get(&row.id) == Some(&from) {
            // When it cannot be written, the segment stays: nothing is lost but room.
            let _ = self.opened(row);
        }
    }

    /// Forgets the segments that are not needed any more and gives their files, for the caller to remove. At the `end`
    /// of the process that may be the one that is written to.
    pub fn finished(&mut self, end: bool) -> Vec<PathBuf> {
        if end {
            self.active = None;
        }
        let active = self.active.as_ref().map(|active| active.number);
        let is_done = |number: &u64, segment: &Segment| {
            segment.opens == 0 && segment.unshipped == 0 && segment.spilled.is_none() && Some(*number) != active
        };
        let mut done = Vec::new();
        for (number, segment) in self.segments.extract_if(.., |number, segment| is_done(number, segment)) {
            self.bytes = self.bytes.saturating_sub(segment.bytes);
            done.push(self.folder.segment(number));
        }
        self.look_at_room();
        done
    }

    /// Makes a new folder when somebody removed the one there was. What is written to a file that was removed is
    /// accepted, and nobody ever reads it.
    pub fn look_at_folder(&mut self) {
        if self.folder.is_there() {
            return;
        }
        self.active = None;
        let old = self.folder.path().to_owned();
        match Folder::create(old.parent().unwrap_or(&old), &self.clock) {
            Ok(folder) => {
                tracing::error!(
                    removed = %old.display(), folder = %folder.path().display(),
                    "the ledger's journal was removed while it was in use, and a new one was made: if this process dies \
                     now, calls that are under way leave no row"
                );
                self.folder = folder;
            }
            Err(error) => self.disk_failed(&error),
        }
    }

    /// Counts what folders taken over from dead gateways hold on the disk.
    pub fn inherit(&mut self, bytes: u64) {
        self.inherited = bytes;
        self.look_at_room();
    }

    /// Whether new calls can be written down.
    pub fn is_writable(&self) -> bool {
        self.condition == Condition::Writable
    }

    /// What the segments hold on the disk, those of dead gateways included.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.inherited
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Since when the oldest row waits that has to be read back, in Unix milliseconds.
    pub fn oldest_spilled(&self) -> Option<u64> {
        self.segments.values().filter_map(|segment| segment.spilled).min()
    }

    /// Where this process keeps its segments.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The entry of a segment that was just written to.
    fn segment(&mut self, number: u64) -> &mut Segment {
        self.segments.entry(number).or_default()
    }

    /// One call less has its last `opened` in `segment`.
    fn released(&mut self, segment: Option<u64>) {
        if let Some(segment) = segment.and_then(|number| self.segments.get_mut(&number)) {
            segment.opens = segment.opens.saturating_sub(1);
        }
    }

    /// Writes what is in the buffer, all of it or nothing, and says into which segment.
    fn write(&mut self, kind: Kind) -> Option<u64> {
        if !self.may_write(kind) {
            return None;
        }
        match self.try_write() {
            Ok(number) => {
                if let Condition::Failing(_) = self.condition {
                    self.condition = Condition::Writable;
                    tracing::info!("the ledger's journal can be written again");
                }
                Some(number)
            }
            Err(error) => {
                self.disk_failed(&error);
                None
            }
        }
    }

    fn may_write(&mut self, kind: Kind) -> bool {
        let after = self.bytes() + self.buffer.as_bytes().len() as u64;
        match (self.condition, kind) {
            (Condition::Failing(until), _) if self.clock.now() < until => false,
            (Condition::Full, Kind::Opened) => false,
            (_, Kind::Settled) => after <= self.max_bytes,
            (_, Kind::Opened) if after <= self.max_bytes / 8 * 7 => true,
            (_, Kind::Opened) => {
                self.condition = Condition::Full;
                tracing::error!(
                    bytes = self.bytes(),
                    "the ledger's journal has reached its bound (ledger.max_journal): what calls consume is kept in \
                     memory alone until the database has taken in what is written there"
                );
                false
            }
        }
    }

    fn try_write(&mut self) -> io::Result<u64> {
        if self.active.as_ref().is_none_or(|active| active.bytes >= SEGMENT) {
            self.active = Some(self.next_segment()?);
        }
        let Some(active) = &self.active else { return Err(io::ErrorKind::NotFound.into()) };
        self.put(&active.file, self.buffer.as_bytes(), active.bytes)?;
        let (number, length) = (active.number, self.buffer.as_bytes().len() as u64);
        if let Some(active) = &mut self.active {
            active.bytes += length;
        }
        self.segment(number).bytes += length;
        self.bytes += length;
        Ok(number)
    }

    fn next_segment(&mut self) -> io::Result<Active> {
        self.last += 1;
        let file = self.folder.create_segment(self.last)?;
        let header = header(self.marker);
        if let Err(error) = self.put(&file, &header, 0) {
            // An empty file says nothing to anybody.
            let _ = std::fs::remove_file(self.folder.segment(self.last));
            return Err(error);
        }
        let bytes = header.len() as u64;
        self.segments.insert(self.last, Segment { bytes, ..Segment::default() });
        self.bytes += bytes;
        Ok(Active { number: self.last, file, bytes })
    }

    /// The one place where bytes reach the disk.
    fn put(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        #[cfg(test)]
        if let Some(room) = &self.room {
            use std::sync::atomic::Ordering::Relaxed;
            let fits = usize::try_from(room.load(Relaxed)).unwrap_or(usize::MAX).min(bytes.len());
            file.write_all_at(&bytes[..fits], at)?;
            room.fetch_sub(fits as u64, Relaxed);
            return if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) };
        }
        file.write_all_at(bytes, at)
    }

    /// Leaves the segment that could not be written as it was before, and the disk alone for a while.
    fn disk_failed(&mut self, error: &io::Error) {
        if let Some(active) = self.active.take() {
            // When this fails as well, a reader takes the half record for what it is.
            let _ = active.file.set_len(active.bytes);
        }
        if !matches!(self.condition, Condition::Failing(_)) {
            tracing::error!(
                folder = %self.folder.path().display(),
                "the ledger's journal cannot be written ({error}): what calls consume is kept in memory alone until it \
                 can"
            );
        }
        self.condition = Condition::Failing(self.clock.now() + PAUSE);
    }

    /// A journal that was full takes calls again when a quarter of it is free, so that it does not flutter.
    fn look_at_room(&mut self) {
        if self.condition == Condition::Full && self.bytes() <= self.max_bytes / 4 * 3 {
            self.condition = Condition::Writable;
            tracing::info!("the ledger's journal has room again");
        }
    }
}

#[cfg(test)]
pub(in crate::accounting) mod tests;
