//! Quotas on either database: by themselves, and made with a key or a project.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AT, act, all, new_key, project};
use crate::store::{
    AuditFilter, Changed, Db, KeyEdit, Markers, ProjectEdit, QuotaEdit, QuotaFilter, QuotaRow, audit, changes, keys,
    projects, quotas, run::on,
};

conforms!(
    a_quota_comes_back_changes_and_is_deleted,
    pages_of_quotas_hold_what_was_asked_for,
    quotas_are_made_with_a_key_or_a_project_or_neither_is,
);

fn quota(n: u32, owner_kind: &str, owner: &str) -> QuotaRow {
    QuotaRow {
        id: format!("01Q{n:023}"),
        name: format!("quota {n}"),
        owner_kind: owner_kind.to_owned(),
        owner: owner.to_owned(),
        spec: json!({ "scope": "key", "measure": "usd", "limit": 5, "raise": { "to": 7 } }).to_string(),
        enabled: true,
        created: Timestamp::from_millisecond(AT).unwrap(),
        deleted: None,
        version: 0,
    }
}

async fn update(db: &Db, id: &str, edit: QuotaEdit, expected: Option<i64>) -> Changed<QuotaRow> {
    quotas::update(db, id, edit, expected, &act("quota.update")).await.unwrap()
}

async fn a_quota_comes_back_changes_and_is_deleted(db: &Db) {
    let made = quotas::create(db, vec![quota(1, "key", "k"), quota(2, "", "")], &act("quota.create")).await.unwrap();
    assert_eq!(made.iter().map(|row| row.version).collect::<Vec<_>>(), [1, 2]);
    let mut wanted = QuotaRow { version: 1, ..quota(1, "key", "k") };
    let id = wanted.id.clone();
    assert_eq!(quotas::get(db, &id).await.unwrap().as_ref(), Some(&wanted));
    assert_eq!(quotas::get(db, "nobody").await.unwrap(), None);

    wanted.spec = json!({ "scope": "key", "measure": "usd", "limit": 6 }).to_string();
    wanted.enabled = false;
    wanted.version = 3;
    let edit = QuotaEdit { spec: Some(wanted.spec.clone()), enabled: Some(false), ..QuotaEdit::default() };
    for _ in 0..2 {
        // The second time there is nothing to change.
        assert_eq!(update(db, &id, edit.clone(), None).await, Changed::Done(wanted.clone()));
    }
    let log =
        audit::list(db, &AuditFilter { object_id: Some(id.clone()), ..AuditFilter::default() }, None, 9).await.unwrap();
    let told = log.iter().find(|entry| entry.action == "quota.update").unwrap();
    let change = |before: Value, after: Value| json!({ "before": before, "after": after });
    let said = json!({
        "enabled": change(true.into(), false.into()),
        "limit": change(5.into(), 6.into()),
        "raise": change(json!({ "to": 7 }), Value::Null),
    });
    assert_eq!(serde_json::from_str::<Value>(&told.detail).unwrap(), said);
    assert_eq!(log.len(), 2);

    assert_eq!(update(db, &id, QuotaEdit::default(), Some(1)).await, Changed::Stale(wanted.clone()));
    let delete = QuotaEdit { deleted: Some(wanted.created), ..QuotaEdit::default() };
    assert_eq!(update(db, &id, delete.clone(), None).await.done().unwrap().deleted, Some(wanted.created));
    assert_eq!(update(db, &id, delete, None).await, Changed::Missing, "it is deleted once");
    assert_eq!(quotas::get(db, &id).await.unwrap(), None);
    let changed = quotas::changed_since(db, 2, 9).await.unwrap();
    assert_eq!(changed.iter().map(|row| (row.version, row.deleted.is_some())).collect::<Vec<_>>(), [(4, true)]);
    assert_eq!(changes::markers(db).await.unwrap(), Markers { quotas: 4, ..Markers::default() });
}

async fn pages_of_quotas_hold_what_was_asked_for(db: &Db) {
    let owners = [("key", "k"), ("project", "k"), ("", ""), ("key", "k"), ("key", "l")];
    let rows = (1..).zip(owners).map(|(n, (kind, owner))| quota(n, kind, owner)).collect();
    quotas::create(db, rows, &act("quota.create")).await.unwrap();
    let delete = QuotaEdit { deleted: Some(Timestamp::UNIX_EPOCH), ..QuotaEdit::default() };
    update(db, &quota(3, "", "").id, delete, None).await;
    let listed = async |filter: QuotaFilter, after: Option<&str>, limit| -> Vec<String> {
        quotas::list(db, &filter, after, limit).await.unwrap().into_iter().map(|row| row.name).collect()
    };
    let everything = QuotaFilter::default;
    assert_eq!(listed(everything(), None, 9).await, ["quota 1", "quota 2", "quota 4", "quota 5"]);
    assert_eq!(listed(everything(), Some(&quota(2, "", "").id), 1).await, ["quota 4"]);
    let of = |kind, owner: &str| QuotaFilter { owner: Some((kind, owner.to_owned())), name: None };
    assert_eq!(listed(of("key", "k"), None, 9).await, ["quota 1", "quota 4"]);
    assert_eq!(listed(of("project", "k"), None, 9).await, ["quota 2"]);
    assert_eq!(listed(QuotaFilter { name: Some("quota 5".to_owned()), owner: None }, None, 9).await, ["quota 5"]);
    assert_eq!(listed(of("key", "' or '1'='1"), None, 9).await, [""; 0]);
}

async fn quotas_are_made_with_a_key_or_a_project_or_neither_is(db: &Db) {
    let count = async || quotas::list(db, &QuotaFilter::default(), None, 99).await.unwrap().len();
    let key = keys::create(db, new_key(1, "a"), vec![quota(1, "key", "k")], &act("key.create")).await.unwrap();
    let more =
        keys::update(db, &key.id, KeyEdit::default(), vec![quota(2, "key", "k")], None, &act("key.update")).await;
    assert_eq!(more.unwrap(), Changed::Done(key.clone()), "the key itself is the same");
    let rename = KeyEdit { name: Some("b".to_owned()), ..KeyEdit::default() };
    keys::update(db, &key.id, rename, vec![quota(3, "key", "k")], None, &act("key.update")).await.unwrap();
    projects::create(db, project("p"), vec![quota(4, "project", "p")], &act("project.create")).await.unwrap();
    let edit = ProjectEdit { models: Some(all()), ..ProjectEdit::default() };
    projects::update(db, "p", edit, vec![quota(5, "project", "p")], None, &act("project.update")).await.unwrap();
    assert_eq!(count().await, 5);
    // The change that left the key as it is took a number, and put it on no row.
    assert_eq!(changes::markers(db).await.unwrap(), Markers { keys: 3, projects: 2, quotas: 5 });

    // One that cannot be stored, as its id is there: nothing of the rest is.
    let twice = || vec![quota(6, "", ""), quota(1, "", "")];
    keys::create(db, new_key(2, "c"), twice(), &act("key.create")).await.unwrap_err();
    let rename = KeyEdit { name: Some("z".to_owned()), ..KeyEdit::default() };
    keys::update(db, &key.id, rename, twice(), None, &act("key.update")).await.unwrap_err();
    projects::create(db, project("q"), twice(), &act("project.create")).await.unwrap_err();
    quotas::create(db, twice(), &act("quota.create")).await.unwrap_err();
    assert_eq!(count().await, 5);
    assert_eq!(keys::get(db, &key.id).await.unwrap().unwrap().name, "b");
    assert_eq!((keys::count(db).await.unwrap(), projects::get(db, "q").await.unwrap()), (1, None));
    let entries: i64 = on_audit(db).await;
    assert_eq!(entries, 4 + 5, "each change and each quota is told once");
}

async fn on_audit(db: &Db) -> i64 {
    let counted: Result<i64, crate::store::StoreError> =
        on!(db, |connection| { Ok(sqlx::query_scalar("select count(*) from audit").fetch_one(connection).await?) });
    counted.unwrap()
}
