//! What calls say and are answered: a line of JSON for each, for operators who have to keep it. Off unless a setting says
//! where it goes; a key, or its project, may choose to be in it or not.
//!
//! Bodies only, never a header, so no key of a client or a provider; as the client sent and got them. What is kept of a body
//! is bounded, and a line waits for nobody: one writer thread takes what has gathered, and what it cannot keep up with is
//! dropped and counted.

use std::{
    borrow::Cow,
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use prometheus::IntCounter;
use serde::Serialize;

use super::{
    calls::{cut, displayed, is_false, rfc3339},
    lines::Lines,
    settings::{ContentKeys, ContentSettings},
};
use crate::types::RequestId;

/// Where content goes. Cheap to clone; costs nothing when it goes nowhere.
#[derive(Clone, Debug)]
pub struct ContentLog(Option<Arc<Outlet>>);

#[derive(Debug)]
struct Outlet {
    lines: Lines,
    /// The most that is kept of a request, and of an answer.
    most: usize,
    /// Whether the calls of a key are in it that has not chosen.
    by_default: bool,
}

/// Whose call it is.
#[derive(Clone, Debug)]
pub struct Caller {
    pub key_id: Arc<str>,
    pub key_name: Arc<str>,
    pub project: Arc<str>,
}

/// One call: what was asked, and what is answered, as it goes by. Its line is written when it is dropped.
#[derive(Debug)]
pub struct Record {
    outlet: Arc<Outlet>,
    id: RequestId,
    /// Arrival, Unix milliseconds.
    at: u64,
    caller: Caller,
    operation: &'static str,
    /// As the client named it.
    model: Box<str>,
    request: Kept,
    /// The status the client saw; 0 when it had gone before.
    status: u16,
    answer: Kept,
    /// All of the answer was handed over.
    is_whole: bool,
}

/// The beginning of a body, and how long the body was.
#[derive(Debug, Default)]
struct Kept {
    begins: Vec<u8>,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(tag = "message", rename = "content")]
struct Line<'a> {
    #[serde(serialize_with = "rfc3339")]
    timestamp: u64,
    #[serde(serialize_with = "displayed")]
    request_id: RequestId,
    key_id: &'a str,
    key_name: &'a str,
    project: &'a str,
    operation: &'static str,
    #[serde(serialize_with = "cut")]
    model: &'a str,
    status: u16,
    /// The answer was handed over to its end.
    whole: bool,
    request: Cow<'a, str>,
    request_bytes: u64,
    /// Not all of it is here.
    #[serde(skip_serializing_if = "is_false")]
    request_cut: bool,
    answer: Cow<'a, str>,
    answer_bytes: u64,
    #[serde(skip_serializing_if = "is_false")]
    answer_cut: bool,
}

impl ContentLog {
    /// Content goes where `settings` say.
    ///
    /// # Errors
    /// When the file cannot be opened or made, or there is no thread for its writer.
    pub fn open(settings: Option<&ContentSettings>, dropped: &IntCounter) -> io::Result<Self> {
        let Some(ContentSettings { to, max_bytes, keys }) = settings else { return Ok(Self(None)) };
        let out: Box<dyn Write + Send> = match to.to_str() {
            Some("stdout") => Box::new(io::stdout()),
            _ => Box::new(appended(to)?),
        };
        let lines = Lines::new(out, dropped.clone())?;
        let by_default = *keys == ContentKeys::OptOut;
        Ok(Self(Some(Arc::new(Outlet { lines, most: max_bytes.bytes(), by_default }))))
    }

    /// Content goes nowhere.
    pub fn off() -> Self {
        Self(None)
    }

    /// Whether a call is in it whose key and project have chosen so.
    pub fn takes(&self, chosen: Option<bool>) -> bool {
        self.0.as_ref().is_some_and(|outlet| chosen.unwrap_or(outlet.by_default))
    }

    /// Begins the record of a call; ask [`ContentLog::takes`] before.
    pub fn begin(
        &self,
        id: RequestId,
        at: u64,
        caller: Caller,
        operation: &'static str,
        model: &str,
        request: &Bytes,
    ) -> Option<Box<Record>> {
        let outlet = self.0.clone()?;
        let mut kept = Kept::default();
        kept.add(request, outlet.most);
        Some(Box::new(Record {
            outlet,
            id,
            at,
            caller,
            operation,
            model: model.into(),
            request: kept,
            status: 0,
            answer: Kept::default(),
            is_whole: false,
        }))
    }

    /// Waits until what was said before is written, but no longer than `at_most`.
    pub fn flush(&self, at_most: std::time::Duration) {
        if let Some(outlet) = &self.0 {
            outlet.lines.flush(at_most);
        }
    }
}

/// Nobody but whoever runs the gateway may read a file that is made here. It is added to, so that it may be cut or moved
/// away and copied at any time.
fn appended(path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

impl Record {
    pub fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// A piece of the answer goes to the client.
    pub fn said(&mut self, piece: &[u8]) {
        self.answer.add(piece, self.outlet.most);
    }

    /// That was all of it.
    pub fn ended(&mut self) {
        self.is_whole = true;
    }

    /// How much of the answer went by.
    pub fn answer_bytes(&self) -> u64 {
        self.answer.bytes
    }

    fn line(&self) -> Line<'_> {
        Line {
            timestamp: self.at,
            request_id: self.id,
            key_id: &self.caller.key_id,
            key_name: &self.caller.key_name,
            project: &self.caller.project,
            operation: self.operation,
            model: &self.model,
            status: self.status,
            whole: self.is_whole,
            request: self.request.text(),
            request_bytes: self.request.bytes,
            request_cut: self.request.is_cut(),
            answer: self.answer.text(),
            answer_bytes: self.answer.bytes,
            answer_cut: self.answer.is_cut(),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Put together before the writer's buffer is locked: escaping a long text takes a while.
        let Ok(line) = serde_json::to_vec(&self.line()) else { return };
        self.outlet.lines.append(|out| out.write_all(&line));
    }
}

impl Kept {
    fn add(&mut self, piece: &[u8], most: usize) {
        let room = most.saturating_sub(self.begins.len()).min(piece.len());
        self.begins.extend_from_slice(&piece[..room]);
        self.bytes = self.bytes.saturating_add(piece.len() as u64);
    }

    fn is_cut(&self) -> bool {
        self.bytes > self.begins.len() as u64
    }

    /// A character that was cut in two is left out; what is no text otherwise is marked.
    fn text(&self) -> Cow<'_, str> {
        let end = match std::str::from_utf8(&self.begins) {
            Err(error) if error.error_len().is_none() && self.is_cut() => error.valid_up_to(),
            _ => self.begins.len(),
        };
        String::from_utf8_lossy(&self.begins[..end])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::{telemetry::lines::tests::counter, types::Size};

    fn caller() -> Caller {
        Caller { key_id: "k1".into(), key_name: "ci".into(), project: "default".into() }
    }

    fn log(to: &Path, max_bytes: Size, keys: ContentKeys) -> ContentLog {
        let settings = ContentSettings { to: to.to_owned(), max_bytes, keys };
        ContentLog::open(Some(&settings), &counter()).unwrap()
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_call_is_one_line_with_what_was_said_cut_at_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content.jsonl");
        let log = log(&path, Size(5), ContentKeys::OptIn);
        let id = RequestId::new(1_793_534_400_000);
        // The fifth byte is the first half of a letter.
        let request = Bytes::from_static("hallö\n".as_bytes());
        let mut record = log.begin(id, 1_793_534_400_000, caller(), "chat", "m", &request).unwrap();
        record.answered(200);
        for piece in ["a\n", "\"b", "", "cdefghi"] {
            record.said(piece.as_bytes());
        }
        record.ended();
        drop(record);
        let mut left = log.begin(id, 0, caller(), "chat", "m", &Bytes::from_static(b"\xff{}")).unwrap();
        left.said(b"half");
        drop(left);
        log.flush(Duration::from_secs(5));
        let written = lines(&path);
        let expected = json!({
            "message": "content", "timestamp": "2026-11-01T12:00:00.000Z", "request_id": id.to_string(), "key_id": "k1",
            "key_name": "ci", "project": "default", "operation": "chat", "model": "m", "status": 200, "whole": true,
            "request": "hall", "request_bytes": 7, "request_cut": true,
            "answer": "a\n\"bc", "answer_bytes": 11, "answer_cut": true,
        });
        assert_eq!(written[0], expected);
        assert_eq!((&written[1]["request"], &written[1]["answer"]), (&json!("\u{fffd}{}"), &json!("half")));
        assert_eq!((&written[1]["whole"], written[1].get("answer_cut")), (&json!(false), None));
    }

    #[test]
    fn whoever_has_not_chosen_is_in_it_as_the_setting_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content.jsonl");
        for (keys, by_default) in [(ContentKeys::OptIn, false), (ContentKeys::OptOut, true)] {
            let log = log(&path, Size(6), keys);
            assert_eq!([None, Some(true), Some(false)].map(|chosen| log.takes(chosen)), [by_default, true, false]);
        }
        assert!(!ContentLog::off().takes(Some(true)));
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content.jsonl");
        log(&path, Size(6), ContentKeys::OptIn);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let missing =
            ContentSettings { to: folder.path().join("no/such/folder"), max_bytes: Size(1), keys: ContentKeys::OptIn };
        ContentLog::open(Some(&missing), &counter()).unwrap_err();
    }
}
