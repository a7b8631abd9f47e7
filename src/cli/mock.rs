//! `switchboard mock`: the scripted provider by itself.

use tokio::net::TcpListener;

use super::{Failed, say, serve::runtime};
use crate::{
    mock::{Mock, Options},
    types::{Clock, Tasks},
};

/// Run a provider that answers from a script and fails on demand.
///
/// It answers /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models as OpenAI does, /v1/messages,
/// /v1/messages/count_tokens and /v1/models (with the header anthropic-version) as Anthropic does, with any prefix before
/// them, over HTTP/1.1 and HTTP/2 without TLS. The script says what to say, how fast, and what shall go wrong.
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
