//! Real servers on this machine, and a script of what names resolve to.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{Mutex, atomic::AtomicU32},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::types::{Period, Size};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that answers each connection with the next of `answers`, and keeps what it was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the other side of a fetch")]
    async fn start(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = asked.clone();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap();
                heard.lock().unwrap().push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    [format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n").as_bytes(), body].concat()
}

fn on_to(location: &str) -> Vec<u8> {
    answer(&format!("302 Found\r\nlocation: {location}"), b"")
}

/// A fetcher that may reach the host `own` on this machine, and whose names resolve as the script says, each once.
fn fetcher(script: &[(&'static str, &[IpAddr])]) -> Fetcher {
    let settings = FetchSettings {
        max_size: Size(1_000),
        max_total: Size(1_500),
        timeout: Period::from_secs(20),
        allow_hosts: vec!["own".into()],
        ..FetchSettings::default()
    };
    let script: VecDeque<_> = script.iter().map(|(name, addresses)| (*name, addresses.to_vec())).collect();
    Fetcher { names: Names::Scripted(Mutex::new(script)), ..Fetcher::new(settings, Clock::Real) }
}

async fn get(fetcher: &Fetcher, url: &str) -> Result<File, FetchError> {
    fetcher.get(url, &fetcher.room(), fetcher.deadline()).await
}

#[tokio::test]
async fn a_file_comes_with_its_type_and_nothing_of_the_gateway_goes_along() {
    let server = Server::start(vec![answer("200 OK\r\ncontent-type: image/png", b"bytes")]).await;
    let fetcher = fetcher(&[("own", &[HERE])]);
    let file = get(&fetcher, &format!("http://own:{}/a?b=c#d", server.port)).await.unwrap();
    assert_eq!((file.media_type.as_str(), &*file.bytes), ("image/png", &b"bytes"[..]));
    let asked = server.asked().join("").to_ascii_lowercase();
    assert!(asked.starts_with(&format!("get /a?b=c http/1.1\r\nhost: own:{}\r\n", server.port)), "{asked}");
    let names: Vec<&str> =
        asked.lines().skip(1).filter_map(|line| line.split_once(':').map(|(name, _)| name)).collect();
    assert_eq!(names, ["host", "user-agent", "accept", "accept-encoding", "connection"]);
}

#[tokio::test]
async fn what_was_looked_at_is_what_is_connected_to() {
    // The name is asked once. Had it been asked again for the connection, the script would have been at its end.
    let server = Server::start(vec![answer("200 OK", b"first")]).await;
    let rebound = fetcher(&[("own", &[HERE])]);
    assert_eq!(get(&rebound, &format!("http://own:{}/", server.port)).await.unwrap().bytes, "first");
    // A name that is public for the look and private for a redirect to itself does not get there.
    let inner = Server::start(vec![answer("200 OK", b"secret")]).await;
    let outer = Server::start(vec![on_to(&format!("http://rebinding:{}/", inner.port))]).await;
    let rebound = fetcher(&[("own", &[HERE]), ("rebinding", &[HERE])]);
    let refused = get(&rebound, &format!("http://own:{}/", outer.port)).await;
    assert!(matches!(refused, Err(FetchError::Port)), "{refused:?}");
    assert!(inner.asked().is_empty());
}

#[tokio::test]
async fn addresses_that_are_not_public_are_not_connected_to() {
    let public: IpAddr = "93.184.216.34".parse().unwrap();
    for address in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "::ffff:10.0.0.1", "0.0.0.0"] {
        let address: IpAddr = address.parse().unwrap();
        let name = fetcher(&[("name", &[address])]);
        assert_eq!(get(&name, "http://name/").await, Err(FetchError::Host), "{address}");
        let among = fetcher(&[("name", &[public, address])]);
        assert_eq!(get(&among, "http://name/").await, Err(FetchError::Host), "{address} among others");
        let literal = if address.is_ipv6() { format!("http://[{address}]/") } else { format!("http://{address}/") };
        assert_eq!(get(&fetcher(&[]), &literal).await, Err(FetchError::Host), "{literal}");
    }
    // Nor are these for hosts of the operator's own.
    let metadata = fetcher(&[("own", &["169.254.169.254".parse().unwrap()])]);
    assert_eq!(get(&metadata, "http://own/").await, Err(FetchError::Host));
    assert_eq!(get(&fetcher(&[("nowhere", &[])]), "http://nowhere/").await, Err(FetchError::Host));
    assert_eq!(get(&fetcher(&[]), "http://public:22/").await, Err(FetchError::Port));
    // Spellings that the system's resolver takes for this machine.
    let system = Fetcher::new(FetchSettings::default(), Clock::Real);
    for host in ["localhost", "0x7f.1", "2130706433", "127.1", "0177.0.0.1", "0"] {
        assert_eq!(get(&system, &format!("http://{host}/")).await, Err(FetchError::Host), "{host}");
    }
}

#[tokio::test]
async fn each_redirect_is_looked_at_again() {
    let server = Server::start(vec![on_to("/b"), on_to("c?d"), answer("200 OK", b"there")]).await;
    let three = fetcher(&[("own", &[HERE]), ("own", &[HERE]), ("own", &[HERE])]);
    assert_eq!(get(&three, &format!("http://own:{}/a", server.port)).await.unwrap().bytes, "there");
    let paths: Vec<_> = server.asked().iter().map(|asked| asked.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(paths, ["/a", "/b", "/c?d"]);
    let refusals = [
        ("http://inside/", FetchError::Host),
        ("http://169.254.169.254/latest/meta-data", FetchError::Host),
        ("http://own:1@inside/", FetchError::Address),
        ("file:///etc/passwd", FetchError::Address),
        ("http://inside:6379/", FetchError::Port),
    ];
    for (location, expected) in refusals {
        let server = Server::start(vec![on_to(location)]).await;
        let fetcher = fetcher(&[("own", &[HERE]), ("inside", &[HERE])]);
        assert_eq!(get(&fetcher, &format!("http://own:{}/", server.port)).await, Err(expected), "{location}");
    }
    let circle = Server::start(vec![on_to("/"); 9]).await;
    let fetcher = fetcher(&[("own", &[HERE][..]); 9]);
    assert_eq!(get(&fetcher, &format!("http://own:{}/", circle.port)).await, Err(FetchError::Redirects));
    assert_eq!(circle.asked().len(), MAX_REDIRECTS + 1);
}

#[tokio::test]
async fn what_is_too_large_or_no_answer_is_given_up() {
    let cases = [
        (answer("200 OK", &[b'a'; 1_000]), Ok(1_000)),
        (answer("200 OK", &[b'a'; 1_001]), Err(FetchError::TooLarge(1_000))),
        // Nothing is read of what says that it is too large.
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec(), Err(FetchError::TooLarge(1_000))),
        ([&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'a'; 5_000]].concat(), Err(FetchError::TooLarge(1_000))),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec(), Err(FetchError::Broken)),
        (b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), Err(FetchError::Broken)),
        (answer("404 Not Found", b""), Err(FetchError::Status(StatusCode::NOT_FOUND))),
        (answer("302 Found", b""), Err(FetchError::Status(StatusCode::FOUND))),
        (answer("206 Partial Content", b"a"), Err(FetchError::Status(StatusCode::PARTIAL_CONTENT))),
    ];
    for (answer, expected) in cases {
        let server = Server::start(vec![answer]).await;
        let got = get(&fetcher(&[("own", &[HERE])]), &format!("http://own:{}/", server.port)).await;
        assert_eq!(got.map(|file| file.bytes.len()), expected);
    }
}

#[tokio::test]
async fn a_small_answer_that_grows_when_it_is_unpacked_is_given_up() {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut packed, &vec![0; 50_000_000]).unwrap();
    let server = Server::start(vec![answer("200 OK\r\ncontent-encoding: gzip", &packed.finish().unwrap())]).await;
    let mut fetcher = fetcher(&[("own", &[HERE])]);
    fetcher.settings.max_size = Size::kib(256);
    fetcher.settings.max_total = Size::mib(1);
    let got = get(&fetcher, &format!("http://own:{}/", server.port)).await;
    assert_eq!(got, Err(FetchError::TooLarge(256 * 1024)));
}

#[tokio::test]
async fn the_files_of_a_call_have_a_size_together() {
    let server = Server::start(vec![answer("200 OK", &[b'a'; 900]); 2]).await;
    let fetcher = fetcher(&[("own", &[HERE]), ("own", &[HERE])]);
    let (room, url) = (fetcher.room(), format!("http://own:{}/", server.port));
    assert!(fetcher.get(&url, &room, fetcher.deadline()).await.is_ok());
    assert_eq!(fetcher.get(&url, &room, fetcher.deadline()).await, Err(FetchError::TooMuch(1_500)));
}

#[tokio::test]
async fn a_server_that_is_silent_and_a_turn_that_never_comes_have_an_end() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let clock = Clock::held();
    let mut fetcher = fetcher(&[("own", &[HERE])]);
    fetcher.clock = clock.clone();
    let fetcher = Arc::new(fetcher);
    let waits = AtomicU32::new(0);
    let fetch = async {
        let got = get(&fetcher, &format!("http://own:{port}/")).await;
        waits.store(1, Ordering::Relaxed);
        got
    };
    let time = async {
        // It has connected, so it waits for the answer.
        let _connection = listener.accept().await.unwrap();
        assert_eq!(waits.load(Ordering::Relaxed), 0);
        clock.advance(Duration::from_secs(20));
        std::future::pending::<()>().await;
    };
    let got = tokio::select! { got = fetch => got, () = time => unreachable!() };
    assert_eq!(got, Err(FetchError::TooSlow));

    let _all = fetcher.places.acquire_many(32).await.unwrap();
    let (late, ()) = tokio::join!(get(&fetcher, "http://own/"), async {
        clock.advance(Duration::from_secs(20));
    });
    assert_eq!(late, Err(FetchError::TooSlow));
}
