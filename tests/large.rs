//! What requests of 20 MB cost, one, several in a row and several at once: how often their bytes are in memory, and how long
//! small calls beside them wait for the thread that serves all of them. Quotas count their tokens, and what they say is
//! logged. A binary of its own, because it counts what the whole process allocates; client and provider
//! are bare sockets that keep nothing.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unsafe_code,
    reason = "a test that cannot set its scene has failed, its tasks end with it, and it says what it has measured; and an \
              allocator that counts cannot be had without `unsafe`"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use futures_util::future::join_all;
use switchboard::{
    app::App,
    config::{self, Environment},
    types::Clock,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The system's allocator, counting.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's own; beside it two numbers are kept.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // It may have to copy: then both are there for a moment.
        took(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn took(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(held, Relaxed);
}

const SIZE: usize = 20_000_000;
const KEY: &str = "large-key-0123456789";

/// CPU time of this thread, in nanoseconds: what others do on this machine does not count.
fn thread_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// How long the runtime's thread is busy with one thing at most, while this goes on.
fn longest_turn() -> (JoinHandle<u64>, &'static AtomicBool) {
    let over: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
    let turns = tokio::spawn(async move {
        let mut longest = 0;
        while !over.load(Relaxed) {
            let before = thread_time();
            tokio::task::yield_now().await;
            longest = longest.max(thread_time() - before);
        }
        longest
    });
    (turns, over)
}

/// A provider that reads requests and forgets them at once; each gets this answer. Gives how many bytes the last one had.
async fn provider(answer: &'static str) -> (SocketAddr, &'static AtomicUsize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, length): (_, &AtomicUsize) =
        (listener.local_addr().unwrap(), Box::leak(Box::new(AtomicUsize::new(0))));
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                while let Some(read) = read_request(&mut socket).await {
                    length.store(read, Relaxed);
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
                        answer.len()
                    );
                    socket.write_all(head.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, length)
}

async fn read_request(socket: &mut TcpStream) -> Option<usize> {
    let (mut buffer, mut filled) = (vec![0; 64 * 1024], 0);
    let (end, length) = loop {
        match socket.read(&mut buffer[filled..]).await.ok()? {
            0 => return None,
            read => filled += read,
        }
        if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            break (end + 4, length.split("\r\n").next().unwrap().parse::<usize>().unwrap());
        }
    };
    let mut left = length - (filled - end);
    while left > 0 {
        left -= socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
    }
    Some(length)
}

async fn gateway(provider: SocketAddr, kind: &str) -> (App, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "listen: 127.0.0.1:0\ndata_dir: {:?}\n\
         log: {{ level: \"off\", calls: false, content: {{ to: {:?}, max_bytes: 1KiB, keys: opt_out }} }}\n\
         quotas: [{{ name: tokens, scope: global, measure: tokens, limit: 100000, window: 1m }}]\n\
         providers: {{ a: {{ kind: {kind}, base_url: \"http://{provider}/v1\", api_key: k }} }}\n\
         models: {{ m: {{ targets: [a/claude-opus-4-8] }} }}\nkeys: [{{ name: tests, value: {KEY}, models: [\"*\"] }}]\n",
        folder.path().join("data"),
        folder.path().join("content.jsonl")
    );
    let file = folder.path().join("switchboard.yaml");
    std::fs::write(&file, text).unwrap();
    let env = Environment::of::<String, String>([]);
    let loaded = config::load(Some(&file), &env).unwrap();
    (App::start(loaded, env, Clock::Real).await.unwrap(), folder)
}

/// A request around `image`, in this format.
fn request(path: &str, image: &[u8]) -> Vec<u8> {
    let (before, after) = match path {
        "/v1/messages" => (
            r#"{"model":"m","max_tokens":10,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":""#,
            r#""}}]}]}"#,
        ),
        _ => (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,"#,
            r#""}}]}]}"#,
        ),
    };
    [before.as_bytes(), image, after.as_bytes()].concat()
}

/// Sends a request so many times over one connection, each after the answer to the one before.
async fn post(to: SocketAddr, path: &str, body: &[u8], times: usize) {
    let mut socket = TcpStream::connect(to).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    for _ in 0..times {
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        // Both providers' answers end so, and so does what becomes of them.
        while !answer.ends_with(b"}}") {
            assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    }
}

const CLAUDE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"A cat."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":3}}"#;
const OPEN: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"o","choices":[{"index":0,"message":{"role":"assistant","content":"A cat."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;

/// Each lane: what the client speaks, what the provider is, and how often the body may be there at once.
const LANES: &[(&str, &str, f64)] = &[
    ("/v1/chat/completions", "openai_compatible", 1.0),
    ("/v1/messages", "anthropic", 1.0),
    ("/v1/chat/completions", "anthropic", 2.0),
    ("/v1/messages", "openai_compatible", 2.0),
];

/// How many calls are made at once, and how many in a row by each.
const TIMES: &[(usize, usize)] = &[(1, 3), (3, 1)];

/// The longest that the thread may be busy with one thing, in a build that is not optimised; the work as a whole takes ten
/// times as long and more. In microseconds of CPU.
const LONGEST: u64 = 40_000;

#[test]
fn large_images_are_copied_once_at_most_and_keep_nobody_waiting() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let image = "iVBORw0K".repeat(SIZE / 8);
    // As PHP writes it: every slash escaped.
    let escaped = "iVBO\\/0K".repeat(SIZE / 8);
    for (path, kind, copies) in LANES {
        for (image, times) in [(&image, TIMES), (&escaped, &TIMES[..1])] {
            let body = request(path, image.as_bytes());
            for (at_once, in_a_row) in times {
                let (most, sent, longest) = runtime.block_on(async {
                    let (address, sent) = provider(if *kind == "anthropic" { CLAUDE } else { OPEN }).await;
                    let (app, _folder) = gateway(address, kind).await;
                    // What is made once is made with a small one.
                    post(app.address, path, &request(path, b"iVBORw0K"), 1).await;
                    let (turns, over) = longest_turn();
                    let before = HELD.load(Relaxed);
                    MOST.store(before, Relaxed);
                    join_all((0..*at_once).map(|_| post(app.address, path, &body, *in_a_row))).await;
                    let most = MOST.load(Relaxed) - before;
                    over.store(true, Relaxed);
                    let longest = turns.await.unwrap() / 1_000;
                    app.stop().await;
                    (most, sent.load(Relaxed), longest)
                });
                let most = most as f64 / SIZE as f64;
                let what = format!("{path} to {kind}, {at_once} at once, {in_a_row} in a row");
                println!("{what}: {most:.3} bodies held, {sent} bytes sent, longest turn {longest} µs of CPU");
                assert!(sent > SIZE - 8, "{sent}");
                // An eighth is reserved for what a translation may add, and some is the rest of the gateway.
                let allowed = (copies * 1.07 + 0.05) * *at_once as f64;
                assert!(most < allowed, "{what}: {most:.3} bodies are in memory");
                assert!(longest < LONGEST, "{what}: {longest} µs without a turn for anybody else");
            }
        }
    }
}
