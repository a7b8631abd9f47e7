//! Bare sockets, for what no HTTP library would do.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::soon;

/// A client without manners.
#[derive(Debug)]
pub struct RawClient(pub TcpStream);

/// A provider played by hand.
#[derive(Debug)]
pub struct RawUpstream {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// One request that a hand-played provider got, and the socket to answer it on.
#[derive(Debug)]
pub struct RawExchange {
    pub socket: TcpStream,
    pub request: String,
}

impl RawClient {
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self(socket)
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The gateway may have closed on the first half of a bad request; what it answered is still to be read.
        _ = soon(self.0.write_all(bytes.as_ref())).await;
    }

    /// All that comes until the other side closes, or breaks the connection.
    pub async fn read_to_end(&mut self) -> String {
        let mut bytes = Vec::new();
        _ = soon(self.0.read_to_end(&mut bytes)).await;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until something has been said.
    pub async fn read_until(&mut self, part: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains(part) {
            let read = soon(self.0.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "the connection ended without `{part}`: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        text
    }

    /// Closes the sending side only.
    pub async fn half_close(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

impl RawUpstream {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// An address where nobody listens, nor will: its port is taken for as long as the tests run, or another test's
    /// listener might get it.
    pub fn closed() -> SocketAddr {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket.local_addr().unwrap();
        std::mem::forget(socket);
        address
    }

    /// The next connection and the request on it, to the end of its body.
    pub async fn accept(&self) -> RawExchange {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut exchange = RawExchange { socket, request: String::new() };
        let mut buffer = [0; 4096];
        while !is_whole(&exchange.request) {
            let read = soon(exchange.socket.read(&mut buffer)).await.unwrap();
            assert!(read > 0, "the gateway closed before its request was complete: {}", exchange.request);
            exchange.request.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        exchange
    }
}

impl RawUpstream {
    /// Answers the next request and closes; gives the request as it came.
    pub async fn accept_and(&self, answer: &str) -> String {
        let mut exchange = self.accept().await;
        exchange.send(answer).await;
        exchange.request
    }
}

impl RawExchange {
    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        soon(self.socket.write_all(text.as_ref())).await.unwrap();
    }

    /// The head of a stream whose end is the end of the connection.
    pub async fn begin_stream(&mut self) {
        self.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n").await;
    }

    /// Waits for more bytes on the connection.
    pub async fn next_bytes(&mut self) {
        let mut buffer = [0; 4096];
        let _ = soon(self.socket.read(&mut buffer)).await;
    }

    /// Waits until the gateway has closed the connection.
    pub async fn closed(&mut self) {
        let mut buffer = [0; 1024];
        while soon(self.socket.read(&mut buffer)).await.is_ok_and(|read| read > 0) {}
    }
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    length.is_none_or(|length: usize| body.len() >= length)
}
