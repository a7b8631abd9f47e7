//! The response body: a finished answer in one piece, or one that is being played.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{
    behaviour::Behaviour,
    compress::Encoder,
    fate::Fate,
    player::{Outlet, Player, Stop},
    record::Exchange,
    reply::Reply,
};
use crate::types::Clock;

/// A body whose stream is broken off on purpose (HTTP/2 resets the stream on it).
#[derive(Debug, thiserror::Error)]
#[error("the script breaks the answer off here")]
pub(super) struct Broken;

/// The body of an answer.
pub(super) enum Body {
    /// All of it, at once.
    Whole { bytes: Bytes, exchange: Option<Exchange> },
    /// Piece by piece.
    Played(Box<Played>),
}

/// An answer that is being played.
pub(super) struct Played {
    performance: Pin<Box<dyn Future<Output = Result<(), Stop>> + Send>>,
    outlet: Outlet,
    exchange: Exchange,
    transport: Transport,
    coalesce: bool,
    /// A piece was just picked up: before the next one, the connection must get the chance to write it.
    gave: bool,
    over: bool,
}

/// What a body must know of the way it travels.
pub(super) struct Transport {
    pub(super) fate: Arc<Fate>,
    pub(super) is_http2: bool,
    /// The declared length. A body with one is dropped after its last byte, without being polled to its end.
    pub(super) length: Option<u64>,
}

impl Body {
    /// A body that is not tracked.
    pub(super) fn plain(bytes: impl Into<Bytes>) -> Self {
        Self::Whole { bytes: bytes.into(), exchange: None }
    }

    /// A tracked body that goes out in one piece.
    pub(super) fn whole(bytes: Bytes, exchange: Exchange) -> Self {
        if bytes.is_empty() {
            exchange.complete();
        }
        Self::Whole { bytes, exchange: Some(exchange) }
    }
}

impl Played {
    /// Plays `reply` as `script` says.
    pub(super) fn new(
        reply: Reply,
        script: Arc<Behaviour>,
        clock: Clock,
        encoder: Option<Encoder>,
        exchange: Exchange,
        transport: Transport,
    ) -> Self {
        if transport.length == Some(0) {
            exchange.complete();
        }
        let coalesce = script.coalesce;
        let outlet = Outlet::default();
        let mut player = Player::new(script, clock, outlet.clone(), encoder);
        let fate = transport.fate.clone();
        let performance = Box::pin(async move {
            let ending = perform(&reply, &mut player).await;
            match ending {
                Err(Stop::Hang) => pending().await,
                // What was sent before the fault shall arrive.
                Err(Stop::Cut | Stop::Reset) => fate.flushed().await,
                Ok(()) | Err(Stop::End | Stop::Error) => {}
            }
            ending
        });
        Self { performance, outlet, exchange, transport, coalesce, gave: false, over: false }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.over {
            return Poll::Pending;
        }
        if std::mem::take(&mut self.gave) && !self.coalesce {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let ended = self.performance.as_mut().poll(cx);
        if let Some(piece) = self.outlet.take() {
            self.gave = true;
            self.exchange.bytes_sent += piece.len() as u64;
            if self.transport.length.is_some_and(|length| self.exchange.bytes_sent >= length) {
                self.exchange.complete();
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let ending = ready!(ended);
        match ending {
            Ok(()) => self.exchange.complete(),
            Err(_) => self.exchange.faulted(),
        }
        match ending {
            Err(Stop::Reset) => self.transport.fate.reset(),
            Err(Stop::Cut) if self.transport.is_http2 => return Poll::Ready(Some(Err(Broken))),
            Err(Stop::Cut) => self.transport.fate.cut(),
            Ok(()) | Err(_) => return Poll::Ready(None),
        }
        // The connection breaks under this body, which therefore has no end of its own.
        self.over = true;
        Poll::Pending
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole { bytes, .. } if bytes.is_empty() => Poll::Ready(None),
            Self::Whole { bytes, exchange } => {
                if let Some(exchange) = exchange {
                    exchange.bytes_sent = bytes.len() as u64;
                    exchange.complete();
                }
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Played(played) => played.poll_piece(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole { bytes, .. } if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole { bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
            Self::Played(_) => SizeHint::default(),
        }
    }
}

/// The whole performance, from the first byte to the end of the compressed form, if it gets there.
async fn perform(reply: &Reply, player: &mut Player) -> Result<(), Stop> {
    let ending = match player.begin(reply.is_stream()).await {
        Ok(()) => reply.play(player).await,
        Err(stop) => Err(stop),
    };
    match ending {
        Err(Stop::Hang | Stop::Cut | Stop::Reset) => return ending,
        Err(Stop::Error) => player.preamble(&reply.error_event(player.script())).await?,
        Ok(()) | Err(Stop::End) => {}
    }
    player.finish().await?;
    ending
}
