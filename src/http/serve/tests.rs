//! Real sockets, and a clock that is held where time matters.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::Poll,
};

use axum::{
    Router,
    extract::Extension,
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::*;
use crate::{
    http::{ClientAddr, settings::Drain},
    types::{Period, Size},
};

const MOMENT: Duration = Duration::from_millis(100);

/// A listener that runs, and what can be seen of it.
struct Gate {
    address: SocketAddr,
    clock: Clock,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    tasks: Tasks,
    returned: Flag,
}

/// Something that happened.
#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

/// Raises its flag when dropped.
struct OnDrop(Flag);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl Flag {
    fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Gate {
    async fn start(clock: Clock, settings: Settings, tls: Option<Tls>, service: Router) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (metrics, shutdown, tasks) = (Arc::<Metrics>::default(), Shutdown::new(), Tasks::new());
        let server = Server {
            settings,
            tls,
            clock: clock.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        };
        let returned = Flag::default();
        let done = returned.clone();
        tasks.spawn(async move {
            server.serve(socket, service).await;
            done.raise();
        });
        Self { address, clock, metrics, shutdown, tasks, returned }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Begins to drain, in the background.
    fn stop(&self, pre_stop: u64, grace: u64) {
        let (shutdown, clock) = (self.shutdown.clone(), self.clock.clone());
        let drain = Drain { pre_stop: Period::from_secs(pre_stop), grace: Period::from_secs(grace) };
        self.tasks.spawn(async move { shutdown.stop(&clock, &drain).await });
    }

    /// Moves the held clock on, a bit at a time, until `happened`; whoever sleeps may only be about to.
    async fn advance_until(&self, step: Duration, happened: impl Fn() -> bool) {
        until(|| {
            happened() || {
                self.clock.advance(step);
                false
            }
        })
        .await;
    }
}

/// Waits for something that must happen soon.
async fn until(mut happened: impl FnMut() -> bool) {
    let deadline = Clock::Real.now() + Duration::from_secs(10);
    while !happened() {
        assert!(Clock::Real.now() < deadline, "it never happened");
        Clock::Real.sleep(Duration::from_millis(2)).await;
    }
}

async fn send(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: gate\r\n\r\n").as_bytes()).await.unwrap();
}

/// Reads until the text has come; panics when the connection ends before.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains(text) {
        let read = stream.read_buf(&mut got).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&got));
    }
    String::from_utf8(got).unwrap()
}

/// Everything up to the end of the connection; a reset counts as one.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while stream.read_buf(&mut got).await.is_ok_and(|read| read > 0) {}
    String::from_utf8_lossy(&got).into_owned()
}

async fn get_once(stream: &mut TcpStream, path: &str, last: &str) -> String {
    send(stream, path).await;
    read_until(stream, last).await
}

fn hello() -> Router {
    Router::new().route(
        "/",
        get(|Extension(ClientAddr(client)): Extension<ClientAddr>| async move { format!("hello {client}!") }),
    )
}

/// Streams what is sent into the channel; the flag goes up when the body is dropped.
fn streaming() -> (Router, mpsc::Sender<Bytes>, Flag) {
    let (pieces, source) = mpsc::channel(8);
    let source = Arc::new(std::sync::Mutex::new(Some(source)));
    let dropped = Flag::default();
    let flag = dropped.clone();
    let handler = move || async move {
        let mut source = source.lock().unwrap().take().unwrap();
        let guard = OnDrop(flag);
        let pieces = stream::poll_fn(move |cx| {
            let _held = &guard;
            source.poll_recv(cx).map(|piece| piece.map(Ok::<_, Infallible>))
        });
        Body::from_stream(pieces)
    };
    (hello().route("/stream", get(handler)), pieces, dropped)
}

/// Never answers; the flags tell when it was called and when it was given up.
fn hanging() -> (Router, Flag, Flag) {
    let (called, dropped) = (Flag::default(), Flag::default());
    let (on_call, on_drop) = (called.clone(), dropped.clone());
    let handler = move || async move {
        let _guard = OnDrop(on_drop);
        on_call.raise();
        std::future::pending::<()>().await;
    };
    (hello().route("/hang", get(handler.clone()).post(handler)), called, dropped)
}

fn settings() -> Settings {
    Settings { max_headers: Size::kib(8), ..Settings::default() }
}

#[tokio::test]
async fn accepted_sockets_send_at_once_and_notice_dead_clients() {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slots = Arc::new(Semaphore::new(1));
    let settings = settings();
    let listener = Listener {
        http1: http1(&settings),
        http2: http2(&settings, &Clock::Real, &Tasks::new()),
        settings,
        tls: None,
        clock: Clock::Real,
        shutdown: Shutdown::new(),
        service: (),
    };
    let _client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
    let (stream, _, _) = accept(&socket, &slots, &listener).await;
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(&stream).keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(listener.settings.write_timeout.0));
}

#[tokio::test]
async fn requests_of_one_connection_know_their_client() {
    let gate = Gate::start(Clock::Real, settings(), None, hello()).await;
    let mut client = gate.connect().await;
    for _ in 0..2 {
        let answer = get_once(&mut client, "/", "!").await;
        assert!(answer.ends_with("hello 127.0.0.1!"), "{answer}");
    }
    assert_eq!(gate.metrics.connections_open.get(), 1);
    drop(client);
    until(|| gate.metrics.connections_open.get() == 0).await;
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let gate = Gate::start(Clock::Real, settings(), None, hello()).await;
    // `PRI` is how HTTP/2 begins too.
    for (method, status) in [("GET", "200"), ("PRI", "405")] {
        let mut client = gate.connect().await;
        client.set_nodelay(true).unwrap();
        for byte in format!("{method} / HTTP/1.1\r\nconnection: close\r\n\r\n").bytes() {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = read_to_end(&mut client).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge_and_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (files, der) = crate::http::tls::tests::write_pair(folder.path());
    let plain = Gate::start(Clock::Real, settings(), None, hello()).await;
    let tls = Gate::start(Clock::Real, settings(), Some(Tls::load(&files).unwrap()), hello()).await;
    let client = || {
        reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_der(&der).unwrap()])
            .resolve("localhost", tls.address)
    };
    let secure = format!("https://localhost:{}/", tls.address.port());
    let clear = format!("http://{}/", plain.address);
    let cases = [
        (client().http2_prior_knowledge(), &clear, http::Version::HTTP_2),
        (client(), &clear, http::Version::HTTP_11),
        (client(), &secure, http::Version::HTTP_2),
        (client().http1_only(), &secure, http::Version::HTTP_11),
    ];
    for (client, url, version) in cases {
        let answer = client.build().unwrap().get(url).send().await.unwrap();
        assert_eq!(answer.version(), version, "{url}");
        assert!(answer.text().await.unwrap().starts_with("hello 127.0.0.1!"));
    }
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused_with_a_reason() {
    let gate = Gate::start(Clock::Real, settings(), None, hello()).await;
    let url = format!("http://{}/", gate.address);
    let h1 = reqwest::Client::new();
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for client in [h1, h2] {
        for (length, status, explained) in [(7_000, 200, false), (9_000, 431, true), (40_000, 431, false)] {
            let answer = client.get(&url).header("x-long", "x".repeat(length)).send().await.unwrap();
            assert_eq!(answer.status(), status, "{length}");
            let body = answer.text().await.unwrap();
            let code = serde_json::from_str::<serde_json::Value>(&body).map(|body| body["error"]["code"].clone());
            assert_eq!(code.is_ok_and(|code| code == "headers_too_large"), explained, "{length}: {body}");
        }
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_cut_off() {
    for opening in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nx-slow: "] {
        let gate = Gate::start(Clock::held(), settings(), None, hello()).await;
        let mut client = gate.connect().await;
        client.write_all(opening.as_bytes()).await.unwrap();
        until(|| gate.metrics.connections_open.get() == 1).await;
        gate.clock.advance(Duration::from_secs(29));
        assert_eq!(gate.metrics.connections_open.get(), 1, "{opening:?}");
        gate.advance_until(Duration::from_secs(10), || gate.metrics.connections_open.get() == 0).await;
    }
}

#[tokio::test]
async fn a_second_request_that_is_never_finished_is_cut_off_too() {
    let gate = Gate::start(Clock::held(), settings(), None, hello()).await;
    let mut client = gate.connect().await;
    get_once(&mut client, "/", "!").await;
    client.write_all(b"GET / HT").await.unwrap();
    let begun = gate.clock.now();
    gate.advance_until(Duration::from_secs(1), || gate.metrics.connections_open.get() == 0).await;
    assert!(gate.clock.now() - begun < Duration::from_secs(100), "before it would have been idle long enough");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_its_time_and_no_longer() {
    let gate = Gate::start(Clock::held(), settings(), None, hello()).await;
    let mut client = gate.connect().await;
    for _ in 0..5 {
        get_once(&mut client, "/", "!").await;
        gate.clock.advance(Duration::from_secs(60));
    }
    get_once(&mut client, "/", "!").await;
    let idle = gate.clock.now();
    gate.advance_until(Duration::from_secs(1), || gate.metrics.connections_open.get() == 0).await;
    assert!(gate.clock.now() - idle >= Duration::from_secs(89), "{:?}", gate.clock.now() - idle);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "closed in good order");
}

#[tokio::test]
async fn a_long_call_is_not_mistaken_for_an_idle_connection() {
    let gate = Gate::start(Clock::held(), settings(), None, streaming_once("done")).await;
    let mut client = gate.connect().await;
    send(&mut client, "/slow").await;
    for _ in 0..20 {
        gate.clock.advance(Duration::from_secs(30));
        Clock::Real.sleep(Duration::from_millis(1)).await;
    }
    let answer = read_until(&mut client, "done").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Answers with `text` after a tenth of a real second.
fn streaming_once(text: &'static str) -> Router {
    let handler = move || async move {
        Clock::Real.sleep(MOMENT).await;
        text
    };
    hello().route("/slow", get(handler))
}

/// Streams without end; the flag goes up when the body is dropped.
fn flooding() -> (Router, Arc<AtomicU64>, Flag) {
    let (pieces, dropped) = (Arc::new(AtomicU64::new(0)), Flag::default());
    let (count, flag) = (pieces.clone(), dropped.clone());
    let handler = move || async move {
        let guard = OnDrop(flag);
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        Body::from_stream(stream::poll_fn(move |_| {
            let _held = &guard;
            count.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(Some(Ok::<_, Infallible>(piece.clone())))
        }))
    };
    (hello().route("/flood", get(handler)), pieces, dropped)
}

/// Waits until every buffer on the way to the client is full.
async fn stalled(pieces: &AtomicU64) {
    let mut before = 0;
    while pieces.load(Ordering::SeqCst) != before {
        before = pieces.load(Ordering::SeqCst);
        Clock::Real.sleep(MOMENT).await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off() {
    let (router, pieces, dropped) = flooding();
    let gate = Gate::start(Clock::held(), settings(), None, router).await;
    let mut client = gate.connect().await;
    get_once(&mut client, "/flood", "200 OK").await;
    stalled(&pieces).await;
    assert!(!dropped.is_up());
    gate.clock.advance(Duration::from_secs(59));
    Clock::Real.sleep(MOMENT).await;
    assert!(!dropped.is_up(), "the client still has a second");
    gate.clock.advance(Duration::from_secs(1));
    until(|| dropped.is_up()).await;
    until(|| gate.metrics.connections_open.get() == 0).await;
}

#[tokio::test]
async fn an_http2_stream_that_is_not_read_is_given_up_and_its_connection_is_not() {
    let (router, pieces, dropped) = flooding();
    let gate = Gate::start(Clock::held(), settings(), None, router).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().http2_initial_stream_window_size(100_000);
    let client = client.http2_initial_connection_window_size(10_000_000).build().unwrap();
    let url = |path: &str| format!("http://{}{path}", gate.address);
    let mut unread = client.get(url("/flood")).send().await.unwrap();
    stalled(&pieces).await;
    let stopped = gate.clock.now();
    gate.advance_until(Duration::from_secs(1), || dropped.is_up()).await;
    let waited = gate.clock.now() - stopped;
    assert!((60..150).contains(&waited.as_secs()), "{waited:?}");
    assert_eq!(client.get(url("/")).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(gate.metrics.connections_open.get(), 1);
    while let Ok(piece) = unread.chunk().await {
        assert!(piece.is_some(), "no clean end is faked");
    }
}

#[tokio::test]
async fn a_client_that_goes_is_noticed_at_once() {
    // Before the answer, with and without a body.
    // The last two have sent more than the request, which hyper holds and so does not read on.
    for request in [
        "GET /hang HTTP/1.1\r\n\r\n",
        "POST /hang HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}",
        "POST /hang HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}\r\n",
        "GET /hang HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        let (router, called, dropped) = hanging();
        let gate = Gate::start(Clock::Real, settings(), None, router).await;
        let mut client = gate.connect().await;
        client.write_all(request.as_bytes()).await.unwrap();
        until(|| called.is_up()).await;
        let gone = Clock::Real.now();
        drop(client);
        until(|| dropped.is_up()).await;
        assert!(Clock::Real.now() - gone < MOMENT);
    }
    // In the middle of a stream.
    let (router, pieces, dropped) = streaming();
    let gate = Gate::start(Clock::Real, settings(), None, router).await;
    let mut client = gate.connect().await;
    send(&mut client, "/stream").await;
    pieces.send("first".into()).await.unwrap();
    read_until(&mut client, "first").await;
    let gone = Clock::Real.now();
    drop(client);
    until(|| dropped.is_up()).await;
    assert!(Clock::Real.now() - gone < MOMENT);
}

#[tokio::test]
async fn a_client_that_resets_its_http2_stream_is_noticed_at_once() {
    let (router, called, dropped) = hanging();
    let gate = Gate::start(Clock::Real, settings(), None, router).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let (hang, hello) = (format!("http://{}/hang", gate.address), format!("http://{}/", gate.address));
    tokio::select! {
        answer = client.get(hang).send() => panic!("{answer:?}"),
        () = until(|| called.is_up()) => {}
    }
    let gone = Clock::Real.now();
    until(|| dropped.is_up()).await;
    assert!(Clock::Real.now() - gone < MOMENT);
    assert_eq!(client.get(hello).send().await.unwrap().status(), StatusCode::OK, "the connection goes on");
    assert_eq!(gate.metrics.connections_open.get(), 1);
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending() {
    let router = Router::new().route("/", post(|| async { (StatusCode::PAYLOAD_TOO_LARGE, "too large") }));
    let gate = Gate::start(Clock::Real, settings(), None, router).await;
    for _ in 0..10 {
        let client = gate.connect().await;
        let (mut from, mut to) = client.into_split();
        let upload = async move {
            let head = "POST / HTTP/1.1\r\ncontent-length: 8000000\r\n\r\n";
            to.write_all(head.as_bytes()).await?;
            to.write_all(&vec![b'x'; 8_000_000]).await?;
            Ok::<_, io::Error>(to)
        };
        let (sent, answer) = tokio::join!(upload, async {
            let mut answer = Vec::new();
            from.read_to_end(&mut answer).await.map(|_| String::from_utf8(answer).unwrap())
        });
        assert!(sent.is_ok(), "{sent:?}");
        assert!(answer.as_ref().is_ok_and(|answer| answer.ends_with("too large")), "{answer:?}");
    }
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_their_turn() {
    let settings = Settings { max_connections: 1, ..settings() };
    let gate = Gate::start(Clock::Real, settings, None, hello()).await;
    let mut first = gate.connect().await;
    get_once(&mut first, "/", "!").await;
    let mut second = gate.connect().await;
    send(&mut second, "/").await;
    let early = Clock::Real.timeout_at(Clock::Real.now() + MOMENT, second.read(&mut [0; 1])).await;
    assert!(early.is_err(), "there is no slot yet");
    drop(first);
    read_until(&mut second, "!").await;
}

#[tokio::test]
async fn draining_closes_idle_connections_and_lets_calls_finish() {
    let (router, pieces, _) = streaming();
    let gate = Gate::start(Clock::held(), settings(), None, router).await;
    let (mut idle, mut busy) = (gate.connect().await, gate.connect().await);
    get_once(&mut idle, "/", "!").await;
    send(&mut busy, "/stream").await;
    pieces.send("first".into()).await.unwrap();
    read_until(&mut busy, "first").await;

    gate.stop(5, 30);
    until(|| gate.shutdown.phase() == Phase::PreStop).await;
    assert!(!gate.shutdown.ready());
    get_once(&mut gate.connect().await, "/", "!").await;
    get_once(&mut idle, "/", "!").await;

    gate.advance_until(Duration::from_secs(1), || gate.shutdown.phase() == Phase::Draining).await;
    assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0, "idle connections are closed");
    until(|| gate.metrics.connections_open.get() == 1).await;
    assert!(TcpStream::connect(gate.address).await.is_err(), "nothing new is accepted");
    assert!(!gate.returned.is_up());

    pieces.send("second".into()).await.unwrap();
    drop(pieces);
    let rest = read_to_end(&mut busy).await;
    assert!(rest.contains("second") && rest.ends_with("0\r\n\r\n"), "{rest:?}");
    until(|| gate.returned.is_up()).await;
    assert_eq!(gate.shutdown.phase(), Phase::Draining, "nobody waits for the rest of the grace");
}

#[tokio::test]
async fn a_call_answered_while_draining_announces_the_close() {
    let gate = Gate::start(Clock::Real, settings(), None, streaming_once("done")).await;
    let mut client = gate.connect().await;
    send(&mut client, "/slow").await;
    until(|| gate.metrics.connections_open.get() == 1).await;
    // Its head must have been read.
    Clock::Real.sleep(MOMENT / 4).await;
    gate.stop(0, 30);
    let answer = read_to_end(&mut client).await.to_lowercase();
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer}");
    until(|| gate.returned.is_up()).await;
}

#[tokio::test]
async fn streams_that_outlive_the_grace_may_say_a_last_word_and_are_dropped() {
    let (router, pieces, dropped) = streaming();
    let gate = Gate::start(Clock::held(), settings(), None, router).await;
    let mut client = gate.connect().await;
    send(&mut client, "/stream").await;
    pieces.send("first".into()).await.unwrap();
    read_until(&mut client, "first").await;
    gate.stop(0, 30);
    gate.advance_until(Duration::from_secs(10), || gate.shutdown.phase() == Phase::Cut).await;
    pieces.send("last word".into()).await.unwrap();
    read_until(&mut client, "last word").await;
    assert!(!dropped.is_up());
    gate.advance_until(Duration::from_secs(1), || gate.returned.is_up()).await;
    assert!(dropped.is_up());
    assert_eq!(read_to_end(&mut client).await, "", "no clean end is faked");
    let before = gate.tasks.shut_down(&Clock::Real, Duration::from_secs(5)).await;
    assert!(before, "nothing is left running");
}
