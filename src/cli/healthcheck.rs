//! `switchboard healthcheck`: asks a running gateway whether it may take traffic. For containers without a shell.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Request,
    uri::{Authority, Scheme},
};

use super::{Failed, say, serve::runtime};
use crate::{
    types::{Clock, Tasks},
    upstream::{Connections, Http, OutBody, PoolKey},
};

/// Ask a running gateway whether it is ready.
///
/// Exit code 0: ready; 1: not ready or not there. It needs no configuration and no shell: use it as a container's
/// health check.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gateway's host and port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", env = "SWITCHBOARD_HEALTHCHECK")]
    address: Authority,
    /// The path to ask.
    #[arg(long, default_value = "/readyz")]
    path: String,
}

pub(super) fn run(args: Args) -> Result<(), Failed> {
    const PATIENCE: Duration = Duration::from_secs(3);
    runtime()?.block_on(async move {
        let clock = Clock::Real;
        let asked = clock.timeout_at(clock.now() + PATIENCE, ask(&args, &clock)).await;
        let status = asked.map_err(|_| Failed::wrong(format!("{} did not answer within 3 s", args.address)))??;
        if status == http::StatusCode::OK {
            say(format_args!("ready"));
            return Ok(());
        }
        Err(Failed::wrong(format!("{} answered {status}", args.address)))
    })
}

async fn ask(args: &Args, clock: &Clock) -> Result<http::StatusCode, Failed> {
    let connections = Connections::new(clock.clone(), Tasks::new());
    let key = PoolKey {
        scheme: Scheme::HTTP,
        authority: args.address.clone(),
        http: Http::One,
        connect_timeout: Duration::from_secs(2),
        ca_file: None,
    };
    let pool = connections.pool(&key).map_err(Failed::wrong)?;
    let uri = format!("http://{}{}", args.address, args.path);
    let request = Request::get(uri).body(OutBody::new(Bytes::new().into())).map_err(Failed::misconfigured)?;
    let response = pool.send(request).await.map_err(|error| Failed::wrong(format!("{}: {error}", args.address)))?;
    Ok(response.status())
}
