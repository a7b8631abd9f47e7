//! Plays an answer: hands its frames to the network at the scripted pace, in the scripted pieces, up to the scripted
//! fault. A wire format writes its answer as a plain async function that calls [`Player::preamble`],
//! [`Player::content`] and [`Player::tail`]; everything that is the same for all formats happens here.

use std::{
    future::poll_fn,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;

use super::{
    behaviour::{Behaviour, LineEnding, Reset},
    compress::Encoder,
};
use crate::types::{Clock, Period};

/// Why an answer goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The body ends correctly, too early.
    End,
    /// An error event follows, then the body ends.
    Error,
    /// The client hears nothing more.
    Hang,
    /// The connection is closed.
    Cut,
    /// The connection is reset.
    Reset,
}

/// Where an answer's bytes go, and what happens to them on the way.
pub(super) struct Player {
    script: Arc<Behaviour>,
    clock: Clock,
    outlet: Outlet,
    encoder: Option<Encoder>,
    random: Option<fastrand::Rng>,
    /// The fault that strikes after so many content chunks.
    at_chunk: Option<(u32, Stop)>,
    /// The fault that strikes after so many bytes.
    at_byte: Option<(u64, Stop)>,
    chunks: u32,
    sent: u64,
}

/// The place where a player leaves a piece for the response body to pick up: it holds one piece, never more.
#[derive(Clone, Default)]
pub(super) struct Outlet(Arc<Mutex<Option<Bytes>>>);

impl Player {
    pub(super) fn new(script: Arc<Behaviour>, clock: Clock, outlet: Outlet, encoder: Option<Encoder>) -> Self {
        let by_chunk = [
            (script.hang_after_chunks, Stop::Hang),
            (script.end_after_chunk, Stop::End),
            (script.error_after_chunks, Stop::Error),
            (if let Some(Reset::AfterChunk(n)) = script.reset { Some(n) } else { None }, Stop::Reset),
        ];
        let by_byte = [
            (script.cut_at_byte, Stop::Cut),
            (if let Some(Reset::AtByte(n)) = script.reset { Some(n) } else { None }, Stop::Reset),
        ];
        Self {
            at_chunk: by_chunk.into_iter().filter_map(|(n, stop)| Some((n?, stop))).min_by_key(|(n, _)| *n),
            at_byte: by_byte.into_iter().filter_map(|(n, stop)| Some((n?, stop))).min_by_key(|(n, _)| *n),
            random: script.split_random.map(fastrand::Rng::with_seed),
            chunks: 0,
            sent: 0,
            script,
            clock,
            outlet,
            encoder,
        }
    }

    /// What comes before any output. It is here that a byte order mark belongs.
    pub(super) async fn begin(&mut self, is_stream: bool) -> Result<(), Stop> {
        if self.script.reset == Some(Reset::AfterHead) {
            return Err(Stop::Reset);
        }
        if self.script.bom && is_stream { self.write(b"\xef\xbb\xbf").await } else { Ok(()) }
    }

    /// Sends a frame that carries no output yet.
    pub(super) async fn preamble(&mut self, frame: &[u8]) -> Result<(), Stop> {
        self.frame(frame).await
    }

    /// Sends a content chunk, when its time has come.
    pub(super) async fn content(&mut self, frame: &[u8]) -> Result<(), Stop> {
        self.strike()?;
        let delay = if self.chunks == 0 { self.script.first_chunk_delay } else { self.script.chunk_delay };
        wait(&self.clock, delay).await;
        if self.script.comments {
            self.frame(b": ping\n\n").await?;
        }
        self.frame(frame).await?;
        self.chunks += 1;
        Ok(())
    }

    /// Sends a frame that comes after all output.
    pub(super) async fn tail(&mut self, frame: &[u8]) -> Result<(), Stop> {
        self.strike()?;
        self.frame(frame).await
    }

    /// Sends a body that is no stream. Faults that count chunks strike in its middle.
    pub(super) async fn whole(&mut self, body: &[u8]) -> Result<(), Stop> {
        let Some((_, stop)) = self.at_chunk else { return self.write(body).await };
        self.write(body.get(..body.len() / 2).unwrap_or_default()).await?;
        Err(stop)
    }

    /// Sends bytes as they are: no frame, so neither counted nor delayed.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let bytes = match &mut self.encoder {
            Some(encoder) => readable(encoder.encode(bytes).await)?,
            None => Bytes::copy_from_slice(bytes),
        };
        self.send(bytes).await
    }

    /// Sends what a compressor still holds.
    pub(super) async fn finish(&mut self) -> Result<(), Stop> {
        match &mut self.encoder {
            Some(encoder) => {
                let end = readable(encoder.finish().await)?;
                self.send(end).await
            }
            None => Ok(()),
        }
    }

    pub(super) fn script(&self) -> &Behaviour {
        &self.script
    }

    fn strike(&self) -> Result<(), Stop> {
        match self.at_chunk {
            Some((n, stop)) if self.chunks == n => Err(stop),
            _ => Ok(()),
        }
    }

    async fn frame(&mut self, frame: &[u8]) -> Result<(), Stop> {
        match self.script.line_ending {
            LineEnding::Lf => self.write(frame).await,
            LineEnding::Cr => self.write(&replace_newlines(frame, b"\r")).await,
            LineEnding::Crlf => self.write(&replace_newlines(frame, b"\r\n")).await,
        }
    }

    /// The last stage: pieces of the scripted size, up to the byte at which a fault strikes.
    async fn send(&mut self, mut bytes: Bytes) -> Result<(), Stop> {
        let mut struck = None;
        if let Some((at, stop)) = self.at_byte {
            let left = usize::try_from(at.saturating_sub(self.sent)).unwrap_or(usize::MAX);
            if left <= bytes.len() {
                bytes.truncate(left);
                struck = Some(stop);
            }
        }
        self.sent += bytes.len() as u64;
        while !bytes.is_empty() {
            let size = match (&mut self.random, self.script.split) {
                (Some(random), _) => random.usize(1..=64),
                (None, Some(size)) => size.max(1) as usize,
                (None, None) => bytes.len(),
            };
            let piece = bytes.split_to(size.min(bytes.len()));
            self.outlet.put(piece).await;
        }
        struck.map_or(Ok(()), Err)
    }
}

impl Outlet {
    /// Leaves a piece and waits until it was picked up. Whoever picks up polls again, so that nobody need be woken.
    async fn put(&self, piece: Bytes) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(piece);
        poll_fn(|_| {
            let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none();
            if taken { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(super) fn take(&self) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Waits as long as a script says. A year is as good as for ever, and further ahead clocks end.
pub(super) async fn wait(clock: &Clock, period: Option<Period>) {
    const LONGEST: Duration = Duration::from_hours(365 * 24);
    if let Some(period) = period {
        clock.sleep(period.0.min(LONGEST)).await;
    }
}

/// A compressor that writes to memory does not fail; should it, the connection is cut, which is loud.
fn readable(encoded: io::Result<Bytes>) -> Result<Bytes, Stop> {
    encoded.map_err(|_| Stop::Cut)
}

fn replace_newlines(frame: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(frame.len() + 8);
    for byte in frame {
        match byte {
            b'\n' => replaced.extend_from_slice(by),
            other => replaced.push(*other),
        }
    }
    replaced
}
