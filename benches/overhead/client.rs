//! The load generator: keep-alive connections over raw sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::{memchr_iter, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::contestants::Endpoint;
use crate::http1::Message;
use crate::upstream::now;

/// The longest silence on a connection before a call counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream without a chunk for this many nanoseconds is late beyond doubt.
const HOPELESS: u64 = 1_000_000_000;

/// A connection to one contestant.
pub struct Connection {
    endpoint: Arc<Endpoint>,
    stream: Option<TcpStream>,
    message: Message,
    buffer: Vec<u8>,
}

/// How far the calls of one run are.
#[derive(Default)]
pub struct Progress {
    pub calls: AtomicU64,
    /// Closed loop: line ends in answers, two for each server-sent event. Paced: content chunks.
    pub events: AtomicU64,
}

/// What one user saw of paced streams, in nanoseconds.
#[derive(Default)]
pub struct Seen {
    /// From sending the request to the first content chunk, less the time the upstream held it.
    pub first: Vec<u64>,
    /// From the upstream's write of a chunk to its arrival.
    pub delay: Vec<u64>,
    /// Between the arrivals of two chunks of a stream.
    pub gap: Vec<u64>,
}

impl Connection {
    pub fn new(endpoint: &Arc<Endpoint>) -> Self {
        Self { endpoint: Arc::clone(endpoint), stream: None, message: Message::default(), buffer: vec![0; 64 * 1024] }
    }

    /// Sends `request` and reads the answer to its end, giving its body to `body` as it comes.
    pub async fn call(&mut self, request: &[u8], mut body: impl FnMut(&[u8])) -> Result<()> {
        self.message.reset();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.endpoint.addr).await?;
                stream.set_nodelay(true)?;
                self.stream.insert(stream)
            }
        };
        stream.write_all(request).await?;
        loop {
            let length = stream.read(&mut self.buffer).await?;
            ensure!(length > 0, "the connection ended inside an answer");
            if self.message.feed(&self.buffer[..length], &mut body)? {
                break;
            }
        }
        if self.message.closes() {
            self.stream = None;
        }
        Ok(())
    }

    /// Status of the latest answer.
    pub fn status(&self) -> u16 {
        self.message.status()
    }
}

/// Calls one after the other until the bench's clock shows `until` nanoseconds. Returns the time of each call in
/// nanoseconds.
pub async fn closed_loop(
    endpoint: Arc<Endpoint>,
    request: Arc<Vec<u8>>,
    progress: Arc<Progress>,
    until: u64,
) -> Result<Vec<u64>> {
    let mut connection = Connection::new(&endpoint);
    let mut times = Vec::new();
    while now() < until {
        let begin = now();
        // Each event has exactly two line ends, and its JSON has none.
        let count = |piece: &[u8]| {
            progress.events.fetch_add(memchr_iter(b'\n', piece).count() as u64, Relaxed);
        };
        timeout(PATIENCE, connection.call(&request, count)).await.context("no answer")??;
        ensure!(connection.status() == 200, "status {}", connection.status());
        progress.calls.fetch_add(1, Relaxed);
        times.push(now() - begin);
    }
    Ok(times)
}

/// Holds paced streams one after the other, the first one after `delay`, until cut off at `until`. Streams that begin
/// before `from` are not recorded, but for those that had no chunk for a long time when cut off: they count with the time
/// they waited, or an overloaded proxy would look well. Both are nanoseconds of the bench's clock.
pub async fn paced_loop(
    endpoint: Arc<Endpoint>,
    request: Arc<Vec<u8>>,
    progress: Arc<Progress>,
    delay: Duration,
    (from, until): (u64, u64),
) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut connection = Connection::new(&endpoint);
    tokio::time::sleep(delay).await;
    while now() < until {
        let begin = now();
        let mut reader = Stamps { begin, recorded: begin >= from, previous: None, pending: Vec::new() };
        let call = connection.call(&request, |piece| reader.read(piece, &mut seen, &progress));
        match timeout(Duration::from_nanos(until - begin), call).await {
            Ok(ended) => ended?,
            Err(_) if reader.previous.is_none() && until - begin > HOPELESS => {
                seen.first.push(until - begin);
                break;
            }
            Err(_) => break,
        }
        ensure!(connection.status() == 200, "status {}", connection.status());
        progress.calls.fetch_add(1, Relaxed);
    }
    Ok(seen)
}

/// Reads the stamps of one stream's content chunks.
struct Stamps {
    begin: u64,
    recorded: bool,
    /// Arrival of the content chunk before.
    previous: Option<u64>,
    /// An event whose end has not come yet.
    pending: Vec<u8>,
}

impl Stamps {
    fn read(&mut self, piece: &[u8], seen: &mut Seen, progress: &Progress) {
        let arrived = now();
        self.pending.extend_from_slice(piece);
        let mut read = 0;
        while let Some(length) = memmem::find(&self.pending[read..], b"\n\n") {
            let event = &self.pending[read..read + length];
            read += length + 2;
            let Some((sent, held)) = stamp(event) else { continue };
            progress.events.fetch_add(1, Relaxed);
            if self.recorded {
                seen.delay.push(arrived.saturating_sub(sent));
                match self.previous {
                    None => seen.first.push((arrived - self.begin).saturating_sub(held)),
                    Some(previous) => seen.gap.push(arrived - previous),
                }
            }
            self.previous = Some(arrived);
        }
        self.pending.drain(..read);
    }
}

fn stamp(event: &[u8]) -> Option<(u64, u64)> {
    let at = memmem::find(event, b"@t")?;
    let number = |from: usize| u64::from_str_radix(std::str::from_utf8(event.get(from..from + 16)?).ok()?, 16).ok();
    Some((number(at + 2)?, number(at + 20)?))
}
