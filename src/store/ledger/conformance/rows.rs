//! Reading calls back: as they were written, filtered, page by page, and when somebody has been at the tables.

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use sqlx::AssertSqlSafe;

use super::{
    super::{CallRow, Dimension, LimitNote, LimitRow, Notes, RequestFilter, cursor_after, request, requests, write},
    DAY, START, call, conforms, various,
};
use crate::{
    store::{Db, run::on},
    types::{Nanos, Outcome, Usage, UsageSource},
};

conforms!(
    any_call_comes_back_as_it_was_written,
    lists_are_newest_first_and_page_by_page,
    filters_let_through_what_matches,
    an_id_that_is_none_finds_nothing,
    the_cost_of_a_workflow_is_one_look_into_an_index,
    rows_that_were_edited_by_hand_are_still_read,
    rows_of_versions_that_said_less_are_still_read,
);

prop_compose! {
    fn usages()(counts in prop::array::uniform15(0..=1_000_000_000_000_u64)) -> Usage {
        let [input, cache_read, cache_write, cache_write_1h, audio_input, image_input, output, reasoning, audio_output,
            image_output, searches, tool_calls, images, millis, characters] = counts;
        Usage { input, cache_read, cache_write, cache_write_1h, audio_input, image_input, output, reasoning,
            audio_output, image_output, searches, tool_calls, images, millis, characters }
    }
}

prop_compose! {
    fn limits()(
        (quota, measure) in ("[^\0]{0,40}", "[a-z_]{0,9}"),
        (limit, used, held, settled, refused) in any::<(u64, Option<u64>, u64, u64, bool)>(),
    ) -> LimitRow {
        LimitRow { quota: quota.into(), measure: measure.into(), limit, used, held, settled, refused }
    }
}

prop_compose! {
    fn about()(
        subject in prop::collection::vec(("[a-z_]{0,9}", "[^\0]{0,40}"), 0..3),
        would_refuse in any::<bool>(),
    ) -> LimitNote {
        let subject = subject.into_iter().map(|(word, value)| (word.into(), value.into())).collect();
        LimitNote { subject, would_refuse }
    }
}

prop_compose! {
    /// Any texts that a database takes, and any numbers.
    fn calls()(
        texts in prop::array::uniform12("[^\0]{0,40}"),
        optional in prop::array::uniform9(prop::option::of("[^\0]{0,40}")),
        tags in prop::collection::hash_set("[^\0]{0,20}", 0..4),
        usages in prop::collection::vec(usages(), 0..4),
        costs in prop::array::uniform2(prop::option::of(0..=1_000_000_000_000_000_i64)),
        outcomes in prop::array::uniform2(0..Outcome::ALL.len()),
        source in 0..UsageSource::ALL.len(),
        at in START..START + 60 * DAY,
        numbers in any::<(u16, u16, u32, u64, u64, bool)>(),
        millis in any::<(Option<u32>, Option<u32>, Option<u16>)>(),
        lossy in prop::option::of("[^\0]{0,40}"),
        limits in prop::collection::vec(limits(), 0..3),
        about in prop::collection::vec(about(), 3),
    ) -> CallRow {
        let mut row = call(at);
        let [project, key_id, key_name, model, requested, operation, instance, target, provider, upstream, price, _] =
            texts;
        let [end_user, workflow, session, step, client, error_code, finish, provider_id, tier] =
            optional.map(|text| text.map(String::into_boxed_str));
        let named = |text: Option<Box<str>>| text.filter(|text| !text.is_empty());
        (row.who.project, row.who.key_id, row.who.key_name) = (project.into(), key_id.into(), key_name.into());
        (row.model, row.requested, row.operation) = (model.into(), requested.into(), operation.into());
        (row.instance, row.who.tags) = (instance.into(), tags.into_iter().map(Into::into).collect());
        (row.who.end_user, row.who.workflow) = (named(end_user), named(workflow));
        (row.who.session, row.who.step) = (named(session), named(step));
        (row.client, row.error_code, row.finish_reason) = (client, error_code, finish);
        (row.status, _, row.duration_ms, row.bytes_in, row.bytes_out, row.stream) = numbers;
        row.outcome = Outcome::ALL[outcomes[0]];
        row.first_output_ms = millis.0;
        row.notes = Notes::new(lossy.map(String::into_boxed_str), limits, about);
        row.attempts = usages.into_iter().zip(1..).map(|(usage, number)| {
            let mut one = super::attempt(at, number);
            (one.usage, one.usage_source, one.outcome) = (usage, UsageSource::ALL[source], Outcome::ALL[outcomes[1]]);
            (one.cost, one.reported_cost) = (costs[0].map(Nanos), costs[1].map(Nanos));
            (one.target, one.provider, one.upstream_model) =
                (target.as_str().into(), provider.as_str().into(), upstream.as_str().into());
            (one.price, one.provider_id, one.service_tier) = (price.as_str().into(), provider_id.clone(), tier.clone());
            (one.first_token_ms, one.status, one.provider_key) = (millis.1, millis.2, numbers.1);
            one
        }).collect();
        row
    }
}

async fn any_call_comes_back_as_it_was_written(db: &Db) {
    let mut runner = TestRunner::deterministic();
    let written: Vec<CallRow> = (0..200).map(|_| calls().new_tree(&mut runner).unwrap().current()).collect();
    assert_eq!(write(db, &written).await.unwrap().inserted, 200);
    for call in &written {
        assert_eq!(request(db, &call.id).await.unwrap().as_ref(), Some(call));
        assert_eq!(request(db, &call.id.to_lowercase()).await.unwrap().as_ref(), Some(call));
    }
    assert_eq!(list(db, &RequestFilter { limit: 1_000, ..RequestFilter::default() }).await, newest_first(&written));
}

fn newest_first(calls: &[CallRow]) -> Vec<CallRow> {
    let mut calls = calls.to_vec();
    calls.sort_by(|one, two| (two.at, &two.id).cmp(&(one.at, &one.id)));
    calls
}

async fn list(db: &Db, filter: &RequestFilter) -> Vec<CallRow> {
    requests(db, filter).await.unwrap()
}

async fn lists_are_newest_first_and_page_by_page(db: &Db) {
    // Few milliseconds, so that several calls share one.
    let mut calls = various(21, 100, START, 30);
    calls.extend(various(22, 20, START - 60 * DAY, 30 * DAY));
    write(db, &calls).await.unwrap();
    let mut listed = Vec::new();
    let mut filter = RequestFilter { limit: 7, ..RequestFilter::default() };
    loop {
        let page = list(db, &filter).await;
        let Some(last) = page.last() else { break };
        filter.after = Some(cursor_after(last));
        listed.extend(page);
    }
    assert_eq!(listed, newest_first(&calls));
    let within = RequestFilter { from: Some(START + 3), to: Some(START + 9), limit: 1_000, ..RequestFilter::default() };
    let wanted: Vec<CallRow> = calls.into_iter().filter(|call| (START + 3..START + 9).contains(&call.at)).collect();
    assert_eq!(list(db, &within).await, newest_first(&wanted));
    for after in ["", "1", "x.y", "1.a.b"] {
        requests(db, &RequestFilter { after: Some(after.to_owned()), ..filter.clone() }).await.unwrap_err();
    }
}

async fn filters_let_through_what_matches(db: &Db) {
    type Test = fn(&CallRow) -> bool;
    let calls = various(23, 300, START, DAY);
    write(db, &calls).await.unwrap();
    let cases: [(&[(Dimension, &str)], Test); 11] = [
        (&[(Dimension::Project, "p1")], |call| &*call.who.project == "p1"),
        (&[(Dimension::Key, "k1"), (Dimension::Key, "k2")], |call| &*call.who.key_id != "k0"),
        (&[(Dimension::Model, "model0")], |call| &*call.model == "model0"),
        (&[(Dimension::Provider, "provider1")], |call| call.attempts.iter().any(|one| &*one.provider == "provider1")),
        (&[(Dimension::Target, "provider1/m")], |call| call.attempts.iter().any(|one| &*one.target == "provider1/m")),
        (&[(Dimension::Tag, "tag 2")], |call| call.who.tags.iter().any(|tag| &**tag == "tag 2")),
        (&[(Dimension::EndUser, "u1")], |call| call.who.end_user.as_deref() == Some("u1")),
        (&[(Dimension::Outcome, "cut")], |call| call.outcome == Outcome::Cut),
        (&[(Dimension::Workflow, "w0"), (Dimension::Step, "st1")], |call| {
            call.who.workflow.as_deref() == Some("w0") && call.who.step.as_deref() == Some("st1")
        }),
        (&[(Dimension::Operation, "embeddings"), (Dimension::Session, "s2")], |call| {
            &*call.operation == "embeddings" && call.who.session.as_deref() == Some("s2")
        }),
        (&[(Dimension::Project, "' or 1=1 --\0")], |_| false),
    ];
    for (filters, test) in cases {
        let filters = filters.iter().map(|(dimension, value)| (*dimension, (*value).to_owned())).collect();
        let filter = RequestFilter { filters, limit: 1_000, ..RequestFilter::default() };
        let wanted: Vec<CallRow> = calls.iter().filter(|call| test(call)).cloned().collect();
        assert_eq!(list(db, &filter).await, newest_first(&wanted), "{filter:?}");
    }
}

async fn an_id_that_is_none_finds_nothing(db: &Db) {
    write(db, &[call(START)]).await.unwrap();
    for id in
        ["", "x", "'; --", "\0", "01JZZZZZZZZZZZZZZZZZZZZZZZ", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "ü".repeat(13).as_str()]
    {
        assert_eq!(request(db, id).await.unwrap(), None, "{id}");
    }
    // The clock was set between the id and the arrival.
    let late = CallRow { at: START + DAY, ..call(START) };
    write(db, std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(request(db, &late.id).await.unwrap(), Some(late));
}

async fn the_cost_of_a_workflow_is_one_look_into_an_index(db: &Db) {
    let mut calls = various(24, 3_000, START, DAY);
    calls.iter_mut().for_each(|call| call.who.workflow = None);
    calls[7].who.workflow = Some("w".into());
    write(db, &calls).await.unwrap();
    const COST: &str = "select cast(sum(a.cost) as bigint) from requests r \
                        join attempts a on a.at = r.at and a.id = r.id where r.workflow = 'w'";
    let explain = match db {
        Db::Sqlite(..) => format!("explain query plan {COST}"),
        Db::Postgres(_) => format!("explain {COST}"),
    };
    let wanted: i64 = calls[7].attempts.iter().filter_map(|one| one.cost).map(|cost| cost.0).sum();
    let (cost, plan) = on!(db, |connection| {
        let cost: Option<i64> = sqlx::query_scalar(COST).fetch_one(&mut *connection).await?;
        if matches!(db, Db::Postgres(_)) {
            sqlx::raw_sql("analyze").execute(&mut *connection).await?;
        }
        let lines = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *connection).await?;
        let plan: Vec<String> =
            lines.iter().map(|line| sqlx::Row::try_get(line, sqlx::Row::len(line) - 1)).collect::<Result<_, _>>()?;
        Ok((cost, plan.join("\n")))
    })
    .unwrap();
    assert_eq!(cost.unwrap_or(0), wanted);
    assert!(plan.contains("workflow"), "{plan}");
}

async fn rows_of_versions_that_said_less_are_still_read(db: &Db) {
    let whole = call(START);
    write(db, std::slice::from_ref(&whole)).await.unwrap();
    let details = r#"["gw","m","k",null,false,200,null,null,null,1,2,3,4"#;
    let limit = LimitRow {
        quota: "team".into(),
        measure: "usd".into(),
        limit: 9,
        used: Some(7),
        held: 6,
        settled: 5,
        refused: true,
    };
    let cases = [
        ("]", None),
        (r#",null,[["team","usd",9,7,6,5,true]]]"#, Notes::new(None, vec![limit.clone()], vec![])),
        (r#","seed",[]]"#, Notes::new(Some("seed".into()), vec![], vec![])),
    ];
    for (rest, notes) in cases {
        let detail = format!("{details}{rest}");
        on!(db, |connection| {
            sqlx::query("update requests set detail = $1").bind(&detail).execute(&mut *connection).await?;
            Ok(())
        })
        .unwrap();
        let read = request(db, &whole.id).await.unwrap().unwrap();
        assert_eq!((&*read.instance, read.bytes_out, &read.notes), ("gw", 4, &notes), "{detail}");
    }
}

async fn rows_that_were_edited_by_hand_are_still_read(db: &Db) {
    let whole = call(START);
    write(db, std::slice::from_ref(&whole)).await.unwrap();
    let edits = [
        "update requests set outcome = 'fine', detail = '{', tags = '[1'",
        "update attempts set outcome = '', usage_source = 'guess', detail = 'null', provider_key = -5, number = 99999",
    ];
    on!(db, |connection| {
        for edit in edits {
            sqlx::query(edit).execute(&mut *connection).await?;
        }
        Ok(())
    })
    .unwrap();
    let read = request(db, &whole.id).await.unwrap().unwrap();
    assert_eq!((read.outcome, read.attempts[0].outcome), (Outcome::Lost, Outcome::Lost));
    assert_eq!(read.attempts[0].usage_source, UsageSource::Estimated);
    assert_eq!(read.cost(), whole.cost());
    assert_eq!(read.usage(), whole.usage());
}
