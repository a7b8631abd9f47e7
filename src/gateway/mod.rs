//! The life of a call, from its body to its last byte:
//!
//! ```text
//! open      read what the gateway must know of the body            call.rs
//! admit     may this key use this model? → a charge that must end  admit.rs
//! plan      where it may go, in which order                        routing
//! attempts  the one retry loop; each try is an exchange in a lane  attempts.rs, exchange.rs, lane/
//! reply     commit: a whole answer, or a stream being watched      reply/
//! ```
//!
//! Whole or streamed, chat or embeddings: every call takes this way. What a call does not do is in here too: it never
//! waits for a store, and it never sees a configuration other than the snapshot it started with.

mod admit;
mod aside;
mod attempts;
mod betas;
mod call;
mod count;
mod exchange;
mod failure;
mod files;
mod headers;
mod lane;
mod memory;
mod params;
mod prices;
mod reply;
mod schemas;
mod set_aside;
mod snapshot;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

pub use aside::Aside;
pub use call::{Arrival, Call};
pub use headers::names;
pub use memory::Memory;
pub use prices::Prices;
pub use reply::{BrokenOff, Reply, ReplyBody};
pub use schemas::Schemas;
pub use snapshot::{Outlet, Snapshot, Terms};

use crate::{accounting::Till, error::Error, quotas::Quotas, routing::RetryBudget, telemetry::Metrics, types::Clock};

/// What every call needs and no call owns.
#[derive(Debug)]
pub struct Gateway {
    pub snapshot: ArcSwap<Snapshot>,
    pub till: Till,
    pub quotas: Quotas,
    pub retries: RetryBudget,
    /// Reasoning that clients cannot send back.
    pub memory: Arc<Memory>,
    /// Where large bodies are worked on.
    pub aside: Aside,
    /// Models that are not held to a schema by a parameter.
    pub schemas: Schemas,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    /// Fires when shutdown has no patience left: calls end with an error, streams with an error event.
    pub cut: CancellationToken,
}

/// A call that failed, and what its answer should say about it beside the error.
#[derive(Debug)]
pub struct Refusal {
    pub error: Error,
    /// What a provider said, when its words are the answer.
    pub provider: Option<Box<failure::ProviderAnswer>>,
    /// The last target tried.
    pub target: Option<Arc<str>>,
    pub attempts: usize,
    /// Headers that say what is left of the quotas that the call counts in.
    pub limits: HeaderMap,
    /// Whether a settlement has counted and logged it. What fails earlier is the surface's to count.
    pub settled: bool,
}

/// Serves one call.
///
/// # Errors
/// [`Refusal`]: nothing has been committed, the client gets an error in its own format. Its charge is settled.
pub async fn handle(gateway: &Arc<Gateway>, arrival: Arrival) -> Result<Reply, Refusal> {
    let snapshot = gateway.snapshot.load_full();
    let call = Arc::new(gateway.aside.work(arrival.body.len(), || Call::open(snapshot, arrival)).await?);
    let (route, mut charge) = admit::admit(gateway, &call)?;
    if count::is_unanswerable(&call, &route) {
        return count::estimated(gateway, &call, charge).await;
    }
    let outcome = tokio::select! {
        biased;
        outcome = attempts::run(gateway, &call, &route, &mut charge) => outcome,
        () = gateway.cut.cancelled() => Err(failure::Failed::shutting_down()),
    };
    match outcome {
        Ok(committed) => Ok(reply::commit(gateway, &call, committed, charge)),
        Err(failed) if count::is_unanswered(&call, &failed) => count::estimated(gateway, &call, charge).await,
        Err(failed) => Err(failed.refuse(gateway, &call, charge)),
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, provider: None, target: None, attempts: 0, limits: HeaderMap::new(), settled: false }
    }
}
