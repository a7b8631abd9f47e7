//! A stream on its way to the client. Frames pass as they came, byte for byte, or translated, as soon as they are complete;
//! a copy is observed for usage, errors and the end. Constant work and memory per frame, whatever the stream's length.
//!
//! Three ways out, each of which settles the charge once:
//! * the stream is complete: its last event was passed on (`[DONE]`, or `message_stop`);
//! * it failed: the client gets an error event in its own format, and no such end;
//! * the body is dropped: the client went away, and dropping what is left of the provider's answer closes it there.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    allowance::{Allowance, Verdict},
    turn::Turn,
};
use crate::{
    accounting::Charge,
    gateway::{
        Call, Gateway,
        exchange::LiveStream,
        lane::{self, Closed, Lane, Watch},
    },
    routing::{Candidate, Outcome as Health, Permit},
    telemetry::{Metrics, Outcome, TargetMetrics, metrics::Counted},
    types::{Clock, Sleep, Usage},
    upstream::UpstreamBody,
    wire::{
        conversation::Format,
        openai_chat::{self, Hidden, Seen},
        sse::{Frame, FrameReader},
    },
};

/// Bytes joined into one write at most, when many frames are there at once.
const FLUSH: usize = 32 * 1024;

/// How long the end of the provider's body is waited for after `[DONE]`, so that its connection can be used again.
const LINGER: Duration = Duration::from_millis(250);

const DONE: &[u8] = b"data: [DONE]\n\n";
const TOTAL_PASSED: &str = "The stream did not finish within the `total` deadline.";
const ENDED_EARLY: &str = "The provider ended the stream before it was complete.";
const SHUTTING_DOWN: &str = "The gateway is shutting down.";

/// The body of a committed stream.
#[derive(Debug)]
pub struct StreamBody {
    state: State,
    rest: UpstreamBody,
    frames: FrameReader,
    watch: Watch,
    /// What the client speaks.
    client: Format,
    /// What is ready to be sent.
    out: Out,
    turn: Turn,
    /// Something has been sent.
    begun: bool,
    hide_usage: bool,
    /// The client asked to see the cost beside the usage.
    show_cost: bool,
    /// `[DONE]` has passed with half of its last CRLF.
    owes_line_feed: bool,
    charge: Option<Charge>,
    /// What it may still say, where a quota cares.
    allowance: Option<Box<Allowance>>,
    permit: Permit,
    metrics: Arc<TargetMetrics>,
    _open: Counted,
    clock: Clock,
    deadlines: StreamDeadlines,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Frames are passing.
    Relaying,
    /// `[DONE]` has been passed on; only the end of the provider's body is missing.
    Lingering { until: Instant },
    /// Nothing more will be read.
    Ended,
}

/// The deadlines of a stream, checked by one lazily armed timer: a frame costs no timer operation.
#[derive(Debug)]
struct StreamDeadlines {
    between_chunks: Duration,
    keepalive: Duration,
    total: Instant,
    /// When the provider last sent an event. Its comments do not count: a provider may send those for ever.
    last_event: Instant,
    /// Since when the provider is being waited for; a slow client's time is not the provider's.
    waiting_since: Option<Instant>,
    /// When the client last got anything.
    last_sent: Instant,
    timer: Option<Sleep>,
}

/// Bytes to send: one frame is passed on as it is, several are joined.
#[derive(Debug, Default)]
struct Out {
    first: Bytes,
    joined: BytesMut,
}

impl StreamBody {
    #[expect(clippy::too_many_arguments, reason = "the parts of an answer, taken over once")]
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        call: &Call,
        candidate: &Candidate,
        lane: Lane,
        live: LiveStream,
        total: Instant,
        mut charge: Charge,
        permit: Permit,
    ) -> Self {
        let allowance = Allowance::of(gateway, call, candidate, &mut charge).map(Box::new);
        let now = gateway.clock.now();
        let LiveStream { held, frames, watch, rest } = live;
        let mut body = Self {
            state: State::Relaying,
            rest,
            frames,
            watch,
            client: lane.client,
            out: Out::default(),
            turn: Turn::default(),
            begun: false,
            hide_usage: !call.asked_usage,
            show_cost: call.asked_cost,
            owes_line_feed: false,
            charge: Some(charge),
            allowance,
            permit,
            metrics: call.snapshot.outlet(&candidate.target).metrics.clone(),
            _open: Metrics::count(&gateway.metrics.streams_open),
            clock: gateway.clock.clone(),
            deadlines: StreamDeadlines {
                between_chunks: candidate.target.deadlines.between_chunks,
                keepalive: call.snapshot.keepalive,
                total,
                last_event: now,
                waiting_since: None,
                last_sent: now,
                timer: None,
            },
            cut: Box::pin(gateway.cut.clone().cancelled_owned()),
        };
        for frame in held {
            body.forward(frame);
        }
        if body.watch.ended() {
            body.complete();
        }
        body
    }

    pub(super) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.state == State::Relaying {
                self.relay_frames();
                if self.heed_allowance(cx) {
                    continue;
                }
            }
            if self.out.len() >= FLUSH && self.state == State::Relaying && self.cut.as_mut().poll(cx).is_ready() {
                self.fail(Outcome::RefusedByGateway, SHUTTING_DOWN);
            }
            if self.out.len() >= FLUSH || (self.state != State::Relaying && !self.out.is_empty()) {
                return Poll::Ready(Some(self.flush()));
            }
            if self.state == State::Ended {
                return Poll::Ready(None);
            }
            match self.rest.poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) => self.arrived(piece),
                Poll::Ready(Some(Err(_))) => self.broken(),
                Poll::Ready(None) => self.finished(),
                // What a task of the provider's connection has read already joins the same write: a burst costs one
                // write for many chunks, and a single chunk waits for one turn of the scheduler, not for time.
                Poll::Pending if !self.out.is_empty() => {
                    // The first output goes out with the response head.
                    let gathers = self.begun && self.rest.is_handed_over();
                    let turn = if gathers { self.turn.poll_passed(cx) } else { Poll::Ready(()) };
                    return turn.map(|()| Some(self.flush()));
                }
                Poll::Pending => {
                    if self.poll_timers(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// A piece of the provider's body.
    fn arrived(&mut self, piece: Bytes) {
        if self.state == State::Relaying {
            self.frames.push(piece);
        } else if std::mem::take(&mut self.owes_line_feed) && piece.first() == Some(&b'\n') {
            self.out.put(piece.slice(..1));
        }
    }

    /// Passes on every complete frame there is, until enough is there for one write.
    fn relay_frames(&mut self) {
        let mut now = None;
        while self.out.len() < FLUSH && self.state == State::Relaying {
            let frame = match self.frames.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(_) => return self.fail(Outcome::Malformed, "The provider sent an event that is too large."),
            };
            // Timers are only looked at while the provider pauses, and one that never does must end as well.
            let now = *now.get_or_insert_with(|| self.clock.now());
            if now >= self.deadlines.total {
                return self.fail(Outcome::TimeoutTotal, TOTAL_PASSED);
            }
            let seen = self.watch.see(&frame);
            if !matches!(seen, Seen::Silent) {
                self.metrics.chunk_gap(now.saturating_duration_since(self.deadlines.last_event));
                self.deadlines.last_event = now;
                self.deadlines.waiting_since = None;
            }
            self.relay(frame, &seen);
            if self.allowance.as_ref().is_some_and(|allowance| allowance.is_used(self.watch.spoken())) {
                return;
            }
        }
    }

    /// Ends a stream that has used up what was set aside for it, where its quota wants that. Says whether frames were held
    /// back until this was known, and may go on.
    fn heed_allowance(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(allowance) = self.allowance.as_mut().filter(|_| self.state == State::Relaying) else { return false };
        let spoken = self.watch.spoken();
        let is_used = allowance.is_used(spoken);
        let Some(charge) = self.charge.as_mut().filter(|_| is_used || allowance.is_asking()) else { return false };
        match allowance.poll(cx, spoken, charge) {
            Verdict::GoOn => return is_used,
            Verdict::Free => self.allowance = None,
            Verdict::Cut => {
                let usage = Self::usage_at_a_cut(&self.watch, charge).filter(|_| !self.hide_usage);
                let last = self.watch.cut(usage.as_ref());
                self.out.put(last);
                self.settle(Outcome::RefusedByGateway);
                self.state = State::Ended;
            }
        }
        is_used
    }

    /// What was consumed when an answer is ended here. What its provider has stated was said before the end.
    fn usage_at_a_cut(watch: &Watch, charge: &mut Charge) -> Option<Usage> {
        let mut stated = watch.stated().clone();
        stated.usage_is_early = stated.usage.is_some();
        charge.heard(stated, Some(watch.said().clone()));
        charge.usage()
    }

    fn relay(&mut self, frame: Frame, seen: &Seen) {
        match seen {
            Seen::Silent | Seen::Preamble | Seen::Output | Seen::UsageOnly => {
                self.forward(frame);
                if self.watch.ended() {
                    self.complete();
                }
            }
            Seen::Done => {
                self.owes_line_feed = self.watch.is_pass() && frame.bytes().last() == Some(&b'\r');
                self.forward(frame);
                self.complete();
            }
            Seen::Error(_) => {
                // The provider's own words, then nothing: it is an error event already.
                let words = self.watch.written().unwrap_or_else(|| frame.into_bytes());
                self.out.put(self.permit.key().conceal(words));
                self.end(Outcome::UpstreamError);
            }
            Seen::Malformed(_) => self.fail(Outcome::Malformed, "The provider sent an event that is not JSON."),
        }
    }

    /// Puts a frame into the output, without usage that the client did not ask for.
    fn forward(&mut self, frame: Frame) {
        if let Some(written) = self.watch.written() {
            return self.out.put(written);
        }
        if !self.hide_usage {
            let shown = self.with_cost(&frame);
            return self.out.put(shown.unwrap_or_else(|| frame.into_bytes()));
        }
        match openai_chat::hide_usage(&frame) {
            Hidden::Unchanged => self.out.put(frame.into_bytes()),
            Hidden::Rewritten(bytes) => self.out.put(bytes),
            Hidden::Dropped => {}
        }
    }

    /// A frame with usage, and beside it what that costs, if the client asked for it and it is known.
    fn with_cost(&self, frame: &Frame) -> Option<Bytes> {
        let charge = self.charge.as_ref().filter(|_| self.show_cost)?;
        openai_chat::show_cost(frame, || charge.cost_of(self.watch.stated()))
    }

    /// The provider's body broke off.
    fn broken(&mut self) {
        match self.state {
            State::Relaying => self.fail(Outcome::Cut, "The provider broke the stream off."),
            State::Lingering { .. } | State::Ended => self.state = State::Ended,
        }
    }

    /// The provider's body has come to its end.
    fn finished(&mut self) {
        if self.state != State::Relaying {
            self.state = State::Ended;
            return;
        }
        let is_torn = self.frames.is_torn();
        // A last event whose blank line is missing is still an event; the reader has completed it. One that was cut
        // before its data is none, and its name alone must not look like an end.
        if let Some(frame) = self.frames.take_rest().filter(|frame| frame.data().is_some()) {
            let seen = self.watch.see(&frame);
            self.relay(frame, &seen);
        }
        if self.state != State::Relaying {
            self.state = State::Ended;
            return;
        }
        if is_torn {
            // Even if its answer was said to be finished: something was to follow.
            return self.fail(Outcome::Cut, ENDED_EARLY);
        }
        let closed = self.watch.close();
        if let Some(written) = self.watch.written() {
            self.out.put(self.permit.key().conceal(written));
        }
        match closed {
            Closed::Complete | Closed::Unmarked => {
                // The client's format wants the mark.
                if closed == Closed::Unmarked {
                    self.out.put(Bytes::from_static(DONE));
                }
                self.complete();
                self.state = State::Ended;
            }
            Closed::Told => self.end(Outcome::Cut),
            Closed::Cut => self.fail(Outcome::Cut, ENDED_EARLY),
        }
    }

    /// Everything has been passed on.
    fn complete(&mut self) {
        self.settle(Outcome::Ok);
        self.state = State::Lingering { until: self.clock.now() + LINGER };
        self.deadlines.timer = None;
    }

    /// Ends the stream with an error event of ours.
    fn fail(&mut self, outcome: Outcome, message: &str) {
        self.out.put(lane::error_event(self.client, outcome, message));
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.permit.report(Health::Failure, self.clock.now());
        self.settle(outcome);
        self.state = State::Ended;
    }

    /// Settles, once. The last bytes count as sent: they are in the output already.
    fn settle(&mut self, outcome: Outcome) {
        let Some(mut charge) = self.charge.take() else { return };
        charge.sent(self.out.len());
        self.observed(&mut charge);
        charge.settle(outcome);
    }

    /// Writes what the observer has seen into the charge.
    fn observed(&mut self, charge: &mut Charge) {
        charge.heard(self.watch.take_stated(), Some(self.watch.take_said()));
        if let Some(reason) = self.watch.finish_reason() {
            charge.finish_reason(reason);
        }
    }

    fn flush(&mut self) -> Bytes {
        self.begun = true;
        let bytes = self.out.take();
        self.deadlines.last_sent = self.deadlines.last_sent.max(self.deadlines.last_event);
        if let Some(charge) = &mut self.charge {
            charge.sent(bytes.len());
        }
        bytes
    }

    /// The provider is silent: looks at the deadlines. `Ready` when something has changed.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state == State::Relaying && self.cut.as_mut().poll(cx).is_ready() {
            self.fail(Outcome::RefusedByGateway, SHUTTING_DOWN);
            return Poll::Ready(());
        }
        loop {
            let now = self.clock.now();
            let due = match self.state {
                State::Lingering { until } => until,
                State::Relaying | State::Ended => self.deadlines.next_due(now),
            };
            let timer = self.deadlines.timer.get_or_insert_with(|| self.clock.sleep_until(due));
            std::task::ready!(Pin::new(&mut *timer).poll(cx));
            // It was armed for a moment that may have moved on since.
            let now = self.clock.now();
            if now < due {
                timer.reset(due);
                continue;
            }
            self.deadlines.timer = None;
            self.due(now);
            return Poll::Ready(());
        }
    }

    fn due(&mut self, now: Instant) {
        if matches!(self.state, State::Lingering { .. }) {
            self.state = State::Ended;
        } else if now >= self.deadlines.total {
            self.fail(Outcome::TimeoutTotal, TOTAL_PASSED);
        } else if now >= self.deadlines.silent_until() {
            self.fail(
                Outcome::TimeoutBetweenChunks,
                "The provider fell silent for longer than its `between_chunks` deadline.",
            );
        } else if now >= self.deadlines.last_sent + self.deadlines.keepalive {
            self.out.put(lane::keepalive(self.client));
            self.deadlines.last_sent = now;
        }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        // Dropped unsettled: the client went away. The charge settles as abandoned, with what was seen so far.
        if let Some(mut charge) = self.charge.take() {
            self.observed(&mut charge);
            drop(charge);
        }
    }
}

impl StreamDeadlines {
    /// When the provider will have been silent for too long.
    fn silent_until(&self) -> Instant {
        self.waiting_since.unwrap_or(self.last_event) + self.between_chunks
    }

    /// The next moment at which anything could be due. Marks the provider as waited for.
    fn next_due(&mut self, now: Instant) -> Instant {
        self.waiting_since.get_or_insert(now);
        self.silent_until().min(self.total).min(self.last_sent + self.keepalive)
    }
}

impl Out {
    fn put(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = bytes;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.first.len() + bytes.len());
            self.joined.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.joined.extend_from_slice(&bytes);
    }

    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&mut self) -> Bytes {
        if self.joined.is_empty() { std::mem::take(&mut self.first) } else { std::mem::take(&mut self.joined).freeze() }
    }
}
