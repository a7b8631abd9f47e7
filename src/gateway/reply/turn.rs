//! Waiting for one turn of the scheduler.
//!
//! A provider's connection is a task of its own and hands over one chunk at a time. When a body has taken a chunk and
//! finds no other, there may be many more that the connection has read already and gets no chance to hand over.
//! Waking oneself is no way to give it that chance: the server's connection may poll a body twice in a row before it
//! lets go. The runtime has a better moment: it wakes deferred tasks when nothing else is ready to run.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

/// Tells when everything that was ready to run has run.
#[derive(Debug, Default)]
pub(super) struct Turn {
    state: Arc<State>,
    asked: bool,
}

#[derive(Debug, Default)]
struct State {
    passed: AtomicBool,
    task: AtomicWaker,
}

impl Turn {
    /// `Ready` once a turn has passed since this was first polled, or last ready.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.state.task.register(cx.waker());
        if !self.asked {
            self.asked = true;
            self.state.passed.store(false, Ordering::Release);
            let waker = Waker::from(self.state.clone());
            // Its first poll leaves the waker with the runtime; there is nothing more to it.
            let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker));
        }
        // Outside a runtime the waker is woken at once, so this is looked at last.
        if !self.state.passed.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        self.asked = false;
        Poll::Ready(())
    }
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.passed.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    #[expect(clippy::disallowed_methods, reason = "two tasks side by side are what is tested")]
    async fn a_task_that_is_ready_runs_before_the_turn_has_passed() {
        let ran = Arc::new(AtomicUsize::new(0));
        let counted = ran.clone();
        let other = tokio::spawn(async move {
            for _ in 0..3 {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::coop::unconstrained(std::future::ready(())).await;
            }
        });
        let mut turn = Turn::default();
        let mut polls = 0;
        std::future::poll_fn(|cx| {
            polls += 1;
            // Polled twice in a row, as a server's connection does.
            let first = turn.poll_passed(cx);
            if first.is_ready() { first } else { turn.poll_passed(cx) }
        })
        .await;
        assert_eq!((ran.load(Ordering::SeqCst), polls), (3, 2));
        other.await.unwrap();
    }
}
