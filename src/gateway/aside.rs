//! Work on large bodies, aside from the threads that serve calls: reading and translating 20 MB takes tens of
//! milliseconds, and on one core every small call beside it would wait for them. A thread of its own shares the core.

use std::{panic::resume_unwind, sync::Arc, thread::available_parallelism};

use tokio::sync::Semaphore;

/// Work on bodies up to this size is done where it comes up: it takes a few milliseconds at most.
pub(super) const SMALL: usize = 3 * 512 * 1024;

/// Where large bodies are worked on: as many at once as there are cores.
#[derive(Clone, Debug)]
pub struct Aside(Arc<Semaphore>);

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))))
    }
}

impl Aside {
    /// Does work on a body of so many bytes. Who drops this no longer waits for the work, which is then done for nobody.
    pub async fn work<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if bytes <= SMALL {
            return work();
        }
        // It is never closed.
        let place = self.0.clone().acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        match done.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(done) => done,
            Err(Ok(panic)) => resume_unwind(panic),
            // The runtime is being taken down, and this call with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_work_is_done_here_and_large_work_elsewhere() {
        let aside = Aside::default();
        let here = std::thread::current().id();
        let at = || std::thread::current().id();
        assert_eq!(aside.work(SMALL, at).await, here);
        assert_ne!(aside.work(SMALL + 1, at).await, here);
    }

    #[tokio::test]
    async fn a_panic_comes_back_and_leaves_its_place() {
        use futures_util::FutureExt;

        let aside = Aside::default();
        for _ in 0..100 {
            let panics = std::panic::AssertUnwindSafe(aside.work(SMALL + 1, || resume_unwind(Box::new("oh"))));
            assert!(panics.catch_unwind().await.is_err());
        }
        assert_eq!(aside.work(SMALL + 1, || 7).await, 7);
    }
}
