//! From a charge to its row: what an attempt that ended in some way consumed and cost, and that there is one row
//! whatever happens to the charge.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::{
    catalog::{Catalog, Price, Terms},
    error::Error,
    providers::Operation,
    quotas::Quotas,
    shared::Shared,
    store::ledger::{CallRow, Who},
    telemetry::{CallLog, Metrics, Outcome},
    types::{Clock, Nanos, RequestId, Usage, UsageSource},
    wire::{
        envelope::Envelope,
        openai_chat::{Said, Shape, Stated},
    },
};

const ASKED: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello world"}]}"#;
/// What `ASKED` is by its length: 41 bytes of messages.
const QUICK: u64 = 11;

struct Bench {
    till: Till,
    settlements: mpsc::Receiver<Box<Settlement>>,
    clock: Clock,
    metrics: Arc<Metrics>,
    instance: Arc<str>,
}

impl Bench {
    fn new() -> Self {
        let (clock, metrics) = (Clock::held(), Arc::new(Metrics::new()));
        let instance: Arc<str> = "test".into();
        let quotas = Quotas::new(Shared::memory(clock.clone()), clock.clone(), metrics.clone(), None);
        let books = Books {
            metrics: metrics.clone(),
            log: CallLog::off(),
            ledger: Ledger::off(),
            quotas,
            instance: instance.clone(),
        };
        let (till, settlements) = Till::new(4, clock.clone(), Arc::new(books));
        Self { till, settlements, clock, metrics, instance }
    }

    fn open(&self) -> Result<Charge, Error> {
        self.open_for(Operation::Chat)
    }

    fn open_for(&self, operation: Operation) -> Result<Charge, Error> {
        let asked = Asked::of(&Envelope::parse(Bytes::from_static(ASKED.as_bytes())).unwrap());
        let record = Settlement {
            id: RequestId::new(self.clock.unix_millis()),
            at: self.clock.unix_millis(),
            operation,
            model: "m".into(),
            served: None,
            star: None,
            who: Who::default(),
            client: [192, 0, 2, 1].into(),
            stream: false,
            asked,
            attempts: Vec::new(),
            outcome: Outcome::Lost,
            status: 0,
            error_code: None,
            finish_reason: None,
            lossy: None,
            first_output: None,
            duration: Duration::ZERO,
            overhead: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            pending: None,
            account: None,
        };
        self.till.open(record, self.clock.now(), self.clock.now())
    }

    fn to(&self, provider: &str, price: Price) -> Destination {
        let target = format!("{provider}/up");
        Destination {
            metrics: self.metrics.target(&target),
            target: target.into(),
            provider: provider.into(),
            upstream_model: "up".into(),
            price,
            region: None,
            key: 1,
        }
    }

    /// The row of the one charge that has settled.
    fn row(&mut self) -> CallRow {
        let settlement = self.settlements.try_recv().expect("one settlement");
        assert!(self.settlements.try_recv().is_err(), "and no more");
        settlement.row(&self.instance)
    }
}

fn known() -> Price {
    let price = Catalog::embedded().find("openai", "gpt-4o");
    assert!(matches!(price, Price::Known(_)));
    price
}

fn stated() -> Stated {
    let usage = Usage { input: 11, output: 7, ..Usage::default() };
    Stated { id: Some("chatcmpl-1".into()), usage: Some(usage), ..Stated::default() }
}

fn said(words: &str) -> Said {
    Said::of_answer(Shape::Chat, format!(r#"{{"choices":[{{"message":{{"content":"{words}"}}}}]}}"#).as_bytes())
}

#[test]
fn an_attempt_consumed_what_was_stated_else_what_was_seen_else_nothing() {
    use Outcome as O;
    let refused = [O::Connect, O::TimeoutConnect, O::RateLimited, O::Auth, O::BadRequest, O::ContextLength];
    let worked = [O::Ok, O::ClientCancel, O::UpstreamError, O::TimeoutFirstOutput, O::TimeoutBetweenChunks];
    let worked = worked.into_iter().chain([O::TimeoutTotal, O::Empty, O::Malformed, O::Cut, O::Internal]);
    let table = refused.map(|outcome| (outcome, 0, UsageSource::None)).into_iter();
    for (outcome, input, source) in table.chain(worked.map(|outcome| (outcome, QUICK, UsageSource::Estimated))) {
        let mut bench = Bench::new();
        let mut run = |stated: Stated, said: Option<Said>| {
            let mut charge = bench.open().unwrap();
            charge.attempt_started(bench.to("a", known()));
            charge.heard(stated, said);
            charge.attempt_ended(outcome, None);
            charge.settle(outcome);
            bench.row().attempts.remove(0)
        };
        let row = run(Stated::default(), None);
        assert_eq!((row.usage, row.usage_source), (Usage { input, ..Usage::default() }, source), "{outcome:?}");
        assert_eq!(row.cost.is_some_and(|cost| cost.0 > 0), input > 0, "{outcome:?}");
        let row = run(stated(), Some(said("more than was counted")));
        assert_eq!((Some(row.usage), row.usage_source), (stated().usage, UsageSource::Reported), "{outcome:?}");
        assert_eq!((row.provider_id.as_deref(), row.provider_key), (Some("chatcmpl-1"), 1));
        let row = run(Stated::default(), Some(said("eight by")));
        assert_eq!((row.usage.input, row.usage.output), (QUICK, 2), "{outcome:?}: output was seen");
        assert_eq!(row.usage_source, UsageSource::Estimated);
    }
}

#[test]
fn counting_tokens_consumes_nothing_however_it_ends() {
    let mut bench = Bench::new();
    for outcome in [Outcome::Ok, Outcome::UpstreamError, Outcome::Cut, Outcome::TimeoutTotal, Outcome::ClientCancel] {
        let mut charge = bench.open_for(Operation::CountTokens).unwrap();
        charge.attempt_started(bench.to("a", known()));
        assert_eq!(charge.row().unwrap().cost(), Some(Nanos::ZERO), "as lost");
        charge.attempt_ended(outcome, Some(500));
        charge.settle(outcome);
        let row = bench.row();
        let attempt = &row.attempts[0];
        assert_eq!((attempt.usage, attempt.usage_source), (Usage::default(), UsageSource::None), "{outcome:?}");
        assert_eq!(attempt.cost, Some(Nanos::ZERO));
    }
}

#[test]
fn what_was_said_after_usage_was_stated_is_counted() {
    let zero = Usage::default();
    let long = "words ".repeat(100);
    // 600 bytes are 150 tokens by the rule of thumb.
    let cases = [
        (Usage { input: 11, ..zero }, Usage { input: 11, output: 150, ..zero }, UsageSource::Estimated),
        (Usage { input: 11, output: 1, ..zero }, Usage { input: 11, output: 150, ..zero }, UsageSource::Estimated),
        (
            Usage { input: 11, reasoning: 100, ..zero },
            Usage { input: 11, output: 50, reasoning: 100, ..zero },
            UsageSource::Estimated,
        ),
        (Usage { input: 11, output: 150, ..zero }, Usage { input: 11, output: 150, ..zero }, UsageSource::Reported),
        (
            Usage { input: 11, reasoning: 400, ..zero },
            Usage { input: 11, reasoning: 400, ..zero },
            UsageSource::Reported,
        ),
    ];
    for (stated, expected, source) in cases {
        let mut bench = Bench::new();
        let mut charge = bench.open().unwrap();
        charge.attempt_started(bench.to("a", known()));
        charge.heard(Stated { usage: Some(stated), usage_is_early: true, ..Stated::default() }, Some(said(&long)));
        charge.attempt_ended(Outcome::Ok, Some(200));
        charge.settle(Outcome::ClientCancel);
        let row = bench.row().attempts.remove(0);
        assert_eq!((row.usage, row.usage_source), (expected, source), "{stated:?}");
        assert_eq!(row.cost, known().cost(&expected, &Terms::default()));
    }
}

#[test]
fn a_connection_found_closed_costs_nothing_and_a_broken_one_does() {
    for unsent in [true, false] {
        let mut bench = Bench::new();
        let mut charge = bench.open().unwrap();
        charge.attempt_started(bench.to("a", known()));
        if unsent {
            charge.attempt_unsent();
        }
        charge.attempt_ended(Outcome::Cut, None);
        charge.settle_error(Outcome::Cut, "upstream_cut", 502);
        let row = bench.row().attempts.remove(0);
        assert_eq!(row.usage_source, if unsent { UsageSource::None } else { UsageSource::Estimated });
    }
}

#[test]
fn each_attempt_is_priced_for_itself_and_an_unknown_price_is_no_price() {
    let mut bench = Bench::new();
    let mut charge = bench.open().unwrap();
    charge.attempt_started(bench.to("a", known()));
    charge.attempt_ended(Outcome::RateLimited, Some(429));
    charge.attempt_started(bench.to("b", Price::Unknown));
    charge.attempt_ended(Outcome::Auth, Some(401));
    charge.attempt_started(bench.to("c", known()));
    let stated = Stated { cost: Some(Nanos(5)), service_tier: Some("default".into()), ..stated() };
    let expected = known().cost(&stated.usage.unwrap(), &Terms::default());
    assert_eq!(charge.cost_of(&stated), expected);
    charge.heard(stated, None);
    charge.attempt_ended(Outcome::Ok, Some(200));
    charge.settle(Outcome::Ok);
    let row = bench.row();
    let shown: Vec<_> = row.attempts.iter().map(|a| (a.number, &*a.target, a.outcome.as_str(), a.status)).collect();
    let all = [(1, "a/up", "rate_limited", Some(429)), (2, "b/up", "auth", Some(401)), (3, "c/up", "ok", Some(200))];
    assert_eq!(shown, all);
    // Who refused consumed nothing, so it does not matter that its price is not known.
    assert_eq!(row.attempts[1].cost, Some(Nanos::ZERO));
    assert_eq!((row.cost(), row.usage().input), (expected, 11));
    assert_eq!(row.attempts[2].reported_cost, Some(Nanos(5)));
    assert_eq!((&*row.attempts[1].price, row.attempts[2].service_tier.as_deref()), ("unknown", Some("default")));

    let mut charge = bench.open().unwrap();
    charge.attempt_started(bench.to("b", Price::Unknown));
    charge.attempt_ended(Outcome::Cut, None);
    charge.attempt_started(bench.to("c", known()));
    charge.heard(self::stated(), None);
    charge.attempt_ended(Outcome::Ok, None);
    charge.settle(Outcome::Ok);
    let row = bench.row();
    assert_eq!((row.attempts[0].cost, row.cost()), (None, None));
}

#[test]
fn a_charge_settles_once_whatever_becomes_of_it() {
    let mut bench = Bench::new();
    // Dropped before anything was sent, while an attempt runs, and after one was committed.
    drop(bench.open().unwrap());
    assert_eq!((bench.row().attempts.len(), bench.clock.unix_millis() > 0), (0, true));
    for committed in [false, true] {
        let mut charge = bench.open().unwrap();
        charge.attempt_started(bench.to("a", known()));
        if committed {
            charge.attempt_ended(Outcome::Ok, Some(200));
            charge.committed(200, true);
        }
        bench.clock.advance(Duration::from_millis(70));
        drop(charge);
        let row = bench.row();
        let attempt = &row.attempts[0];
        assert_eq!((row.outcome, attempt.outcome), (Outcome::ClientCancel, Outcome::ClientCancel));
        assert_eq!((attempt.duration_ms, attempt.usage_source), (70, UsageSource::Estimated));
    }
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut charge = bench.open().unwrap();
        charge.attempt_started(bench.to("a", known()));
        panic!("a bug, for a test");
    }));
    assert!(panicked.is_err());
    let row = bench.row();
    assert_eq!((row.outcome, row.attempts[0].outcome, row.attempts.len()), (Outcome::Internal, Outcome::Internal, 1));
}

#[test]
fn what_is_opened_is_the_row_of_a_call_that_never_ended() {
    let mut bench = Bench::new();
    let mut charge = bench.open().unwrap();
    charge.attempt_started(bench.to("a", known()));
    charge.attempt_ended(Outcome::UpstreamError, Some(500));
    charge.attempt_started(bench.to("b", known()));
    let row = charge.row().unwrap();
    let shown: Vec<_> = row.attempts.iter().map(|a| (a.number, a.outcome, a.usage.input, a.usage_source)).collect();
    let estimated = UsageSource::Estimated;
    assert_eq!(shown, [(1, Outcome::UpstreamError, QUICK, estimated), (2, Outcome::Lost, QUICK, estimated)]);
    assert_eq!((row.outcome, row.status), (Outcome::Lost, 0));
    assert!(row.cost().is_some_and(|cost| cost.0 > 0));
    drop(charge);
    assert_eq!(bench.row().id, row.id);
}

#[tokio::test]
async fn a_family_with_a_vocabulary_is_counted_when_the_call_has_ended() {
    let mut bench = Bench::new();
    let mut charge = bench.open().unwrap();
    let to = Destination { upstream_model: "openai/gpt-4o".into(), ..bench.to("a", known()) };
    charge.attempt_started(to);
    charge.heard(Stated::default(), Some(said("hello world")));
    charge.settle(Outcome::ClientCancel);
    let mut settlement = bench.settlements.recv().await.unwrap();
    settlement.count().await;
    let row = settlement.row(&bench.instance).attempts.remove(0);
    assert_eq!((row.usage.output, row.usage_source), (2, UsageSource::Counted));
    assert!((5..10).contains(&row.usage.input), "{:?}", row.usage);
}
