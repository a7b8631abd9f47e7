//! Usage, against a sum of the same calls made the simple way.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};

use super::{
    super::{AttemptRow, Bucket, CallRow, Dimension, Sums, UsageGroup, UsageQuery, day_model_key, usage, write},
    DAY, HOUR, START, conforms, various,
};
use crate::store::{Db, StoreError};

conforms!(
    any_two_dimensions_add_up,
    filters_leave_out_the_others,
    buckets_follow_the_zone,
    a_range_may_cut_hours,
    pages_hold_every_group_once,
    a_bad_question_is_refused,
    days_add_up_by_model_and_key,
);

const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"];

pub(super) fn everything() -> UsageQuery {
    UsageQuery {
        from: START,
        to: START + 3 * DAY,
        bucket: None,
        zone: TimeZone::UTC,
        by: Vec::new(),
        filters: Vec::new(),
        limit: 10_000,
        after: None,
    }
}

/// The groups of a query, all pages of them, after having been compared with the simple way.
pub(super) async fn check(db: &Db, calls: &[CallRow], query: &UsageQuery) -> Vec<UsageGroup> {
    let mut groups = Vec::new();
    let mut query = query.clone();
    loop {
        let page = usage(db, &query).await.unwrap();
        assert!(page.groups.len() <= query.limit as usize);
        groups.extend(page.groups);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let found: Vec<_> =
        groups.iter().map(|group: &UsageGroup| ((group.start, group.values.clone()), group.sums)).collect();
    let wanted: Vec<_> = simply(calls, &query).into_iter().collect();
    assert_eq!(found, wanted, "{query:?}");
    groups
}

/// The same sums, call by call.
pub(super) fn simply(calls: &[CallRow], query: &UsageQuery) -> BTreeMap<(i64, Vec<String>), Sums> {
    let mut groups: BTreeMap<(i64, Vec<String>), Sums> = BTreeMap::new();
    for call in calls.iter().filter(|call| (query.from..query.to).contains(&call.at)) {
        let attempts: Vec<Option<&AttemptRow>> = match call.attempts.as_slice() {
            [] => vec![None],
            attempts => attempts.iter().map(Some).collect(),
        };
        for (place, attempt) in attempts.iter().enumerate() {
            let ends = (place + 1 == attempts.len()).then_some(call);
            let sums = attempt.map_or_else(|| Sums::of_unsent(call), |attempt| Sums::of_attempt(attempt, ends));
            let passes = Dimension::ALL.into_iter().all(|dimension| {
                let mut wanted = query.filters.iter().filter(|(one, _)| *one == dimension).peekable();
                let values = values_of(dimension, call, *attempt);
                wanted.peek().is_none() || wanted.any(|(_, value)| values.contains(value))
            });
            if passes {
                for values in combinations(query, call, *attempt) {
                    groups.entry((bucket_of(query, call.at), values)).or_default().add(&sums);
                }
            }
        }
    }
    groups
}

fn combinations(query: &UsageQuery, call: &CallRow, attempt: Option<&AttemptRow>) -> Vec<Vec<String>> {
    let mut combinations = vec![Vec::new()];
    for &dimension in &query.by {
        let shown = |value: &String| {
            let mut wanted = query.filters.iter().filter(|(one, _)| *one == dimension).peekable();
            wanted.peek().is_none() || wanted.any(|(_, one)| one == value)
        };
        let values: Vec<String> = values_of(dimension, call, attempt).into_iter().filter(shown).collect();
        combinations = combinations
            .iter()
            .flat_map(|one| values.iter().map(|value| [one.clone(), vec![value.clone()]].concat()))
            .collect();
    }
    combinations
}

fn values_of(dimension: Dimension, call: &CallRow, attempt: Option<&AttemptRow>) -> Vec<String> {
    let optional = |value: &Option<Box<str>>| value.iter().map(ToString::to_string).collect();
    let who = &call.who;
    match dimension {
        Dimension::Project => vec![who.project.to_string()],
        Dimension::Key => vec![who.key_id.to_string()],
        Dimension::Model => vec![call.model.to_string()],
        Dimension::Provider => vec![attempt.map_or_else(String::new, |attempt| attempt.provider.to_string())],
        Dimension::Target => vec![attempt.map_or_else(String::new, |attempt| attempt.target.to_string())],
        Dimension::Tag => who.tags.iter().map(ToString::to_string).collect(),
        Dimension::EndUser => optional(&who.end_user),
        Dimension::Workflow => optional(&who.workflow),
        Dimension::Session => optional(&who.session),
        Dimension::Step => optional(&who.step),
        Dimension::Operation => vec![call.operation.to_string()],
        Dimension::Outcome => vec![call.outcome.as_str().to_owned()],
    }
}

fn bucket_of(query: &UsageQuery, at: i64) -> i64 {
    let zoned = Timestamp::from_millisecond(at).unwrap().to_zoned(query.zone.clone());
    match query.bucket {
        None => query.from,
        Some(Bucket::Hour) => at - (at + i64::from(zoned.offset().seconds()) * 1_000).rem_euclid(HOUR),
        Some(Bucket::Day) => zoned.start_of_day().unwrap().timestamp().as_millisecond(),
        Some(Bucket::Month) => zoned.first_of_month().unwrap().start_of_day().unwrap().timestamp().as_millisecond(),
    }
}

async fn any_two_dimensions_add_up(db: &Db) {
    let calls = various(11, 400, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    let total = check(db, &calls, &everything()).await;
    assert_eq!(total[0].sums.calls, 400);
    for one in Dimension::ALL {
        check(db, &calls, &UsageQuery { by: vec![one], bucket: Some(Bucket::Day), ..everything() }).await;
        for two in Dimension::ALL.into_iter().filter(|two| *two != one) {
            check(db, &calls, &UsageQuery { by: vec![one, two], ..everything() }).await;
        }
    }
}

async fn filters_leave_out_the_others(db: &Db) {
    let calls = various(12, 400, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    let all_values = |dimension: Dimension| {
        let mut values: Vec<String> = calls
            .iter()
            .flat_map(|call| values_of(dimension, call, call.attempts.first()))
            .filter(|value| !value.is_empty())
            .collect();
        values.sort();
        values.dedup();
        values
    };
    for filtered in Dimension::ALL {
        let values = all_values(filtered);
        let one = vec![(filtered, values[0].clone())];
        let two = vec![(filtered, values[0].clone()), (filtered, values[1].clone())];
        let and = vec![(filtered, values[0].clone()), (Dimension::Project, "p1".to_owned())];
        for filters in [one, two, and, vec![(filtered, "'\0".to_owned())]] {
            for by in [vec![], vec![Dimension::Model], vec![filtered], vec![Dimension::Tag, Dimension::EndUser]] {
                check(db, &calls, &UsageQuery { by, filters: filters.clone(), ..everything() }).await;
            }
        }
    }
}

async fn buckets_follow_the_zone(db: &Db) {
    let calls = various(13, 500, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        for bucket in Bucket::ALL {
            for by in
                [vec![], vec![Dimension::Provider], vec![Dimension::Outcome], vec![Dimension::Key, Dimension::Step]]
            {
                let query = UsageQuery { bucket: Some(bucket), zone: zone.clone(), by, ..everything() };
                check(db, &calls, &query).await;
            }
        }
    }
    let berlin = UsageQuery {
        bucket: Some(Bucket::Day),
        zone: TimeZone::get("Europe/Berlin").unwrap(),
        from: START + 22 * HOUR,
        to: START + 47 * HOUR,
        ..everything()
    };
    let day = check(db, &calls, &berlin).await;
    assert_eq!(day.len(), 1, "the day on which clocks go back has 25 hours");
}

async fn a_range_may_cut_hours(db: &Db) {
    let calls = various(14, 600, START, DAY);
    write(db, &calls).await.unwrap();
    let mut random = fastrand::Rng::with_seed(14);
    for _ in 0..20 {
        let from = START + random.i64(0..DAY);
        let to = from + random.i64(0..=START + DAY - from);
        let zone = TimeZone::get(random.choice(ZONES).unwrap()).unwrap();
        let query = UsageQuery { from, to, zone, bucket: random.choice(Bucket::ALL), ..everything() };
        check(db, &calls, &query).await;
        check(db, &calls, &UsageQuery { by: vec![Dimension::Tag, Dimension::Target], ..query }).await;
    }
    let nothing = UsageQuery { from: START + 5, to: START + 5, ..everything() };
    assert!(usage(db, &nothing).await.unwrap().groups.is_empty());
    let backwards = UsageQuery { from: i64::MAX, to: i64::MIN, ..everything() };
    assert!(usage(db, &backwards).await.unwrap().groups.is_empty());
    let ever = UsageQuery { from: i64::MIN, to: i64::MAX, ..everything() };
    assert_eq!(usage(db, &ever).await.unwrap().groups[0].sums.calls, 600);
}

async fn pages_hold_every_group_once(db: &Db) {
    let calls = various(15, 300, START, DAY);
    write(db, &calls).await.unwrap();
    for limit in [1, 7, 100] {
        for by in [vec![], vec![Dimension::EndUser], vec![Dimension::Session, Dimension::Tag]] {
            let query = UsageQuery { bucket: Some(Bucket::Hour), by, limit, ..everything() };
            check(db, &calls, &query).await;
        }
    }
}

async fn a_bad_question_is_refused(db: &Db) {
    let bad = [
        UsageQuery { by: vec![Dimension::Key; 2], ..everything() },
        UsageQuery { by: vec![Dimension::Tag; 3], ..everything() },
        UsageQuery { after: Some("x".to_owned()), ..everything() },
        UsageQuery { after: Some("1.a".to_owned()), ..everything() },
        UsageQuery { from: 0, to: i64::MAX, bucket: Some(Bucket::Hour), ..everything() },
    ];
    for query in bad {
        let error = usage(db, &query).await.unwrap_err();
        assert!(matches!(error, StoreError::BadQuery(_)), "{error:?}");
    }
}

async fn days_add_up_by_model_and_key(db: &Db) {
    let calls = various(16, 400, START, 3 * DAY);
    write(db, &calls).await.unwrap();
    let (from, to) = (START + 5 * HOUR, START + 50 * HOUR);
    let days = day_model_key(db, from, to).await.unwrap();
    let mut wanted: BTreeMap<_, (i64, i64, i64, u64, i64, i64)> = BTreeMap::new();
    for call in &calls {
        for (place, one) in call.attempts.iter().enumerate().filter(|(_, one)| (from..to).contains(&one.at)) {
            let model = (one.at - one.at % DAY, one.provider.to_string(), one.upstream_model.to_string());
            let ending = (one.outcome.as_str(), one.usage_source.as_str());
            let sums = wanted.entry((model, one.provider_key, ending)).or_default();
            sums.0 += 1;
            sums.1 += i64::from(place + 1 == call.attempts.len());
            sums.2 += i64::from(one.cost.is_none());
            sums.3 += one.usage.input;
            sums.4 += one.cost.unwrap_or_default().0;
            sums.5 += one.reported_cost.unwrap_or_default().0;
        }
    }
    let found: Vec<_> = days
        .into_iter()
        .map(|day| {
            let model = (day.day, day.provider, day.upstream_model);
            let sums = (day.attempts, day.calls, day.unpriced, day.usage.input, day.cost.0, day.reported_cost.0);
            ((model, day.provider_key, (day.outcome.as_str(), day.usage_source.as_str())), sums)
        })
        .collect();
    assert!(found.len() > 50);
    assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
}
