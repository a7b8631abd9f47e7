//! Watching a stream of chunks go by. Until the first real output each chunk is read properly, because the answer's
//! fate hangs on it. After that a chunk is only searched for the few words that matter, and read if one is found: a
//! quote inside a JSON string is always escaped, so `"usage"` with its quotes is never part of what a model said.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{Answer, ProviderError, Shape, error};
use crate::{types::Usage, wire::sse::Frame};

/// What one frame of a stream was.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A comment, a blank line, a ping.
    Silent,
    /// A chunk without output before any output: the role, empty content, a content filter's verdict on the prompt.
    Preamble,
    /// A chunk with output; after the first of them, any chunk that belongs to the answer.
    Output,
    /// Token counts and nothing else.
    UsageOnly,
    /// `[DONE]`.
    Done,
    /// The provider reports a failure inside the stream.
    Error(ProviderError),
    /// Not a chunk at all; says what is wrong with it.
    Malformed(&'static str),
}

/// Follows one streamed answer.
#[derive(Debug)]
pub struct StreamObserver {
    /// How many alternatives were asked for (`n`).
    choices: usize,
    /// Which of them have ended, a bit each.
    ended: smallvec::SmallVec<[u64; 2]>,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    has_output: bool,
    done: bool,
}

/// Alternatives beyond this many are not followed one by one: OpenAI allows 128, times the prompts of a batch.
const MAX_CHOICES: usize = 1 << 14;

static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static FINISH_REASON: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"finish_reason\""));
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

impl StreamObserver {
    /// `choices`: how many alternatives the client asked for (`n`, 1 by default; times the prompts of a batch).
    pub fn new(_shape: Shape, choices: u32) -> Self {
        Self {
            choices: usize::try_from(choices).unwrap_or(MAX_CHOICES).clamp(1, MAX_CHOICES),
            ended: smallvec::SmallVec::new(),
            finish_reason: None,
            usage: None,
            has_output: false,
            done: false,
        }
    }

    /// Looks at the next frame.
    pub fn observe(&mut self, frame: &Frame) -> Seen {
        if self.has_output && frame.sole_data().is_some_and(is_plain_chunk) {
            return Seen::Output;
        }
        let Some(data) = frame.data() else { return Seen::Silent };
        let event = frame.event();
        match data.trim_ascii() {
            b"" => Seen::Silent,
            b"[DONE]" => {
                self.done = true;
                Seen::Done
            }
            report if event == Some(b"error") => Seen::Error(error::classify_in_band(report)),
            _ if event == Some(b"ping") => Seen::Silent,
            chunk => self.read(chunk),
        }
    }

    /// The last token counts reported; some providers repeat them, growing, in every chunk.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether every alternative has come to its end.
    pub fn finished(&self) -> bool {
        self.ended.iter().map(|word| word.count_ones() as usize).sum::<usize>() >= self.choices
    }

    /// Whether `[DONE]` was seen.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Whether there was any real output.
    pub fn has_output(&self) -> bool {
        self.has_output
    }

    /// Why the answer ended; of several alternatives, the last that did.
    pub fn finish_reason(&self) -> Option<&str> {
        self.finish_reason.as_deref()
    }

    fn read(&mut self, chunk: &[u8]) -> Seen {
        let answer = match Answer::read(chunk) {
            Ok(answer) => answer,
            Err(malformed) => return Seen::Malformed(complaint(&malformed.problem)),
        };
        let usage = answer.usage();
        self.usage = usage.or(self.usage);
        let mut any = false;
        for (position, choice) in answer.choices().enumerate() {
            any = true;
            self.has_output |= choice.has_output;
            if let Some(reason) = choice.finish_reason {
                self.end(choice.index.and_then(|index| usize::try_from(index).ok()).unwrap_or(position));
                if self.finish_reason.as_deref() != Some(&*reason) {
                    self.finish_reason = Some(reason.into_owned());
                }
            }
        }
        if answer.is_error() {
            return Seen::Error(error::classify_in_band(chunk));
        }
        match (any, usage) {
            (false, Some(_)) => Seen::UsageOnly,
            (false, None) if answer.kind.is_some_and(|kind| kind.raw == b"\"ping\"") => Seen::Silent,
            _ if self.has_output => Seen::Output,
            _ => Seen::Preamble,
        }
    }

    fn end(&mut self, index: usize) {
        if index < MAX_CHOICES {
            if self.ended.len() <= index / 64 {
                self.ended.resize(index / 64 + 1, 0);
            }
            self.ended[index / 64] |= 1 << (index % 64);
        }
    }
}

/// Whether a chunk, by the look of it, carries nothing but another piece of the answer.
fn is_plain_chunk(data: &[u8]) -> bool {
    data.first() == Some(&b'{')
        && data.last() == Some(&b'}')
        && CHOICES.find(data).is_some()
        && is_void(&FINISH_REASON, data)
        && is_void(&USAGE, data)
        && is_void(&ERROR, data)
}

/// Whether this word, in its quotes, occurs only as the name of a member that is null or an empty string.
fn is_void(word: &Finder<'_>, data: &[u8]) -> bool {
    word.find_iter(data).all(|at| {
        let after = data[at + word.needle().len()..].trim_ascii_start();
        let Some(value) = after.strip_prefix(b":") else { return false };
        let value = value.trim_ascii_start();
        value.starts_with(b"null") || value.starts_with(b"\"\"")
    })
}

fn complaint(problem: &crate::wire::json::Problem) -> &'static str {
    use crate::wire::json::Problem;
    match problem {
        Problem::Utf8 => "a chunk of the stream is not valid UTF-8",
        Problem::Syntax(_) | Problem::Trailing | Problem::Duplicate(_) => "a chunk of the stream is not valid JSON",
        Problem::NotAnObject => "a chunk of the stream is not a JSON object",
        Problem::TooDeep => "a chunk of the stream nests too deeply",
    }
}
