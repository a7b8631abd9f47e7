//! How a test is written.
//!
//! ```ignore
//! #[tokio::test]
//! async fn a_failed_target_is_followed_by_the_next() {
//!     let gate = Gate::build().mock("a").mock("b").config("models: { m: { targets: [a/up, b/up] } }").start().await;
//!     gate.mock("a").enqueue(Behaviour::status(500));
//!     let answer = gate.chat(json!({})).await;                    // model `m`, one message, and these members
//!     assert_eq!((answer.status, gate.served("a"), gate.served("b")), (200, 1, 1));
//!     gate.finish().await;                                        // every test ends with this
//! }
//! ```
//!
//! * [`Gate::build`] makes a real gateway, listening on a free port, from YAML text. Each `.mock(name)` is a scripted
//!   provider of that name; `.upstream(name, address)` is a socket that the test answers by hand ([`RawUpstream`]).
//! * Time is held, for the gateway and the mocks alike, and stands still unless the test moves it:
//!   [`Gate::advance_until`] moves it in small steps until something is done. Nothing sleeps.
//! * [`Gate::chat`] and its like wait for the whole answer; [`Gate::open`] gives the stream as it comes, and dropping it
//!   hangs up. [`RawClient`] is a bare socket, for what no HTTP library would do.
//! * [`Gate::finish`] checks what must hold after every test: each call that was admitted has settled exactly once,
//!   nothing is in flight, the attempts that were counted are the requests that the providers saw, and the ledger has a
//!   row for each, with the tokens that its provider served. A test that forgets it fails.
//! * [`PrivatePostgres`] is a real PostgreSQL server that a test may stop, freeze and start again.
//! * [`Rows`] collects what is wrong with the rows of a table, so that one run shows all of them.

mod answer;
mod books;
mod counts;
mod gate;
mod postgres;
mod raw;
mod rows;

pub use answer::{Answer, Live};
pub use counts::Counts;
pub use gate::{ADMIN, Gate, KEY, MODEL};
pub use postgres::PrivatePostgres;
pub use raw::{RawClient, RawUpstream};
pub use rows::Rows;

use std::time::Duration;

use serde_json::{Value, json};
use switchboard::{
    mock::{Behaviour, UsageScript},
    types::Clock,
};

/// Fails a test that waits for what never comes. This is the only real time in a test, and no test takes it.
pub async fn soon<F: Future>(future: F) -> F::Output {
    let clock = Clock::Real;
    clock.timeout_at(clock.now() + Duration::from_secs(30), future).await.expect("it takes too long")
}

/// Gives everything that is ready the chance to run, sockets included. A test and its gateway share one thread, and
/// what is written to a loopback socket is there to be read at once, so some rounds are enough for anything small.
pub async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Waits until something is so, without moving the time.
pub async fn until(what: impl Fn() -> bool) {
    soon(async {
        while !what() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A chat request for the model `m`, with some members added or replaced.
pub fn chat(more: Value) -> Value {
    let mut body = json!({ "model": MODEL, "messages": [{ "role": "user", "content": "Hello there" }] });
    let (Value::Object(members), Value::Object(more)) = (&mut body, more) else { panic!("objects") };
    members.extend(more);
    body
}

/// An answer that is the same each time, byte by byte, and reports 11 tokens in and 7 out.
pub fn fixed() -> Behaviour {
    Behaviour {
        answer_id: Some("chatcmpl-fixed".into()),
        created: Some(1_790_000_000),
        text: Some("One two three four five.".into()),
        usage: UsageScript { prompt_tokens: Some(11), completion_tokens: Some(7), ..UsageScript::default() },
        ..Behaviour::default()
    }
}

/// Seconds, short.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds, short.
pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
