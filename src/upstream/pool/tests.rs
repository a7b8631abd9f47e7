//! Which version is spoken, and over how many connections, with providers behind TLS.

use std::{convert::Infallible, sync::atomic::AtomicUsize};

use bytes::Bytes;
use futures_util::future::join_all;
use http::uri;
use http_body_util::Full;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

use super::*;
use crate::upstream::Trust;

/// A provider behind TLS that offers `protocols`, and counts its connections.
struct Provider {
    uri: http::Uri,
    accepted: Arc<AtomicUsize>,
    clock: Clock,
    tasks: Tasks,
}

impl Provider {
    async fn new(protocols: &'static [&'static [u8]]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let (accepted, tasks) = (Arc::<AtomicUsize>::default(), Tasks::new());
        let (counted, others, tls) = (accepted.clone(), tasks.clone(), acceptor(protocols));
        tasks.spawn_untracked(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                counted.fetch_add(1, Ordering::SeqCst);
                others.spawn_untracked(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    let service = service_fn(async |request: Request<hyper::body::Incoming>| {
                        let version = format!("{:?}", request.version());
                        // Long enough for calls to meet.
                        Clock::Real.sleep(Duration::from_millis(20)).await;
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(version))))
                    });
                    let stream = TokioIo::new(stream);
                    if is_http2 {
                        let mut builder = http2::Builder::new(TokioExecutor::new());
                        let _ = builder.timer(TokioTimer::new()).serve_connection(stream, service).await;
                    } else {
                        let _ = http1::Builder::new().serve_connection(stream, service).await;
                    }
                });
            }
        });
        Self { uri, accepted, clock: Clock::held(), tasks }
    }

    fn pool(&self, http: Http) -> Pool {
        let key = PoolKey {
            scheme: uri::Scheme::HTTPS,
            authority: self.uri.authority().unwrap().clone(),
            http,
            connect_timeout: Duration::from_secs(5),
            trust: Trust::Anyone,
        };
        Pool::new(&key, self.clock.clone(), self.tasks.clone()).unwrap()
    }

    fn request(&self) -> Request<OutBody> {
        Request::get(&self.uri).body(OutBody::new(Bytes::new().into())).unwrap()
    }

    /// The version the provider saw.
    async fn ask(&self, pool: &Pool) -> String {
        let answer = pool.send(self.request()).await.unwrap();
        let version = answer.version();
        let mut body = answer.into_body();
        let seen = String::from_utf8(body.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert_eq!(seen, format!("{version:?}"));
        assert!(body.next().await.is_none());
        seen
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn acceptor(protocols: &[&[u8]]) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["provider.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];
const ONE: &[&[u8]] = &[b"http/1.1"];

#[tokio::test]
async fn the_version_is_the_settings_or_else_the_providers_choice_and_connections_are_used_again() {
    let cases = [
        (BOTH, Http::Auto, "HTTP/2.0"),
        (BOTH, Http::Two, "HTTP/2.0"),
        (BOTH, Http::One, "HTTP/1.1"),
        (ONE, Http::Auto, "HTTP/1.1"),
        (ONE, Http::One, "HTTP/1.1"),
        (&[], Http::Auto, "HTTP/1.1"),
    ];
    for (offered, http, spoken) in cases {
        let provider = Provider::new(offered).await;
        let pool = provider.pool(http);
        for _ in 0..3 {
            assert_eq!(provider.ask(&pool).await, spoken, "{http:?}");
        }
        assert_eq!(provider.accepted(), 1, "{http:?} with {} offers", offered.len());
        let anew = pool.send_anew(provider.request()).await.unwrap();
        assert_eq!((format!("{:?}", anew.version()).as_str(), provider.accepted()), (spoken, 2), "{http:?}");
    }
}

#[tokio::test]
async fn calls_that_meet_share_connections_of_http_2_and_have_their_own_of_http_1() {
    for (offered, calls, connections) in [(BOTH, 80, 1..=1), (BOTH, 200, 3..=3), (ONE, 20, 20..=21)] {
        let provider = Provider::new(offered).await;
        let pool = provider.pool(Http::Auto);
        let versions = join_all((0..calls).map(|_| provider.ask(&pool))).await;
        let spoken = if offered == BOTH { "HTTP/2.0" } else { "HTTP/1.1" };
        assert!(versions.iter().all(|version| version == spoken), "{versions:?}");
        assert!(connections.contains(&provider.accepted()), "{calls} calls over {} connections", provider.accepted());
    }
}

#[tokio::test]
async fn an_http_2_connection_is_kept_for_a_while_and_closed_when_nobody_uses_it() {
    let provider = Provider::new(BOTH).await;
    let pool = provider.pool(Http::Auto);
    provider.ask(&pool).await;
    provider.clock.advance(IDLE_TLS - Duration::from_secs(1));
    provider.ask(&pool).await;
    assert_eq!(provider.accepted(), 1);
    for _ in 0..3 {
        Clock::Real.sleep(Duration::from_millis(5)).await;
        provider.clock.advance(IDLE_TLS);
    }
    Clock::Real.sleep(Duration::from_millis(5)).await;
    assert_eq!(pool.lanes.open(), 0);
    provider.ask(&pool).await;
    assert_eq!(provider.accepted(), 2);
}

#[tokio::test]
async fn the_connect_deadline_covers_name_tcp_and_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri: http::Uri = format!("https://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let provider = Provider { uri, accepted: Arc::default(), clock: Clock::held(), tasks: Tasks::new() };
    for http in [Http::Auto, Http::One, Http::Two] {
        let pool = provider.pool(http);
        let mut sent = std::pin::pin!(pool.send(provider.request()));
        // The provider accepts and then says nothing.
        let silent = tokio::select! {
            sent = &mut sent => panic!("{sent:?}"),
            accepted = listener.accept() => accepted.unwrap(),
        };
        for _ in 0..10 {
            tokio::select! {
                biased;
                sent = &mut sent => panic!("{sent:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        provider.clock.advance(Duration::from_secs(5));
        let sent = sent.await;
        assert!(matches!(sent, Err(SendError::ConnectTimeout(_))), "{http:?}: {sent:?}");
        drop(silent);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_failure_to_connect() {
    let provider = Provider::new(BOTH).await;
    let key = PoolKey {
        scheme: uri::Scheme::HTTPS,
        authority: provider.uri.authority().unwrap().clone(),
        http: Http::Auto,
        connect_timeout: Duration::from_secs(5),
        trust: Trust::Web,
    };
    let pool = Pool::new(&key, Clock::Real, Tasks::new()).unwrap();
    let sent = pool.send(provider.request()).await;
    assert!(matches!(sent, Err(SendError::Connect(_))), "{sent:?}");
}
