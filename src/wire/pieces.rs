//! A body made of slices of another one and a few new parts.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

/// The pieces of a body, in order. Nothing is copied but what is new; clones share the bytes.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    parts: SmallVec<[Bytes; 8]>,
    len: usize,
}

impl Pieces {
    /// The length of the whole body in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The body in one buffer: copies everything.
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.concat()
    }

    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.len += part.len();
            self.parts.push(part);
        }
    }
}

/// A body that needs no edits.
impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.push(whole);
        pieces
    }
}

impl IntoIterator for Pieces {
    type Item = Bytes;
    type IntoIter = smallvec::IntoIter<[Bytes; 8]>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

/// Puts pieces together; ranges of the source that touch become one piece.
pub(super) struct Assembly<'a> {
    source: &'a Bytes,
    run: Range<usize>,
    pieces: Pieces,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(source: &'a Bytes) -> Self {
        Self { source, run: 0..0, pieces: Pieces::default() }
    }

    pub(super) fn keep(&mut self, range: Range<usize>) {
        if self.run.end == range.start {
            self.run.end = range.end;
        } else {
            self.flush();
            self.run = range;
        }
    }

    pub(super) fn insert(&mut self, part: Bytes) {
        self.flush();
        self.pieces.push(part);
    }

    pub(super) fn finish(mut self) -> Pieces {
        self.flush();
        self.pieces
    }

    fn flush(&mut self) {
        if !self.run.is_empty() {
            self.pieces.push(self.source.slice(self.run.clone()));
        }
        self.run = self.run.end..self.run.end;
    }
}
