//! What every database must do, as functions of an open one; each database runs them all.

use std::collections::HashSet;

use jiff::{Timestamp, ToSpan};

use super::{
    AuditRow, Db, KeyEdit, KeyHash, KeyRow, NewKey, ProjectRow,
    audit::{self, AuditFilter},
    keys, projects,
    run::on,
    secrets,
};

/// Runs every function on a fresh database each.
macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (_dir, db) = super::super::testing::sqlite().await;
                super::$name(&db).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::super::testing::postgres().await).await;
            })*
        }
    };
}

conforms!(
    a_key_comes_back_as_it_was_stored,
    a_hash_is_stored_once,
    an_edit_changes_what_it_names,
    a_revocation_is_for_good,
    people_find_keys_by_id_name_or_hint,
    pages_hold_every_key_once,
    changes_are_numbered,
    writers_at_once_get_numbers_of_their_own,
    hostile_text_is_data,
    projects_are_made_once_and_listed_by_id,
    the_audit_log_keeps_what_fits_newest_first,
    secrets_are_replaced_and_the_first_one_wins,
    what_the_version_before_writes_is_understood,
);

fn new_key(n: u32, name: &str) -> NewKey {
    let created = Timestamp::from_millisecond(1_790_000_000_000).unwrap();
    NewKey {
        id: format!("01K{n:023}"),
        name: name.to_owned(),
        hash: KeyHash::of(&format!("key {n}")),
        hint: format!("h{n:03}"),
        project: "default".to_owned(),
        tags: vec!["team:search".to_owned()],
        models: vec!["openai/*".to_owned(), "a\"b".to_owned()],
        expires: Some(created + 1.hour()),
        created,
    }
}

async fn a_key_comes_back_as_it_was_stored(db: &Db) {
    assert_eq!(keys::count(db).await.unwrap(), 0);
    let row = keys::create(db, new_key(1, "ci")).await.unwrap();
    let NewKey { id, name, hash, hint, project, tags, models, expires, created } = new_key(1, "ci");
    let (enabled, revoked, version) = (true, None, 1);
    let wanted = KeyRow { id, name, hash, hint, project, tags, models, expires, created, enabled, revoked, version };
    assert_eq!(row, wanted);
    assert_eq!(keys::find_by_hash(db, &hash).await.unwrap(), Some(wanted));
    assert_eq!(keys::find_by_hash(db, &KeyHash::of("another")).await.unwrap(), None);
    assert_eq!(keys::count(db).await.unwrap(), 1);
}

async fn a_hash_is_stored_once(db: &Db) {
    keys::create(db, new_key(1, "a")).await.unwrap();
    let twin = NewKey { hash: new_key(1, "").hash, ..new_key(2, "b") };
    keys::create(db, twin).await.unwrap_err();
    assert_eq!(keys::count(db).await.unwrap(), 1);
    assert_eq!(keys::change_marker(db).await.unwrap(), 1, "a failed write leaves no number behind");
}

async fn an_edit_changes_what_it_names(db: &Db) {
    let row = keys::create(db, new_key(1, "a")).await.unwrap();
    let edits = [
        KeyEdit { name: Some("b".to_owned()), ..KeyEdit::default() },
        KeyEdit { models: Some(vec!["*".to_owned()]), ..KeyEdit::default() },
        KeyEdit { project: Some("search".to_owned()), ..KeyEdit::default() },
        KeyEdit { tags: Some(Vec::new()), ..KeyEdit::default() },
        KeyEdit { enabled: Some(false), ..KeyEdit::default() },
        KeyEdit { expires: Some(None), ..KeyEdit::default() },
        KeyEdit::default(),
    ];
    let mut wanted = row;
    for edit in edits {
        wanted.version += 1;
        wanted.name = edit.name.clone().unwrap_or(wanted.name);
        wanted.project = edit.project.clone().unwrap_or(wanted.project);
        wanted.tags = edit.tags.clone().unwrap_or(wanted.tags);
        wanted.models = edit.models.clone().unwrap_or(wanted.models);
        wanted.enabled = edit.enabled.unwrap_or(wanted.enabled);
        wanted.expires = edit.expires.unwrap_or(wanted.expires);
        assert_eq!(keys::update(db, &wanted.id, edit).await.unwrap().as_ref(), Some(&wanted));
        assert_eq!(keys::find_by_hash(db, &wanted.hash).await.unwrap().as_ref(), Some(&wanted));
    }
    assert_eq!(keys::update(db, "no such id", KeyEdit::default()).await.unwrap(), None);
    assert_eq!(keys::change_marker(db).await.unwrap(), wanted.version, "no change, no number");
}

async fn a_revocation_is_for_good(db: &Db) {
    let row = keys::create(db, new_key(1, "a")).await.unwrap();
    let at = Timestamp::from_millisecond(1_790_000_001_000).unwrap();
    assert_eq!(keys::revoke(db, &row.id, at).await.unwrap().unwrap().revoked, Some(at));
    assert_eq!(keys::revoke(db, &row.id, at + 1.hour()).await.unwrap().unwrap().revoked, Some(at));
    assert_eq!(keys::find_by_hash(db, &row.hash).await.unwrap().unwrap().revoked, Some(at));
    assert_eq!(keys::revoke(db, "no such id", at).await.unwrap(), None);
}

async fn people_find_keys_by_id_name_or_hint(db: &Db) {
    for (n, name) in [(1, "a"), (2, "b"), (3, "b"), (4, "h001")] {
        keys::create(db, new_key(n, name)).await.unwrap();
    }
    let found = async |text: &str| -> Vec<String> {
        keys::find(db, text).await.unwrap().into_iter().map(|row| row.hint).collect()
    };
    assert_eq!(found(&new_key(3, "").id).await, ["h003"]);
    assert_eq!(found(&new_key(3, "").id.to_lowercase()).await, ["h003"]);
    assert_eq!(found("a").await, ["h001"]);
    assert_eq!(found("b").await, ["h002", "h003"]);
    assert_eq!(found("h001").await, ["h004"], "a name comes before a hint");
    assert_eq!(found("h002").await, ["h002"]);
    assert!(found("c").await.is_empty());

    keys::revoke(db, &new_key(2, "").id, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(found("b").await, ["h003"], "a revoked key is found by its id alone");
    assert!(found("h002").await.is_empty());
    assert_eq!(found(&new_key(2, "").id).await, ["h002"]);
}

async fn pages_hold_every_key_once(db: &Db) {
    for n in [3, 1, 5, 2, 4] {
        keys::create(db, new_key(n, "same")).await.unwrap();
    }
    let mut listed: Vec<KeyRow> = Vec::new();
    loop {
        let page = keys::list(db, listed.last().map(|row| row.id.as_str()), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let hints: Vec<&str> = listed.iter().map(|row| row.hint.as_str()).collect();
    assert_eq!(hints, ["h001", "h002", "h003", "h004", "h005"]);
}

async fn changes_are_numbered(db: &Db) {
    assert_eq!(keys::change_marker(db).await.unwrap(), 0);
    for n in 1..=3 {
        keys::create(db, new_key(n, "a")).await.unwrap();
    }
    keys::revoke(db, &new_key(1, "").id, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(keys::change_marker(db).await.unwrap(), 4);
    let changed = async |seen, limit| -> Vec<(i64, String)> {
        let rows = keys::changed_since(db, seen, limit).await.unwrap();
        rows.into_iter().map(|row| (row.version, row.hint)).collect()
    };
    let told = |version: i64, hint: &str| (version, hint.to_owned());
    assert_eq!(changed(0, 9).await, [told(2, "h002"), told(3, "h003"), told(4, "h001")]);
    assert_eq!(changed(2, 1).await, [told(3, "h003")]);
    assert_eq!(changed(4, 9).await, []);
}

async fn writers_at_once_get_numbers_of_their_own(db: &Db) {
    let made = futures_util::future::join_all((1..=20).map(|n| keys::create(db, new_key(n, "a")))).await;
    let versions: HashSet<i64> = made.into_iter().map(|row| row.unwrap().version).collect();
    assert_eq!(versions.len(), 20);
    assert_eq!(keys::change_marker(db).await.unwrap(), 20);
}

async fn hostile_text_is_data(db: &Db) {
    let hostile = "x'); drop table keys; --";
    let row = keys::create(db, new_key(1, hostile)).await.unwrap();
    assert_eq!(keys::find(db, hostile).await.unwrap(), [row]);
    let quoted = ProjectRow { id: hostile.to_owned(), name: hostile.to_owned(), ..project("a") };
    assert!(projects::create(db, &quoted).await.unwrap());
    assert_eq!(projects::get(db, hostile).await.unwrap(), Some(quoted));
    assert!(secrets::put_first(db, hostile, &KeyHash::of("a"), 1).await.unwrap());
    let entry = AuditRow { actor: hostile.to_owned(), detail: hostile.to_owned(), ..audit_row(1) };
    audit::append(db, &entry).await.unwrap();
    let filter = AuditFilter { object_kind: Some("' or '1'='1".to_owned()), object_id: None };
    assert_eq!(audit::list(db, &filter, None, 9).await.unwrap(), []);
    assert_eq!(audit::list(db, &AuditFilter::default(), None, 9).await.unwrap(), [entry]);
    assert!(keys::find(db, "' or '1'='1").await.unwrap().is_empty());
    assert!(keys::find(db, "%").await.unwrap().is_empty());
    assert!(keys::list(db, Some("' or '1'='1"), 9).await.unwrap().len() <= 1);
}

fn project(id: &str) -> ProjectRow {
    let created = Timestamp::from_millisecond(1_790_000_000_000).unwrap();
    ProjectRow { id: id.to_owned(), name: "Name".to_owned(), tags: vec!["eu".to_owned()], created, archived: None }
}

async fn projects_are_made_once_and_listed_by_id(db: &Db) {
    for id in ["search", "a-team", "a.team"] {
        assert!(projects::create(db, &project(id)).await.unwrap());
    }
    let other = ProjectRow { name: "Another".to_owned(), ..project("search") };
    assert!(!projects::create(db, &other).await.unwrap());
    assert_eq!(projects::get(db, "search").await.unwrap(), Some(project("search")));
    assert_eq!(projects::get(db, "nobody").await.unwrap(), None);

    let mut listed: Vec<String> = Vec::new();
    while let [row] = &projects::list(db, listed.last().map(String::as_str), 1).await.unwrap()[..] {
        listed.push(row.id.clone());
    }
    assert_eq!(listed, ["a-team", "a.team", "default", "search"]);

    let at = Timestamp::from_millisecond(1_790_000_001_000).unwrap();
    assert_eq!(projects::archive(db, "search", Some(at)).await.unwrap().unwrap().archived, Some(at));
    assert_eq!(projects::archive(db, "search", None).await.unwrap(), Some(project("search")));
    assert_eq!(projects::archive(db, "nobody", None).await.unwrap(), None);
}

fn audit_row(n: i64) -> AuditRow {
    AuditRow {
        id: format!("01K{n:023}"),
        at: 1_790_000_000_000 + n,
        actor: "admin".to_owned(),
        action: "key.create".to_owned(),
        object_kind: if n % 2 == 0 { "key" } else { "project" }.to_owned(),
        object_id: format!("object {n}"),
        detail: r#"{"a":1}"#.to_owned(),
    }
}

async fn the_audit_log_keeps_what_fits_newest_first(db: &Db) {
    for n in 1..=5 {
        audit::append(db, &audit_row(n)).await.unwrap();
    }
    audit::append(db, &audit_row(5)).await.unwrap();
    let all = AuditFilter::default();
    let newest = audit::list(db, &all, None, 2).await.unwrap();
    assert_eq!(newest, [audit_row(5), audit_row(4)]);
    assert_eq!(audit::list(db, &all, Some(&newest[1].id), 2).await.unwrap(), [audit_row(3), audit_row(2)]);
    let keys = AuditFilter { object_kind: Some("key".to_owned()), object_id: None };
    assert_eq!(audit::list(db, &keys, None, 9).await.unwrap(), [audit_row(4), audit_row(2)]);
    let one = AuditFilter { object_kind: Some("key".to_owned()), object_id: Some("object 2".to_owned()) };
    assert_eq!(audit::list(db, &one, None, 9).await.unwrap(), [audit_row(2)]);

    let large = AuditRow { actor: "ü".repeat(500), detail: "x".repeat(5_000), ..audit_row(6) };
    audit::append(db, &large).await.unwrap();
    let kept = audit::list(db, &all, None, 1).await.unwrap().remove(0);
    assert_eq!((kept.actor.as_str(), kept.detail.as_str()), (&*"ü".repeat(100), r#"{"too_long":true}"#));
}

async fn secrets_are_replaced_and_the_first_one_wins(db: &Db) {
    let [one, two] = ["one", "two"].map(KeyHash::of);
    assert_eq!(secrets::get(db, "admin").await.unwrap(), None);
    let made = futures_util::future::join_all((0..8).map(|_| secrets::put_first(db, "admin", &one, 1))).await;
    assert_eq!(made.into_iter().filter(|made| *made.as_ref().unwrap()).count(), 1);
    assert_eq!(secrets::get(db, "admin").await.unwrap(), Some(one));
    secrets::put(db, "admin", &two, 2).await.unwrap();
    assert_eq!(secrets::get(db, "admin").await.unwrap(), Some(two));
    assert_eq!(secrets::get(db, "other").await.unwrap(), None);
}

/// While gateways are replaced one by one, the old ones know nothing of columns that were added.
async fn what_the_version_before_writes_is_understood(db: &Db) {
    const INSERT: &str = "insert into keys (id, name, hash, hint, models, enabled, expires_at, created_at, version) \
                          values ('01K', 'old', $1, 'hint', '[\"*\"]', true, null, 0, 1)";
    let hash = KeyHash::of("old");
    let inserted: Result<(), super::StoreError> = on!(db, |connection| {
        sqlx::query(INSERT).bind(hash.to_string()).execute(connection).await?;
        Ok(())
    });
    inserted.unwrap();
    let row = keys::find_by_hash(db, &hash).await.unwrap().unwrap();
    assert_eq!((row.project.as_str(), row.tags.as_slice()), ("default", [].as_slice()));
}
