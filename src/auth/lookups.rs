//! Turns at the store for keys that are not known here, so that a flood of wrong ones cannot pile up on it.

use std::{hash::BuildHasher, hash::RandomState, net::IpAddr};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::guard::network;

/// Lets few lookups run at once, and those from one client network one by one: a flood from one place waits behind
/// itself. Whoever waits does so within the deadline of its call, so the waiting is bounded too.
pub(super) struct Lookups {
    /// A network always queues in the same lane. Which one, no client can tell: the hasher is seeded at random.
    lanes: [Semaphore; LANES],
    hasher: RandomState,
    at_once: Semaphore,
}

/// The right to ask the store once.
#[must_use]
pub(super) struct Turn<'a> {
    _lane: Option<SemaphorePermit<'a>>,
    _store: Option<SemaphorePermit<'a>>,
}

const LANES: usize = 64;

/// One less than the connections of the SQLite pool: the watch for changes always finds one.
const AT_ONCE: usize = 4;

impl Lookups {
    pub(super) fn new() -> Self {
        let lanes = std::array::from_fn(|_| Semaphore::new(1));
        Self { lanes, hasher: RandomState::new(), at_once: Semaphore::new(AT_ONCE) }
    }

    /// Waits for a turn; first come, first served within a lane and between lanes.
    pub(super) async fn turn(&self, address: IpAddr) -> Turn<'_> {
        let lane = self.hasher.hash_one(network(address)) as usize % LANES;
        // `acquire` fails on a closed semaphore only, and nobody closes these.
        let lane = self.lanes[lane].acquire().await.ok();
        Turn { _lane: lane, _store: self.at_once.acquire().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn one_network_waits_behind_itself_and_all_together_are_few() {
        let lookups = Lookups::new();
        let address = |n: u32| IpAddr::V4(n.into());
        let first = lookups.turn(address(1)).await;
        let mut second = pin!(lookups.turn(address(1)));
        assert!(poll!(&mut second).is_pending());

        let mut turns = Vec::new();
        for n in 2..1_000 {
            // Ends the time slice: within one, tokio lets a task take only so many permits.
            tokio::task::yield_now().await;
            if let Poll::Ready(turn) = poll!(pin!(lookups.turn(address(n)))) {
                turns.push(turn);
            }
        }
        assert_eq!(turns.len(), AT_ONCE - 1);
        drop(turns);
        drop(first);
        tokio::task::yield_now().await;
        assert!(poll!(&mut second).is_ready());
    }
}
