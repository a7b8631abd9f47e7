//! The ledger against what the providers saw.

use std::{collections::BTreeMap, time::Duration};

use switchboard::{
    store::{
        Db,
        ledger::{self, AttemptRow, CallRow, Dimension, RequestFilter, UsageQuery},
    },
    types::{Nanos, Outcome, UsageSource},
};

use crate::gateway::Lab;

/// The ledger, read once it was at rest.
pub struct Books {
    calls: Vec<CallRow>,
    db: Db,
}

impl Books {
    /// Waits until the ledger holds all that the providers have seen, and no longer grows.
    pub async fn settled(lab: &Lab) -> Self {
        let database = lab.database.as_ref().map(|url| serde_json::from_value(serde_json::json!(url)).unwrap());
        let db = Db::open(&lab.dir.path().join("data"), database.as_ref()).await.unwrap();
        let wanted = lab.served.lock().unwrap().values().sum::<u64>();
        let (mut before, mut still) = (0, 0);
        for _ in 0..300 {
            let calls = all(&db).await;
            let attempts = calls.iter().map(|call| call.attempts.len() as u64).sum::<u64>();
            still = if attempts == before { still + 1 } else { 0 };
            before = attempts;
            if attempts >= wanted && still >= 5 {
                return Self { calls, db };
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut missing = lab.served.lock().unwrap().clone();
        for call in all(&db).await {
            missing.remove(call.who.end_user.as_deref().unwrap_or_default());
        }
        let mut missing: Vec<_> = missing.into_iter().collect();
        missing.sort();
        missing.truncate(20);
        panic!("{before} attempts in the ledger, {wanted} at the providers; missing: {missing:?}\n{}", lab.log());
    }

    /// Checks that both say the same, and that the money is right.
    pub fn balance(&self, lab: &Lab) {
        let mut wrong = Vec::new();
        let mut by_call: BTreeMap<&str, Vec<&CallRow>> = BTreeMap::new();
        for call in &self.calls {
            by_call.entry(call.who.end_user.as_deref().unwrap_or("nobody")).or_default().push(call);
        }
        let served = lab.served.lock().unwrap();
        let (mut lost, mut unsent) = (0, 0);
        for (user, seen) in served.iter() {
            let rows = by_call.get(&**user).map(Vec::as_slice).unwrap_or_default();
            let attempts: u64 = rows.iter().map(|call| call.attempts.len() as u64).sum();
            if rows.len() != 1 || attempts < *seen {
                wrong.push(format!(
                    "{user}: {seen} requests at the providers, {} rows with {attempts} attempts",
                    rows.len()
                ));
            }
        }
        for (user, rows) in &by_call {
            let seen = served.get(*user).copied().unwrap_or(0);
            for call in rows {
                wrong.extend(check(call));
                let never_arrived = call.attempts.iter().filter(|attempt| may_not_have_arrived(attempt)).count();
                lost += call.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Lost).count();
                let surplus = (call.attempts.len() as u64).saturating_sub(seen);
                unsent += surplus;
                if surplus > never_arrived as u64 {
                    wrong.push(format!(
                        "{user}: {} attempts, {seen} requests at the providers: {call:?}",
                        call.attempts.len()
                    ));
                }
            }
        }
        println!(
            "{} calls, {} of them in the ledger with {} attempts; {lost} lost in crashes, {unsent} never arrived",
            lab.calls.load(std::sync::atomic::Ordering::Relaxed),
            self.calls.len(),
            self.calls.iter().map(|call| call.attempts.len()).sum::<usize>(),
        );
        assert!(self.calls.len() > 100, "hardly anything was tried");
        let shown = wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{} wrong:\n{shown}\n{}", wrong.len(), lab.log());
    }

    /// Checks that the roll-ups are the sums of the rows.
    pub async fn add_up(&self) {
        let query = UsageQuery {
            from: 0,
            to: i64::MAX,
            bucket: None,
            zone: jiff::tz::TimeZone::UTC,
            by: vec![Dimension::Target],
            filters: Vec::new(),
            limit: 100,
            after: None,
        };
        let page = ledger::usage(&self.db, &query).await.unwrap();
        let mut from_rows: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for attempt in self.calls.iter().flat_map(|call| &call.attempts) {
            let sums = from_rows.entry(&*attempt.target).or_default();
            sums.0 += 1;
            sums.1 += attempt.cost.map_or(0, |cost| cost.0);
        }
        let rolled: BTreeMap<&str, (i64, i64)> =
            page.groups.iter().map(|group| (&*group.values[0], (group.sums.attempts, group.sums.cost.0))).collect();
        assert_eq!(rolled, from_rows);
    }
}

/// A gateway may be killed between writing down that it is about to send and sending; a client may leave then, and a
/// connection be refused. The call's deadline may pass then as well, but not long after.
fn may_not_have_arrived(attempt: &AttemptRow) -> bool {
    match attempt.outcome {
        Outcome::Lost | Outcome::Connect | Outcome::TimeoutConnect | Outcome::ClientCancel => true,
        Outcome::TimeoutTotal => attempt.duration_ms < 50,
        _ => false,
    }
}

/// What must hold for each call by itself.
fn check(call: &CallRow) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, attempt) in call.attempts.iter().enumerate() {
        if usize::from(attempt.number) != index + 1 {
            wrong.push(format!("attempt {} stands at place {}: {call:?}", attempt.number, index + 1));
        }
        let usage = attempt.usage;
        if attempt.usage_source == UsageSource::Reported && (usage.total_input(), usage.total_output()) != (11, 7) {
            wrong.push(format!("reported usage is {usage:?}: {call:?}"));
        }
        if attempt.outcome == Outcome::Lost && (usage.total_input() == 0 || attempt.usage_source == UsageSource::None) {
            wrong.push(format!("a lost attempt has no estimate: {call:?}"));
        }
        let (input, output) = if &*attempt.target == "a/up" { (2_000, 10_000) } else { (4_000, 20_000) };
        let cost = usage.total_input() * input + usage.total_output() * output;
        if attempt.cost != Some(Nanos(cost as i64)) {
            wrong.push(format!("cost is {:?} and should be {cost}: {call:?}", attempt.cost));
        }
    }
    wrong
}

async fn all(db: &Db) -> Vec<CallRow> {
    let mut calls = Vec::new();
    let mut filter = RequestFilter { limit: 1_000, ..RequestFilter::default() };
    loop {
        let page = ledger::requests(db, &filter).await.unwrap();
        filter.after = page.last().map(ledger::cursor_after);
        let last = page.len() < 1_000;
        calls.extend(page);
        if last {
            return calls;
        }
    }
}
