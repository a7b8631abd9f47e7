//! Calls against providers that follow a script, byte by byte, over real sockets.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, Version, uri};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    types::{Clock, Tasks},
    upstream::{Http, OutBody, Pool, PoolKey, SendError, Trust, UpstreamBody},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const REFUSED: &str = "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// What a provider does on one connection before it closes it.
#[derive(Clone, Debug)]
enum Step {
    /// Reads a request to the end of its body.
    Read,
    /// Reads the head of a request and no more.
    ReadHead,
    Write(String),
    /// As `Write`, a byte at a time.
    Drip(String),
    /// Lets the test know that it has come so far.
    Mark,
    /// Waits until the other side has closed.
    AwaitClose,
}

use Step::{AwaitClose, Drip, Mark, Read, ReadHead};

fn write(text: &str) -> Step {
    Step::Write(text.into())
}

/// A provider that serves each connection by the next script, and the pool that leads there.
struct Provider {
    pool: Pool,
    uri: Uri,
    clock: Clock,
    accepted: Arc<AtomicUsize>,
    marks: Arc<AtomicUsize>,
}

impl Provider {
    async fn new<const N: usize>(scripts: [Vec<Step>; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}/v1/chat", listener.local_addr().unwrap()).parse().unwrap();
        let (accepted, marks) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let tasks = Tasks::new();
        let (counted, marked, others) = (accepted.clone(), marks.clone(), tasks.clone());
        let mut scripts = VecDeque::from(scripts);
        tasks.spawn_untracked(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                others.spawn_untracked(play(stream, scripts.pop_front().unwrap_or_default(), marked.clone()));
            }
        });
        let key = PoolKey {
            scheme: uri::Scheme::HTTP,
            authority: uri.authority().unwrap().clone(),
            http: Http::Auto,
            connect_timeout: Duration::from_secs(5),
            trust: Trust::Web,
        };
        let clock = Clock::held();
        Self { pool: Pool::new(&key, clock.clone(), tasks).unwrap(), uri, clock, accepted, marks }
    }

    fn request(&self, body: impl Into<Bytes>) -> Request<OutBody> {
        Request::post(&self.uri).body(OutBody::new(body.into().into())).unwrap()
    }

    async fn send(&self) -> Result<Response<UpstreamBody>, SendError> {
        soon(self.pool.send(self.request("hello"))).await
    }

    /// The whole answer to a call: its status and its body.
    async fn ask(&self) -> Result<(u16, Result<String, String>), SendError> {
        let (parts, body) = self.send().await?.into_parts();
        Ok((parts.status.as_u16(), rest(body).await))
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits until so many marks have been passed.
    async fn marked(&self, marks: usize) {
        let reached = async {
            while self.marks.load(Ordering::SeqCst) < marks {
                tokio::task::yield_now().await;
            }
        };
        soon(reached).await;
    }
}

/// No wait of a test is endless.
async fn soon<F: Future>(future: F) -> F::Output {
    let clock = Clock::Real;
    clock.timeout_at(clock.now() + Duration::from_secs(10), future).await.expect("this should not take so long")
}

fn good(body: &str) -> (u16, Result<String, String>) {
    (200, Ok(body.into()))
}

async fn rest(mut body: UpstreamBody) -> Result<String, String> {
    let mut text = Vec::new();
    while let Some(piece) = soon(body.next()).await {
        text.extend_from_slice(&piece.map_err(|error| error.to_string())?);
    }
    assert!(soon(body.next()).await.is_none(), "an end is an end");
    Ok(String::from_utf8(text).unwrap())
}

async fn play(mut stream: TcpStream, script: Vec<Step>, marks: Arc<AtomicUsize>) {
    stream.set_nodelay(true).unwrap();
    for step in script {
        match step {
            Read => {
                let length = read_head(&mut stream).await;
                let _ = tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await;
            }
            ReadHead => drop(read_head(&mut stream).await),
            Step::Write(text) => drop(stream.write_all(text.as_bytes()).await),
            Drip(text) => {
                for byte in text.as_bytes() {
                    let _ = stream.write_all(&[*byte]).await;
                    tokio::task::yield_now().await;
                }
            }
            Mark => drop(marks.fetch_add(1, Ordering::SeqCst)),
            AwaitClose => {
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        }
    }
}

/// The length of the body whose head was read.
async fn read_head(stream: &mut TcpStream) -> u64 {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return 0 };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let (_, length) = head.split_once("content-length: ").unwrap();
    length.lines().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_answer_is_read_to_its_end_and_its_connection_is_used_again_only_if_nothing_speaks_against_it() {
    let chunked = |rest: &str| format!("{CHUNKED}{rest}");
    let framed = |headers: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}");
    let one_0 = |headers: &str, body: &str| format!("HTTP/1.0 200 OK\r\n{headers}\r\n{body}");
    let body = good("ok");
    let cases = [
        (OK.into(), body.clone(), true),
        (framed("content-length: 0\r\n", ""), good(""), true),
        (framed("content-length: 2\r\ncontent-length: 2\r\n", "ok"), body.clone(), true),
        (chunked("2\r\nok\r\n0\r\n\r\n"), body.clone(), true),
        (chunked("1;a=b\r\no\r\n1\r\nk\r\n0\r\nx-trailer: 1\r\n\r\n"), body.clone(), true),
        (chunked("0\r\n\r\n"), good(""), true),
        (
            format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{OK}"),
            body.clone(),
            true,
        ),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n".into(), (204, Ok(String::new())), true),
        ("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n".into(), (304, Ok(String::new())), true),
        (one_0("content-length: 2\r\nconnection: keep-alive\r\n", "ok"), body.clone(), true),
        (one_0("content-length: 2\r\n", "ok"), body.clone(), false),
        (one_0("", "ok"), body.clone(), false),
        (framed("", "ok"), body.clone(), false),
        (framed("connection: close\r\ncontent-length: 2\r\n", "ok"), body.clone(), false),
        (framed("content-length: 9\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"), body.clone(), false),
        (format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"), body.clone(), false),
        (chunked("2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), body.clone(), false),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".into(), (101, Ok(String::new())), false),
    ];
    for (answer, expected, reused) in cases {
        let ends_by_closing = answer.ends_with("\r\n\r\nok") && !answer.contains("content-length");
        for step in [Step::Write(answer.clone()), Drip(answer.clone())] {
            let mut first = vec![Read, step];
            if !ends_by_closing {
                first.extend([Mark, Read, write(OK), Mark, AwaitClose]);
            }
            let provider = Provider::new([first, vec![Read, write(OK), AwaitClose]]).await;
            assert_eq!(provider.ask().await.unwrap(), expected, "{answer:?}");
            if !ends_by_closing {
                provider.marked(1).await;
                settled().await;
            }
            assert_eq!(provider.ask().await.unwrap(), good("ok"), "{answer:?}");
            assert_eq!(provider.accepted(), if reused { 1 } else { 2 }, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_breaks_the_rules_is_an_error_and_not_an_end() {
    let cases = [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nok",
    ];
    for answer in cases {
        let provider = Provider::new([vec![Read, write(answer)]]).await;
        let (status, body) = provider.ask().await.unwrap();
        assert_eq!((status, body.is_err()), (200, true), "{answer:?}");
    }
    // Broken from the first byte on, the answer has not begun; broken later, its beginning is good.
    let provider = Provider::new([vec![Read, write(CHUNKED), write("zz\r\n"), AwaitClose, Mark]]).await;
    match provider.send().await {
        Ok(answer) => assert!(rest(answer.into_body()).await.is_err()),
        Err(error) => assert!(matches!(error, SendError::NotHttp(_))),
    }
    provider.marked(1).await;
}

#[tokio::test]
async fn what_is_not_http_is_told_from_a_connection_that_was_lost() {
    let bad = [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: 1\r\n folded: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnumber\r\n",
    ];
    for answer in bad {
        let provider = Provider::new([vec![Read, write(answer), AwaitClose, Mark]]).await;
        let sent = provider.send().await;
        assert!(matches!(sent, Err(SendError::NotHttp(_))), "{answer:?}: {sent:?}");
        provider.marked(1).await;
    }
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let provider = Provider::new([vec![Read, write(answer)]]).await;
        let sent = provider.send().await;
        assert!(matches!(sent, Err(SendError::Lost(_))), "{answer:?}: {sent:?}");
    }
}

#[tokio::test]
async fn a_connection_that_closes_as_it_is_used_again_is_told_from_one_that_fails_at_its_call() {
    let provider = Provider::new([vec![Read, write(OK), ReadHead], vec![Read, write(OK)]]).await;
    assert_eq!(provider.ask().await.unwrap(), good("ok"));
    let again = provider.send().await;
    assert!(matches!(again, Err(SendError::Stale(_))), "{again:?}");
    let anew = soon(provider.pool.send_anew(provider.request("hello"))).await.unwrap();
    assert_eq!(rest(anew.into_body()).await.unwrap(), "ok");
    // With part of an answer it was not for being idle.
    for part in ["HTTP/1.1 2", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let provider = Provider::new([vec![Read, write(OK), Read, write(part)]]).await;
        assert_eq!(provider.ask().await.unwrap(), good("ok"));
        let again = provider.send().await;
        assert!(matches!(again, Err(SendError::Lost(_))), "{again:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_or_spoke_up_is_not_used() {
    let spoke = vec![write("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"), Mark, AwaitClose];
    for (then, marks, idle) in [(vec![], 1, 0), (vec![], 1, 20), (spoke.clone(), 2, 0), (spoke, 2, 20)] {
        let first = [vec![Read, write(OK), Mark], then].concat();
        let provider = Provider::new([first, vec![Read, write(OK), AwaitClose]]).await;
        assert_eq!(provider.ask().await.unwrap(), good("ok"));
        provider.marked(marks).await;
        // The last mark comes just before the end.
        settled().await;
        provider.clock.advance(Duration::from_millis(idle));
        assert_eq!(provider.ask().await.unwrap(), good("ok"));
        assert_eq!(provider.accepted(), 2, "{marks} marks, idle for {idle} ms");
    }
}

/// Lets everything run that can.
async fn settled() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn idle_connections_are_used_again_the_last_first_and_closed_when_they_are_old() {
    let script = || vec![Read, write(OK), Read, write(OK), AwaitClose, Mark];
    let provider = Provider::new([script(), script()]).await;
    let (one, two) = tokio::join!(provider.ask(), provider.ask());
    assert_eq!((one.unwrap(), two.unwrap(), provider.accepted()), (good("ok"), good("ok"), 2));
    settled().await;
    provider.clock.advance(Duration::from_secs(4));
    assert_eq!(provider.ask().await.unwrap(), good("ok"));
    assert_eq!(provider.accepted(), 2);
    // Half a second later one has been idle for too long; the other was just used.
    settled().await;
    provider.clock.advance(Duration::from_millis(500));
    provider.marked(1).await;
    // Nobody asks any more: they are closed all the same.
    for _ in 0..3 {
        settled().await;
        provider.clock.advance(Duration::from_millis(4_500));
    }
    provider.marked(2).await;
}

#[tokio::test]
async fn an_early_answer_ends_the_upload_and_the_connection() {
    let large = vec![b'x'; 32 * 1024 * 1024];
    // The provider stays and waits, or closes with most of the request unread, which resets the connection.
    for end in [vec![AwaitClose, Mark], vec![]] {
        let stays = !end.is_empty();
        let mut first = vec![ReadHead, write(REFUSED)];
        first.extend(end);
        let provider = Provider::new([first, vec![Read, write(OK), AwaitClose]]).await;
        let answer = soon(provider.pool.send(provider.request(large.clone()))).await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(rest(answer.into_body()).await.unwrap(), "no");
        if stays {
            provider.marked(1).await;
        }
        assert_eq!(provider.ask().await.unwrap(), good("ok"));
        assert_eq!(provider.accepted(), 2);
    }
}

#[tokio::test]
async fn a_large_request_arrives_whole_and_its_connection_is_used_again() {
    let provider = Provider::new([vec![Read, write(OK), Read, write(OK), AwaitClose]]).await;
    let answer = soon(provider.pool.send(provider.request(vec![b'x'; 8 * 1024 * 1024]))).await.unwrap();
    assert_eq!(rest(answer.into_body()).await.unwrap(), "ok");
    assert_eq!(provider.ask().await.unwrap(), good("ok"));
    assert_eq!(provider.accepted(), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_closes_its_connection_at_once() {
    let provider = Provider::new([vec![Read, Mark, AwaitClose, Mark]]).await;
    tokio::select! {
        sent = provider.send() => panic!("{sent:?}"),
        () = provider.marked(1) => {}
    }
    provider.marked(2).await;

    let answer = format!("{CHUNKED}2\r\nok\r\n");
    let provider = Provider::new([vec![Read, write(&answer), AwaitClose, Mark], vec![Read, write(OK)]]).await;
    let mut body = provider.send().await.unwrap().into_body();
    assert_eq!(soon(body.next()).await.unwrap().unwrap(), "ok");
    drop(body);
    provider.marked(1).await;
    assert_eq!(provider.ask().await.unwrap(), good("ok"));
    assert_eq!(provider.accepted(), 2);
}

#[tokio::test]
async fn a_burst_of_chunks_comes_in_as_few_pieces_as_reads() {
    let chunks = "a\r\n0123456789\r\n".repeat(500);
    let provider = Provider::new([vec![Read, write(&format!("{CHUNKED}{chunks}0\r\n\r\n")), AwaitClose]]).await;
    let mut body = provider.send().await.unwrap().into_body();
    let (mut pieces, mut bytes) = (0, 0);
    while let Some(piece) = soon(body.next()).await {
        pieces += 1;
        bytes += piece.unwrap().len();
    }
    assert_eq!(bytes, 5_000);
    assert!(pieces <= 5, "{pieces} pieces");
}

#[tokio::test]
async fn a_declared_length_counts_down_and_an_old_version_is_told() {
    let answer = "HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nfour";
    let provider = Provider::new([vec![Read, write(answer)], vec![Read, write(CHUNKED), AwaitClose]]).await;
    let answer = provider.send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_10);
    let mut body = answer.into_body();
    assert_eq!(body.expected(), Some(4));
    while soon(body.next()).await.is_some() {}
    assert_eq!(body.expected(), Some(0));
    assert_eq!(provider.send().await.unwrap().into_body().expected(), None);
}

#[tokio::test]
async fn nobody_there_is_a_failure_to_connect() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let provider = Provider::new([]).await;
    let key = PoolKey {
        scheme: uri::Scheme::HTTP,
        authority: gone.to_string().parse().unwrap(),
        http: Http::One,
        connect_timeout: Duration::from_secs(5),
        trust: Trust::Web,
    };
    let pool = Pool::new(&key, Clock::Real, Tasks::new()).unwrap();
    let sent = soon(pool.send(provider.request(""))).await;
    assert!(matches!(&sent, Err(SendError::Connect(why)) if why.contains("refused")), "{sent:?}");
}
