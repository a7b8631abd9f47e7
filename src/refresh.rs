//! Prices from an address of the operator's: fetched now and then, checked whole, kept on disk.
//!
//! Nothing is fetched unless `prices.url` is set. What was fetched last is in the data directory, so that a start without
//! a network has it. A fetch that fails, or brings something that is no price file, changes nothing and says so.

use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{Request, StatusCode, Uri, header};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Book, Origin, PriceSettings},
    config::{Complaints, read_prices},
    types::Clock,
    upstream::{BodyError, Connections, Gathered, Http, OutBody, PoolKey, SendError, TlsError, Trust},
};

/// How soon a failed fetch is tried again, unless the next one is due sooner.
const RETRY: Duration = Duration::from_secs(600);

/// Why prices were not fetched. The ones before stay in force.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    #[error("this is not a web address")]
    Address,
    #[error("it took longer than {0} s")]
    TooSlow(u64),
    #[error("{0}")]
    Send(#[from] SendError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("the answer was {0}; redirects are not followed")]
    Status(StatusCode),
    #[error("the answer broke off: {0}")]
    Body(#[from] BodyError),
    #[error("the answer is larger than {0} bytes (`prices.max_size`)")]
    TooLarge(usize),
    #[error("the answer is not UTF-8 text")]
    NotText,
    #[error("the answer is not a price file:\n{0}")]
    Wrong(Complaints),
    #[error("checking it was broken off")]
    Aborted,
    #[error("it cannot be kept in {path}: {cause}")]
    Disk { path: PathBuf, cause: io::Error },
}

/// The prices that were fetched last from this address, if any were. `data_dir` is where they are kept.
///
/// # Errors
/// When the file was damaged, which says what to do: it can be removed.
pub fn kept(settings: &PriceSettings, data_dir: &Path) -> Result<Option<Arc<Book>>, Complaints> {
    let Some(url) = &settings.url else { return Ok(None) };
    let path = place(data_dir, url);
    // A file that is not there, or cannot be read, is as good as none: the next fetch says what is wrong with the disk.
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
    read_prices(&text, Some(&path), Origin::Url).map(|book| Some(Arc::new(book)))
}

/// Fetches now and then until `stop`, the first time at once, and hands what came to `take`. Returns at once when no
/// address is set. A failure is logged, tried again sooner, and reported to `failed` for the metrics.
pub async fn follow(
    settings: &PriceSettings,
    data_dir: &Path,
    connections: &Connections,
    clock: &Clock,
    stop: CancellationToken,
    take: impl Fn(Arc<Book>),
    failed: impl Fn(),
) {
    if settings.url.is_none() {
        return;
    }
    loop {
        let fetched = tokio::select! {
            () = stop.cancelled() => return,
            fetched = fetch(settings, data_dir, connections, clock) => fetched,
        };
        let pause = match fetched {
            Ok(book) => {
                tracing::info!(models = book.len(), "prices fetched");
                take(book);
                settings.refresh.0
            }
            Err(error) => {
                failed();
                tracing::warn!("prices were not fetched, those before stay in force: {error}");
                settings.refresh.0.min(RETRY)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(pause) => {}
        }
    }
}

/// Fetches, checks and keeps the price file once.
///
/// # Errors
/// See [`RefreshError`]; what was kept before is still there.
pub async fn fetch(
    settings: &PriceSettings,
    data_dir: &Path,
    connections: &Connections,
    clock: &Clock,
) -> Result<Arc<Book>, RefreshError> {
    let url = settings.url.as_deref().ok_or(RefreshError::Address)?;
    let most = settings.max_size.bytes();
    let deadline = clock.now() + settings.timeout.0;
    let fetched = clock.timeout_at(deadline, download(url, settings.timeout.0, most, connections)).await;
    let text = fetched.map_err(|_| RefreshError::TooSlow(settings.timeout.0.as_secs()))??;
    let path = place(data_dir, url);
    // A large file takes a while to check, which is no work for a thread that serves calls.
    let work = move || {
        let book = read_prices(&text, None, Origin::Url).map_err(RefreshError::Wrong)?;
        keep(&path, &text).map_err(|cause| RefreshError::Disk { path, cause })?;
        Ok(Arc::new(book))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(RefreshError::Aborted),
    }
}

async fn download(
    url: &str,
    timeout: Duration,
    most: usize,
    connections: &Connections,
) -> Result<String, RefreshError> {
    let uri: Uri = url.parse().map_err(|_| RefreshError::Address)?;
    let (Some(scheme), Some(authority)) = (uri.scheme().cloned(), uri.authority().cloned()) else {
        return Err(RefreshError::Address);
    };
    let key = PoolKey { scheme, authority, http: Http::Auto, connect_timeout: timeout, trust: Trust::Web };
    let request = Request::get(uri)
        .header(header::USER_AGENT, concat!("switchboard/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/yaml, application/json, text/plain")
        .header(header::ACCEPT_ENCODING, "identity")
        .body(OutBody::new(bytes::Bytes::new().into()))
        .map_err(|_| RefreshError::Address)?;
    let (mut head, body) = connections.pool(&key)?.send(request).await?.into_parts();
    if head.status != StatusCode::OK {
        return Err(RefreshError::Status(head.status));
    }
    let (mut body, mut gathered) = (body.decode(&mut head.headers)?, Gathered::default());
    while let Some(piece) = body.next().await {
        gathered.push(piece?);
        if gathered.len() > most {
            return Err(RefreshError::TooLarge(most));
        }
    }
    String::from_utf8(gathered.join().into()).map_err(|_| RefreshError::NotText)
}

/// Writes beside the file and renames, so that a crash leaves the old one or the new one.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::File::open(&beside)?.sync_all()?;
    std::fs::rename(&beside, path)
}

/// Where what came from `url` is kept. Another address is another file: its prices are not this one's.
fn place(data_dir: &Path, url: &str) -> PathBuf {
    let mut name = "prices-".to_owned();
    for byte in Sha256::digest(url.as_bytes()).iter().take(6) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    data_dir.join(name + ".yaml")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::types::{Period, Size, Tasks};

    /// Answers every connection with what `answers` holds, the last for ever.
    #[expect(clippy::disallowed_methods, reason = "the other side of the fetch")]
    async fn server(answers: Vec<Vec<u8>>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut at = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 2048];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(&answers[at.min(answers.len() - 1)]).await;
                at += 1;
            }
        });
        format!("http://{address}/prices.yaml")
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn settings(url: &str) -> PriceSettings {
        PriceSettings { url: Some(url.to_owned()), timeout: Period::from_millis(800), ..PriceSettings::default() }
    }

    #[tokio::test]
    async fn what_was_fetched_is_kept_for_a_start_without_a_network() {
        let folder = tempfile::tempdir().unwrap();
        let connections = Connections::new(Clock::Real, Tasks::new());
        let url = server(vec![answer("200 OK", "openai:\n  gpt: { input: 1, output: 2 }\n")]).await;
        let settings = settings(&url);
        assert_eq!(kept(&settings, folder.path()), Ok(None));
        let book = fetch(&settings, folder.path(), &connections, &Clock::Real).await.unwrap();
        assert_eq!(&*book.find("openai", "gpt").unwrap().name(0), "url:openai/gpt");
        assert_eq!(kept(&settings, folder.path()), Ok(Some(book)));
        let elsewhere = PriceSettings { url: Some("http://127.0.0.1:1/other".into()), ..settings.clone() };
        assert_eq!(kept(&elsewhere, folder.path()), Ok(None), "another address is another file");
        assert_eq!(kept(&PriceSettings::default(), folder.path()), Ok(None));
        assert!(fetch(&elsewhere, folder.path(), &connections, &Clock::Real).await.is_err());
    }

    #[tokio::test]
    async fn a_failed_fetch_changes_nothing_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let connections = Connections::new(Clock::Real, Tasks::new());
        let good = answer("200 OK", "openai:\n  gpt: { input: 1 }\n");
        let cases = [
            (answer("200 OK", "openai:\n  gpt: { inptu: 1 }\n"), "unknown key `inptu`"),
            (answer("200 OK", "openai:\n  gpt: { input: 1 }\n  gtp: { input: -1 }\n"), "`-1` is not a price"),
            (answer("404 Not Found", "openai:\n"), "404"),
            (answer("302 Found", ""), "redirects are not followed"),
            (answer("200 OK", &"#".repeat(3000)), "larger than 2048 bytes"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nopenai:".to_vec(), "broke off"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\xff".to_vec(), "not UTF-8"),
            (b"hello\r\n\r\n".to_vec(), "not HTTP"),
        ];
        for (bad, message) in cases {
            let url = server(vec![good.clone(), bad]).await;
            let settings = PriceSettings { max_size: Size::kib(2), ..settings(&url) };
            let book = fetch(&settings, folder.path(), &connections, &Clock::Real).await.unwrap();
            let error = fetch(&settings, folder.path(), &connections, &Clock::Real).await.unwrap_err();
            assert!(error.to_string().contains(message), "{message}: {error}");
            assert_eq!(kept(&settings, folder.path()), Ok(Some(book)), "{message}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = settings(&format!("http://{}/", listener.local_addr().unwrap()));
        let connections = Connections::new(Clock::Real, Tasks::new());
        let error = fetch(&settings, folder.path(), &connections, &Clock::Real).await.unwrap_err();
        assert!(matches!(error, RefreshError::TooSlow(_)), "{error}");
    }

    #[tokio::test]
    async fn prices_are_followed_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, stop) = (Clock::Real, CancellationToken::new());
        let connections = Connections::new(clock.clone(), Tasks::new());
        let url = server(vec![answer("200 OK", "openai:\n  gpt: { input: 1 }\n")]).await;
        let (taken, failures) = (Mutex::new(0), Mutex::new(0));
        let settings = settings(&url);
        let take = |book: Arc<Book>| {
            *taken.lock().unwrap() += book.len();
            stop.cancel();
        };
        follow(&settings, folder.path(), &connections, &clock, stop.clone(), take, || *failures.lock().unwrap() += 1)
            .await;
        assert_eq!((*taken.lock().unwrap(), *failures.lock().unwrap()), (1, 0));
        follow(&PriceSettings::default(), folder.path(), &connections, &clock, CancellationToken::new(), |_| {}, || {})
            .await;
    }
}
