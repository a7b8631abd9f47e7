//! Every call that was sent is in the store once, whatever happens to the process, the store and the disk.

mod flush;

use std::{collections::BTreeMap, fs, sync::atomic::AtomicU64};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    script::{Fault, Script},
    *,
};
use crate::{
    accounting::journal::tests::row,
    types::{Outcome, Size},
};

/// A data directory, a store, and the gateways that come and go between them.
struct House {
    dir: TempDir,
    clock: Clock,
    script: Arc<Script>,
    metrics: Arc<Metrics>,
    settings: Settings,
}

impl House {
    fn new() -> Self {
        let settings = Settings { max_memory: Size::kib(64), ..Settings::default() };
        let (clock, script, metrics) = (Clock::held(), Arc::default(), Arc::new(Metrics::new()));
        Self { dir: tempfile::tempdir().unwrap(), clock, script, metrics, settings }
    }

    async fn start(&self) -> Ledger {
        let sink = Sink::Scripted(self.script.clone());
        let started =
            Ledger::start(self.settings.clone(), self.dir.path(), sink, self.clock.clone(), self.metrics.clone());
        started.await.unwrap()
    }

    /// Lets time pass until `done` or, by far, too late.
    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if done() {
                return;
            }
            self.clock.advance(Duration::from_millis(50));
            turn().await;
        }
        panic!("it never came to this: {what}");
    }

    /// Ends a gateway in good order.
    async fn stop(&self, ledger: &Ledger) -> Remaining {
        let mut stop = std::pin::pin!(ledger.stop(Duration::from_secs(60)));
        loop {
            if let std::task::Poll::Ready(remaining) = futures_util::poll!(stop.as_mut()) {
                return remaining;
            }
            self.clock.advance(Duration::from_millis(50));
            turn().await;
        }
    }

    /// Ends a gateway at once: its tasks stop where they are, and the system takes its lock back.
    async fn kill(&self, ledger: Ledger) {
        let inner = ledger.0.unwrap();
        assert!(inner.tasks.shut_down(&Clock::Real, Duration::from_secs(20)).await);
        let lock_is_free = Arc::into_inner(inner).is_some();
        assert!(lock_is_free, "something still holds the journal");
    }

    /// Starts and stops gateways until nothing is left to ship.
    async fn settle_down(&self) {
        {
            let mut told = self.script.told();
            told.faults.clear();
            told.always = None;
        }
        let ledger = self.start().await;
        let journal = self.dir.path().join(FOLDER);
        self.until("only its own folder is left", || folders(&journal) == 1).await;
        assert_eq!(self.stop(&ledger).await, Remaining::default());
        assert_eq!(folders(&journal), 0);
    }

    fn shipped(&self) -> BTreeMap<String, Outcome> {
        self.script.told().rows.iter().map(|(id, row)| (id.clone(), row.outcome)).collect()
    }
}

impl Ledger {
    fn inner(&self) -> &Inner {
        self.0.as_ref().unwrap()
    }

    fn open(&self, id: &str) {
        self.opened(&row(id, Outcome::Lost));
    }

    fn settle(&self, ids: &[String]) {
        self.settled(ids.iter().map(|id| row(id, Outcome::Ok)).collect());
    }

    fn disk_takes(&self, bytes: u64) {
        self.inner().lock().journal.room = Some(Arc::new(AtomicU64::new(bytes)));
    }
}

/// Lets other tasks and the threads for file I/O get on.
async fn turn() {
    tokio::task::yield_now().await;
    std::thread::yield_now();
}

fn folders(journal: &Path) -> usize {
    fs::read_dir(journal).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != "set-aside").count()
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|index| format!("call-{index}")).collect()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many calls are sent.
    Open(usize),
    /// One of those under way is sent again.
    Retry(usize),
    /// So many of those under way end, in one batch.
    Settle(usize),
    /// So many calls end that were never sent.
    Refuse(usize),
    /// The next write goes wrong.
    Fault(Fault),
    /// All writes go wrong from here on, or go well again.
    Always(Option<Fault>),
    Wait(u64),
    Kill,
    Restart,
    /// The disk takes so many bytes more.
    Disk(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let fault =
        || prop_oneof![Just(Fault::Down), Just(Fault::Hang), Just(Fault::Unanswered), Just(Fault::Half)].boxed();
    prop_oneof![
        6 => (1_usize..20).prop_map(Step::Open),
        2 => any::<usize>().prop_map(Step::Retry),
        6 => (1_usize..30).prop_map(Step::Settle),
        1 => (1_usize..3).prop_map(Step::Refuse),
        2 => fault().prop_map(Step::Fault),
        1 => proptest::option::of(fault()).prop_map(Step::Always),
        4 => (0_u64..2_000).prop_map(Step::Wait),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

/// Runs a life of gateways; gives how every call should have ended, and the last gateway.
async fn live(house: &House, steps: &[Step]) -> (BTreeMap<String, Outcome>, Ledger) {
    let mut expected = BTreeMap::new();
    let mut under_way: Vec<String> = Vec::new();
    let mut ledger = house.start().await;
    let mut next = 0;
    let mut fresh = |count: usize| {
        next += count;
        ids(next - count..next)
    };
    for step in steps {
        match *step {
            // No more than the last quarter of memory has room for.
            Step::Open(_) | Step::Refuse(_) if under_way.len() > 40 || !ledger.admits() => {}
            Step::Open(count) => {
                for id in fresh(count) {
                    ledger.open(&id);
                    expected.insert(id.clone(), Outcome::Lost);
                    under_way.push(id);
                }
            }
            Step::Retry(which) if !under_way.is_empty() => ledger.open(&under_way[which % under_way.len()]),
            Step::Retry(_) => {}
            Step::Settle(count) => {
                let ended: Vec<_> = under_way.drain(..count.min(under_way.len())).collect();
                ledger.settle(&ended);
                expected.extend(ended.into_iter().map(|id| (id, Outcome::Ok)));
            }
            Step::Refuse(count) => {
                let ended = fresh(count);
                ledger.settle(&ended);
                expected.extend(ended.into_iter().map(|id| (id, Outcome::Ok)));
            }
            Step::Fault(fault) => house.script.told().faults.push_back(fault),
            Step::Always(fault) => house.script.told().always = fault,
            Step::Disk(bytes) => ledger.disk_takes(bytes),
            Step::Wait(millis) => {
                for _ in 0..millis / 50 {
                    house.clock.advance(Duration::from_millis(50));
                    turn().await;
                }
            }
            Step::Kill => {
                house.kill(ledger).await;
                under_way.clear();
                ledger = house.start().await;
            }
            Step::Restart => {
                house.stop(&ledger).await;
                house.kill(ledger).await;
                under_way.clear();
                ledger = house.start().await;
            }
        }
        turn().await;
    }
    (expected, ledger)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_call_is_in_the_store_once_whatever_happens(steps in prop::collection::vec(step(), 1..60)) {
        runtime().block_on(async {
            let house = House::new();
            let (expected, ledger) = live(&house, &steps).await;
            house.kill(ledger).await;
            house.settle_down().await;
            prop_assert_eq!(house.shipped(), expected);
            Ok(())
        })?;
    }

    #[test]
    fn a_disk_that_fills_costs_no_row_of_a_call_that_ends(
        steps in prop::collection::vec(prop_oneof![
            3 => step().prop_filter("the process lives", |step| !matches!(step, Step::Kill | Step::Restart)),
            1 => prop_oneof![Just(0), 0_u64..20_000, Just(u64::MAX)].prop_map(Step::Disk),
        ], 1..60)
    ) {
        runtime().block_on(async {
            let mut house = House::new();
            house.settings.max_memory = Size::kib(256);
            let (expected, ledger) = live(&house, &steps).await;
            house.script.told().faults.clear();
            house.script.told().always = None;
            prop_assert_eq!(house.stop(&ledger).await, Remaining::default());
            prop_assert_eq!(house.metrics.ledger_rows_dropped.get(), 0);
            let expected: BTreeMap<_, _> = expected.into_iter().filter(|(_, end)| *end == Outcome::Ok).collect();
            prop_assert_eq!(house.shipped(), expected);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn rows_gather_and_go_in_one_write() {
    let house = House::new();
    let ledger = house.start().await;
    for id in ids(0..30) {
        ledger.open(&id);
        ledger.settle(&[id]);
        turn().await;
    }
    assert_eq!(house.script.told().writes, 0, "they linger");
    house.until("all rows are there", || house.script.told().rows.len() == 30).await;
    assert_eq!(house.script.told().writes, 1);
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    assert_eq!(house.metrics.ledger_rows_written.get(), 30);
    assert_eq!(folders(&house.dir.path().join(FOLDER)), 0, "an ordinary end leaves nothing behind");
}

#[tokio::test]
async fn a_store_that_is_away_for_long_costs_disk_and_not_memory() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().always = Some(Fault::Down);
    let all = ids(0..2_000);
    for part in all.chunks(20) {
        part.iter().for_each(|id| ledger.open(id));
        ledger.settle(part);
        house.clock.advance(Duration::from_millis(20));
        turn().await;
        let state = ledger.inner().lock();
        assert!(state.queue.bytes <= house.settings.max_memory.bytes() / 2, "{}", state.queue.bytes);
        assert!(state.queue.rows.len() < 100);
    }
    assert!(ledger.admits());
    ledger.inner().observe();
    assert_eq!((house.metrics.ledger_rows_waiting.get(), house.metrics.ledger_store_up.get()), (2_000, 0));
    assert!(house.metrics.ledger_oldest_row_seconds.get() >= 1);
    house.script.told().always = None;
    house.until("all rows are there", || house.script.told().rows.len() == 2_000).await;
    assert!(house.script.told().longest <= BATCH);
    assert_eq!(house.metrics.ledger_store_up.get(), 1);

    // Caught up, rows go from memory again.
    let writes = house.script.told().writes;
    house.until("it reads back no more", || !ledger.inner().lock().journal.has_spilled()).await;
    assert!(!ledger.inner().lock().spilling);
    ledger.settle(&["one-more".to_owned()]);
    house.until("the last row is there", || house.script.told().rows.len() == 2_001).await;
    assert!(house.script.told().writes <= writes + 2);
    ledger.inner().observe();
    assert_eq!(house.metrics.ledger_rows_waiting.get(), 0);
    house.until("the journal is short again", || ledger.inner().lock().journal.segments() <= 1).await;
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    assert_eq!(folders(&house.dir.path().join(FOLDER)), 0);
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up_and_asked_again() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().faults.extend([Fault::Hang, Fault::Unanswered, Fault::Half]);
    ledger.settle(&ids(0..10));
    house.until("all rows are there", || house.script.told().rows.len() == 10).await;
    house.until("it knows", || house.metrics.ledger_store_up.get() == 1).await;
    assert_eq!(house.script.told().writes, 4);
    assert_eq!(house.stop(&ledger).await, Remaining::default());
}

#[tokio::test]
async fn a_row_the_store_does_not_want_is_kept_and_holds_up_nobody() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().poison.insert("call-3".to_owned());
    ledger.settle(&ids(0..10));
    house.until("the others are there", || house.script.told().rows.len() == 9).await;
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    assert_eq!(house.metrics.ledger_rows_refused.get(), 1);
    let kept = fs::read_to_string(house.dir.path().join("journal/set-aside/refused.jsonl")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(kept.trim()).unwrap();
    assert_eq!((&kept["reason"], &kept["row"]["id"]), (&"poison".into(), &"call-3".into()));
}

#[tokio::test]
async fn a_full_disk_costs_nothing_while_the_store_answers() {
    let house = House::new();
    let ledger = house.start().await;
    ledger.disk_takes(2_000);
    let all = ids(0..200);
    for part in all.chunks(10) {
        part.iter().for_each(|id| ledger.open(id));
        ledger.settle(part);
        assert!(ledger.admits());
        let there = part.last().unwrap();
        house.until("the rows are there", || house.script.told().rows.contains_key(there)).await;
    }
    assert!(house.metrics.ledger_unjournaled.get() > 300);
    ledger.inner().observe();
    assert_eq!(house.metrics.ledger_journal_up.get(), 0);
    ledger.disk_takes(u64::MAX);
    house.clock.advance(Duration::from_secs(2));
    ledger.open("later");
    ledger.settle(&["later".to_owned()]);
    ledger.inner().observe();
    assert_eq!(house.metrics.ledger_journal_up.get(), 1);
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    assert_eq!(house.shipped().len(), 201);
    assert_eq!(folders(&house.dir.path().join(FOLDER)), 0);
}

#[tokio::test]
async fn without_disk_and_store_calls_are_refused_before_a_row_is_lost() {
    let house = House::new();
    let ledger = house.start().await;
    ledger.disk_takes(0);
    house.script.told().always = Some(Fault::Down);
    let all = ids(0..1_000);
    let sent = all.iter().take_while(|id| {
        ledger.open(id);
        ledger.settle(&[(*id).clone()]);
        ledger.admits()
    });
    let sent = sent.count();
    assert!((30..200).contains(&sent), "{sent}");
    // Those that were under way still find room.
    ledger.settle(&ids(2_000..2_010));
    assert_eq!(house.metrics.ledger_rows_dropped.get(), 0);
    house.script.told().always = None;
    house.until("there is room again", || ledger.admits()).await;
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    assert_eq!(house.shipped().len(), sent + 1 + 10);
}

#[tokio::test]
async fn who_would_rather_serve_than_count_has_the_losses_counted() {
    let mut house = House::new();
    house.settings.when_full = WhenFull::Serve;
    let ledger = house.start().await;
    ledger.disk_takes(0);
    house.script.told().always = Some(Fault::Down);
    ledger.settle(&ids(0..1_000));
    assert!(ledger.admits());
    let dropped = usize::try_from(house.metrics.ledger_rows_dropped.get()).unwrap();
    assert!((800..970).contains(&dropped), "{dropped}");
    let most = house.settings.max_memory.bytes();
    assert!(ledger.inner().lock().queue.bytes <= most);
    house.script.told().always = None;
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    assert_eq!(house.shipped().len(), 1_000 - dropped);
}

#[tokio::test]
async fn an_end_without_a_store_says_what_it_leaves_and_the_next_start_ships_it() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().always = Some(Fault::Down);
    ledger.settle(&ids(0..10));
    ledger.disk_takes(0);
    ledger.settle(&ids(10..15));
    assert_eq!(house.stop(&ledger).await, Remaining { journaled: 10, gone: 5 });
    house.kill(ledger).await;
    house.settle_down().await;
    assert_eq!(house.shipped().len(), 10);
    assert_eq!(house.metrics.ledger_rows_lost.get(), 0);
}

#[tokio::test]
async fn a_gateway_that_runs_inherits_from_one_that_died() {
    let house = House::new();
    let (heir, other) = (house.start().await, house.start().await);
    other.open("under-way");
    other.settle(&["ended".to_owned()]);
    heir.open("mine");
    for _ in 0..200 {
        house.clock.advance(Duration::from_secs(1));
        turn().await;
    }
    assert_eq!(house.shipped().keys().collect::<Vec<_>>(), ["ended"], "what a live gateway has open is not lost");
    house.kill(other).await;
    house.until("its open call is there", || house.shipped().contains_key("under-way")).await;
    assert_eq!(house.shipped()["under-way"], Outcome::Lost);
    assert_eq!(house.metrics.ledger_rows_lost.get(), 1);
    assert!(!house.shipped().contains_key("mine"));
    house.until("its folder is gone", || folders(&house.dir.path().join(FOLDER)) == 1).await;
    house.kill(heir).await;
}

#[tokio::test]
async fn a_row_that_was_shipped_is_not_lost_when_its_end_is_gone_from_the_journal() {
    let house = House::new();
    let ledger = house.start().await;
    ledger.open("stream");
    let all = ids(0..300);
    for part in all.chunks(10) {
        part.iter().for_each(|id| ledger.open(id));
        ledger.settle(part);
    }
    house.until("all rows are there", || house.script.told().rows.len() == 300).await;
    house.until("what is shipped is gone", || ledger.inner().lock().journal.segments() <= 2).await;
    // The first segment is kept for the stream, and with it many calls whose ends were in segments that are gone.
    house.kill(ledger).await;
    house.settle_down().await;
    let lost: Vec<_> = house.shipped().into_iter().filter(|(_, outcome)| *outcome == Outcome::Lost).collect();
    assert_eq!(lost, [("stream".to_owned(), Outcome::Lost)]);
    assert_eq!(house.metrics.ledger_rows_lost.get(), 1, "the others were there already");
}

#[tokio::test]
async fn a_segment_damaged_under_way_costs_what_is_damaged_and_is_kept() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().always = Some(Fault::Down);
    let all = ids(0..400);
    all.chunks(10).for_each(|part| ledger.settle(part));
    let segments = ledger.inner().lock().journal.folder().segments().unwrap();
    assert!(segments.len() > 3);
    let last = &segments[segments.len() - 2].path;
    let mut bytes = fs::read(last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(last, bytes).unwrap();
    house.script.told().always = None;
    house.until("all but one are there", || house.script.told().rows.len() == 399).await;
    assert_eq!(house.stop(&ledger).await, Remaining::default());
    let aside = fs::read_dir(house.dir.path().join("journal/set-aside")).unwrap().count();
    assert_eq!(aside, 1);
}

#[tokio::test]
async fn a_journal_that_is_removed_under_way_is_made_anew() {
    let house = House::new();
    let ledger = house.start().await;
    let root = house.dir.path().join(FOLDER);
    ledger.open("before");
    fs::remove_dir_all(&root).unwrap();
    house.clock.advance(Duration::from_secs(2));
    house.until("there is a new folder", || root.exists() && folders(&root) == 1).await;
    ledger.open("after");
    ledger.settle(&["before".to_owned()]);
    house.kill(ledger).await;
    house.settle_down().await;
    let expected = [("after".to_owned(), Outcome::Lost), ("before".to_owned(), Outcome::Ok)];
    assert_eq!(house.shipped().into_iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn rows_in_a_journal_that_is_removed_are_counted_and_hold_up_nobody() {
    let house = House::new();
    let ledger = house.start().await;
    house.script.told().always = Some(Fault::Down);
    let all = ids(0..2_000);
    all.chunks(10).for_each(|part| ledger.settle(part));
    assert!(ledger.inner().lock().journal.has_spilled());
    fs::remove_dir_all(house.dir.path().join(FOLDER)).unwrap();
    house.script.told().always = None;
    house.until("nothing waits", || ledger.inner().lock().unshipped == 0).await;
    let dropped = usize::try_from(house.metrics.ledger_rows_dropped.get()).unwrap();
    assert!(dropped > 0);
    assert_eq!(house.shipped().len() + dropped, 2_000);
    assert_eq!(house.stop(&ledger).await, Remaining::default());
}

#[test]
fn nothing_is_kept_where_there_is_no_ledger() {
    let ledger = Ledger::off();
    ledger.open("a");
    ledger.settle(&["a".to_owned()]);
    assert!(ledger.admits());
    assert!(runtime().block_on(ledger.flush(Clock::Real.now())));
    assert_eq!(runtime().block_on(ledger.stop(Duration::ZERO)), Remaining::default());
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let house = House::new();
    fs::write(house.dir.path().join(FOLDER), "not a folder").unwrap();
    let sink = Sink::Scripted(house.script.clone());
    let error = Ledger::start(Settings::default(), house.dir.path(), sink, Clock::Real, house.metrics.clone()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("journal") && error.contains("data_dir"), "{error}");
}
