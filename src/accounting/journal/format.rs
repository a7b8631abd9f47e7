//! The bytes of a segment.
//!
//! A segment is a header and records. The header is `SBLEDGER`, the version of the format, the segment's marker and a
//! CRC-32 of these. A record is the marker, the length of its payload, a CRC-32 of all that follows the marker but
//! itself, its kind, and the payload: a [`CallRow`] in postcard's encoding. Numbers are little-endian.
//!
//! The marker is drawn at random for each journal. After a damaged record it tells where the next one begins, and no
//! text that a client gets into a row can pass for a record, because a client does not know it.
//!
//! [`CallRow`] has no field names in postcard: any change of its fields, or of those below it, needs a new [`VERSION`].
//! But for what is added at the end of [`Notes`](crate::store::ledger::Notes), its last member: a record that ends before it
//! was written by an older build, and lacks it; an older build reads one that goes on as far as it knows it.

use crate::store::ledger::CallRow;

/// The version of the format that this build writes, and the only one it reads.
pub const VERSION: u16 = 1;

/// The length of a segment's header.
pub const HEADER: usize = 20;

/// The longest payload. A row is some 400 bytes; one with a hundred attempts and long tags stays far below this.
pub const MAX_PAYLOAD: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"SBLEDGER";
/// Marker, length, checksum, kind.
const PREFIX: usize = 13;
/// The marker of a file in which nothing was written yet. No journal draws it.
const NO_MARKER: [u8; 4] = [0; 4];

/// What a record says of its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An attempt is about to be sent: the call so far. The last one of a call counts.
    Opened = 1,
    /// The call has ended.
    Settled = 2,
}

/// Records put together to be written in one go. Its memory is kept from one use to the next.
#[derive(Debug)]
pub struct Buffer {
    marker: u32,
    /// Longer than what is in it: postcard writes into a slice, and clearing that each time would cost more than the row.
    bytes: Vec<u8>,
    len: usize,
}

/// A row whose record would be longer than [`MAX_PAYLOAD`].
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Why a file cannot be read as a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(
        "it is written in version {0} of the format, and this build knows version {VERSION} only. It stays as it is; the \
         build that wrote it can read it"
    )]
    Version(u16),
    #[error("it is not a journal segment")]
    NotASegment,
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it begins in the segment.
    pub at: usize,
    pub kind: Kind,
    payload: &'a [u8],
}

/// What is found in a segment, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    Record(Record<'a>),
    /// These bytes are no record, and records follow or should have.
    Damage {
        from: usize,
        to: usize,
    },
    /// The rest is the beginning of a record that was being written, or was never written.
    Tail {
        from: usize,
    },
}

/// A place in a segment, from which it is read on. The bytes are handed in each time, always the same.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    marker: [u8; 4],
    at: usize,
    /// The header was damaged, and that has not been said yet.
    headless: bool,
}

/// The header of a segment.
pub fn header(marker: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&marker.to_le_bytes());
    let sum = crc32fast::hash(&header[..16]);
    header[16..].copy_from_slice(&sum.to_le_bytes());
    header
}

impl Buffer {
    /// An empty buffer for the segments with this marker, which is not 0.
    pub fn new(marker: u32) -> Self {
        Self { marker, bytes: vec![0; 16 * 1024], len: 0 }
    }

    pub fn clear(&mut self) {
        const KEEP: usize = 256 * 1024;
        self.len = 0;
        if self.bytes.len() > KEEP {
            self.bytes.truncate(KEEP);
            self.bytes.shrink_to_fit();
        }
    }

    /// The records pushed since the last [`Buffer::clear`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`TooLarge`]; the buffer is as before.
    pub fn push(&mut self, kind: Kind, row: &CallRow) -> Result<(), TooLarge> {
        let start = self.len + PREFIX;
        let length = loop {
            let room = self.bytes.get_mut(start..).unwrap_or_default();
            let size = room.len();
            match postcard::to_slice(row, room) {
                Ok(payload) if payload.len() <= MAX_PAYLOAD => break payload.len(),
                // A row of texts and numbers can fail for want of room only.
                Err(_) if size <= MAX_PAYLOAD => self.bytes.resize(self.bytes.len() * 2, 0),
                Ok(_) | Err(_) => return Err(TooLarge),
            }
        };
        let record = &mut self.bytes[self.len..start + length];
        record[..4].copy_from_slice(&self.marker.to_le_bytes());
        record[4..8].copy_from_slice(&u32::try_from(length).map_err(|_| TooLarge)?.to_le_bytes());
        record[12] = kind as u8;
        let sum = checksum(record);
        record[8..12].copy_from_slice(&sum.to_le_bytes());
        self.len = start + length;
        Ok(())
    }
}

impl Cursor {
    /// The beginning of a segment.
    ///
    /// # Errors
    /// [`Unreadable`]. A header that is merely damaged is no error: the first record has the marker as well.
    pub fn new(bytes: &[u8]) -> Result<Self, Unreadable> {
        let Some(header) = bytes.get(..HEADER) else {
            // It was being made when its gateway died.
            return Ok(Self { marker: NO_MARKER, at: 0, headless: false });
        };
        let whole = crc32fast::hash(&header[..16]) == word(header, 16);
        if whole && header.starts_with(MAGIC) {
            return match u16::from_le_bytes([header[8], header[9]]) {
                VERSION => Ok(Self { marker: array(header, 12), at: HEADER, headless: false }),
                other => Err(Unreadable::Version(other)),
            };
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Self { marker: NO_MARKER, at: 0, headless: false });
        }
        let marker = bytes.get(HEADER..HEADER + 4).map_or(NO_MARKER, |marker| array(marker, 0));
        match read(bytes, HEADER, marker) {
            Some(_) => Ok(Self { marker, at: HEADER, headless: true }),
            None => Err(Unreadable::NotASegment),
        }
    }

    /// What comes next; `None` at the end.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Option<Found<'a>> {
        if std::mem::take(&mut self.headless) {
            return Some(Found::Damage { from: 0, to: HEADER });
        }
        let from = self.at;
        if from >= bytes.len() {
            return None;
        }
        if self.marker == NO_MARKER {
            self.at = bytes.len();
            return Some(Found::Tail { from });
        }
        if let Some(record) = read(bytes, from, self.marker) {
            self.at = record.end();
            return Some(Found::Record(record));
        }
        let next = memchr::memmem::find_iter(&bytes[from + 1..], &self.marker)
            .map(|position| from + 1 + position)
            .find(|position| read(bytes, *position, self.marker).is_some());
        self.at = next.unwrap_or(bytes.len());
        Some(match next {
            None if self.is_tail(&bytes[from..]) => Found::Tail { from },
            _ => Found::Damage { from, to: self.at },
        })
    }

    /// Whether `rest` is what a write leaves behind that was cut short: the beginning of a record, or, after a power
    /// cut, room that was never filled.
    fn is_tail(&self, rest: &[u8]) -> bool {
        let length = rest.get(4..8).map_or(0, |_| word(rest, 4) as usize);
        let begun = rest.starts_with(&self.marker) || self.marker.starts_with(rest);
        begun && length <= MAX_PAYLOAD && rest.len() < PREFIX + length || rest.iter().all(|byte| *byte == 0)
    }
}

impl<'a> Record<'a> {
    /// The id of its call. `None`: the payload is no row, although its checksum is right.
    pub fn id(&self) -> Option<&'a str> {
        postcard::take_from_bytes(self.payload).ok().map(|(id, _)| id)
    }

    /// The row. `None` as with [`Record::id`].
    pub fn row(&self) -> Option<CallRow> {
        /// What is missing at the end is absent or empty, and either is a zero: more of them than there are such members.
        const ABSENT: [u8; 16] = [0; 16];
        postcard::from_bytes(&[self.payload, &ABSENT].concat()).ok()
    }

    /// Where it ends in the segment.
    pub fn end(&self) -> usize {
        self.at + PREFIX + self.payload.len()
    }
}

/// The record at `at`, if there is a whole one.
fn read(bytes: &[u8], at: usize, marker: [u8; 4]) -> Option<Record<'_>> {
    let rest = bytes.get(at..)?;
    if rest.len() < PREFIX || !rest.starts_with(&marker) {
        return None;
    }
    let length = usize::try_from(word(rest, 4)).ok().filter(|length| *length <= MAX_PAYLOAD)?;
    let record = rest.get(..PREFIX + length)?;
    let kind = match record[12] {
        1 => Kind::Opened,
        2 => Kind::Settled,
        _ => return None,
    };
    (checksum(record) == word(record, 8)).then_some(Record { at, kind, payload: &record[PREFIX..] })
}

/// The checksum of a whole record: its length, kind and payload.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[4..8]);
    hasher.update(&record[12..]);
    hasher.finalize()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// Four bytes; the caller knows that they are there.
fn array(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}
