//! `switchboard mock`: the scripted provider by itself.

use tokio::net::TcpListener;

use super::{Failed, say, serve::runtime};
use crate::{
    mock::{Mock, Options},
    types::{Clock, Tasks},
};

/// Run a provider that answers from a script and fails on demand.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let behaviour = args.options.behaviour().map_err(Failed::misconfigured)?;
    runtime()?.block_on(async move {
        let listener = TcpListener::bind(args.options.listen).await;
        let listener =
            listener.map_err(|error| Failed::wrong(format!("cannot listen on {}: {error}", args.options.listen)))?;
        let address = listener.local_addr().map_err(Failed::wrong)?;
        say(format_args!("The mock provider listens on http://{address}/v1"))?;
        say(format_args!("What it was sent: curl http://{address}/_mock/requests"))?;
        let tasks = Tasks::new();
        let mock = Mock::new(behaviour, Clock::Real);
        tokio::select! {
            () = mock.serve(listener, tasks.stopping(), &tasks) => Ok(()),
            stopped = tokio::signal::ctrl_c() => stopped.map_err(Failed::wrong),
        }
    })
}
