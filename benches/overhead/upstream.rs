//! The fast provider: answers made beforehand, sent as soon as a request is complete.
//!
//! What it answers is set by the scenario that runs ([`Upstream::set_mode`]), in the format of the path that was asked: so
//! requests are not parsed beyond their end.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http1::Message;
use crate::payload::{self, Speech};

/// How every chat completion is answered from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// One JSON answer.
    Whole,
    /// A stream of `chunks` content chunks without a pause, `per_write` of them handed to the kernel at once.
    Burst { chunks: usize, per_write: usize },
    /// A stream of `chunks` content chunks, one every `every`.
    Paced { chunks: u32, every: Duration },
}

/// The running upstream; lives as long as the runtime it was started on.
#[derive(Clone)]
pub struct Upstream {
    pub addr: SocketAddr,
    state: Arc<State>,
}

struct State {
    mode: Mutex<Mode>,
    /// Grows with each change of mode: connections then look at the mode again.
    version: AtomicU64,
    /// The head and body of the latest request, kept while someone wants to see it.
    seen: Mutex<Option<Vec<u8>>>,
    watching: AtomicU64,
}

/// The answers of one mode, made once for each connection and mode.
enum Answer {
    Whole(Vec<u8>),
    Burst { start: Vec<u8>, chunks: Vec<u8>, write_length: usize, speech: Speech },
    Paced { chunks: u32, every: Duration, speech: Speech },
}

/// Nanoseconds since the bench started: the clock of all stamps.
pub fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Upstream {
    /// Listens on `port` of 127.0.0.1 (zero: a free one).
    pub async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).await?;
        let addr = listener.local_addr()?;
        let state = State {
            mode: Mutex::new(Mode::Whole),
            version: AtomicU64::new(0),
            seen: Mutex::new(None),
            watching: AtomicU64::new(0),
        };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                // Out of file descriptors is the one error accept has here; a moment later some are free again.
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&shared)))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { addr, state })
    }

    /// Answers in this way from the next request on.
    pub fn set_mode(&self, mode: Mode) {
        *self.state.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        self.state.version.fetch_add(1, Relaxed);
    }

    /// Keeps requests for [`Upstream::seen`] while `on`.
    pub fn watch(&self, on: bool) {
        self.state.watching.store(u64::from(on), Relaxed);
    }

    /// The latest request seen while watching.
    pub fn seen(&self) -> Option<Vec<u8>> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Answer {
    fn new(mode: Mode, speech: Speech) -> Self {
        match mode {
            Mode::Whole => Self::Whole(payload::whole_answer(speech)),
            Mode::Burst { chunks, per_write } => Self::Burst {
                start: payload::stream_start(speech),
                chunks: payload::content_chunks(speech, chunks),
                write_length: payload::content_chunk(speech).len() * per_write,
                speech,
            },
            Mode::Paced { chunks, every } => Self::Paced { chunks, every, speech },
        }
    }

    async fn send(&self, stream: &mut TcpStream, arrived: u64, include_usage: bool) -> io::Result<()> {
        match self {
            Self::Whole(answer) => stream.write_all(answer).await,
            Self::Burst { start, chunks, write_length, speech } if *write_length >= chunks.len() => {
                let end = payload::stream_end(*speech, include_usage);
                stream.write_all(&[start.as_slice(), chunks, &end].concat()).await
            }
            Self::Burst { start, chunks, write_length, speech } => {
                stream.write_all(start).await?;
                for some in chunks.chunks(*write_length) {
                    stream.write_all(some).await?;
                }
                stream.write_all(&payload::stream_end(*speech, include_usage)).await
            }
            Self::Paced { chunks, every, speech } => {
                paced(stream, *speech, *chunks, *every, (arrived, include_usage)).await
            }
        }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut message = Message::default();
    let (mut version, mut answer) = ((u64::MAX, Speech::OpenAi), Answer::Whole(Vec::new()));
    loop {
        let (mut include_usage, mut kept) = (false, Vec::new());
        let watching = state.watching.load(Relaxed) != 0;
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let piece = &buffer[..length];
            if watching {
                kept.extend_from_slice(piece);
            }
            // A field split over two reads would be missed; stream requests fit one segment.
            if message.feed(piece, |body| include_usage |= memmem::find(body, b"include_usage").is_some())? {
                break;
            }
        }
        let arrived = now();
        if watching {
            *state.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
        if !message.head().starts_with(b"POST") {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 27\r\n\r\n")
                .await?;
            stream.write_all(br#"{"object":"list","data":[]}"#).await?;
        } else {
            let is_messages = message.head().starts_with(b"POST /v1/messages ");
            let speech = if is_messages { Speech::Anthropic } else { Speech::OpenAi };
            let current = (state.version.load(Relaxed), speech);
            if current != version {
                answer = Answer::new(*state.mode.lock().unwrap_or_else(PoisonError::into_inner), speech);
                version = current;
            }
            answer.send(&mut stream, arrived, include_usage).await?;
        }
        message.reset();
    }
}

/// The first content chunk leaves one period after the request came, the others a period after each other, counted from
/// the request, so that a late wake-up does not push back the rest.
async fn paced(
    stream: &mut TcpStream,
    speech: Speech,
    chunks: u32,
    every: Duration,
    (arrived, usage): (u64, bool),
) -> io::Result<()> {
    let begin = tokio::time::Instant::now();
    stream.write_all(&payload::stream_start(speech)).await?;
    let mut chunk = payload::content_chunk(speech);
    let at = memmem::find(&chunk, b"@t").unwrap_or(0);
    for number in 1..=chunks {
        tokio::time::sleep_until(begin + every * number).await;
        let sent = now();
        let held = if number == 1 { sent - arrived } else { 0 };
        chunk[at..at + payload::STAMP.len()].copy_from_slice(payload::stamp(sent, held).as_bytes());
        stream.write_all(&chunk).await?;
    }
    stream.write_all(&payload::stream_end(speech, usage)).await
}
