//! What was spent, against a sum of the same calls made the simple way.

use sqlx::AssertSqlSafe;

use super::{
    super::{CallRow, Dimension, Spent, SpentQuestion, UsageQuery, retain, spent, write},
    DAY, HOUR, START, conforms,
    usage::{check as check_usage, everything, simply},
    various,
};
use crate::{
    store::{Db, StoreError, run::on},
    types::Nanos,
};

conforms!(
    any_three_dimensions_add_up,
    a_moment_may_cut_an_hour,
    only_the_values_asked_for_count,
    calls_that_were_sent_nowhere_are_left_out,
    without_dimensions_there_is_one_sum,
    whole_hours_come_from_sums_and_cut_ones_from_rows,
    a_question_without_bounds_is_refused,
    hours_before_an_upgrade_get_their_sums,
);

/// What limits are made of.
const LIMITED: [Dimension; 8] = [
    Dimension::Project,
    Dimension::Key,
    Dimension::EndUser,
    Dimension::Model,
    Dimension::Provider,
    Dimension::Target,
    Dimension::Tag,
    Dimension::Session,
];

/// The answer, after having been compared with the simple way.
async fn check(db: &Db, calls: &[CallRow], question: &SpentQuestion) -> Vec<Spent> {
    let found = spent(db, question).await.unwrap();
    let query = UsageQuery {
        from: question.since_ms,
        to: question.until_ms.unwrap_or(i64::MAX),
        by: question.by.clone(),
        filters: question.filters.clone(),
        ..everything()
    };
    let mut wanted: Vec<Spent> = simply(calls, &query)
        .into_iter()
        .map(|((_, values), sums)| Spent {
            values,
            calls: sums.calls,
            attempts: sums.attempts,
            input: sums.usage.total_input().cast_signed(),
            output: sums.usage.total_output().cast_signed(),
            cost: sums.cost,
            unpriced: sums.unpriced,
            unpriced_input: sums.unpriced_input,
            unpriced_output: sums.unpriced_output,
        })
        .collect();
    if wanted.is_empty() && question.by.is_empty() {
        wanted.push(Spent::default());
    }
    assert_eq!(found, wanted, "{question:?}");
    found
}

async fn any_three_dimensions_add_up(db: &Db) {
    let calls = various(41, 300, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    let since = |by: &[Dimension]| SpentQuestion { since_ms: START + 7 * HOUR, by: by.to_vec(), ..Default::default() };
    for (index, one) in LIMITED.into_iter().enumerate() {
        check(db, &calls, &since(&[one])).await;
        for (second, two) in LIMITED.into_iter().enumerate().skip(index + 1) {
            check(db, &calls, &since(&[two, one])).await;
            let three = LIMITED[(second + 1) % LIMITED.len()];
            if three != one {
                check(db, &calls, &since(&[one, two, three])).await;
            }
        }
    }
}

async fn a_moment_may_cut_an_hour(db: &Db) {
    let calls = various(42, 600, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    let mut random = fastrand::Rng::with_seed(42);
    for by in [vec![], vec![Dimension::EndUser], vec![Dimension::EndUser, Dimension::Model], vec![Dimension::Session]] {
        for _ in 0..8 {
            let since_ms = START + random.i64(0..3 * DAY);
            let until_ms = random.bool().then(|| since_ms + random.i64(0..3 * DAY));
            check(db, &calls, &SpentQuestion { since_ms, until_ms, by: by.clone(), ..Default::default() }).await;
        }
        // The very millisecond of a call, and the one after it.
        for since_ms in [calls[0].at, calls[0].at + 1] {
            check(db, &calls, &SpentQuestion { since_ms, by: by.clone(), ..Default::default() }).await;
        }
    }
}

async fn only_the_values_asked_for_count(db: &Db) {
    let calls = various(43, 300, START, DAY);
    write(db, &calls).await.unwrap();
    let value = |dimension, value: &str| (dimension, value.to_owned());
    let filters = [
        vec![value(Dimension::Project, "p1")],
        vec![value(Dimension::EndUser, "u0"), value(Dimension::EndUser, "u2"), value(Dimension::Key, "k1")],
        vec![value(Dimension::Tag, "tag 0"), value(Dimension::Tag, "tag 1")],
        vec![value(Dimension::Tag, "tag 2"), value(Dimension::EndUser, "u1")],
        vec![value(Dimension::Target, "provider1/m"), value(Dimension::Session, "s1")],
        vec![value(Dimension::Key, "'; --\0")],
    ];
    for filters in filters {
        for by in [vec![], vec![Dimension::Tag], vec![Dimension::Provider, Dimension::EndUser]] {
            let question =
                SpentQuestion { since_ms: START + HOUR / 2, by, filters: filters.clone(), ..Default::default() };
            check(db, &calls, &question).await;
        }
    }
}

async fn calls_that_were_sent_nowhere_are_left_out(db: &Db) {
    let calls = various(47, 300, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    let sent: Vec<CallRow> = calls.iter().filter(|call| !call.attempts.is_empty()).cloned().collect();
    assert!(sent.len() < calls.len(), "some were not sent");
    for by in [vec![], vec![Dimension::Key], vec![Dimension::EndUser], vec![Dimension::Tag], vec![Dimension::Session]] {
        for since_ms in [START, START + HOUR / 2] {
            let question = SpentQuestion { since_ms, by: by.clone(), sent_only: true, ..Default::default() };
            let mut found = spent(db, &question).await.unwrap();
            found.retain(|group| group.calls > 0);
            let query = UsageQuery { from: since_ms, by: by.clone(), ..everything() };
            let wanted = simply(&sent, &query).into_iter().map(|((_, values), sums)| (values, sums.calls));
            let found = found.into_iter().map(|group| (group.values, group.calls));
            assert_eq!(found.collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{question:?}");
        }
    }
}

async fn without_dimensions_there_is_one_sum(db: &Db) {
    let ever = SpentQuestion { since_ms: i64::MIN, ..Default::default() };
    assert_eq!(spent(db, &ever).await.unwrap(), [Spent::default()]);
    let calls = various(44, 50, START, DAY);
    write(db, &calls).await.unwrap();
    assert_eq!(check(db, &calls, &ever).await[0].calls, 50);
    let backwards = SpentQuestion { since_ms: START + DAY, until_ms: Some(START), ..Default::default() };
    assert_eq!(spent(db, &backwards).await.unwrap(), [Spent::default()]);
    let by_key = SpentQuestion { by: vec![Dimension::Key], ..backwards };
    assert_eq!(spent(db, &by_key).await.unwrap(), []);
}

/// With the rows gone, what is left of an answer is what came from the sums.
async fn whole_hours_come_from_sums_and_cut_ones_from_rows(db: &Db) {
    let from = START - 200 * DAY;
    let calls = various(45, 400, from, 10 * HOUR);
    write(db, &calls).await.unwrap();
    retain(db, from + 60 * DAY).await.unwrap();
    let in_whole_hours = |since: i64| calls.iter().filter(|call| call.at >= since).count() as i64;
    for by in [Dimension::Project, Dimension::Key, Dimension::Model, Dimension::Provider, Dimension::Target] {
        let cut = SpentQuestion { since_ms: from + 2 * HOUR + 1, by: vec![by], ..Default::default() };
        let found: i64 = spent(db, &cut).await.unwrap().iter().map(|group| group.calls).sum();
        assert_eq!(found, in_whole_hours(from + 3 * HOUR), "{by:?}");
        let whole = SpentQuestion { since_ms: from + 2 * HOUR, ..cut };
        let found: i64 = spent(db, &whole).await.unwrap().iter().map(|group| group.calls).sum();
        assert_eq!(found, in_whole_hours(from + 2 * HOUR), "{by:?}");
    }
}

async fn a_question_without_bounds_is_refused(db: &Db) {
    use Dimension::{Key, Model, Project, Tag, Target};
    let ask = |by: &[Dimension], values: usize| SpentQuestion {
        by: by.to_vec(),
        filters: (0..values).map(|n| (Key, n.to_string())).collect(),
        ..Default::default()
    };
    for bad in [ask(&[Key, Model, Project, Tag], 0), ask(&[Key, Target, Key], 0), ask(&[], 5_001)] {
        let error = spent(db, &bad).await.unwrap_err();
        assert!(matches!(error, StoreError::BadQuery(_)), "{error:?}");
    }
    let many = SpentQuestion { since_ms: START + 1, until_ms: Some(START + DAY - 1), ..ask(&[Key], 5_000) };
    assert_eq!(spent(db, &many).await.unwrap(), []);
}

/// As after an upgrade: the rows and sums are there, the columns are new.
async fn hours_before_an_upgrade_get_their_sums(db: &Db) {
    let calls = various(46, 300, START, DAY);
    write(db, &calls).await.unwrap();
    let migration = match db {
        Db::Sqlite(..) => include_str!("../../../../migrations/sqlite/0004_usage.sql"),
        Db::Postgres(_) => include_str!("../../../../migrations/postgres/0004_usage.sql"),
    };
    let tables = ["usage_hours", "usage_hours_by_tag", "usage_hours_by_user"];
    let drops = tables.map(|table| {
        format!("alter table {table} drop column unpriced_input; alter table {table} drop column unpriced_output;")
    });
    on!(db, |connection| {
        let added = "drop table usage_hours_by_outcome; drop table usage_hours_by_workflow; \
                     drop table usage_days_by_user;";
        sqlx::raw_sql(AssertSqlSafe(drops.concat() + added)).execute(&mut *connection).await?;
        sqlx::raw_sql(migration).execute(&mut *connection).await?;
        Ok(())
    })
    .unwrap();
    for by in [vec![], vec![Dimension::Tag, Dimension::Target], vec![Dimension::EndUser]] {
        let groups = check(db, &calls, &SpentQuestion { since_ms: START, by, ..Default::default() }).await;
        assert!(groups.iter().any(|group| group.unpriced_input > 0 && group.cost > Nanos(0)));
    }
    use Dimension::{Operation, Outcome, Step, Workflow};
    for by in [vec![Outcome], vec![Operation, Outcome], vec![Workflow], vec![Step], vec![Workflow, Step]] {
        let query = UsageQuery { by, ..everything() };
        check_usage(db, &calls, &query).await;
    }
}
