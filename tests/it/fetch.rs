//! Images and documents that a call names by URL: fetched where the provider has to be sent bytes, and nowhere else.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n not much of a picture";
const PDF: &[u8] = b"%PDF-1.7 not much of a document";

/// The gateway may reach this machine.
const OWN: &str = "fetch: { allow_hosts: [\"127.0.0.1\"] }";

/// A provider of OpenAI's format that takes images as bytes alone.
const BYTES: &str = "takes_urls: false";

/// What a model says.
const DONE: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":{"role":"assistant","content":"Seen."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;

/// A server with some files; counts how often it is asked.
struct Files {
    origin: String,
    asked: Arc<AtomicUsize>,
}

impl Files {
    #[expect(clippy::disallowed_methods, reason = "the other side of the gateway")]
    async fn start() -> Self {
        let listener = RawUpstream::listen().await;
        let origin = format!("http://{}", listener.address);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            loop {
                let mut exchange = listener.accept().await;
                count.fetch_add(1, Ordering::Relaxed);
                let path = exchange.request.split(' ').nth(1).unwrap().to_owned();
                let large = [PNG, &vec![0; 3_000_000]].concat();
                let (status, kind, body): (_, _, &[u8]) = match &*path {
                    "/a.png" => (200, "application/octet-stream", PNG),
                    "/b.pdf" => (200, "application/pdf", PDF),
                    "/c.txt" => (200, "text/plain; charset=utf-8", "Zwölf \"Boxkämpfer\"".as_bytes()),
                    "/large.png" => (200, "image/png", &large),
                    "/page.html" => (200, "text/html", b"<html>Sign in</html>"),
                    _ => (404, "text/plain", b"no"),
                };
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
                exchange.send([head.as_bytes(), body].concat()).await;
            }
        });
        Self { origin, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn whole(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A call of Anthropic's format with these blocks, one of them inside a tool's result.
fn claude(blocks: &[Value]) -> String {
    let mut content = vec![json!({ "type": "tool_result", "tool_use_id": "t1", "content": [blocks[0]] })];
    content.extend(blocks[1..].iter().cloned());
    json!({ "model": MODEL, "max_tokens": 50, "messages": [
        { "role": "user", "content": "Look." },
        { "role": "assistant", "content": [{ "type": "tool_use", "id": "t1", "name": "see", "input": {} }] },
        { "role": "user", "content": content }] })
    .to_string()
}

fn block(kind: &str, url: &str) -> Value {
    json!({ "type": kind, "source": { "type": "url", "url": url } })
}

async fn play(upstream: &RawUpstream) -> Value {
    let request = upstream.accept_and(&whole(DONE)).await;
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn what_a_provider_cannot_fetch_is_sent_as_bytes() {
    let (files, upstream) = (Files::start().await, RawUpstream::listen().await);
    let gate = Gate::build().upstream_with("a", upstream.address, BYTES).config(OWN).start().await;
    let url = |name: &str| format!("{}/{name}", files.origin);
    let blocks = [
        block("image", &url("a.png")),
        block("image", &url("a.png")),
        block("document", &url("b.pdf")),
        block("document", &url("c.txt")),
        block("image", &url("large.png")),
    ];
    let (heard, request) = tokio::join!(gate.post("/messages", claude(&blocks), &[]), play(&upstream));
    assert_eq!(heard.status, 200, "{}", heard.text());
    let parts = request["messages"].as_array().unwrap().last().unwrap()["content"].as_array().unwrap();
    let image = format!("data:image/png;base64,{}", base64(PNG));
    let images: Vec<_> = parts.iter().filter_map(|part| part["image_url"]["url"].as_str()).collect();
    assert_eq!((images.len(), images[0], images[1]), (3, &*image, &*image));
    assert_eq!(images[2].len(), "data:image/png;base64,".len() + base64(&[0; 3_000_030]).len());
    let file = parts.iter().find(|part| part["type"] == "file").unwrap();
    assert_eq!(file["file"]["file_data"], format!("data:application/pdf;base64,{}", base64(PDF)));
    assert!(parts.iter().any(|part| part["text"] == "Zwölf \"Boxkämpfer\""), "{parts:?}");
    assert_eq!(files.asked(), 4, "each once");
    gate.unseen(1);
    gate.finish().await;
}

#[tokio::test]
async fn nothing_is_fetched_for_a_provider_that_takes_urls_or_speaks_the_clients_format() {
    let files = Files::start().await;
    let image = block("image", &format!("{}/a.png", files.origin));
    for (kind, finds) in [
        ("", "/messages/2/content/1/image_url/url"),
        ("kind: anthropic, takes_urls: false", "/messages/2/content/1/source/url"),
    ] {
        let upstream = RawUpstream::listen().await;
        let gate = Gate::build().upstream_with("a", upstream.address, kind).config(OWN).start().await;
        let call = claude(&[json!({ "type": "text", "text": "Seen." }), image.clone()]);
        let answer = r#"{"id":"m","type":"message","role":"assistant","model":"up","content":[{"type":"text","text":"Seen."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1}}"#;
        let answer = whole(if kind.is_empty() { DONE } else { answer });
        let (heard, request) = tokio::join!(gate.post("/messages", call, &[]), upstream.accept_and(&answer));
        assert_eq!(heard.status, 200, "{}", heard.text());
        let request: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        let found = request.pointer(finds).or(request.pointer("/messages/3/content/0/image_url/url"));
        assert_eq!(found, Some(&image["source"]["url"]), "{request}");
        gate.unseen(1);
        gate.finish().await;
    }
    assert_eq!(files.asked(), 0);
}

#[tokio::test]
async fn files_are_fetched_once_for_all_attempts() {
    let (files, upstream) = (Files::start().await, RawUpstream::listen().await);
    let gate = Gate::build()
        .upstream_with("a", upstream.address, BYTES)
        .upstream_with("b", upstream.address, BYTES)
        .config(OWN)
        .config("models: { m: { targets: [a/up, b/up] } }")
        .start()
        .await;
    let call = claude(&[
        block("image", &format!("{}/a.png", files.origin)),
        block("document", &format!("{}/b.pdf", files.origin)),
    ]);
    let both = async {
        let first = upstream.accept_and("HTTP/1.1 500 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        (first, upstream.accept_and(&whole(DONE)).await)
    };
    let (heard, (first, second)) = tokio::join!(gate.post("/messages", call, &[]), both);
    assert_eq!((heard.status, heard.header("x-switchboard-attempts")), (200, "2"), "{}", heard.text());
    assert_eq!(first.split_once("\r\n\r\n").unwrap().1, second.split_once("\r\n\r\n").unwrap().1);
    assert_eq!(files.asked(), 2);
    gate.unseen(2);
    gate.finish().await;
}

#[tokio::test]
async fn what_cannot_be_fetched_is_a_400_that_names_its_place() {
    let files = Files::start().await;
    let own = files.origin.clone();
    let small = "fetch: { allow_hosts: [\"127.0.0.1\"], max_size: 1MB, max_files: 1 }";
    let cases = [
        ("", "image", format!("{own}/a.png"), "url_not_fetched", "port may not be connected to"),
        ("", "image", "http://127.0.0.1/a.png".into(), "url_not_fetched", "not found, or not public"),
        ("", "image", "http://169.254.169.254/latest/meta-data".into(), "url_not_fetched", "not found, or not public"),
        ("", "image", "file:///etc/passwd".into(), "url_not_fetched", "no address of the web"),
        (OWN, "image", format!("{own}/none.png"), "url_not_fetched", "answered 404"),
        (OWN, "image", format!("{own}/page.html"), "url_not_fetched", "it is no image"),
        (OWN, "document", format!("{own}/page.html"), "url_not_fetched", "it is neither a PDF nor text"),
        (OWN, "document", format!("{own}/a.png"), "url_not_fetched", "it is neither a PDF nor text"),
        (small, "image", format!("{own}/large.png"), "url_not_fetched", "larger than 1000000 bytes"),
        ("fetch: { enabled: false }", "image", format!("{own}/a.png"), "url_not_supported", "fetches none"),
    ];
    for (config, kind, url, code, words) in cases {
        let gate = Gate::build().upstream_with("a", RawUpstream::closed(), BYTES).config(config).start().await;
        let call = claude(&[block(kind, &url)]);
        let heard = gate.post("/messages", call, &[]).await;
        let place = "messages[2].content[0].content[0].source.url";
        let error = &heard.json()["error"];
        assert_eq!((heard.status, &error["type"]), (400, &json!("invalid_request_error")), "{url}: {}", heard.text());
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words) && message.contains(place), "{url}: {message}");
        gate.unseen(1);
        let (_, rows) = gate.finish_books().await;
        assert_eq!((rows[0].error_code.as_deref(), rows[0].attempts[0].usage.input), (Some(code), 0), "{url}");
    }
    // The same for a client of OpenAI's format, and for one file too many.
    let gate = Gate::build()
        .upstream_with("a", RawUpstream::closed(), "kind: anthropic, takes_urls: false")
        .config(small)
        .start()
        .await;
    let part = |name: &str| json!({ "type": "image_url", "image_url": { "url": format!("{own}/{name}") } });
    let call = json!({ "model": MODEL, "messages": [{ "role": "user", "content": [part("x.png"), part("y.png")] }] });
    let heard = gate.post("/chat/completions", call.to_string(), &[]).await;
    let error = &heard.json()["error"];
    assert_eq!((heard.status, &error["code"]), (400, &json!("url_not_supported")), "{}", heard.text());
    assert_eq!(error["param"], "messages[0].content[1].image_url.url");
    let call = json!({ "model": MODEL, "messages": [{ "role": "user", "content": [part("x.png")] }] });
    let heard = gate.post("/chat/completions", call.to_string(), &[]).await;
    let error = &heard.json()["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("url_not_fetched"), &json!("messages[0].content[0].image_url.url"))
    );
    gate.unseen(2);
    gate.finish().await;
}

#[tokio::test]
async fn a_target_that_takes_urls_stands_in_for_one_that_does_not() {
    let upstream = RawUpstream::listen().await;
    let gate = Gate::build()
        .upstream_with("a", RawUpstream::closed(), BYTES)
        .upstream("b", upstream.address)
        .config("fetch: { enabled: false }\nmodels: { m: { targets: [a/up, b/up] } }")
        .start()
        .await;
    let call = claude(&[block("image", "https://example.com/a.png")]);
    let (heard, request) = tokio::join!(gate.post("/messages", call, &[]), play(&upstream));
    assert_eq!((heard.status, heard.header("x-switchboard-target")), (200, "b/up"), "{}", heard.text());
    assert!(request.to_string().contains("https://example.com/a.png"), "{request}");
    gate.unseen(2);
    gate.finish().await;
}
