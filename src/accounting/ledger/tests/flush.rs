//! Flushing: when everything that was settled by then is in the store.

use super::*;

impl House {
    /// Flushes within a minute, of which so much passes at each look.
    async fn flush(&self, ledger: &Ledger, step: Duration) -> bool {
        let mut flush = std::pin::pin!(ledger.flush(self.clock.now() + Duration::from_secs(60)));
        for _ in 0..200_000 {
            if let std::task::Poll::Ready(done) = futures_util::poll!(flush.as_mut()) {
                return done;
            }
            self.clock.advance(step);
            turn().await;
        }
        panic!("it never ended");
    }
}

#[tokio::test]
async fn flushing_waits_for_what_has_settled_and_not_for_more_to_gather() {
    let house = House::new();
    let ledger = house.start().await;
    assert!(house.flush(&ledger, Duration::ZERO).await);
    for round in 0..20 {
        let part = ids(round * 10..round * 10 + 10);
        part.iter().for_each(|id| ledger.open(id));
        ledger.open(&format!("under way {round}"));
        ledger.settle(&part);
        assert!(house.flush(&ledger, Duration::ZERO).await, "not a millisecond passed");
        assert_eq!(house.shipped().len(), round * 10 + 10);
    }
    house.script.told().poison.insert("poison".to_owned());
    ledger.settle(&["poison".to_owned()]);
    assert!(house.flush(&ledger, Duration::ZERO).await, "what the store refuses is not waited for");
    house.kill(ledger).await;
}

#[tokio::test]
async fn flushing_ends_at_its_deadline_and_counts_what_waits_in_the_journal_alone() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().always = Some(Fault::Down);
    let all = ids(0..2_000);
    all.chunks(10).for_each(|part| ledger.settle(part));
    assert!(ledger.inner().lock().journal.has_spilled());
    assert!(!house.flush(&ledger, Duration::from_millis(50)).await);
    house.script.told().always = None;
    // Others go on to settle, as fast as the store takes them.
    let later = ids(2_000..200_000);
    let mut parts = later.chunks(10);
    let mut flush = std::pin::pin!(ledger.flush(house.clock.now() + Duration::from_secs(3_600)));
    let flushed = loop {
        if let std::task::Poll::Ready(done) = futures_util::poll!(flush.as_mut()) {
            break done;
        }
        ledger.settle(parts.next().expect("it ends although others go on"));
        house.clock.advance(Duration::from_millis(50));
        turn().await;
    };
    assert!(flushed);
    let shipped = house.shipped();
    assert!(all.iter().all(|id| shipped.contains_key(id)));
    // Segments are read by threads that no held clock waits for: their time is turns, not minutes.
    assert!(house.flush(&ledger, Duration::from_micros(100)).await);
    assert_eq!(house.stop(&ledger).await, Remaining::default());
}

#[tokio::test]
async fn flushing_waits_for_what_a_gateway_left_that_died() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().always = Some(Fault::Down);
    ledger.open("under way");
    ledger.settle(&ids(0..500));
    house.kill(ledger).await;
    let ledger = house.start().await;
    assert!(!house.flush(&ledger, Duration::from_secs(1)).await);
    house.script.told().always = None;
    assert!(house.flush(&ledger, Duration::from_millis(50)).await);
    assert_eq!(house.shipped().len(), 501);
    house.kill(ledger).await;
}
