//! The life of one client connection: handshake, protocol, calls, time-outs, end.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulConnection};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tower::{Service, ServiceExt};

use super::{
    forwarded,
    io::{Activity, InFlight, Io, Stream},
    respond,
    revoke::Answers,
    serve::Listener,
    shutdown::Phase,
};
use crate::{
    gateway::names,
    types::{Clock, RequestId, Sleep, Tasks},
};

/// What every HTTP/2 connection begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection that was accepted but has asked for nothing yet may still do so when the gateway drains.
const LAST_CALL: Duration = Duration::from_millis(500);

/// How often a client is asked whether it is still there while nothing else would tell.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Where a request came from: the other end of its connection, or whom a trusted proxy there names. A request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

/// Serves `socket` until either side is done with it.
pub(super) async fn run<S>(listener: Arc<Listener<S>>, socket: TcpStream, peer: SocketAddr)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    // The opening is boxed: its memory is given back before the first request is served.
    let Some((stream, protocol, taken)) = Box::pin(open(&listener, socket)).await else { return };
    let activity = Arc::<Activity>::default();
    let write_timeout = listener.settings.write_timeout.0;
    let io = Io::new(stream, taken, activity.clone(), listener.clock.clone(), write_timeout);
    let (service, calls) = (listener.clone(), activity.clone());
    // Boxed below: a connection that streams should hold its answer's body and not also the future that made it.
    let answer = move |request| answer(service.clone(), request, peer, calls.begin());
    match protocol {
        Protocol::Http1 => {
            let service = service_fn(move |request| Box::pin(answer(request)));
            let connection = listener.http1.serve_connection(TokioIo::new(io), service);
            Watch { listener: &listener, activity, answers: None }.drive(Box::pin(connection)).await;
        }
        Protocol::Http2 => {
            let answers = Arc::new(Answers::new());
            let watch = Watch { listener: &listener, activity, answers: Some(answers.clone()) };
            let service = service_fn(move |request| {
                let (response, answers) = (answer(request), answers.clone());
                Box::pin(async move { Ok::<_, Infallible>(response.await?.map(|body| answers.track(body))) })
            });
            let connection = listener.http2.serve_connection(TokioIo::new(io), service);
            Box::pin(watch.drive(Box::pin(connection))).await;
        }
    }
}

/// Handshake and choice of protocol, within the time a client has for its request head.
async fn open<S>(listener: &Listener<S>, socket: TcpStream) -> Option<(Stream, Protocol, Bytes)> {
    let clock = &listener.clock;
    let opening = async {
        let Some(tls) = &listener.tls else { return sniff(socket).await };
        let stream = tls.acceptor(clock.now()).accept(socket).await.ok()?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Some((Stream::Tls(Box::new(stream)), protocol, Bytes::new()))
    };
    let draining = async {
        listener.shutdown.reached(Phase::Draining).await;
        clock.sleep(LAST_CALL).await;
    };
    tokio::select! {
        opened = clock.timeout_at(clock.now() + listener.settings.read_timeout.0, opening) => opened.ok().flatten(),
        () = draining => None,
    }
}

/// Reads just enough to tell HTTP/2 with prior knowledge from HTTP/1: up to the first byte that is not the preface's.
async fn sniff(mut socket: TcpStream) -> Option<(Stream, Protocol, Bytes)> {
    let mut taken = BytesMut::with_capacity(HTTP2_PREFACE.len());
    let protocol = loop {
        let mut rest = (&mut socket).take((HTTP2_PREFACE.len() - taken.len()) as u64);
        if rest.read_buf(&mut taken).await.ok()? == 0 {
            return None;
        }
        if !HTTP2_PREFACE.starts_with(&taken) {
            break Protocol::Http1;
        }
        if taken.len() == HTTP2_PREFACE.len() {
            break Protocol::Http2;
        }
    };
    Some((Stream::Plain(socket), protocol, taken.freeze()))
}

/// One request: checked, passed on, and counted until its answer has left.
async fn answer<S>(
    listener: Arc<Listener<S>>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    in_flight: InFlight,
) -> Result<Response<Answer>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let limit = listener.settings.max_headers.bytes();
    let response = if head_size(&request) > limit {
        let mut response = head_too_large(limit);
        respond::stamp(&mut response, RequestId::new(listener.clock.unix_millis()));
        response
    } else {
        let client = forwarded::client(peer.ip(), request.headers(), &listener.settings.trusted_proxies);
        request.extensions_mut().insert(ClientAddr(client));
        listener.service.clone().oneshot(request).await?
    };
    Ok(response.map(|body| Answer { body, _in_flight: in_flight }))
}

/// A request head as HTTP/1 would write it, roughly: what [`super::settings::Settings::max_headers`] limits.
fn head_size<B>(request: &Request<B>) -> usize {
    let line = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    request.headers().iter().fold(line, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}

fn head_too_large(limit: usize) -> Response<Body> {
    let body = format!(
        r#"{{"error":{{"message":"The request's headers together are larger than the {limit} bytes that server.max_headers allows.","type":"invalid_request_error","param":null,"code":"headers_too_large"}}}}"#
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(names::SHOULD_RETRY, HeaderValue::from_static("false"));
    response
}

/// Keeps the time of a connection while it is driven.
struct Watch<'a, S> {
    listener: &'a Listener<S>,
    activity: Arc<Activity>,
    /// The answers of an HTTP/2 connection; `None` on HTTP/1.
    answers: Option<Arc<Answers<Answer>>>,
}

/// What was seen when the time was last looked at.
#[derive(Clone, Copy, Default)]
struct Look {
    begun: u64,
    busy: bool,
    head_begun: bool,
    idle: Duration,
}

impl<S> Watch<'_, S> {
    /// Polls the connection to its end, and looks at it every `read_timeout`. A call so costs no timer at all; the
    /// price is that time-outs come up to one `read_timeout` late. The connection is boxed, because a future holds what it
    /// is given twice.
    async fn drive<C: GracefulConnection>(self, mut connection: Pin<Box<C>>) {
        let clock = &self.listener.clock;
        let every = self.listener.settings.read_timeout.0;
        let mut phase = self.listener.shutdown.subscribe();
        let mut last = Look::default();
        let mut alarm = clock.sleep(every);
        let mut ask: Option<Sleep> = None;
        phase.mark_changed();
        loop {
            let asking = ask.is_some() || self.answers.is_some();
            let ended = std::future::poll_fn(|cx| match connection.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(true),
                Poll::Pending if !asking && self.activity.unwatched() => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            });
            tokio::select! {
                biased;
                ended = ended => match ended {
                    true => return,
                    false => ask = Some(clock.sleep(ASK_EVERY)),
                },
                () = due(&mut ask), if ask.is_some() => {
                    ask = None;
                    self.activity.ask_for_hang_up();
                }
                _ = phase.changed() => match *phase.borrow_and_update() {
                    Phase::Running | Phase::PreStop => {}
                    Phase::Draining | Phase::Cut => connection.as_mut().graceful_shutdown(),
                    Phase::Closed => return,
                },
                () = &mut alarm => {
                    match self.look(&mut last, every) {
                        Verdict::GoOn => {}
                        Verdict::Idle => connection.as_mut().graceful_shutdown(),
                        Verdict::Stuck => return,
                    }
                    alarm.reset(clock.now() + every);
                }
            }
        }
    }

    /// Compares with the last look, `passed` ago.
    fn look(&self, last: &mut Look, passed: Duration) -> Verdict {
        if let Some(answers) = &self.answers {
            let looks = self.listener.settings.write_timeout.0.as_nanos().div_ceil(passed.as_nanos().max(1));
            answers.look(u64::try_from(looks).unwrap_or(u64::MAX));
        }
        let activity = &self.activity;
        let (begun, busy) = (activity.begun(), activity.busy());
        let head_begun = self.answers.is_none() && !busy && activity.head_begun();
        let quiet = begun == last.begun && !busy && !last.busy;
        let idle = if quiet { last.idle + passed } else { Duration::ZERO };
        // A connection's first head began before the first look.
        let stuck = quiet && head_begun && (last.head_begun || begun == 0);
        *last = Look { begun, busy, head_begun, idle };
        match () {
            () if stuck => Verdict::Stuck,
            () if idle >= self.listener.settings.idle_timeout.0 => Verdict::Idle,
            () => Verdict::GoOn,
        }
    }
}

/// Ends when the sleep does, if there is one.
async fn due(sleep: &mut Option<Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

enum Verdict {
    GoOn,
    /// Kept alive long enough without a request.
    Idle,
    /// A request head that does not end.
    Stuck,
}

/// The body of an answer, which counts its call as in flight until it is gone.
struct Answer {
    body: Body,
    _in_flight: InFlight,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// hyper's timer, told by our clock. It serves HTTP/2 pings.
#[derive(Clone, Debug)]
pub(super) struct Timer(pub(super) Clock);

/// A sleep of [`Timer`].
struct Slept(Sleep);

impl hyper::rt::Timer for Timer {
    fn sleep(&self, period: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Slept(self.0.sleep(period)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Slept(self.0.sleep_until(deadline)))
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}

impl Future for Slept {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl hyper::rt::Sleep for Slept {}

/// hyper's way to run the calls of an HTTP/2 connection side by side.
#[derive(Clone, Debug)]
pub(super) struct Spawner(pub(super) Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}
