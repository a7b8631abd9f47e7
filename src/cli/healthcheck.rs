//! `switchboard healthcheck`: asks a running gateway whether it may take traffic. For containers without a shell.

use std::{str::FromStr, time::Duration};

use bytes::Bytes;
use http::{
    Request, StatusCode, Uri,
    uri::{Authority, Scheme},
};

use super::{Failed, say, serve::runtime};
use crate::{
    types::{Clock, Tasks},
    upstream::{Connections, Http, OutBody, PoolKey, SendError, Trust},
};

/// Ask a running gateway whether it is ready.
///
/// Exit code 0: ready; 1: not ready or not there. It needs no configuration and no shell: use it as a container's
/// health check. A gateway that speaks HTTPS may have any certificate: who asks is on the same machine as a rule, by
/// another name than the certificate's, and sends nothing secret.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whom to ask: https://127.0.0.1:8443/readyz, or a host and port alone. Without a scheme both are tried, without a
    /// path it is /readyz.
    #[arg(long, value_name = "URL", default_value = "127.0.0.1:8080", env = "SWITCHBOARD_HEALTHCHECK")]
    url: Place,
}

/// Whom to ask, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// `None`: whichever it speaks.
    scheme: Option<Scheme>,
    authority: Authority,
    path: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a URL nor a host and port; write for example 127.0.0.1:8080");
        let (text, bare) =
            if text.contains("://") { (text.to_owned(), false) } else { (format!("http://{text}"), true) };
        let parts = text.parse::<Uri>().map_err(|_| wrong())?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else { return Err(wrong()) };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(wrong());
        }
        let path = parts.path_and_query.map(|path| path.as_str().to_owned()).filter(|path| path != "/");
        let path = path.unwrap_or_else(|| "/readyz".to_owned());
        Ok(Self { scheme: (!bare).then_some(scheme), authority, path })
    }
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    const PATIENCE: Duration = Duration::from_secs(3);
    let place = args.url;
    runtime()?.block_on(async move {
        let clock = Clock::Real;
        let asked = clock.timeout_at(clock.now() + PATIENCE, status(&place, &clock)).await;
        let status = asked.map_err(|_| Failed::wrong(format!("{} did not answer within 3 s", place.authority)))??;
        if status == StatusCode::OK {
            return say("ready");
        }
        Err(Failed::wrong(format!("{} answered {status}", place.authority)))
    })
}

/// The status of the answer, over HTTP or, if that is not what is spoken there, HTTPS.
async fn status(place: &Place, clock: &Clock) -> Result<StatusCode, Failed> {
    let first = place.scheme.clone().unwrap_or(Scheme::HTTP);
    let mut asked = ask(place, first, clock).await?;
    if place.scheme.is_none() && matches!(asked, Err(SendError::NotHttp(_) | SendError::Lost(_))) {
        asked = ask(place, Scheme::HTTPS, clock).await?;
    }
    asked.map_err(|error| Failed::wrong(format!("{}: {error}", place.authority)))
}

async fn ask(place: &Place, scheme: Scheme, clock: &Clock) -> Result<Result<StatusCode, SendError>, Failed> {
    let connections = Connections::new(clock.clone(), Tasks::new());
    let uri = format!("{scheme}://{}{}", place.authority, place.path);
    let key = PoolKey {
        scheme,
        authority: place.authority.clone(),
        http: Http::One,
        connect_timeout: Duration::from_secs(2),
        trust: Trust::Anyone,
    };
    let pool = connections.pool(&key).map_err(Failed::wrong)?;
    let request = Request::get(uri).body(OutBody::new(Bytes::new().into())).map_err(Failed::misconfigured)?;
    Ok(pool.send(request).await.map(|response| response.status()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_url_or_a_host_and_port() {
        let cases = [
            ("127.0.0.1:8080", (None, "127.0.0.1:8080", "/readyz")),
            ("localhost:8080/healthz", (None, "localhost:8080", "/healthz")),
            ("[::1]:8080", (None, "[::1]:8080", "/readyz")),
            ("http://127.0.0.1:8080", (Some(Scheme::HTTP), "127.0.0.1:8080", "/readyz")),
            ("https://127.0.0.1:8443/readyz", (Some(Scheme::HTTPS), "127.0.0.1:8443", "/readyz")),
        ];
        for (text, (scheme, authority, path)) in cases {
            let expected = Place { scheme, authority: Authority::from_static(authority), path: path.to_owned() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "ftp://x/", "http://", "a b", "/readyz"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the other side of the check")]
    async fn a_gateway_is_asked_over_whichever_it_speaks() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio_rustls::rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let made = rcgen::generate_simple_self_signed(vec!["gateway.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        for secure in [false, true] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let tls = tls.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok((mut stream, _)) = listener.accept().await {
                    if !secure {
                        let _ = stream.read(&mut buffer).await;
                        let _ = stream.write_all(ANSWER).await;
                    } else if let Ok(mut stream) = tls.accept(stream).await {
                        let _ = stream.read(&mut buffer).await;
                        let _ = stream.write_all(ANSWER).await;
                        let _ = stream.shutdown().await;
                    }
                }
            });
            let place: Place = address.to_string().parse().unwrap();
            assert_eq!(status(&place, &Clock::Real).await.map_err(|f| f.message), Ok(StatusCode::OK), "{secure}");
        }
    }
}
