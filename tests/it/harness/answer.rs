//! What a client got.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::{Gate, soon};

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// `false`: the connection broke before the body was complete.
    pub complete: bool,
}

/// A stream that is being read. Dropping it closes the connection, as a client does that hangs up.
#[derive(Debug)]
pub struct Live {
    response: reqwest::Response,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header's text; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The `code` of an error: of the body, or of a stream's last event. Empty when there is none.
    pub fn code(&self) -> String {
        let body = serde_json::from_slice::<Value>(&self.body).ok();
        let last = || self.events().iter().rev().find_map(|event| serde_json::from_str::<Value>(event).ok());
        let error = body.or_else(last).unwrap_or_default();
        error["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The data of a stream's events.
    pub fn events(&self) -> Vec<String> {
        self.text().split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    /// How a stream ended: `done`, `error`, or neither.
    pub fn ending(&self) -> &'static str {
        let events = self.events();
        let last = events.last().map(String::as_str).unwrap_or_default();
        let errors = events.iter().filter(|event| event.starts_with("{\"error\":")).count();
        match (last == "[DONE]", errors) {
            (true, 0) => "done",
            (false, 1) if last.starts_with("{\"error\":") => "error",
            _ => "neither",
        }
    }

    /// All text of the first choice, whole or streamed.
    pub fn content(&self) -> String {
        if let Ok(whole) = serde_json::from_slice::<Value>(&self.body) {
            return whole["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
        }
        let chunks = self.events().into_iter().filter_map(|event| serde_json::from_str::<Value>(&event).ok());
        chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    }
}

impl Live {
    pub fn of(response: reqwest::Response) -> Self {
        Self { response }
    }

    /// The next bytes as they come from the socket; `None` at the end. Time stands still meanwhile.
    pub async fn next(&mut self) -> Option<Bytes> {
        soon(self.response.chunk()).await.ok().flatten()
    }

    /// Bytes that are there already.
    pub async fn ready(&mut self) -> String {
        let mut text = Vec::new();
        loop {
            let mut next = std::pin::pin!(self.response.chunk());
            let mut found = None;
            for _ in 0..64 {
                if let std::task::Poll::Ready(piece) = futures_util::poll!(next.as_mut()) {
                    found = piece.ok().flatten();
                    break;
                }
                tokio::task::yield_now().await;
            }
            match found {
                Some(piece) => text.extend_from_slice(&piece),
                None => return String::from_utf8_lossy(&text).into_owned(),
            }
        }
    }

    /// Reads until something has been said.
    pub async fn read_until(&mut self, part: &str) -> String {
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(part) {
            let Some(piece) = self.next().await else {
                panic!("the stream ended without `{part}`: {}", String::from_utf8_lossy(&text))
            };
            text.extend_from_slice(&piece);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The rest, to the end.
    pub async fn rest(self, gate: &Gate) -> Answer {
        soon(gate.read(self.response)).await
    }
}
