//! What receipts say of the quotas that a call touched.

use std::sync::Arc;

use serde_json::json;

use super::{Demand, PLACE, Place, bench, subject, usd};
use crate::store::ledger::{LimitNote, LimitRow};

/// Of a line its quota, its subject, and whether it refused or would have.
fn told((limit, about): &(LimitRow, LimitNote)) -> (String, String, bool, bool) {
    let subject: Vec<String> = about.subject.iter().map(|(word, value)| format!("{word}={value}")).collect();
    (limit.quota.to_string(), subject.join(" "), limit.refused, about.would_refuse)
}

fn line(quota: &str, subject: &str, refused: bool, would_refuse: bool) -> (String, String, bool, bool) {
    (quota.to_owned(), subject.to_owned(), refused, would_refuse)
}

#[tokio::test]
async fn each_counter_says_whose_it_is_and_a_shadow_when_it_would_have_refused() {
    let bench = bench(&[
        json!({ "name": "all", "scope": "global", "measure": "requests", "limit": 9, "window": "1m" }),
        json!({ "name": "pair", "scope": ["key", "model"], "measure": "requests", "limit": 9, "window": "1m" }),
        json!({ "name": "tags", "scope": "tag", "measure": "requests", "limit": 1, "window": "1m", "action": "shadow" }),
        json!({ "name": "warns", "scope": "end_user", "measure": "usd", "limit": "0.000000010", "window": "1m", "action": "warn" }),
    ])
    .await;
    for (tags, over) in [(["a", "b"], [false, false]), (["b", "c"], [true, false])] {
        let tags = tags.map(Arc::from);
        let subject = subject("k", &tags);
        let mut account = bench.quotas.open(&subject).unwrap().unwrap();
        let demand = Demand { estimate: usd(1, 1, 6), spent: &[] };
        account.enter(&subject, &PLACE, demand, &[], bench.clock.unix_millis()).await.unwrap();
        let lines = account.settle(bench.quotas.shared(), &[usd(1, 1, 6)]);
        let expected = [
            line("all", "", false, false),
            line("pair", "key=k model=gpt", false, false),
            line("tags", &format!("tag={}", tags[0]), false, over[0]),
            line("tags", &format!("tag={}", tags[1]), false, over[1]),
            // Twice six of ten.
            line("warns", "end_user=u1", false, over[0]),
        ];
        assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn a_counter_without_room_says_whose_it_is_and_how_full_it_was() {
    let bench = bench(&[
        json!({ "name": "at a", "scope": ["key", "provider"], "measure": "requests", "limit": 1, "window": "1m" }),
        json!({ "name": "out", "scope": "key", "measure": "output_tokens", "limit": 100, "window": "1m" }),
    ])
    .await;
    bench.call("k", usd(1, 10, 1), usd(1, 10, 1)).await.unwrap();
    let mut account = bench.open("k");
    bench.enter(&mut account, "k", usd(1, 10, 1)).await.unwrap_err();
    let other = Place { provider: "other", target: "other/m", ..PLACE };
    bench.enter_at(&mut account, "k", &other, Demand { estimate: usd(1, 40, 1), spent: &[] }).await.unwrap();
    // Somebody else takes most of what is left, and then the answer turns out longer.
    let mut beside = bench.open("k");
    let third = Place { provider: "third", target: "third/m", ..PLACE };
    bench.enter_at(&mut beside, "k", &third, Demand { estimate: usd(1, 45, 1), spent: &[] }).await.unwrap();
    let now = bench.clock.unix_millis();
    let refused = account.extend(usd(0, 40, 0), bench.quotas.shared(), now).unwrap().await.unwrap_err();
    account.refused_more(&refused, now);
    let lines = account.settle(bench.quotas.shared(), &[usd(1, 40, 1)]);
    let expected = [
        line("at a", "key=k provider=openai", true, false),
        line("out", "key=k", true, false),
        line("at a", "key=k provider=other", false, false),
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    let (out, _) = &lines[1];
    // 10, 40 and 45 when it was refused; 50 when its own 40 were set aside.
    assert_eq!((out.used, out.held, out.settled), (Some(95), 40, 40));
}

#[tokio::test]
async fn a_shadow_that_has_no_room_for_the_rest_of_an_answer_would_have_refused() {
    let shadow = json!({ "scope": "key", "measure": "output_tokens", "limit": 50, "window": "1m", "action": "shadow" });
    for (more, over) in [(10, false), (11, true)] {
        let bench = bench(std::slice::from_ref(&shadow)).await;
        let mut account = bench.open("k");
        bench.enter(&mut account, "k", usd(1, 40, 1)).await.unwrap();
        let grant = account.extend(usd(0, more, 0), bench.quotas.shared(), bench.clock.unix_millis()).unwrap();
        account.granted(grant.await.unwrap(), usd(0, more, 0));
        let lines = account.settle(bench.quotas.shared(), &[usd(1, 40, 1)]);
        assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), [line("key.output_tokens.1m", "key=k", false, over)]);
    }
}

#[tokio::test]
async fn a_place_at_a_target_that_was_left_was_set_aside_all_the_same() {
    let bench = bench(&[json!({ "name": "slots", "scope": "provider", "measure": "concurrent", "limit": 3 })]).await;
    let mut account = bench.open("k");
    bench.enter(&mut account, "k", usd(1, 1, 1)).await.unwrap();
    let other = Place { provider: "other", target: "other/m", ..PLACE };
    let spent = [usd(1, 0, 1)];
    bench.enter_at(&mut account, "k", &other, Demand { estimate: usd(1, 1, 1), spent: &spent }).await.unwrap();
    let lines = account.settle(bench.quotas.shared(), &[usd(1, 0, 1), usd(1, 1, 1)]);
    let held: Vec<_> = lines.iter().map(|(limit, about)| (&*about.subject[0].1, limit.held, limit.settled)).collect();
    assert_eq!(held, [("openai", 1, 0), ("other", 1, 0)]);
}
