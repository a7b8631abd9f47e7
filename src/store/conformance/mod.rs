//! What every database must do, as functions of an open one; each database runs them all.

use std::collections::HashSet;

use jiff::{Timestamp, ToSpan};

use serde_json::{Value, json};

use super::{
    Act, Actor, AuditRow, Changed, Db, KeyEdit, KeyFilter, KeyHash, KeyRow, KeyState, Markers, NewKey, OldSecret,
    ProjectEdit, ProjectRow, Rotation,
    audit::{self, AuditFilter},
    changes, keys, projects,
    run::on,
    secrets,
};

/// Runs every function on a fresh database each.
macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                let (_dir, db) = crate::store::testing::sqlite().await;
                super::$name(&db).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&crate::store::testing::postgres().await).await;
            })*
        }
    };
}

mod quotas;

conforms!(
    a_key_comes_back_as_it_was_stored,
    a_hash_is_stored_once,
    an_edit_changes_what_it_names,
    a_change_meant_for_another_version_is_not_made,
    a_rotation_leaves_two_secrets_of_one_key,
    a_revocation_is_for_good,
    people_find_keys_by_id_name_or_hint,
    pages_hold_every_key_once,
    lists_hold_what_was_asked_for,
    changes_are_numbered,
    writers_at_once_get_numbers_of_their_own,
    hostile_text_is_data,
    projects_are_made_once_and_listed_by_id,
    a_project_changes_with_its_number,
    the_audit_log_tells_of_each_change_what_was_before_and_after,
    the_audit_log_is_read_by_what_who_and_when,
    a_change_without_its_audit_row_is_not_made,
    secrets_are_replaced_and_the_first_one_wins,
    what_the_version_before_writes_is_understood,
);

const AT: i64 = 1_790_000_000_000;

fn act(action: &'static str) -> Act {
    Actor::COMMAND.does(action, AT)
}

async fn create(db: &Db, key: NewKey) -> Result<KeyRow, super::StoreError> {
    keys::create(db, key, Vec::new(), &act("key.create")).await
}

async fn update(db: &Db, id: &str, edit: KeyEdit) -> Changed<KeyRow> {
    keys::update(db, id, edit, Vec::new(), None, &act("key.update")).await.unwrap()
}

async fn revoke(db: &Db, id: &str, at: Timestamp) -> Changed<KeyRow> {
    keys::revoke(db, id, at, None, &act("key.revoke")).await.unwrap()
}

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
        endpoints: vec!["chat".to_owned()],
        addresses: vec!["10.0.0.0/8".to_owned(), "::1".to_owned()],
        max_tokens: Some(u32::MAX),
        log_content: Some(false),
        expires: Some(created + 1.hour()),
        enabled: true,
        created,
    }
}

async fn a_key_comes_back_as_it_was_stored(db: &Db) {
    assert_eq!(keys::count(db).await.unwrap(), 0);
    let row = create(db, new_key(1, "ci")).await.unwrap();
    let NewKey { id, name, hash, hint, project, tags, models, endpoints, addresses, .. } = new_key(1, "ci");
    let NewKey { max_tokens, log_content, expires, enabled, created, .. } = new_key(1, "ci");
    let (revoked, old, version) = (None, None, 1);
    let wanted = KeyRow {
        id,
        name,
        hash,
        hint,
        old,
        project,
        tags,
        models,
        endpoints,
        addresses,
        max_tokens,
        log_content,
        enabled,
        expires,
        created,
        revoked,
        version,
    };
    assert_eq!(keys::get(db, &wanted.id).await.unwrap().as_ref(), Some(&wanted));
    assert_eq!(keys::get(db, "nobody").await.unwrap(), None);
    assert_eq!(row, wanted);
    assert_eq!(keys::find_by_hash(db, &hash).await.unwrap(), Some(wanted));
    assert_eq!(keys::find_by_hash(db, &KeyHash::of("another")).await.unwrap(), None);
    assert_eq!(keys::count(db).await.unwrap(), 1);
}

async fn a_hash_is_stored_once(db: &Db) {
    create(db, new_key(1, "a")).await.unwrap();
    let twin = NewKey { hash: new_key(1, "").hash, ..new_key(2, "b") };
    create(db, twin).await.unwrap_err();
    assert_eq!(keys::count(db).await.unwrap(), 1);
    assert_eq!(keys::change_marker(db).await.unwrap(), 1, "a failed write leaves no number behind");
}

async fn an_edit_changes_what_it_names(db: &Db) {
    let row = create(db, new_key(1, "a")).await.unwrap();
    let edits = [
        KeyEdit { name: Some("b".to_owned()), ..KeyEdit::default() },
        KeyEdit { models: Some(vec!["*".to_owned()]), ..KeyEdit::default() },
        KeyEdit { endpoints: Some(Vec::new()), ..KeyEdit::default() },
        KeyEdit { addresses: Some(vec!["*".to_owned()]), ..KeyEdit::default() },
        KeyEdit { max_tokens: Some(None), ..KeyEdit::default() },
        KeyEdit { log_content: Some(Some(true)), ..KeyEdit::default() },
        KeyEdit { log_content: Some(None), ..KeyEdit::default() },
        KeyEdit { project: Some("search".to_owned()), ..KeyEdit::default() },
        KeyEdit { tags: Some(Vec::new()), ..KeyEdit::default() },
        KeyEdit { enabled: Some(false), ..KeyEdit::default() },
        KeyEdit { expires: Some(None), ..KeyEdit::default() },
    ];
    let mut wanted = row;
    for edit in edits {
        wanted.version += 1;
        wanted.name = edit.name.clone().unwrap_or(wanted.name);
        wanted.project = edit.project.clone().unwrap_or(wanted.project);
        wanted.tags = edit.tags.clone().unwrap_or(wanted.tags);
        wanted.models = edit.models.clone().unwrap_or(wanted.models);
        wanted.endpoints = edit.endpoints.clone().unwrap_or(wanted.endpoints);
        wanted.addresses = edit.addresses.clone().unwrap_or(wanted.addresses);
        wanted.max_tokens = edit.max_tokens.unwrap_or(wanted.max_tokens);
        wanted.log_content = edit.log_content.unwrap_or(wanted.log_content);
        wanted.enabled = edit.enabled.unwrap_or(wanted.enabled);
        wanted.expires = edit.expires.unwrap_or(wanted.expires);
        assert_eq!(update(db, &wanted.id, edit.clone()).await, Changed::Done(wanted.clone()));
        assert_eq!(keys::find_by_hash(db, &wanted.hash).await.unwrap().as_ref(), Some(&wanted));
        assert_eq!(update(db, &wanted.id, edit).await, Changed::Done(wanted.clone()), "nothing is left to change");
    }
    assert_eq!(update(db, "no such id", KeyEdit::default()).await, Changed::Missing);
    assert_eq!(keys::change_marker(db).await.unwrap(), wanted.version, "no change, no number");
}

async fn a_change_meant_for_another_version_is_not_made(db: &Db) {
    let row = create(db, new_key(1, "a")).await.unwrap();
    let rename = |name: &str| KeyEdit { name: Some(name.to_owned()), ..KeyEdit::default() };
    let update = async |name: &str, expected| {
        keys::update(db, &row.id, rename(name), Vec::new(), Some(expected), &act("key.update")).await.unwrap()
    };
    let Changed::Done(second) = update("b", row.version).await else { panic!("it is at that version") };
    assert_eq!(update("c", row.version).await, Changed::Stale(second.clone()));
    assert_eq!(
        keys::revoke(db, &row.id, row.created, Some(row.version), &act("key.revoke")).await.unwrap(),
        Changed::Stale(second.clone())
    );
    assert_eq!(keys::get(db, &row.id).await.unwrap(), Some(second));
    let edit = ProjectEdit { name: Some("x".to_owned()), ..ProjectEdit::default() };
    let changed = projects::update(db, "default", edit, Vec::new(), Some(7), &act("project.update")).await.unwrap();
    assert!(matches!(changed, Changed::Stale(row) if row.name == "Default"));
}

async fn a_rotation_leaves_two_secrets_of_one_key(db: &Db) {
    let row = create(db, new_key(1, "a")).await.unwrap();
    let [one, two, three] = [row.hash, KeyHash::of("two"), KeyHash::of("three")];
    let until = row.created + 1.hour();
    let rotate = async |hash: KeyHash, hint: &str| {
        let rotation = Rotation { hash, hint: hint.to_owned(), until };
        keys::rotate(db, &row.id, rotation, None, &act("key.rotate")).await.unwrap()
    };
    let wanted = KeyRow {
        hash: two,
        hint: "two".to_owned(),
        old: Some(OldSecret { hash: one, hint: row.hint.clone(), until }),
        version: row.version + 1,
        ..row.clone()
    };
    assert_eq!(rotate(two, "two").await, Changed::Done(wanted.clone()));
    for hash in [one, two] {
        assert_eq!(keys::find_by_hash(db, &hash).await.unwrap().as_ref(), Some(&wanted), "one key behind both");
    }
    let Changed::Done(next) = rotate(three, "three").await else { panic!("it is not revoked") };
    assert_eq!(next.old, Some(OldSecret { hash: two, hint: "two".to_owned(), until }));
    assert_eq!(keys::find_by_hash(db, &one).await.unwrap(), None);
    revoke(db, &row.id, until).await;
    assert!(matches!(rotate(one, "one").await, Changed::Closed(_)));
    assert!(matches!(
        update(db, &row.id, KeyEdit { enabled: Some(false), ..KeyEdit::default() }).await,
        Changed::Closed(_)
    ));
    assert_eq!(keys::count(db).await.unwrap(), 1);
}

async fn a_revocation_is_for_good(db: &Db) {
    let row = create(db, new_key(1, "a")).await.unwrap();
    let at = Timestamp::from_millisecond(1_790_000_001_000).unwrap();
    assert_eq!(revoke(db, &row.id, at).await.done().unwrap().revoked, Some(at));
    assert_eq!(revoke(db, &row.id, at + 1.hour()).await.done().unwrap().revoked, Some(at));
    assert_eq!(keys::find_by_hash(db, &row.hash).await.unwrap().unwrap().revoked, Some(at));
    assert_eq!(revoke(db, "no such id", at).await, Changed::Missing);
}

async fn people_find_keys_by_id_name_or_hint(db: &Db) {
    for (n, name) in [(1, "a"), (2, "b"), (3, "b"), (4, "h001")] {
        create(db, new_key(n, name)).await.unwrap();
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

    revoke(db, &new_key(2, "").id, Timestamp::UNIX_EPOCH).await;
    assert_eq!(found("b").await, ["h003"], "a revoked key is found by its id alone");
    assert!(found("h002").await.is_empty());
    assert_eq!(found(&new_key(2, "").id).await, ["h002"]);
}

async fn pages_hold_every_key_once(db: &Db) {
    for n in [3, 1, 5, 2, 4] {
        create(db, new_key(n, "same")).await.unwrap();
    }
    let mut listed: Vec<KeyRow> = Vec::new();
    loop {
        let page = keys::list(db, &KeyFilter::default(), listed.last().map(|row| row.id.as_str()), 2).await.unwrap();
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    let hints: Vec<&str> = listed.iter().map(|row| row.hint.as_str()).collect();
    assert_eq!(hints, ["h001", "h002", "h003", "h004", "h005"]);
}

async fn lists_hold_what_was_asked_for(db: &Db) {
    let now = Timestamp::from_millisecond(AT).unwrap() + 2.hours();
    for n in 1..=5 {
        let expires = (n != 1).then_some(now + 1.hour());
        let project = if n == 5 { "search" } else { "default" }.to_owned();
        create(db, NewKey { expires, project, ..new_key(n, if n % 2 == 0 { "even" } else { "odd" }) }).await.unwrap();
    }
    let id = |n: u32| new_key(n, "").id;
    update(db, &id(2), KeyEdit { enabled: Some(false), ..KeyEdit::default() }).await;
    update(db, &id(3), KeyEdit { expires: Some(Some(now)), ..KeyEdit::default() }).await;
    update(db, &id(4), KeyEdit { enabled: Some(false), expires: Some(Some(now)), ..KeyEdit::default() }).await;
    revoke(db, &id(4), now).await;
    let listed = async |filter: KeyFilter| -> Vec<String> {
        keys::list(db, &filter, None, 9).await.unwrap().into_iter().map(|row| row.hint).collect()
    };
    let in_state = |state: KeyState| KeyFilter { state: Some((state, now)), ..KeyFilter::default() };
    assert_eq!(listed(in_state(KeyState::Active)).await, ["h001", "h005"]);
    assert_eq!(listed(in_state(KeyState::Disabled)).await, ["h002"]);
    assert_eq!(listed(in_state(KeyState::Expired)).await, ["h003"]);
    assert_eq!(listed(in_state(KeyState::Revoked)).await, ["h004"]);
    for row in keys::list(db, &KeyFilter::default(), None, 9).await.unwrap() {
        assert!(listed(in_state(row.state(now))).await.contains(&row.hint), "the row and the query agree");
    }
    assert_eq!(listed(KeyFilter { project: Some("search".to_owned()), ..KeyFilter::default() }).await, ["h005"]);
    let odd = KeyFilter { name: Some("odd".to_owned()), project: Some("default".to_owned()), state: None };
    assert_eq!(listed(odd).await, ["h001", "h003"]);
}

async fn changes_are_numbered(db: &Db) {
    assert_eq!(keys::change_marker(db).await.unwrap(), 0);
    for n in 1..=3 {
        create(db, new_key(n, "a")).await.unwrap();
    }
    revoke(db, &new_key(1, "").id, Timestamp::UNIX_EPOCH).await;
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
    let made = futures_util::future::join_all((1..=20).map(|n| create(db, new_key(n, "a")))).await;
    let versions: HashSet<i64> = made.into_iter().map(|row| row.unwrap().version).collect();
    assert_eq!(versions.len(), 20);
    assert_eq!(keys::change_marker(db).await.unwrap(), 20);
}

async fn hostile_text_is_data(db: &Db) {
    let hostile = "x'); drop table keys; --";
    let row = create(db, new_key(1, hostile)).await.unwrap();
    assert_eq!(keys::find(db, hostile).await.unwrap(), [row]);
    let quoted = ProjectRow { id: hostile.to_owned(), name: hostile.to_owned(), ..project("a") };
    let quoted = projects::create(db, quoted, Vec::new(), &act("project.create")).await.unwrap().unwrap();
    assert_eq!(projects::get(db, hostile).await.unwrap(), Some(quoted));
    assert!(secrets::put_first(db, hostile, &KeyHash::of("a"), 1).await.unwrap());
    let filter = AuditFilter { object_kind: Some("' or '1'='1".to_owned()), ..AuditFilter::default() };
    assert_eq!(audit::list(db, &filter, None, 9).await.unwrap(), []);
    let filter = AuditFilter { object_id: Some(hostile.to_owned()), ..AuditFilter::default() };
    assert_eq!(audit::list(db, &filter, None, 9).await.unwrap().len(), 1);
    assert!(keys::find(db, "' or '1'='1").await.unwrap().is_empty());
    assert!(keys::find(db, "%").await.unwrap().is_empty());
    assert!(keys::list(db, &KeyFilter::default(), Some("' or '1'='1"), 9).await.unwrap().len() <= 1);
}

fn project(id: &str) -> ProjectRow {
    ProjectRow {
        id: id.to_owned(),
        name: "Name".to_owned(),
        tags: vec!["eu".to_owned()],
        models: vec!["openai/*".to_owned()],
        endpoints: vec!["chat".to_owned(), "models".to_owned()],
        addresses: vec!["*".to_owned()],
        log_content: Some(true),
        created: Timestamp::from_millisecond(AT).unwrap(),
        archived: None,
        version: 0,
    }
}

async fn projects_are_made_once_and_listed_by_id(db: &Db) {
    for (version, id) in (1..).zip(["search", "a-team", "a.team"]) {
        let wanted = ProjectRow { version, ..project(id) };
        assert_eq!(projects::create(db, project(id), Vec::new(), &act("project.create")).await.unwrap(), Some(wanted));
    }
    let other = ProjectRow { name: "Another".to_owned(), ..project("search") };
    assert_eq!(projects::create(db, other, Vec::new(), &act("project.create")).await.unwrap(), None);
    assert_eq!(projects::get(db, "search").await.unwrap(), Some(ProjectRow { version: 1, ..project("search") }));
    assert_eq!(projects::get(db, "nobody").await.unwrap(), None);

    let mut listed: Vec<String> = Vec::new();
    while let [row] = &projects::list(db, listed.last().map(String::as_str), 1).await.unwrap()[..] {
        listed.push(row.id.clone());
    }
    assert_eq!(listed, ["a-team", "a.team", "default", "search"]);
    let default = projects::get(db, "default").await.unwrap().unwrap();
    assert_eq!((default.models, default.endpoints, default.addresses.as_slice()), (all(), all(), &*all()));
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

async fn a_project_changes_with_its_number(db: &Db) {
    projects::create(db, project("search"), Vec::new(), &act("project.create")).await.unwrap();
    let at = Timestamp::from_millisecond(AT + 1_000).unwrap();
    let edits = [
        ProjectEdit { name: Some("New".to_owned()), ..ProjectEdit::default() },
        ProjectEdit { tags: Some(Vec::new()), ..ProjectEdit::default() },
        ProjectEdit { models: Some(all()), ..ProjectEdit::default() },
        ProjectEdit { endpoints: Some(Vec::new()), ..ProjectEdit::default() },
        ProjectEdit { addresses: Some(vec!["::1".to_owned()]), ..ProjectEdit::default() },
        ProjectEdit { log_content: Some(Some(false)), ..ProjectEdit::default() },
        ProjectEdit { log_content: Some(None), ..ProjectEdit::default() },
        ProjectEdit { archived: Some(Some(at)), ..ProjectEdit::default() },
        ProjectEdit { archived: Some(None), ..ProjectEdit::default() },
    ];
    let mut wanted = ProjectRow { version: 1, ..project("search") };
    for edit in edits {
        wanted.version += 1;
        wanted.name = edit.name.clone().unwrap_or(wanted.name);
        wanted.tags = edit.tags.clone().unwrap_or(wanted.tags);
        wanted.models = edit.models.clone().unwrap_or(wanted.models);
        wanted.endpoints = edit.endpoints.clone().unwrap_or(wanted.endpoints);
        wanted.addresses = edit.addresses.clone().unwrap_or(wanted.addresses);
        wanted.log_content = edit.log_content.unwrap_or(wanted.log_content);
        wanted.archived = edit.archived.unwrap_or(wanted.archived);
        for _ in 0..2 {
            // The second time there is nothing to change.
            let changed =
                projects::update(db, "search", edit.clone(), Vec::new(), None, &act("project.update")).await.unwrap();
            assert_eq!(changed, Changed::Done(wanted.clone()));
        }
        assert_eq!(projects::get(db, "search").await.unwrap().as_ref(), Some(&wanted));
    }
    let archive = |at| ProjectEdit { archived: Some(Some(at)), ..ProjectEdit::default() };
    for later in [at, at + 1.hour()] {
        let changed =
            projects::update(db, "search", archive(later), Vec::new(), None, &act("project.archive")).await.unwrap();
        assert_eq!(changed.done().unwrap().archived, Some(at), "the first time stays");
    }
    let missing = projects::update(db, "nobody", archive(at), Vec::new(), None, &act("project.archive")).await.unwrap();
    assert_eq!(missing, Changed::Missing);
    let version = wanted.version + 1;
    assert_eq!(changes::markers(db).await.unwrap(), Markers { projects: version, ..Markers::default() });
    let changed = projects::changed_since(db, version - 1, 9).await.unwrap();
    assert_eq!(changed.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["search"]);
    assert_eq!(projects::changed_since(db, version, 9).await.unwrap(), []);
}

async fn entries(db: &Db, filter: &AuditFilter) -> Vec<AuditRow> {
    audit::list(db, filter, None, 99).await.unwrap()
}

async fn the_audit_log_tells_of_each_change_what_was_before_and_after(db: &Db) {
    let row = create(db, new_key(1, "ci")).await.unwrap();
    update(db, &row.id, KeyEdit { name: Some("web".to_owned()), enabled: Some(false), ..KeyEdit::default() }).await;
    update(db, &row.id, KeyEdit { name: Some("web".to_owned()), ..KeyEdit::default() }).await;
    let rotation = Rotation { hash: KeyHash::of("two"), hint: "two!".to_owned(), until: row.created };
    keys::rotate(db, &row.id, rotation, None, &act("key.rotate")).await.unwrap();
    revoke(db, &row.id, row.created).await;
    revoke(db, &row.id, row.created).await;
    projects::create(db, project("search"), Vec::new(), &act("project.create")).await.unwrap();
    projects::create(db, project("search"), Vec::new(), &act("project.create")).await.unwrap();
    secrets::put(db, "admin", &KeyHash::of("a"), &act("admin_key.rotate")).await.unwrap();

    let mut told: Vec<(String, String, Value)> = Vec::new();
    for entry in entries(db, &AuditFilter::default()).await {
        assert_eq!((entry.at, entry.actor.as_str(), entry.address), (AT, "command", None));
        for secret in [row.hash, KeyHash::of("two"), KeyHash::of("a")] {
            assert!(!entry.detail.contains(&secret.to_string()));
        }
        told.push((entry.action, entry.object_id, serde_json::from_str(&entry.detail).unwrap()));
    }
    // All of one millisecond, so their order is that of chance.
    let of = |action: &str| -> Value {
        let found: Vec<_> = told.iter().filter(|(other, ..)| other == action).collect();
        assert_eq!(found.len(), 1, "{action}: {told:?}");
        found[0].2.clone()
    };
    assert_eq!(told.len(), 6);
    let change = |before: Value, after: Value| json!({ "before": before, "after": after });
    assert_eq!(of("key.create")["models"], change(Value::Null, json!(["openai/*", "a\"b"])));
    assert_eq!(of("key.create").get("revoked"), None, "nothing is nothing new");
    let wanted = json!({ "name": change("ci".into(), "web".into()), "enabled": change(true.into(), false.into()) });
    assert_eq!(of("key.update"), wanted);
    assert_eq!(of("key.rotate")["hint"], change("h001".into(), "two!".into()));
    assert_eq!(of("key.rotate").as_object().unwrap().len(), 3);
    assert_eq!(of("key.revoke").as_object().unwrap().keys().collect::<Vec<_>>(), ["revoked"]);
    assert_eq!(of("project.create")["endpoints"], change(Value::Null, json!(["chat", "models"])));
    assert_eq!(of("admin_key.rotate"), json!({}));
}

async fn the_audit_log_is_read_by_what_who_and_when(db: &Db) {
    let by = |n: i64, actor: Actor, action: &'static str| actor.does(action, AT + n);
    let admin = || Actor::admin_key("::ffff:192.0.2.1".parse().unwrap());
    for n in 1..=4_i64 {
        let actor = if n % 2 == 0 { admin() } else { Actor::COMMAND };
        let key = new_key(u32::try_from(n).unwrap(), "a");
        keys::create(db, key, Vec::new(), &by(n, actor, "key.create")).await.unwrap();
    }
    projects::create(db, project("search"), Vec::new(), &by(5, admin(), "project.create")).await.unwrap();
    let times = async |filter: AuditFilter| -> Vec<i64> {
        entries(db, &filter).await.into_iter().map(|row| row.at - AT).collect()
    };
    let all = AuditFilter::default;
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(times(all()).await, [5, 4, 3, 2, 1]);
    assert_eq!(times(AuditFilter { object_kind: text("project"), ..all() }).await, [5]);
    assert_eq!(times(AuditFilter { object_id: text(&new_key(2, "").id), ..all() }).await, [2]);
    assert_eq!(times(AuditFilter { actor: text("command"), ..all() }).await, [3, 1]);
    assert_eq!(times(AuditFilter { action: text("key.create"), ..all() }).await, [4, 3, 2, 1]);
    assert_eq!(times(AuditFilter { since: Some(AT + 2), until: Some(AT + 4), ..all() }).await, [3, 2]);
    assert_eq!(times(AuditFilter { since: Some(AT + 6), ..all() }).await, [0; 0]);
    let first = audit::list(db, &all(), None, 2).await.unwrap();
    assert_eq!(first[0].address.as_deref(), Some("192.0.2.1"));
    let second = audit::list(db, &all(), Some(&first[1].id), 2).await.unwrap();
    assert_eq!(second.iter().map(|row| row.at - AT).collect::<Vec<_>>(), [3, 2]);
    let before = AuditFilter { until: Some(AT + 3), ..all() };
    assert_eq!(audit::list(db, &before, Some(&first[1].id), 9).await.unwrap().len(), 2, "both bounds hold");
}

/// Where the audit log cannot be written nothing is.
async fn a_change_without_its_audit_row_is_not_made(db: &Db) {
    let row = create(db, new_key(1, "a")).await.unwrap();
    let renamed: Result<(), super::StoreError> = on!(db, |connection| {
        sqlx::query("alter table audit rename to elsewhere").execute(connection).await?;
        Ok(())
    });
    renamed.unwrap();
    create(db, new_key(2, "b")).await.unwrap_err();
    let edit = KeyEdit { enabled: Some(false), ..KeyEdit::default() };
    keys::update(db, &row.id, edit, Vec::new(), None, &act("key.update")).await.unwrap_err();
    keys::revoke(db, &row.id, row.created, None, &act("key.revoke")).await.unwrap_err();
    projects::create(db, project("search"), Vec::new(), &act("project.create")).await.unwrap_err();
    let edit = ProjectEdit { archived: Some(Some(row.created)), ..ProjectEdit::default() };
    projects::update(db, "default", edit, Vec::new(), None, &act("project.archive")).await.unwrap_err();
    secrets::put(db, "admin", &KeyHash::of("a"), &act("admin_key.rotate")).await.unwrap_err();
    assert_eq!(keys::list(db, &KeyFilter::default(), None, 9).await.unwrap(), [row]);
    assert_eq!(projects::list(db, None, 9).await.unwrap().len(), 1);
    assert_eq!(projects::get(db, "default").await.unwrap().unwrap().archived, None);
    assert_eq!(secrets::get(db, "admin").await.unwrap(), None);
    assert_eq!(changes::markers(db).await.unwrap(), Markers { keys: 1, ..Markers::default() });
}

async fn secrets_are_replaced_and_the_first_one_wins(db: &Db) {
    let [one, two] = ["one", "two"].map(KeyHash::of);
    assert_eq!(secrets::get(db, "admin").await.unwrap(), None);
    let made = futures_util::future::join_all((0..8).map(|_| secrets::put_first(db, "admin", &one, 1))).await;
    assert_eq!(made.into_iter().filter(|made| *made.as_ref().unwrap()).count(), 1);
    assert_eq!(secrets::get(db, "admin").await.unwrap(), Some(one));
    secrets::put(db, "admin", &two, &act("admin_key.rotate")).await.unwrap();
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
    assert_eq!((row.endpoints.as_slice(), row.addresses, row.max_tokens), (&*all(), all(), None));
}
