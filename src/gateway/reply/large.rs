//! A whole answer too large to hold: passed on piece by piece, while a tap reads its usage.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::SizeHint;

use super::BrokenOff;
use crate::{
    accounting::Charge,
    gateway::Gateway,
    routing::{Candidate, Outcome as Health, Permit},
    telemetry::Outcome,
    types::{Clock, Sleep},
    upstream::UpstreamBody,
    wire::{openai_chat::Stated, tap::Tap},
};

/// The body of a large whole answer.
#[derive(Debug)]
pub struct LargeBody {
    held: std::vec::IntoIter<Bytes>,
    held_bytes: u64,
    rest: UpstreamBody,
    tap: Tap,
    /// What is known before the usage has passed.
    stated: Stated,
    clock: Clock,
    between_pieces: Duration,
    total: Instant,
    timer: Option<Sleep>,
    charge: Option<Charge>,
    permit: Permit,
}

impl LargeBody {
    #[expect(clippy::too_many_arguments, reason = "the parts of an answer, taken over once")]
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        candidate: &Candidate,
        held: Vec<Bytes>,
        rest: UpstreamBody,
        tap: Tap,
        stated: Stated,
        total: Instant,
        charge: Charge,
        permit: Permit,
    ) -> Self {
        let held_bytes = held.iter().map(|piece| piece.len() as u64).sum();
        Self {
            held: held.into_iter(),
            held_bytes,
            rest,
            tap,
            stated,
            clock: gateway.clock.clone(),
            between_pieces: candidate.target.deadlines.between_chunks,
            total,
            timer: None,
            charge: Some(charge),
            permit,
        }
    }

    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if self.charge.is_none() {
            return Poll::Ready(None);
        }
        if let Some(piece) = self.held.next() {
            self.held_bytes -= piece.len() as u64;
            return Poll::Ready(Some(Ok(self.pass(piece))));
        }
        match self.rest.poll_next(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                self.timer = None;
                self.tap.feed(&piece);
                Poll::Ready(Some(Ok(self.pass(piece))))
            }
            Poll::Ready(Some(Err(_))) => self.break_off(Outcome::Cut),
            // A body without a declared length can end early without an error; the document itself says whether it did.
            Poll::Ready(None) if !self.tap.complete() => self.break_off(Outcome::Cut),
            Poll::Ready(None) => {
                self.settle(Outcome::Ok);
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    fn pass(&mut self, piece: Bytes) -> Bytes {
        if let Some(charge) = &mut self.charge {
            charge.sent(piece.len());
        }
        piece
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let due = (self.clock.now() + self.between_pieces).min(self.total);
        let clock = &self.clock;
        let timer = self.timer.get_or_insert_with(|| clock.sleep_until(due));
        match Pin::new(timer).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) if self.clock.now() >= self.total => self.break_off(Outcome::TimeoutTotal),
            Poll::Ready(()) => self.break_off(Outcome::TimeoutBetweenChunks),
        }
    }

    fn break_off(&mut self, outcome: Outcome) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        self.permit.report(Health::Failure, self.clock.now());
        self.settle(outcome);
        Poll::Ready(Some(Err(BrokenOff)))
    }

    fn settle(&mut self, outcome: Outcome) {
        let Some(mut charge) = self.charge.take() else { return };
        let mut stated = std::mem::take(&mut self.stated);
        let read = |name: &str, read: &mut dyn FnMut(&[u8])| self.tap.get(name).into_iter().for_each(read);
        read("usage", &mut |raw| stated.read_usage(raw));
        read("id", &mut |raw| stated.read_id(raw));
        read("service_tier", &mut |raw| stated.read_service_tier(raw));
        charge.heard(stated, None);
        charge.settle(outcome);
    }

    /// Exact where the provider declared a length: then a shortened body is an error for the client's HTTP library too.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.rest.expected().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + self.held_bytes))
    }
}
