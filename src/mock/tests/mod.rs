//! The mock as it looks from the other end of a socket.

mod answers;
mod control;
mod faults;
mod http2;
mod messages;
mod messages_faults;
mod messages_requests;

use std::{io, net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Behaviour, Mock};
use crate::types::{Clock, Tasks};

/// A running mock.
struct Server {
    mock: Mock,
    address: SocketAddr,
    tasks: Tasks,
}

/// What arrived until the connection ended.
struct Arrived {
    status: u16,
    head: String,
    /// The body's bytes, without what HTTP adds.
    body: Vec<u8>,
    /// The sizes of the chunks of the transfer encoding.
    pieces: Vec<usize>,
    /// Whether the body ended as HTTP wants it.
    is_complete: bool,
    end: io::Result<()>,
}

impl Server {
    async fn start() -> Self {
        Self::with(Behaviour::default(), Clock::Real).await
    }

    async fn with(default: Behaviour, clock: Clock) -> Self {
        let (mock, tasks) = (Mock::new(default, clock), Tasks::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (served, all) = (mock.clone(), tasks.clone());
        tasks.spawn(async move { served.serve(listener, all.stopping(), &all).await });
        Self { mock, address, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and returns its connection.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut socket = self.connect().await;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: mock\r\ncontent-length: {length}\r\n{headers}\r\n");
        socket.write_all((head + body).as_bytes()).await.unwrap();
        socket
    }

    /// Sends a request and returns all that arrives.
    async fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> Arrived {
        let socket = self.send(method, path, &format!("connection: close\r\n{headers}"), body).await;
        soon(arrive(socket)).await
    }

    /// Posts a chat with some members added.
    async fn chat(&self, more: Value) -> Arrived {
        self.call("POST", "/v1/chat/completions", "", &chat(more).to_string()).await
    }

    /// Waits until the mock has noticed something.
    async fn until(&self, what: impl Fn(&Mock) -> bool) {
        soon(async {
            while !what(&self.mock) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Arrived {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The data of the stream's events.
    fn events(&self) -> Vec<String> {
        self.text().split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// The chunks of the stream.
    fn chunks(&self) -> Vec<Value> {
        self.events().iter().filter_map(|data| serde_json::from_str(data).ok()).collect()
    }

    /// All text of the first choice.
    fn content(&self) -> String {
        let chunks = self.chunks();
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
    }

    fn is_reset(&self) -> bool {
        matches!(&self.end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// A chat request with some members added.
fn chat(more: Value) -> Value {
    let mut body = json!({ "model": "m", "messages": [{ "role": "user", "content": "Hello there" }] });
    let (Value::Object(members), Value::Object(more)) = (&mut body, more) else { panic!("objects") };
    members.extend(more);
    body
}

/// A streamed chat request with a script.
fn streamed(script: Value) -> Value {
    let mut body = json!({ "stream": true });
    body["mock"] = script;
    body
}

/// Fails a test that waits for what never comes.
async fn soon<F: Future>(future: F) -> F::Output {
    let clock = Clock::Real;
    clock.timeout_at(clock.now() + Duration::from_secs(60), future).await.expect("it takes too long")
}

async fn arrive(mut socket: TcpStream) -> Arrived {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes).await.map(|_| ());
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut rest = &bytes[split..];
    let (mut body, mut pieces, mut is_complete) = (Vec::new(), Vec::new(), false);
    if head.contains("transfer-encoding: chunked") {
        while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
            if size == 0 {
                is_complete = true;
                break;
            }
            body.extend_from_slice(&rest[at + 2..at + 2 + size]);
            pieces.push(size);
            rest = &rest[at + 4 + size..];
        }
    } else {
        body = rest.to_vec();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        is_complete = length.is_some_and(|length| length.parse() == Ok(body.len()));
    }
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    Arrived { status, head, body, pieces, is_complete, end }
}
