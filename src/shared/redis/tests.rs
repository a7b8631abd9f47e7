//! What is told to Redis may be told again, because an answer was lost: it changes nothing then.

use super::{
    CounterId, Pack, Window,
    connect::Connector,
    scripts::{ADD, Answer, BEAT, CLOSE, OK, READ, REBUILD, REGISTER, SETTLE, Script, TAKE},
};
use crate::{
    shared::tests::servers::{PrivateRedis, settings},
    types::Clock,
};

const PREFIX: &str = "{told}:";
const PERIOD: Window = Window::Period { ends: 1 << 50 };
const ROLLING: Window = Window::Rolling { millis: 3_600_000 };

/// A server whose counters have the epoch `now`, and what asks it.
struct Told {
    _server: PrivateRedis,
    link: super::Link,
}

impl Told {
    async fn start() -> Self {
        let server = PrivateRedis::start();
        let link = Connector::new(&settings(&server.url(), 5_000)).unwrap().open().await.unwrap();
        let mut told = Self { _server: server, link };
        let lock = format!("{PREFIX}rebuild");
        let epoch = format!("{PREFIX}epoch");
        for what in ["begin", "finish"] {
            let arguments = [b"me".as_slice(), what.as_bytes(), b"now"];
            let answer = REBUILD.run(&mut told.link, &[epoch.as_bytes(), lock.as_bytes()], &arguments).await.unwrap();
            assert_eq!(Answer::of(answer).unwrap().status, OK);
        }
        told
    }

    async fn ask(&mut self, script: &Script, arguments: &[&[u8]]) -> Answer {
        let epoch = format!("{PREFIX}epoch");
        let answer = Answer::of(script.run(&mut self.link, &[epoch.as_bytes()], arguments).await.unwrap()).unwrap();
        assert_eq!(answer.status, OK);
        answer
    }

    async fn take(&mut self, hold: u64, amount: u64) {
        let mut head = Pack::new(64);
        head.text(PREFIX).text("me").text("now").number(1 << 50).hold(hold).number(0);
        let mut wanted = Pack::new(64);
        for window in [PERIOD, ROLLING] {
            wanted.counter(counter(window), window).number(amount).limit(u64::MAX);
        }
        self.ask(&TAKE, &[&head.finish(), &wanted.finish()]).await;
    }

    async fn register(&mut self, hold: u64, amount: u64) {
        let mut pack = head();
        pack.hold(hold).list(both(amount).into_iter());
        self.ask(&REGISTER, &[&pack.finish()]).await;
    }

    /// Ends a hold that was in `epoch`, as far as its gateway knows.
    async fn settle(&mut self, hold: u64, epoch: &str, consumed: u64) {
        let mut pack = head();
        pack.hold(hold).text(epoch).number(0).number(1).list(both(consumed).into_iter());
        self.ask(&SETTLE, &[&pack.finish()]).await;
    }

    /// Lets the gateway seem dead, and another give back what it holds.
    async fn seem_dead(&mut self) {
        let me = |who: &str, lease| {
            let mut pack = Pack::new(64);
            pack.text(PREFIX).text(who).number(lease);
            pack.finish()
        };
        self.ask(&BEAT, &[&me("me", 1)]).await;
        Clock::Real.sleep(std::time::Duration::from_millis(5)).await;
        self.ask(&BEAT, &[&me("other", 60_000)]).await;
    }

    async fn holds(&mut self, expected: u64) {
        let mut pack = Pack::new(64);
        pack.text(PREFIX);
        for window in [PERIOD, ROLLING] {
            pack.counter(counter(window), window);
        }
        let answer = self.ask(&READ, &[&pack.finish()]).await;
        assert_eq!([answer.amount(0), answer.amount(2)], [expected; 2]);
    }
}

fn head() -> Pack {
    let mut pack = Pack::new(128);
    pack.text(PREFIX).text("me").text("now");
    pack
}

fn counter(window: Window) -> CounterId {
    CounterId::of([if window == PERIOD { b"p".as_slice() } else { b"r" }])
}

fn both(amount: u64) -> [(CounterId, Window, u64); 2] {
    [PERIOD, ROLLING].map(|window| (counter(window), window, amount))
}

#[tokio::test]
async fn the_end_of_a_hold_counts_once() {
    let mut told = Told::start().await;
    told.take(1, 5).await;
    for _ in 0..3 {
        told.settle(1, "now", 3).await;
        told.holds(3).await;
    }
}

#[tokio::test]
async fn the_end_of_a_hold_that_redis_did_not_know_counts_once() {
    let mut told = Told::start().await;
    for _ in 0..3 {
        told.settle(1, "", 3).await;
        told.settle(2, "before the flush", 4).await;
        told.holds(7).await;
    }
    // It was registered, and its gateway has not heard of it.
    for _ in 0..3 {
        told.register(3, 5).await;
        told.holds(12).await;
    }
    for _ in 0..3 {
        told.settle(3, "", 2).await;
        told.holds(9).await;
    }
}

#[tokio::test]
async fn the_end_of_a_hold_whose_gateway_seemed_dead_counts_once() {
    let mut told = Told::start().await;
    told.take(1, 5).await;
    told.register(2, 5).await;
    told.holds(10).await;
    told.seem_dead().await;
    told.holds(0).await;
    for _ in 0..3 {
        told.settle(1, "now", 3).await;
        told.settle(2, "", 2).await;
        told.holds(5).await;
    }
    // One that lives on is counted again, and only what it held and did not consume comes back.
    told.take(3, 5).await;
    told.seem_dead().await;
    for _ in 0..3 {
        told.register(3, 5).await;
        told.holds(10).await;
    }
    for _ in 0..3 {
        told.settle(3, "now", 1).await;
        told.holds(6).await;
    }
}

#[tokio::test]
async fn what_is_told_short_or_was_spent_alone_counts_once() {
    let mut told = Told::start().await;
    told.take(1, 5).await;
    let mut close = head();
    close.holds(&[1]);
    for (window, bucket) in [(PERIOD, 0), (ROLLING, -1)] {
        close.counter(counter(window), window).signed(bucket).signed(-2);
    }
    let close = close.finish();
    for first in [1, 0, 0] {
        assert_eq!(told.ask(&CLOSE, &[&close]).await.number(0), first);
        told.holds(3).await;
    }
    let mut add = Pack::new(128);
    add.text(PREFIX).text("now").text("me-7");
    for (id, window, amount) in both(4) {
        add.counter(id, window).number(amount).number(0);
    }
    let add = add.finish();
    for _ in 0..3 {
        told.ask(&ADD, &[&add]).await;
        told.holds(7).await;
    }
}
