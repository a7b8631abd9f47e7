//! A scripted provider that injects faults: the demo, the tests and the benches talk to it, and users test their own
//! apps with it (`switchboard mock`). It speaks the wire formats of OpenAI and of Anthropic over HTTP/1.1 and HTTP/2.
//!
//! A [`Behaviour`] is the script of one answer. `script` decides which one a request gets, `respond` turns the request
//! into a response, `openai` and `anthropic` put what is said into their formats, `player` and `body` send it at the
//! scripted pace, and `fate` breaks connections for real. Output is deterministic, but for scripts that ask for chance.

mod anthropic;
mod ask;
mod base64;
mod behaviour;
mod body;
mod compress;
mod control;
mod endpoint;
mod failure;
mod fate;
mod openai;
mod options;
mod player;
mod record;
mod reply;
mod respond;
mod saying;
mod schema;
mod script;
mod serve;
mod shorthand;
#[cfg(test)]
mod tests;
mod text;

use std::{sync::Arc, time::Instant};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::{
    behaviour::{Behaviour, ContentLength, Encoding, LineEnding, Rate, Reset, ToolCall, UsageMode, UsageScript},
    options::Options,
    record::{Billed, Outcome, Recorded},
};
use self::{record::Log, script::Scripts};
use crate::types::{Clock, Tasks};

/// A mock provider. Clones are handles onto the same one.
#[derive(Clone, Debug)]
pub struct Mock(Arc<State>);

#[derive(Debug)]
struct State {
    scripts: Scripts,
    log: Arc<Log>,
    clock: Clock,
    started: Instant,
}

impl Mock {
    /// A mock that answers as `default` says unless scripted otherwise; its delays are those of `clock`.
    pub fn new(default: Behaviour, clock: Clock) -> Self {
        let started = clock.now();
        Self(Arc::new(State { scripts: Scripts::new(default), log: Arc::default(), clock, started }))
    }

    /// Accepts connections until `stop` is cancelled. Open connections are then dropped.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken, tasks: &Tasks) {
        serve::serve(self, listener, stop, tasks).await;
    }

    /// The next request takes this script, after those already queued. Says whether there was room: the queue holds
    /// 10,000.
    pub fn enqueue(&self, behaviour: Behaviour) -> bool {
        self.0.scripts.enqueue(None, behaviour)
    }

    /// The next request that names `model` takes this script. Says whether there was room.
    pub fn enqueue_for(&self, model: &str, behaviour: Behaviour) -> bool {
        self.0.scripts.enqueue(Some(model), behaviour)
    }

    /// Requests without a script of their own are answered like this from now on.
    pub fn set_default(&self, behaviour: Behaviour) {
        self.0.scripts.set_default(behaviour);
    }

    /// What it was sent, in the order in which the requests were complete: the last 10,000, and at most 256 MiB of
    /// bodies. Nothing when the default behaviour says `record: false`.
    pub fn requests(&self) -> Vec<Recorded> {
        self.0.log.requests()
    }

    /// Forgets recorded requests, queued scripts, and what was counted as aborted or by scripts. The default stays.
    pub fn clear(&self) {
        self.0.log.clear();
        self.0.scripts.clear();
    }

    /// Requests that have arrived and whose answer is not complete, whether it has begun or not.
    pub fn open_streams(&self) -> usize {
        self.0.log.open_streams()
    }

    /// Answers whose client went away before they were complete.
    pub fn aborted(&self) -> usize {
        self.0.log.aborted()
    }

    /// Requests since the start, those to the control API excepted.
    pub fn served(&self) -> u64 {
        self.0.log.served()
    }
}
