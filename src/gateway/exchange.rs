//! One try at one target with one key: encode, sign, send, judge the status, and hold the answer back until there is
//! real output in it. Only then is there something to commit; until then a failure costs the client nothing.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};

use super::{
    Call, Gateway, Outlet, aside,
    failure::{Failure, Next, ProviderAnswer},
    headers,
    lane::{self, Lane, Prepared, Translated, Unusable, Watch, Whole},
};
use crate::{
    providers::{Deadlines, ProviderKey},
    routing::{Candidate, Permit, Reason},
    telemetry::Outcome,
    upstream::{Gathered, OutBody, UpstreamBody},
    wire::{
        Pieces, anthropic,
        conversation::{Format, Losses, Undo, schema},
        openai_chat::{self, ProviderError, Reply, Seen},
        sse::{Frame, FrameReader},
        tap::Tap,
    },
};

/// A whole answer up to this size is checked before it is committed; a larger one is committed unread and watched as
/// it passes. Only embeddings and base64 media grow so large.
const HOLD_WHOLE: usize = 8 * 1024 * 1024;

/// Preamble held back at most while waiting for the first real output of a stream.
const HOLD_PREAMBLE: usize = 256 * 1024;

/// The largest single event of a stream.
pub(super) const MAX_FRAME: usize = 32 * 1024 * 1024;

/// The largest error body that is read.
const MAX_ERROR: usize = 1024 * 1024;

/// An answer worth committing.
#[derive(Debug)]
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub content: Content,
    pub lane: Lane,
    /// What could not be said in the other side's format, as far as it is known.
    pub losses: Losses,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Read to its end and understood.
    Whole { body: Bytes, reply: Reply },
    /// Too large to hold: the pieces so far, and the rest as it comes.
    Large { held: Vec<Bytes>, rest: UpstreamBody, tap: Tap },
    /// A stream with real output in hand: the frames so far, and the rest as it comes.
    Stream(Box<LiveStream>),
}

impl Answer {
    /// With what of the request could not be said.
    fn with(mut self, request: Losses) -> Self {
        let reply = std::mem::replace(&mut self.losses, request);
        self.losses.extend(reply);
        self
    }
}

/// A stream that has begun.
#[derive(Debug)]
pub(super) struct LiveStream {
    /// Frames already observed and not yet forwarded.
    pub held: Vec<Frame>,
    pub frames: FrameReader,
    pub watch: Watch,
    pub rest: UpstreamBody,
}

/// Deadlines of one attempt, as moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    pub first_output: Instant,
    pub total: Instant,
}

/// Sends the call to `candidate` with the key of `permit`, over a connection of its own if it shall be `anew`.
///
/// # Errors
/// [`Failure`]: nothing of this attempt may reach the client but what the failure itself carries.
pub(super) async fn exchange(
    gateway: &Arc<Gateway>,
    call: &Arc<Call>,
    candidate: &Candidate,
    permit: &Permit,
    until: Until,
    anew: bool,
) -> Result<Answer, Failure> {
    let provider = &candidate.target.provider;
    let outlet = call.snapshot.outlet(&candidate.target);
    let lane = Lane::of(call.operation, provider)
        .ok_or_else(|| Failure::malformed(&provider.name, "a call it has no endpoint for"))?;
    let (prepared, until) = match prepare(gateway, call, candidate, lane).await? {
        Translated::Request(prepared) => (prepared, until),
        // Boxed: most calls have no use for it.
        lacking => Box::pin(complete(gateway, call, candidate, lane, lacking, until)).await?,
    };
    let Prepared { body, losses, undo, tries_schema, beta } = *prepared;
    let mut request = request(call, candidate, permit, outlet, lane, body);
    if let Some(beta) = beta {
        request.headers_mut().append(headers::ANTHROPIC_BETA, beta);
    }
    let wait = Wait {
        gateway,
        lane,
        undo,
        tries_schema,
        candidate,
        provider: &provider.name,
        key: permit.key(),
        deadlines: candidate.target.deadlines,
        until,
        stream: call.stream,
    };
    // Boxed: held by value, it would be in each of the futures around it, for as long as the provider thinks.
    let sent = match anew {
        false => wait.head(Box::pin(outlet.pool.send(request))).await?,
        true => wait.head(Box::pin(outlet.pool.send_anew(request))).await?,
    };
    let response = sent.map_err(|error| Failure::send(&provider.name, &error))?;
    let (mut parts, body) = response.into_parts();
    let body =
        body.decode(&mut parts.headers).map_err(|error| Failure::malformed(&provider.name, &error.to_string()))?;
    let response = Response::from_parts(parts, body);
    if response.status() != StatusCode::OK {
        return Err(wait.refusal(call, response).await);
    }
    let answer = match (call.stream, Declared::of(response.headers())) {
        (true, Declared::Events) => wait.stream(call, response, None).await,
        (true, Declared::Nothing) => wait.undeclared(call, response).await,
        (true, Declared::Document) => Err(wait.not_a_stream(call, response, Gathered::default()).await),
        (false, Declared::Events) => Err(Failure::malformed(&provider.name, "an event stream nobody asked for")),
        (false, _) => wait.whole(call, response, Gathered::default()).await,
    };
    answer.map(|answer| answer.with(losses))
}

async fn prepare(
    gateway: &Arc<Gateway>,
    call: &Arc<Call>,
    candidate: &Candidate,
    lane: Lane,
) -> Result<Translated, Failure> {
    let size = call.envelope.bytes().len();
    if size <= aside::SMALL {
        return lane::prepared(gateway, call, candidate, lane);
    }
    let (gateway_, call, candidate) = (gateway.clone(), call.clone(), candidate.clone());
    gateway.aside.work(size, move || lane::prepared(&gateway_, &call, &candidate, lane)).await
}

/// Gets what a translation lacks first. The provider's time to answer begins thereafter.
async fn complete(
    gateway: &Arc<Gateway>,
    call: &Arc<Call>,
    candidate: &Candidate,
    lane: Lane,
    mut lacking: Translated,
    until: Until,
) -> Result<(Box<Prepared>, Until), Failure> {
    /// Thinking, then files: what has been asked for once is there, or is done without.
    const ROUNDS: usize = 2;
    let began = gateway.clock.now();
    for _ in 0..ROUNDS {
        match lacking {
            Translated::Wanting(files) => call.files.fetch(&call.snapshot.fetcher, files, until.total).await,
            Translated::Forgotten(calls) => {
                let owner = gateway.memory.owner(&call.principal.id, &call.headers);
                gateway.memory.ask(&owner, &calls, began).await;
            }
            Translated::Request(_) => {}
        }
        lacking = prepare(gateway, call, candidate, lane).await?;
        if let Translated::Request(prepared) = lacking {
            let first_output = until.first_output + (gateway.clock.now() - began);
            return Ok((prepared, Until { first_output, ..until }));
        }
    }
    Err(Failure::malformed(&candidate.target.provider.name, "files that were not fetched"))
}

fn request(
    call: &Call,
    candidate: &Candidate,
    permit: &Permit,
    outlet: &Outlet,
    lane: Lane,
    body: Pieces,
) -> Request<OutBody> {
    let mut request = Request::new(OutBody::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = outlet.uris[lane.endpoint as usize].clone();
    *request.headers_mut() = headers::for_upstream(call, candidate, permit.key(), lane);
    request
}

/// What an attempt waits with: every wait has a deadline, and every deadline a name.
struct Wait<'a> {
    gateway: &'a Arc<Gateway>,
    lane: Lane,
    /// What was done to the request that its answer must not show.
    undo: Undo,
    /// Whether it may refuse the schema that the answer is held to.
    tries_schema: bool,
    candidate: &'a Candidate,
    provider: &'a str,
    key: &'a ProviderKey,
    deadlines: Deadlines,
    until: Until,
    stream: bool,
}

impl Wait<'_> {
    /// Waits for the response head. A whole answer may take all the time there is before it says anything.
    async fn head<F: Future>(&self, head: F) -> Result<F::Output, Failure> {
        let (deadline, outcome) = self.before_output();
        self.gateway.clock.timeout_at(deadline, head).await.map_err(|_| self.timed_out(outcome))
    }

    /// The next piece of a body, not later than `deadline`.
    async fn piece(
        &self,
        body: &mut UpstreamBody,
        deadline: Instant,
        outcome: Outcome,
    ) -> Result<Option<Bytes>, Failure> {
        let next = self.gateway.clock.timeout_at(deadline, body.next()).await;
        let piece = next.map_err(|_| self.timed_out(outcome))?;
        piece.transpose().map_err(|error| Failure::cut(self.provider, error.to_string()))
    }

    fn before_output(&self) -> (Instant, Outcome) {
        if self.stream && self.until.first_output < self.until.total {
            (self.until.first_output, Outcome::TimeoutFirstOutput)
        } else {
            (self.until.total, Outcome::TimeoutTotal)
        }
    }

    /// Between two pieces of a whole answer.
    fn between_pieces(&self) -> (Instant, Outcome) {
        let next = self.gateway.clock.now() + self.deadlines.between_chunks;
        if next < self.until.total {
            (next, Outcome::TimeoutBetweenChunks)
        } else {
            (self.until.total, Outcome::TimeoutTotal)
        }
    }

    fn timed_out(&self, outcome: Outcome) -> Failure {
        let limit = match outcome {
            Outcome::TimeoutFirstOutput => self.deadlines.first_output,
            Outcome::TimeoutBetweenChunks => self.deadlines.between_chunks,
            _ => self.deadlines.total,
        };
        Failure::timeout(self.provider, outcome, limit)
    }

    /// Some servers stream without saying so. Their first bytes say whether it is a stream or a document all the same.
    async fn undeclared(&self, call: &Arc<Call>, response: Response<UpstreamBody>) -> Result<Answer, Failure> {
        let (parts, mut body) = response.into_parts();
        let (deadline, outcome) = self.before_output();
        let first = self.piece(&mut body, deadline, outcome).await?;
        let response = Response::from_parts(parts, body);
        match first {
            Some(first) if begins_document(&first) => {
                let mut held = Gathered::default();
                held.push(first);
                Err(self.not_a_stream(call, response, held).await)
            }
            first => self.stream(call, response, first).await,
        }
    }

    /// Holds a stream back until its first real output. `first` is what has been read of it.
    async fn stream(
        &self,
        call: &Arc<Call>,
        response: Response<UpstreamBody>,
        first: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let (parts, rest) = response.into_parts();
        let mut watch = Watch::new(self.gateway, call, self.lane, &self.undo);
        match self.hold_back(&mut watch, rest, first).await {
            Ok((held, frames, rest)) => {
                let losses = watch.losses();
                let live = LiveStream { held, frames, watch, rest };
                Ok(self.answer(parts.headers, Content::Stream(Box::new(live)), losses))
            }
            Err(failure) => Err(failure.after(watch.take_stated(), None)),
        }
    }

    /// Reads up to the first real output: the frames so far, their reader, and the rest.
    async fn hold_back(
        &self,
        watch: &mut Watch,
        mut rest: UpstreamBody,
        first: Option<Bytes>,
    ) -> Result<(Vec<Frame>, FrameReader, UpstreamBody), Failure> {
        let mut frames = FrameReader::new(MAX_FRAME);
        first.into_iter().for_each(|first| frames.push(first));
        let mut held = Vec::with_capacity(2);
        let mut held_bytes = 0;
        let (deadline, outcome) = self.before_output();
        loop {
            while let Some(frame) = frames.next().map_err(|_| self.frame_too_long())? {
                match watch.see(&frame) {
                    Seen::Done => return Err(Failure::empty(self.provider)),
                    Seen::Error(said) => return Err(self.said_in_band(said)),
                    Seen::Malformed(what) => return Err(Failure::malformed(self.provider, what)),
                    Seen::Output => {
                        held.push(frame);
                        return Ok((held, frames, rest));
                    }
                    Seen::Silent | Seen::Preamble | Seen::UsageOnly => {
                        // Comments of a few bytes are counted with what it costs to hold them.
                        held_bytes += frame.bytes().len() + size_of::<Frame>();
                        held.push(frame);
                    }
                }
            }
            if held_bytes > HOLD_PREAMBLE {
                return Err(Failure::malformed(self.provider, "a stream of preambles without output"));
            }
            match self.piece(&mut rest, deadline, outcome).await? {
                Some(piece) => frames.push(piece),
                None if held.is_empty() && frames.is_empty() => return Err(Failure::empty(self.provider)),
                None if watch.finished() => return Err(Failure::empty(self.provider)),
                None => return Err(Failure::cut(self.provider, "the stream ended before its first output".into())),
            }
        }
    }

    /// Reads a whole answer and checks that it is one. `held` is what has been read of it.
    async fn whole(
        &self,
        call: &Arc<Call>,
        response: Response<UpstreamBody>,
        mut held: Gathered,
    ) -> Result<Answer, Failure> {
        let (parts, mut body) = response.into_parts();
        loop {
            let (deadline, outcome) = self.between_pieces();
            let Some(piece) = self.piece(&mut body, deadline, outcome).await? else { break };
            held.push(piece);
            if held.len() > HOLD_WHOLE && self.lane.upstream == Format::Anthropic {
                return Err(Failure::malformed(self.provider, "a message larger than 8 MiB"));
            }
            if held.len() > HOLD_WHOLE && !self.lane.is_pass() {
                return Err(Failure::malformed(self.provider, "an answer too large to be translated"));
            }
            if held.len() > HOLD_WHOLE {
                let held = held.into_pieces();
                let mut tap = Tap::new(&["usage", "id", "service_tier"], 64 * 1024);
                held.iter().for_each(|piece| tap.feed(piece));
                return Ok(self.answer(parts.headers, Content::Large { held, rest: body, tap }, Losses::default()));
            }
        }
        let body = held.join();
        let whole = self.read(call, body).await;
        let Whole { body, reply, losses } = whole.map_err(|bad| self.unusable(bad))?;
        if !reply.has_output {
            return Err(Failure::empty(self.provider).after(reply.stated, reply.said));
        }
        Ok(self.answer(parts.headers, Content::Whole { body, reply }, losses))
    }

    async fn read(&self, call: &Arc<Call>, body: Bytes) -> Result<Whole, Unusable> {
        if body.len() <= aside::SMALL {
            return lane::read(self.gateway, call, self.lane, &self.undo, body);
        }
        let (gateway, call, lane, undo) = (self.gateway.clone(), call.clone(), self.lane, self.undo.clone());
        self.gateway.aside.work(body.len(), move || lane::read(&gateway, &call, lane, &undo, body)).await
    }

    /// A 200 that is not a stream although one was asked for: an error in disguise, or a provider that cannot stream.
    async fn not_a_stream(&self, call: &Arc<Call>, response: Response<UpstreamBody>, held: Gathered) -> Failure {
        match self.whole(call, response, held).await {
            Err(failure) => failure,
            Ok(_) => Failure::malformed(self.provider, "a whole answer where a stream was asked for"),
        }
    }

    fn answer(&self, headers: HeaderMap, content: Content, losses: Losses) -> Answer {
        Answer { headers, content, lane: self.lane, losses }
    }

    fn unusable(&self, bad: Unusable) -> Failure {
        match bad {
            Unusable::Empty => Failure::empty(self.provider),
            Unusable::Error(said) => self.said_in_band(*said),
            Unusable::Malformed(what) => Failure::malformed(self.provider, &what),
        }
    }

    /// An error inside a 200: its status is lost, so its class decides.
    fn said_in_band(&self, mut said: ProviderError) -> Failure {
        said.message = String::from_utf8_lossy(&self.key.conceal(said.message.into())).into_owned();
        let mut failure = Failure::refused(self.provider, &said, None, None);
        if let Some(status) = lane::status_in_band(self.lane.client, said.class) {
            failure.error.status = status;
        }
        failure
    }

    /// An answer with another status than 200.
    async fn refusal(&self, call: &Call, response: Response<UpstreamBody>) -> Failure {
        let (mut parts, mut body) = response.into_parts();
        let mut held = Gathered::default();
        // An error body that breaks off or takes too long says less, but the status has been said.
        while held.len() < MAX_ERROR {
            let (deadline, outcome) = self.between_pieces();
            let Ok(Some(piece)) = self.piece(&mut body, deadline, outcome).await else { break };
            held.push(piece);
        }
        let raw = self.key.conceal(held.join());
        let status = parts.status.as_u16();
        let now = self.gateway.clock.unix_millis();
        // Who is limited and not told for how long may be told when the limit ends.
        let resets = || headers::limit_resets(&parts.headers, now).filter(|_| status == 429);
        let retry_after = headers::retry_after(&parts.headers, now).or_else(resets);
        if !(400..600).contains(&status) {
            return Failure::malformed(self.provider, &format!("status {status}, which an API does not answer with"));
        }
        let said = match self.lane.upstream {
            Format::OpenAiChat => openai_chat::classify(status, &raw),
            Format::Anthropic => anthropic::error::classify(status, &raw),
        };
        let (shown, body) = lane::refusal(self.lane, parts.status, &said, raw, &call.id.to_string());
        headers::for_client(&mut parts.headers);
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = Box::new(ProviderAnswer { status: shown, said: parts.status, headers: parts.headers, body });
        let failure = Failure::refused(self.provider, &said, retry_after, Some(answer));
        let now = self.gateway.clock.now();
        let refused = self.tries_schema && matches!(status, 400 | 422) && schema::is_refused(&said);
        match refused && self.gateway.schemas.note(self.candidate.name(), now) {
            true => Failure { next: Next::Reworded(Reason::Default), ..failure },
            false => failure,
        }
    }

    fn frame_too_long(&self) -> Failure {
        Failure::malformed(self.provider, "an event larger than 32 MiB")
    }
}

/// What a provider says that its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Events,
    /// Nothing, or what servers say that have not been told what to say.
    Nothing,
    /// JSON, a web page, or anything else that is no stream.
    Document,
}

impl Declared {
    fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |name: &str| kind.eq_ignore_ascii_case(name.as_bytes());
        if is("text/event-stream") {
            Self::Events
        } else if is("") || is("text/plain") || is("application/octet-stream") {
            Self::Nothing
        } else {
            Self::Document
        }
    }
}

/// Whether JSON or a web page begins here: no line of an event stream that says anything begins so.
fn begins_document(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[' | b'<'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_told_from_a_document_by_its_type_or_by_its_first_byte() {
        let cases = [
            (Some("text/event-stream"), Declared::Events),
            (Some("Text/Event-Stream ; charset=utf-8"), Declared::Events),
            (Some("text/event-streams"), Declared::Document),
            (Some("text/plain; charset=utf-8"), Declared::Nothing),
            (Some("application/octet-stream"), Declared::Nothing),
            (Some(""), Declared::Nothing),
            (None, Declared::Nothing),
            (Some("application/json"), Declared::Document),
            (Some("text/html"), Declared::Document),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.extend(value.map(|value| (header::CONTENT_TYPE, HeaderValue::from_static(value))));
            assert_eq!(Declared::of(&headers), expected, "{value:?}");
        }
        for (text, document) in [
            ("data: {}", false),
            (": hi", false),
            ("\u{feff}data: 1", false),
            ("", false),
            (" \n{\"a\":1}", true),
            ("<html>", true),
        ] {
            assert_eq!(begins_document(text.as_bytes()), document, "{text:?}");
        }
    }
}
