//! Writing: exactly once, in any order, from many replicas, and whatever is in the rows.

use sqlx::AssertSqlSafe;

use super::{
    super::{
        CallRow, Dimension, LimitNote, LimitRow, Notes, Refused, Sums, UsageQuery, Written, prepare, request, retain,
        usage, write,
    },
    DAY, HOUR, START, call, conforms, various,
};
use crate::{
    store::{Db, run::on},
    types::{Nanos, Usage},
};

conforms!(
    a_call_is_written_once,
    sums_by_hour_count_what_was_inserted,
    hostile_values_are_repaired,
    absurd_amounts_do_not_stop_the_sums,
    a_call_the_database_refuses_stands_alone,
    replicas_that_write_the_same_hours_do_not_lock_each_other_out,
    replicas_that_write_the_same_calls_write_them_once,
    months_are_made_when_they_are_needed,
    what_is_old_goes_and_its_sums_stay,
);

/// The sums over everything: from the roll-up, and from the rows.
async fn totals(db: &Db) -> [Sums; 2] {
    let query = UsageQuery {
        from: 0,
        to: START + 1_000 * DAY,
        bucket: None,
        zone: jiff::tz::TimeZone::UTC,
        by: Vec::new(),
        filters: Vec::new(),
        limit: 10,
        after: None,
    };
    // No roll-up has operations together with keys.
    let rows = UsageQuery { by: vec![Dimension::Operation, Dimension::Key], ..query.clone() };
    let mut totals = [Sums::default(); 2];
    for (total, query) in totals.iter_mut().zip([query, rows]) {
        usage(db, &query).await.unwrap().groups.iter().for_each(|group| total.add(&group.sums));
    }
    totals
}

async fn execute(db: &Db, sql: &str) {
    on!(db, |connection| {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *connection).await?;
        Ok(())
    })
    .unwrap();
}

fn written(inserted: usize, skipped: usize) -> Written {
    Written { inserted, skipped, refused: Vec::new() }
}

async fn a_call_is_written_once(db: &Db) {
    let calls = various(1, 300, START, DAY);
    assert_eq!(write(db, Vec::new()).await.unwrap(), written(0, 0));
    assert_eq!(write(db, &calls[..100]).await.unwrap(), written(100, 0));
    assert_eq!(write(db, &calls[..100]).await.unwrap(), written(0, 100));
    assert_eq!(write(db, &calls[50..]).await.unwrap(), written(200, 50));
    let twins = [call(START), call(START + 1)].map(|call| [call.clone(), call]).concat();
    assert_eq!(write(db, &twins).await.unwrap(), written(2, 2));
    for call in calls.iter().chain(&twins) {
        assert_eq!(request(db, &call.id).await.unwrap().as_ref(), Some(call));
    }
}

async fn sums_by_hour_count_what_was_inserted(db: &Db) {
    let calls = various(2, 200, START, 3 * HOUR);
    for batch in [&calls[..120], &calls[60..160], &calls, &calls[..1]] {
        write(db, batch).await.unwrap();
    }
    let [rollup, rows] = totals(db).await;
    assert_eq!(rollup, rows);
    assert_eq!(rollup.calls, 200);
    let attempts = || calls.iter().flat_map(|call| &call.attempts);
    assert_eq!(rollup.attempts, i64::try_from(attempts().count()).unwrap());
    assert_eq!(rollup.cost, attempts().filter_map(|attempt| attempt.cost).sum());
    assert_eq!(rollup.unpriced, i64::try_from(attempts().filter(|attempt| attempt.cost.is_none()).count()).unwrap());
    assert_eq!(rollup.usage.input, attempts().map(|attempt| attempt.usage.input).sum::<u64>());
}

async fn hostile_values_are_repaired(db: &Db) {
    let long = "ä".repeat(100_000);
    let hostile = ["\0", "a\0b", "'); drop table requests; --", "{\"a\": [1, \\u0000", "\u{202e}\u{10ffff}", &long];
    let mut calls = Vec::new();
    for text in hostile {
        let mut call = call(START);
        call.who.project = text.into();
        call.who.key_id = text.into();
        call.who.key_name = text.into();
        call.who.end_user = Some(text.into());
        call.who.tags = vec![text.into(); 1_000];
        call.who.workflow = Some(text.into());
        call.who.session = Some(text.into());
        call.who.step = Some(text.into());
        call.model = text.into();
        call.requested = text.into();
        call.client = Some(text.into());
        call.error_code = Some(text.into());
        let limit = LimitRow {
            quota: text.into(),
            measure: text.to_owned().into(),
            limit: u64::MAX,
            used: None,
            held: u64::MAX,
            settled: 0,
            refused: true,
        };
        let about = LimitNote { subject: vec![(text.to_owned().into(), text.into()); 9], would_refuse: true };
        call.notes = Notes::new(Some(text.into()), vec![limit; 100], vec![about; 17]);
        for attempt in &mut call.attempts {
            attempt.target = text.into();
            attempt.provider = text.into();
            attempt.upstream_model = text.into();
            attempt.provider_id = Some(text.into());
            attempt.price = text.into();
        }
        calls.push(call);
    }
    let nobody = Some(Box::from(""));
    calls[1].who.end_user.clone_from(&nobody);
    calls[1].who.step = nobody;
    let mut confused = call(START);
    confused.attempts = vec![confused.attempts[0].clone(); 3];
    calls.push(confused);
    calls.push(CallRow { at: i64::MIN, ..call(START) });
    calls.push(CallRow { at: i64::MAX, ..call(START) });
    let count = calls.len();
    assert_eq!(write(db, &calls).await.unwrap(), written(count, 0));

    let first = request(db, &calls[1].id).await.unwrap().unwrap();
    assert_eq!(&*first.who.project, "a\u{fffd}b");
    assert_eq!(first.who.tags.len(), 1, "one that is there twice is one");
    assert_eq!((first.who.end_user, first.who.step), (None, None));
    let long = request(db, &calls[5].id).await.unwrap().unwrap();
    assert_eq!(long.model.len(), 256);
    let notes = long.notes.unwrap();
    assert_eq!((notes.lossy.unwrap().len(), notes.limits.len(), notes.limits[0].quota.len()), (1_024, 16, 256));
    let subject = &notes.about[15].subject;
    assert_eq!((notes.about.len(), subject.len(), subject[7].0.len(), subject[7].1.len()), (16, 8, 256, 256));
    let confused = request(db, &calls[6].id).await.unwrap().unwrap();
    assert_eq!(confused.attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
}

async fn absurd_amounts_do_not_stop_the_sums(db: &Db) {
    let calls: Vec<CallRow> = (0..500)
        .map(|n| {
            let mut call = call(START + n);
            call.bytes_in = u64::MAX;
            let attempt = &mut call.attempts[0];
            attempt.cost = Some(Nanos(if n % 2 == 0 { i64::MAX } else { i64::MIN }));
            attempt.reported_cost = Some(Nanos(i64::MAX));
            attempt.usage = Usage { input: u64::MAX, characters: u64::MAX, ..Usage::default() };
            call
        })
        .collect();
    for batch in calls.chunks(100) {
        assert_eq!(write(db, batch).await.unwrap(), written(100, 0));
    }
    let [rollup, rows] = totals(db).await;
    assert_eq!(rollup, rows);
    assert_eq!(rollup.usage.input, 500_000_000_000_000);
    assert_eq!(rollup.cost, Nanos(0));
}

async fn a_call_the_database_refuses_stands_alone(db: &Db) {
    let refuse = match db {
        Db::Sqlite(..) => {
            "create trigger picky before insert on attempts when new.target = 'bad' \
             begin select raise(abort, 'not this one'); end"
        }
        Db::Postgres(_) => "alter table attempts add constraint picky check (target <> 'bad')",
    };
    execute(db, refuse).await;
    let mut calls = various(3, 100, START, HOUR);
    for bad in [0, 41, 42, 99] {
        calls[bad].attempts = vec![super::attempt(START, 1)];
        calls[bad].attempts[0].target = "bad".into();
    }
    let done = write(db, &calls).await.unwrap();
    assert_eq!((done.inserted, done.skipped), (96, 0));
    let mut refused: Vec<std::sync::Arc<str>> = done.refused.iter().map(|refused| refused.id.clone()).collect();
    let mut bad = [0, 41, 42, 99].map(|bad: usize| calls[bad].id.clone());
    refused.sort();
    bad.sort();
    assert_eq!(refused, bad);
    let reason = |refused: &Refused| refused.reason.contains("not this one") || refused.reason.contains("picky");
    assert!(done.refused.iter().all(reason), "{:?}", done.refused);
    let [rollup, rows] = totals(db).await;
    assert_eq!(rollup, rows);
    assert_eq!(rollup.calls, 96);
}

async fn replicas_that_write_the_same_hours_do_not_lock_each_other_out(db: &Db) {
    let writers = (0..8).map(|seed| async move {
        for round in 0..10 {
            let calls = various(seed * 100 + round, 60, START, 4 * HOUR);
            assert_eq!(write(db, &calls).await.unwrap(), written(60, 0), "writer {seed}, round {round}");
        }
    });
    futures_util::future::join_all(writers).await;
    let [rollup, rows] = totals(db).await;
    assert_eq!(rollup, rows);
    assert_eq!(rollup.calls, 8 * 10 * 60);
}

async fn replicas_that_write_the_same_calls_write_them_once(db: &Db) {
    let calls = various(5, 400, START, 2 * HOUR);
    let writers = (0..8).map(|seed| {
        let mut mine = calls.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut mine);
        async move {
            let mut inserted = 0;
            for batch in mine.chunks(70) {
                inserted += write(db, batch).await.unwrap().inserted;
            }
            inserted
        }
    });
    assert_eq!(futures_util::future::join_all(writers).await.into_iter().sum::<usize>(), 400);
    let [rollup, rows] = totals(db).await;
    assert_eq!(rollup, rows);
    assert_eq!(rollup.calls, 400);
}

async fn months_are_made_when_they_are_needed(db: &Db) {
    futures_util::future::join_all((0..6).map(|_| async { prepare(db, START).await.unwrap() })).await;
    let calls: Vec<CallRow> = (0..30).map(|month| call(START - 600 * DAY + month * 40 * DAY)).collect();
    let writers = calls.iter().map(|call| async { write(db, std::slice::from_ref(call)).await.unwrap().inserted });
    assert_eq!(futures_util::future::join_all(writers).await, [1; 30]);
    for call in &calls {
        assert_eq!(request(db, &call.id).await.unwrap().as_ref(), Some(call));
    }
}

async fn what_is_old_goes_and_its_sums_stay(db: &Db) {
    // 2026-08-01, and some months around it; a day of more rows than are deleted at once.
    let august = 1_785_542_400_000;
    let old = various(6, 2_100, august - 20 * DAY, DAY);
    let older = various(7, 50, august - 100 * DAY, 60 * DAY);
    let new = various(8, 100, august, 40 * DAY);
    for calls in [&old, &older, &new] {
        write(db, calls).await.unwrap();
    }
    let [before, _] = totals(db).await;
    let retained = retain(db, august).await.unwrap();
    assert!(retained.rows > 2_150 || retained.partitions > 3, "{retained:?}");
    let [rollup, rows] = totals(db).await;
    assert_eq!(rollup, before);
    assert_eq!(rows.calls, 100);
    assert_eq!(request(db, &old[0].id).await.unwrap(), None);
    assert_eq!(request(db, &new[0].id).await.unwrap().as_ref(), Some(&new[0]));
    assert_eq!(retain(db, august).await.unwrap(), super::super::Retained::default());

    // One that comes late makes its month again.
    let late = call(august - 20 * DAY);
    assert_eq!(write(db, std::slice::from_ref(&late)).await.unwrap(), written(1, 0));
    assert_eq!(request(db, &late.id).await.unwrap(), Some(late));
}
