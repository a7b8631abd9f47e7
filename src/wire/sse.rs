//! Server-sent events, read as bytes (WHATWG HTML, section 9.2). A frame is everything up to and with a blank line.
//! Frames are forwarded as they came: all frames' bytes, one after the other, are the stream.
//!
//! Lines end with LF, CRLF or CR. A CR at the very end of a chunk may be the first half of a CRLF; a frame that it
//! completes is handed out at once all the same, because the LF may be a long time coming (or never come). Should it
//! come, it travels in front of the next frame, where a reader takes it for what it is: the rest of that line ending.

use std::{borrow::Cow, collections::VecDeque, ops::Range};

use bytes::Bytes;
use serde::de::IgnoredAny;

/// Cuts a byte stream into frames, whatever the chunks it arrives in. A frame inside one chunk is a slice of it; only
/// frames that span chunks are copied, once.
#[derive(Debug)]
pub struct FrameReader {
    max_frame: usize,
    /// Chunks that were pushed and not yet looked at; the first one is being read.
    chunks: VecDeque<Bytes>,
    /// The beginning of a frame whose end is in a later chunk.
    partial: Vec<u8>,
    /// Whether the current line has no bytes so far.
    line_is_empty: bool,
    /// The last byte read was a CR that ended a line: an LF that comes next belongs to it.
    after_cr: bool,
    /// How many bytes at the front of the current frame are not its own: a byte order mark at the start of the
    /// stream, or the LF of the CRLF that ended the frame before.
    lead: usize,
    /// Whether the first frame is still to come.
    at_start: bool,
    /// Whether a frame was too long: there is no telling where the next one begins.
    lost: bool,
}

/// One event, comment or blank line as it came, with its terminating blank line.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    lead: usize,
}

/// A frame is longer than the reader's limit. The stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the event stream is longer than {limit} bytes")]
pub struct FrameTooLong {
    pub limit: usize,
}

const BOM: &[u8] = b"\xEF\xBB\xBF";

impl FrameReader {
    /// `max_frame` bounds, in bytes, what one frame may be and so what is held.
    pub fn new(max_frame: usize) -> Self {
        Self {
            max_frame,
            chunks: VecDeque::new(),
            partial: Vec::new(),
            line_is_empty: true,
            after_cr: false,
            lead: 0,
            at_start: true,
            lost: false,
        }
    }

    /// Takes the next bytes of the stream. Call `next` until it returns `None` before pushing more.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next whole frame; `None` if more bytes are needed.
    #[expect(clippy::should_implement_trait, reason = "None is not an end here: more may be pushed")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameTooLong> {
        while let Some(chunk) = self.chunks.pop_front() {
            let (taken, ended) = self.scan(&chunk);
            self.lost |= self.partial.len() + taken > self.max_frame;
            if self.lost {
                self.chunks.push_front(chunk);
                return Err(FrameTooLong { limit: self.max_frame });
            }
            if !ended {
                self.partial.extend_from_slice(&chunk);
                continue;
            }
            let mut frame = chunk;
            let rest = frame.split_off(taken);
            if !rest.is_empty() {
                self.chunks.push_front(rest);
            }
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&frame);
                frame = std::mem::take(&mut self.partial).into();
            }
            return Ok(Some(self.finish(frame)));
        }
        Ok(None)
    }

    /// Whether no part of a frame is held.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.partial.len() <= self.lead
    }

    /// At the end of the stream: whether its last line was cut short. One that is whole but for its end is not.
    pub fn is_torn(&self) -> bool {
        let mut bytes = self.partial.get(self.lead..).unwrap_or_default().to_vec();
        self.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let line = bytes.rsplit(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default().trim_ascii();
        let data = line.strip_prefix(b"data:").map(<[u8]>::trim_ascii);
        let is_whole = |data: &[u8]| data == b"[DONE]" || serde_json::from_slice::<IgnoredAny>(data).is_ok();
        !line.is_empty() && !line.starts_with(b":") && !data.is_some_and(is_whole)
    }

    /// At the end of the stream: what is left, if only the blank line is missing. The line endings it lacks are added,
    /// so that something may follow it. A last line that was cut short is dropped, since nobody can tell how it would
    /// have gone on; only `data: [DONE]` is complete as it stands.
    pub fn take_rest(&mut self) -> Option<Frame> {
        let mut bytes = std::mem::take(&mut self.partial);
        for chunk in self.chunks.drain(..) {
            bytes.extend_from_slice(&chunk);
        }
        let whole_lines = memchr::memrchr2(b'\n', b'\r', bytes.get(self.lead..)?).map_or(0, |end| self.lead + end + 1);
        let last_line = bytes[whole_lines.max(self.lead)..].trim_ascii();
        if !matches!(last_line, b"data: [DONE]" | b"data:[DONE]") {
            bytes.truncate(whole_lines);
        }
        if bytes.is_empty() {
            return None;
        }
        bytes.extend_from_slice(if bytes.ends_with(b"\n") { b"\n" } else { b"\n\n" });
        Some(self.finish(bytes.into()))
    }

    /// Reads on to the end of the frame or of the chunk: how many bytes that are, and whether the frame ended.
    fn scan(&mut self, chunk: &[u8]) -> (usize, bool) {
        let mut at = 0;
        if std::mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
            at = 1;
            // Right behind a frame that was handed out, this LF begins the next one's bytes.
            self.lead += usize::from(self.partial.is_empty());
        }
        loop {
            let Some(distance) = line_end(&chunk[at..]) else {
                self.line_is_empty &= at == chunk.len();
                return (chunk.len(), false);
            };
            let ended = self.line_is_empty && distance == 0;
            self.line_is_empty = true;
            at += distance + 1;
            if chunk[at - 1] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if ended {
                return (at, true);
            }
        }
    }

    fn finish(&mut self, bytes: Bytes) -> Frame {
        let mut lead = std::mem::take(&mut self.lead);
        if std::mem::take(&mut self.at_start) && bytes.starts_with(BOM) {
            lead = BOM.len();
        }
        Frame { bytes, lead }
    }
}

impl Frame {
    /// The frame as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The event's data: its `data` lines joined by LF. `None` for a comment or a blank line.
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        let mut lines = self.data_lines();
        let first = &self.bytes[lines.next()?];
        let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
        let mut joined = first.to_vec();
        for line in std::iter::once(second).chain(lines) {
            joined.push(b'\n');
            joined.extend_from_slice(&self.bytes[line]);
        }
        Some(Cow::Owned(joined))
    }

    /// The event's type: the last `event` line, if that names one.
    pub fn event(&self) -> Option<&[u8]> {
        let mut event = None;
        for line in self.lines() {
            if let Some(value) = field(&self.bytes, line, b"event") {
                event = Some(&self.bytes[value]);
            }
        }
        event.filter(|name| !name.is_empty())
    }

    /// Whether this is the marker that OpenAI ends streams with.
    pub fn is_done(&self) -> bool {
        // Content is never this short, so long frames are not looked into.
        self.bytes.len() <= 64 && self.data().is_some_and(|data| data.trim_ascii() == b"[DONE]")
    }

    /// The data of a frame that has one `data` line and nothing else.
    pub(super) fn sole_data(&self) -> Option<&[u8]> {
        let bytes = &self.bytes[self.lead..];
        let end = line_end(bytes)?;
        let is_last = bytes.len() - end <= 4 && bytes[end..].iter().all(|byte| matches!(byte, b'\n' | b'\r'));
        let value = field(bytes, 0..end, b"data").filter(|_| is_last)?;
        Some(&bytes[value])
    }

    /// Where the data is, if it stands on a single line.
    pub(super) fn data_range(&self) -> Option<Range<usize>> {
        let mut lines = self.data_lines();
        let first = lines.next()?;
        lines.next().is_none().then_some(first)
    }

    /// The lines, without their endings, blank ones included.
    pub(super) fn lines(&self) -> Lines<'_> {
        Lines { bytes: &self.bytes, at: self.lead }
    }

    fn data_lines(&self) -> impl Iterator<Item = Range<usize>> {
        self.lines().filter_map(|line| field(&self.bytes, line, b"data"))
    }
}

/// The ranges of a frame's lines.
pub(super) struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        let end = start + line_end(rest).unwrap_or(rest.len());
        self.at = end + if self.bytes[end..].starts_with(b"\r\n") { 2 } else { 1 };
        Some(start..end)
    }
}

/// The value of a line if the line is this field; one space after the colon is not part of it.
pub(super) fn field(bytes: &[u8], line: Range<usize>, name: &[u8]) -> Option<Range<usize>> {
    match bytes[line.clone()].strip_prefix(name)? {
        [] => Some(line.end..line.end),
        [b':', b' ', ..] => Some(line.start + name.len() + 2..line.end),
        [b':', ..] => Some(line.start + name.len() + 1..line.end),
        _ => None,
    }
}

/// How far the next CR or LF is.
#[inline]
fn line_end(bytes: &[u8]) -> Option<usize> {
    match bytes.first() {
        // Every frame ends with such a line.
        Some(b'\n' | b'\r') => Some(0),
        _ => memchr::memchr2(b'\n', b'\r', bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn frame(text: &str) -> Frame {
        let frames = read(&[text.as_bytes()], LIMIT).0;
        assert_eq!(frames.len(), 1, "{text:?}");
        frames.into_iter().next().unwrap()
    }

    /// All frames of a stream in these chunks, and the rest.
    fn read(chunks: &[&[u8]], limit: usize) -> (Vec<Frame>, Option<Frame>) {
        let mut reader = FrameReader::new(limit);
        let mut frames = Vec::new();
        for chunk in chunks {
            reader.push(Bytes::copy_from_slice(chunk));
            while let Some(frame) = reader.next().unwrap() {
                frames.push(frame);
            }
        }
        (frames, reader.take_rest())
    }

    #[test]
    fn a_last_line_is_torn_unless_it_is_whole_but_for_its_end() {
        let first = "data: {\"a\":1}\n\n";
        for rest in [
            "d",
            "data:",
            "data: {\"b",
            "data: {\"b\":1",
            "data: [DONE",
            "event: x",
            "data: {}\ndata",
            "data: {}\r\nda",
        ] {
            for text in [format!("{first}{rest}"), rest.to_owned()] {
                let mut reader = FrameReader::new(LIMIT);
                for byte in text.as_bytes() {
                    reader.push(Bytes::copy_from_slice(&[*byte]));
                    while reader.next().unwrap().is_some() {}
                }
                assert!(reader.is_torn(), "{text:?}");
            }
        }
        for rest in [
            "",
            "\n",
            "\r\n",
            ": comm",
            "data: {\"b\":1}",
            "data:[DONE]",
            "data: [DONE] ",
            "data: [DONE]\n",
            "event: x\n",
        ] {
            let mut reader = FrameReader::new(LIMIT);
            reader.push(Bytes::from(format!("{first}{rest}")));
            while reader.next().unwrap().is_some() {}
            assert!(!reader.is_torn(), "{rest:?}");
        }
    }

    fn data(frame: &Frame) -> Option<String> {
        frame.data().map(|data| String::from_utf8(data.into_owned()).unwrap())
    }

    #[test]
    fn data_and_event_are_read_from_every_spelling() {
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            ("data: a\n\n", Some("a"), None),
            ("data:a\r\n\r\n", Some("a"), None),
            ("data:  a \r\r", Some(" a "), None),
            ("data: a\r\n\n", Some("a"), None),
            ("data: é😀\n\r", Some("é😀"), None),
            ("event: x\ndata: a\n\n", Some("a"), Some("x")),
            ("data: a\nevent:x\nevent: y\n\n", Some("a"), Some("y")),
            ("data: a\ndata:b\r\ndata\rdata: c\n\n", Some("a\nb\n\nc"), None),
            (": comment\n\n", None, None),
            (":\n\n", None, None),
            ("data\n\n", Some(""), None),
            ("data:\n\n", Some(""), None),
            ("datax: a\nid: 1\nretry: 5\n\n", None, None),
            ("\u{feff}data: a\n\n", Some("a"), None),
            ("event\ndata: a\n\n", Some("a"), None),
            (" data: a\n\n", None, None),
        ];
        for (text, expected_data, expected_event) in cases {
            let frame = frame(text);
            assert_eq!(data(&frame).as_deref(), *expected_data, "{text:?}");
            assert_eq!(frame.event(), expected_event.map(str::as_bytes), "{text:?}");
            assert_eq!(frame.bytes(), text.as_bytes());
        }
    }

    #[test]
    fn the_end_marker_is_known_by_its_data() {
        for done in ["data: [DONE]\n\n", "data:[DONE]\r\n\r\n", "data: [DONE] \n\n", "event: x\ndata: [DONE]\n\n"] {
            assert!(frame(done).is_done(), "{done:?}");
        }
        for other in ["data: \"[DONE]\"\n\n", ": [DONE]\n\n", "data: [DONE]\ndata: x\n\n", "data: x [DONE]\n\n"] {
            assert!(!frame(other).is_done(), "{other:?}");
        }
    }

    #[test]
    fn frames_inside_a_chunk_are_slices_of_it() {
        let chunk = Bytes::from_static(b"data: one\n\ndata: two\n\ndata: thr");
        let range = chunk.as_ptr_range();
        let mut reader = FrameReader::new(LIMIT);
        reader.push(chunk.clone());
        let frames: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
        assert_eq!(frames.len(), 2);
        assert!(frames.iter().all(|frame| range.contains(&frame.bytes().as_ptr())));
        assert!(!reader.is_empty());
        reader.push(Bytes::from_static(b"ee\n\n"));
        assert_eq!(reader.next().unwrap().unwrap().bytes(), "data: three\n\n");
        assert!(reader.is_empty());
    }

    #[test]
    fn a_frame_is_handed_out_before_the_last_half_of_its_line_ending() {
        let mut reader = FrameReader::new(LIMIT);
        reader.push(Bytes::from_static(b"data: a\r\n\r"));
        assert_eq!(reader.next().unwrap().unwrap().bytes(), "data: a\r\n\r");
        reader.push(Bytes::from_static(b"\n"));
        assert!(reader.next().unwrap().is_none());
        assert!(reader.is_empty(), "the rest of a line ending is no part of a frame");
        reader.push(Bytes::from_static(b"data: b\r\n\r\n"));
        let second = reader.next().unwrap().unwrap();
        assert_eq!(second.bytes(), "\ndata: b\r\n\r\n");
        assert_eq!(data(&second).as_deref(), Some("b"));
        assert!(reader.next().unwrap().is_none() && reader.is_empty());
        // Without the LF, nothing is missing.
        reader.push(Bytes::from_static(b"data: c\r\r"));
        assert_eq!(reader.next().unwrap().unwrap().bytes(), "data: c\r\r");
        reader.push(Bytes::from_static(b"data: d\r\r"));
        assert_eq!(reader.next().unwrap().unwrap().bytes(), "data: d\r\r");
    }

    #[test]
    fn a_blank_line_alone_is_forwarded_and_silent() {
        let (frames, rest) = read(&[b"\n\r\n\rdata: a\n\n\n"], LIMIT);
        let texts: Vec<_> = frames.iter().map(|frame| frame.bytes().as_ref()).collect();
        assert_eq!(texts, [b"\n".as_slice(), b"\r\n", b"\r", b"data: a\n\n", b"\n"]);
        assert_eq!(frames.iter().filter_map(data).collect::<Vec<_>>(), ["a"]);
        assert!(rest.is_none());
    }

    #[test]
    fn at_the_end_a_frame_without_its_blank_line_is_completed() {
        let cases: &[(&str, Option<&str>)] = &[
            ("data: [DONE]\n", Some("data: [DONE]\n\n")),
            ("data: [DONE]", Some("data: [DONE]\n\n")),
            ("data: [DONE]\r\n", Some("data: [DONE]\r\n\n")),
            ("data: a\r", Some("data: a\r\n\n")),
            ("event: x\ndata: {\"cut", Some("event: x\n\n")),
            ("data: {\"a\":{}", None),
            ("", None),
            ("data: a\n\n", None),
        ];
        for (text, expected) in cases {
            let (_, rest) = read(&[text.as_bytes()], LIMIT);
            assert_eq!(rest.as_ref().map(|rest| rest.bytes().as_ref()), expected.map(str::as_bytes), "{text:?}");
        }
        let (frames, rest) = read(&[b"data: a\r\n\r", b"\n"], LIMIT);
        assert_eq!((frames.len(), rest.is_none()), (1, true));
    }

    #[test]
    fn a_frame_that_is_too_long_stops_the_reader_for_good() {
        let text = format!("data: a\n\ndata: {}\n\ndata: b\n\n", "x".repeat(100));
        for size in [1, 7, 1000] {
            let mut reader = FrameReader::new(100);
            for chunk in text.as_bytes().chunks(size) {
                reader.push(Bytes::copy_from_slice(chunk));
            }
            assert_eq!(reader.next().unwrap().unwrap().bytes(), "data: a\n\n");
            assert_eq!(reader.next().unwrap_err(), FrameTooLong { limit: 100 }, "in chunks of {size}");
            assert_eq!(reader.next().unwrap_err(), FrameTooLong { limit: 100 });
        }
        assert!(read(&[text.as_bytes()], 108).0.len() == 3);
    }

    #[test]
    fn a_large_frame_in_single_bytes_takes_linear_time() {
        let text = format!("data: {}\n\n", "x".repeat(1 << 18));
        let chunks: Vec<_> = text.as_bytes().chunks(1).collect();
        let (frames, _) = read(&chunks, 2 << 20);
        assert_eq!(frames[0].bytes(), text.as_bytes());
    }

    fn streams() -> impl Strategy<Value = Vec<u8>> {
        let end = || prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
        let line = prop_oneof![
            3 => "data: ?[a-zé😀{}\":]{0,20}", 1 => ":[a-z ]{0,5}", 1 => "(event|id|data): ?[a-z]{0,3}", 2 => Just(String::new())
        ];
        let body = proptest::collection::vec((line, end()), 0..20)
            .prop_map(|lines| lines.iter().map(|(line, end)| format!("{line}{end}")).collect::<String>());
        ("(\u{feff})?", body, "(data: [a-z]{0,3})?")
            .prop_map(|(bom, body, cut)| format!("{bom}{body}{cut}").into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn chunks_make_no_difference(stream in streams(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12)) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut start = 0;
            for cut in cuts {
                chunks.push(&stream[start..cut]);
                start = cut;
            }
            chunks.push(&stream[start..]);
            let whole = read(&[&stream], LIMIT);
            let split = read(&chunks, LIMIT);
            let single = read(&stream.chunks(1).collect::<Vec<_>>(), LIMIT);
            for other in [&split, &single] {
                let meaning = |(frames, rest): &(Vec<Frame>, Option<Frame>)| {
                    frames.iter().chain(rest).map(|frame| (data(frame), frame.event().map(<[u8]>::to_vec))).collect::<Vec<_>>()
                };
                prop_assert_eq!(meaning(&whole), meaning(other));
                let bytes = other.0.iter().map(|frame| frame.bytes().as_ref()).collect::<Vec<_>>().concat();
                prop_assert!(stream.starts_with(&bytes));
                // Whole lines are never lost, and nothing but line endings is added.
                let rest = other.1.as_ref().map(|rest| rest.bytes().as_ref().trim_ascii_end().to_vec()).unwrap_or_default();
                prop_assert!(stream[bytes.len()..].starts_with(&rest));
            }
        }
    }
}
