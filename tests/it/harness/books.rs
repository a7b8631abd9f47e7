//! The ledger, read back when a gateway has stopped, against what the providers say that they served.

use std::{collections::BTreeMap, path::Path};

use switchboard::{
    mock::Mock,
    store::{
        Db,
        ledger::{self, CallRow, RequestFilter},
    },
    telemetry::Outcome,
    types::UsageSource,
};

/// Every row of the ledger in `data_dir`, oldest first.
pub(super) async fn rows(data_dir: &Path) -> Vec<CallRow> {
    const PAGE: u32 = 1_000;
    let db = Db::open(data_dir, None).await.unwrap();
    let mut rows: Vec<CallRow> = Vec::new();
    loop {
        let after = rows.last().map(ledger::cursor_after);
        let page =
            ledger::requests(&db, &RequestFilter { limit: PAGE, after, ..RequestFilter::default() }).await.unwrap();
        let is_last = page.len() < PAGE as usize;
        rows.extend(page);
        if is_last {
            rows.reverse();
            return rows;
        }
    }
}

/// What is wrong with the rows: of each call one, of each attempt one, and each with what its provider served.
pub(super) fn audit<'a>(
    rows: &[CallRow],
    calls: u64,
    attempts: u64,
    mocks: impl Iterator<Item = (&'a str, &'a Mock)>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, found: u64, expected: u64| {
        if found != expected {
            wrong.push(format!("{what}: found {found}, expected {expected}"));
        }
    };
    check("each call that settled has one row", rows.len() as u64, calls);
    check(
        "each attempt that was counted has one row",
        rows.iter().map(|row| row.attempts.len() as u64).sum(),
        attempts,
    );
    for row in rows {
        let in_order = row.attempts.iter().enumerate().all(|(index, attempt)| usize::from(attempt.number) == index + 1);
        check("attempts are numbered from 1", u64::from(in_order), 1);
        let lost = row.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Lost).count();
        check("nobody was lost", lost as u64, 0);
        // A count of tokens that no provider gave is estimated here, after whatever failed.
        let succeeded = |last: Outcome| row.outcome == Outcome::Ok && last == Outcome::Ok;
        if let Some(last) = row.attempts.last().filter(|last| succeeded(last.outcome)) {
            check("who succeeded has consumed something", u64::from(last.usage_source != UsageSource::None), 1);
        }
    }
    for (name, mock) in mocks {
        compare(rows, name, mock, &mut wrong);
    }
    wrong
}

/// Tokens that a provider stated, with the ids it gave: the ledger has them exactly as the provider served them.
fn compare(rows: &[CallRow], name: &str, mock: &Mock, wrong: &mut Vec<String>) {
    let mut served = BTreeMap::<_, u64>::new();
    if mock.requests().len() as u64 != mock.served() {
        // The test had it forget some.
        return;
    }
    for billed in mock.requests().iter().filter_map(|request| request.billed().cloned()) {
        *served.entry((billed.id, billed.prompt_tokens, billed.completion_tokens)).or_default() += 1;
    }
    let attempts = rows.iter().flat_map(|row| &row.attempts).filter(|attempt| &*attempt.provider == name);
    let stated = attempts.filter(|a| a.usage_source == UsageSource::Reported && a.outcome == Outcome::Ok);
    for attempt in stated {
        let id = attempt.provider_id.as_deref().map(str::to_owned);
        let key = (id, attempt.usage.total_input(), attempt.usage.total_output());
        match served.get_mut(&key).filter(|left| **left > 0) {
            Some(left) => *left -= 1,
            None => wrong.push(format!("`{name}` served nothing like {key:?}")),
        }
    }
}
