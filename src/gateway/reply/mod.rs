//! The commit: from here on the client sees a 200. A whole answer settles now; a stream becomes a body that carries
//! the charge and settles when it ends, however it ends.

mod allowance;
mod large;
mod stream;
mod turn;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body, Frame, SizeHint};

use self::{large::LargeBody, stream::StreamBody};
use super::{
    Call, Gateway,
    attempts::Committed,
    exchange::Content,
    headers::{self, names},
};
use crate::{accounting::Charge, telemetry::Outcome, wire::openai_chat::Stated};

/// A committed answer: 200, its headers, its body.
#[derive(Debug)]
pub struct Reply {
    pub headers: HeaderMap,
    pub body: ReplyBody,
}

/// The body of a committed answer.
#[derive(Debug)]
pub enum ReplyBody {
    Whole(Option<Bytes>),
    Large(Box<LargeBody>),
    Stream(Box<StreamBody>),
}

/// A body that could not be completed: the connection is broken off, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the provider broke its answer off")]
pub struct BrokenOff;

/// Commits an answer.
pub(super) fn commit(gateway: &Arc<Gateway>, call: &Call, committed: Committed, mut charge: Charge) -> Reply {
    let Committed { answer, candidate, permit, until } = committed;
    let (mut headers, lane) = (answer.headers, answer.lane);
    let told_cost = headers::cost(&headers);
    headers::for_client(&mut headers);
    let streamed = matches!(answer.content, Content::Stream(_));
    let overhead = charge.committed(200, streamed);
    put(&mut headers, names::TARGET, &candidate.name());
    put(&mut headers, names::ATTEMPTS, itoa::Buffer::new().format(charge.attempts()));
    put(&mut headers, names::OVERHEAD, &millis(overhead));
    if !answer.losses.is_empty() {
        let places = answer.losses.header();
        put(&mut headers, names::LOSSY, &places);
        charge.lossy(&places);
    }
    headers::show_limits(&mut headers, &mut charge, lane.client, gateway.clock.unix_millis());
    let body = match answer.content {
        Content::Whole { body, reply } => {
            let stated = Stated { cost: reply.stated.cost.or(told_cost), ..reply.stated };
            if let Some(cost) = charge.cost_of(&stated) {
                put(&mut headers, names::COST, &cost.to_string());
            }
            charge.heard(stated, reply.said);
            if let Some(reason) = &reply.finish_reason {
                charge.finish_reason(reason);
            }
            charge.sent(body.len());
            charge.settle(Outcome::Ok);
            ReplyBody::Whole(Some(body))
        }
        Content::Large { held, rest, tap } => {
            let stated = Stated { cost: told_cost, ..Stated::default() };
            let body = LargeBody::new(gateway, &candidate, held, rest, tap, stated, until, charge, permit);
            ReplyBody::Large(Box::new(body))
        }
        Content::Stream(live) => {
            for (name, value) in [
                (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
                (header::CACHE_CONTROL, "no-cache"),
                // nginx would collect the stream before passing it on.
                (header::HeaderName::from_static("x-accel-buffering"), "no"),
            ] {
                headers.insert(name, HeaderValue::from_static(value));
            }
            ReplyBody::Stream(Box::new(StreamBody::new(gateway, call, &candidate, lane, *live, until, charge, permit)))
        }
    };
    Reply { headers, body }
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Milliseconds with microseconds behind the point.
fn millis(duration: std::time::Duration) -> String {
    let micros = duration.as_micros();
    format!("{}.{:03}", micros / 1_000, micros % 1_000)
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Self::Large(body) => body.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Self::Stream(body) => body.poll_bytes(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
            Self::Large(body) => body.size_hint(),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
