//! Keys over a real store in a temporary directory, under a held clock. A second [`Keys`] over its own connections to
//! the same file stands for another process.

use std::{net::Ipv4Addr, path::Path};

use futures_util::future::join_all;
use http::{HeaderValue, header::AUTHORIZATION};
use jiff::Timestamp;
use tempfile::TempDir;

use super::{settings::KeySettings, watch::PAGE, *};
use crate::{
    store::{Actor, AuditFilter, KeyEdit, KeyRow, audit, changes},
    types::{Secret, Tasks},
};

mod rights;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct Setup {
    dir: TempDir,
    clock: Clock,
    keys: Keys,
}

async fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::held();
    let keys = process(dir.path(), &clock).await;
    Setup { dir, clock, keys }
}

async fn process(dir: &Path, clock: &Clock) -> Keys {
    Keys::new(Db::open(dir, None).await.unwrap(), clock.clone(), &Settings { wrong_keys_per_minute: 5 })
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn headers(key: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}")).unwrap())])
}

async fn present(keys: &Keys, key: &Secret) -> Result<Arc<Principal>, &'static str> {
    authenticate(keys, &headers(key.expose()), HERE).await.map_err(|error| error.code)
}

async fn authenticate(keys: &Keys, headers: &HeaderMap, address: IpAddr) -> Result<Arc<Principal>, Error> {
    keys.authenticate(headers, address, Endpoint::Chat).await
}

async fn create(keys: &Keys, draft: Draft) -> Result<(KeyRow, Secret), ManageError> {
    keys.create(draft, &Actor::COMMAND).await
}

/// By whatever people call it.
async fn update(keys: &Keys, text: &str, edit: KeyEdit) -> Result<KeyRow, ManageError> {
    let found = keys.find(text).await?;
    keys.update(&found.id, edit, Vec::new(), None, &Actor::COMMAND).await
}

async fn revoke(keys: &Keys, text: &str) -> Result<KeyRow, ManageError> {
    let found = keys.find(text).await?;
    keys.revoke(&found.id, None, &Actor::COMMAND).await
}

fn declared_keys(settings: &[KeySettings]) -> Declared {
    Declared::new(settings, &std::collections::BTreeMap::new()).unwrap()
}

fn declared(name: &str, value: &str) -> KeySettings {
    KeySettings {
        name: name.to_owned(),
        value: Secret::new(value),
        project: "default".to_owned(),
        tags: Vec::new(),
        models: all(),
        endpoints: all(),
        addresses: all(),
        max_tokens: None,
        log_content: None,
        expires: None,
        enabled: true,
    }
}

/// Lets the watch notice a change within a second of held time. The first interval may pass before the watch has begun
/// to sleep, the second cannot. How long the store itself takes is real time, and none of this test's business.
async fn one_second(setup: &Setup) {
    // The watch may have seen the change by itself already, when its first look came late.
    let changed = changes::markers(setup.keys.db()).await.unwrap();
    for _ in 0..2 {
        setup.clock.advance(WATCH_INTERVAL);
        for _ in 0..1_000 {
            if setup.keys.shared.seen.markers().await == Some(changed) {
                return;
            }
            Clock::Real.sleep(Duration::from_millis(1)).await;
        }
    }
    panic!("the watch noticed no change");
}

#[tokio::test]
async fn a_stored_key_names_its_caller() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let (row, secret) = create(&keys, Draft::new("ci", &["openai/*".to_owned()], None)).await.unwrap();
    let principal = present(&keys, &secret).await.unwrap();
    assert_eq!((&*principal.id, &*principal.name), (row.id.as_str(), "ci"));
    assert!(principal.may_use(&["openai/gpt-5.5"]) && !principal.may_use(&["gpt-5.5"]));
    assert!(Arc::ptr_eq(&principal, &present(&keys, &secret).await.unwrap()), "the second time from memory");
}

#[tokio::test]
async fn a_refusal_says_why_and_never_the_key() {
    let Setup { keys, clock, dir: _dir } = setup().await;
    let soon = keys_now(&clock) + Duration::from_secs(60);
    let (_, expiring) = create(&keys, Draft::new("expiring", &all(), Some(soon))).await.unwrap();
    let (disabled, disabled_key) = create(&keys, Draft::new("disabled", &all(), None)).await.unwrap();
    let (revoked, revoked_key) = create(&keys, Draft::new("revoked", &all(), None)).await.unwrap();
    for key in [&expiring, &disabled_key, &revoked_key] {
        present(&keys, key).await.unwrap();
    }
    update(&keys, &disabled.id, KeyEdit { enabled: Some(false), ..KeyEdit::default() }).await.unwrap();
    revoke(&keys, &revoked.id).await.unwrap();
    clock.advance(Duration::from_secs(60));

    let unknown = Secret::new("sk-sb-canary-0123456789");
    let overlong = Secret::new("canary".repeat(100));
    let cases = [
        (&expiring, "expired_api_key"),
        (&disabled_key, "disabled_api_key"),
        (&revoked_key, "revoked_api_key"),
        (&unknown, "invalid_api_key"),
        (&overlong, "invalid_api_key"),
    ];
    for (key, code) in cases {
        let error = authenticate(&keys, &headers(key.expose()), HERE).await.unwrap_err();
        assert_eq!((error.code, error.status, error.retryable), (code, StatusCode::UNAUTHORIZED, false));
        assert!(!format!("{error} {error:?}").contains(key.expose()), "{error:?}");
    }
    let error = authenticate(&keys, &HeaderMap::new(), HERE).await.unwrap_err();
    assert_eq!((error.code, error.status), ("missing_api_key", StatusCode::UNAUTHORIZED));
}

fn keys_now(clock: &Clock) -> Timestamp {
    Timestamp::try_from(clock.wall()).unwrap()
}

#[tokio::test]
async fn declared_keys_win_and_are_swapped_whole() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let (_, stored) = create(&keys, Draft::new("stored", &all(), None)).await.unwrap();
    assert_eq!(&*present(&keys, &stored).await.unwrap().name, "stored");

    let mine = Secret::new("an operator's own key".replace(' ', "-"));
    let settings = [declared("file", stored.expose()), declared("mine", mine.expose())];
    keys.declare(declared_keys(&settings));
    assert_eq!(&*present(&keys, &stored).await.unwrap().id, "declared:file");
    assert_eq!(&*present(&keys, &mine).await.unwrap().name, "mine");

    let off = KeySettings { enabled: false, ..declared("mine", mine.expose()) };
    keys.declare(declared_keys(&[off]));
    assert_eq!(present(&keys, &mine).await, Err("disabled_api_key"));
    assert_eq!(&*present(&keys, &stored).await.unwrap().name, "stored");

    keys.declare(Declared::default());
    assert_eq!(present(&keys, &mine).await, Err("invalid_api_key"));
}

#[tokio::test]
async fn what_another_process_changes_holds_within_a_second() {
    let setup = setup().await;
    let tasks = Tasks::new();
    let other = process(setup.dir.path(), &setup.clock).await;
    let (row, secret) = create(&setup.keys, Draft::new("ci", &["a".to_owned()], None)).await.unwrap();
    setup.keys.refresh().await.unwrap();
    tasks.spawn(setup.keys.clone().watch(tasks.stopping()));
    assert!(present(&setup.keys, &secret).await.unwrap().may_use(&["a"]));

    let edit = KeyEdit { models: Some(vec!["b".to_owned()]), ..KeyEdit::default() };
    update(&other, "ci", edit).await.unwrap();
    one_second(&setup).await;
    let edited = present(&setup.keys, &secret).await.unwrap();
    assert!(edited.may_use(&["b"]) && !edited.may_use(&["a"]));

    update(&other, "ci", KeyEdit { enabled: Some(false), ..KeyEdit::default() }).await.unwrap();
    one_second(&setup).await;
    assert_eq!(present(&setup.keys, &secret).await, Err("disabled_api_key"));

    update(&other, "ci", KeyEdit { enabled: Some(true), ..KeyEdit::default() }).await.unwrap();
    one_second(&setup).await;
    present(&setup.keys, &secret).await.unwrap();

    revoke(&other, &row.id).await.unwrap();
    one_second(&setup).await;
    assert_eq!(present(&setup.keys, &secret).await, Err("revoked_api_key"));
    assert!(tasks.shut_down(&Clock::Real, Duration::from_secs(5)).await, "the watch ends when asked to");
}

#[tokio::test]
async fn many_changes_are_all_taken_over() {
    let setup = setup().await;
    let other = process(setup.dir.path(), &setup.clock).await;
    setup.keys.refresh().await.unwrap();
    let (_, secret) = create(&setup.keys, Draft::new("first", &all(), None)).await.unwrap();
    present(&setup.keys, &secret).await.unwrap();
    let Db::Sqlite(pool, _) = other.db() else { unreachable!() };
    // More changes than two pages hold, then the one that matters, then as many again.
    let many = "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) \
                insert into keys (id, name, hash, hint, models, enabled, expires_at, created_at, revoked_at, version) \
                select 'id' || (i + v), '', printf('%064x', i + v), '', '[]', true, null, 0, null, \
                i + v from n, (select version as v from changes where topic = 'keys')";
    let count = "update changes set version = (select max(version) from keys) where topic = 'keys'";
    for batch in 0..2 {
        let made = sqlx::query(many).bind(i64::from(2 * PAGE + 1)).execute(pool).await.unwrap();
        assert_eq!(made.rows_affected(), u64::from(2 * PAGE + 1));
        sqlx::query(count).execute(pool).await.unwrap();
        if batch == 0 {
            revoke(&other, "first").await.unwrap();
        }
    }
    setup.keys.refresh().await.unwrap();
    assert_eq!(present(&setup.keys, &secret).await, Err("revoked_api_key"));
    assert_eq!(setup.keys.shared.seen.markers().await, Some(changes::markers(other.db()).await.unwrap()));
}

#[tokio::test]
async fn a_database_put_back_to_an_earlier_state_is_believed() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let (row, secret) = create(&keys, Draft::new("ci", &all(), None)).await.unwrap();
    update(&keys, "ci", KeyEdit { tags: Some(all()), ..KeyEdit::default() }).await.unwrap();
    present(&keys, &secret).await.unwrap();
    let Db::Sqlite(pool, _) = keys.db() else { unreachable!() };
    sqlx::query("delete from keys where id = $1").bind(&row.id).execute(pool).await.unwrap();
    sqlx::query("update changes set version = 0 where topic = 'keys'").execute(pool).await.unwrap();
    keys.refresh().await.unwrap();
    assert_eq!(present(&keys, &secret).await, Err("invalid_api_key"));
}

#[tokio::test]
async fn without_the_store_known_keys_work_and_others_are_503() {
    let Setup { keys, clock, dir: _dir } = setup().await;
    let soon = keys_now(&clock) + Duration::from_secs(60);
    let (_, known) = create(&keys, Draft::new("known", &all(), Some(soon))).await.unwrap();
    let (_, new) = create(&keys, Draft::new("new", &all(), None)).await.unwrap();
    let mine = Secret::new("0123456789abcdef");
    keys.declare(declared_keys(&[declared("mine", mine.expose())]));
    present(&keys, &known).await.unwrap();
    keys.db().close().await;

    keys.refresh().await.unwrap_err();
    present(&keys, &known).await.unwrap();
    present(&keys, &mine).await.unwrap();
    for _ in 0..10 {
        let error = authenticate(&keys, &headers(new.expose()), HERE).await.unwrap_err();
        assert_eq!((error.code, error.status), ("key_store_unavailable", StatusCode::SERVICE_UNAVAILABLE));
        assert!(error.retryable && error.retry_after.is_some() && error.cause.is_some());
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!(present(&keys, &known).await, Err("expired_api_key"), "time passes all the same");
}

#[tokio::test]
async fn a_store_that_hangs_costs_a_call_its_deadline_and_no_more() {
    let Setup { keys, clock, dir: _dir } = setup().await;
    let (_, secret) = create(&keys, Draft::new("ci", &all(), None)).await.unwrap();
    let Db::Sqlite(pool, _) = keys.db() else { unreachable!() };
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(pool.acquire().await.unwrap());
    }
    let headers = headers(secret.expose());
    let mut call = std::pin::pin!(authenticate(&keys, &headers, HERE));
    assert!(futures_util::poll!(&mut call).is_pending());
    clock.advance(STORE_DEADLINE);
    assert_eq!(call.await.unwrap_err().code, "key_store_unavailable");
    drop(held);
    present(&keys, &secret).await.unwrap();
}

#[tokio::test]
async fn wrong_keys_are_counted_by_address_and_a_right_key_always_passes() {
    let Setup { keys, clock, dir: _dir } = setup().await;
    let (_, known) = create(&keys, Draft::new("known", &all(), None)).await.unwrap();
    let (_, fresh) = create(&keys, Draft::new("fresh", &all(), None)).await.unwrap();
    present(&keys, &known).await.unwrap();
    let wrong = |n: u32| Secret::new(format!("sk-sb-wrong-{n}"));
    for n in 0..5 {
        assert_eq!(present(&keys, &wrong(n)).await, Err("invalid_api_key"));
    }
    let error = authenticate(&keys, &headers(wrong(5).expose()), HERE).await.unwrap_err();
    assert_eq!((error.code, error.status), ("too_many_wrong_keys", StatusCode::TOO_MANY_REQUESTS));
    let wait = error.retry_after.unwrap();
    assert!(wait <= Duration::from_secs(13), "{wait:?}");
    assert_eq!(authenticate(&keys, &headers("x y"), HERE).await.unwrap_err().code, "too_many_wrong_keys");

    present(&keys, &known).await.unwrap();
    present(&keys, &fresh).await.unwrap();
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    let error = authenticate(&keys, &headers(wrong(6).expose()), elsewhere).await.unwrap_err();
    assert_eq!(error.code, "invalid_api_key");
    clock.advance(wait);
    assert_eq!(present(&keys, &wrong(7)).await, Err("invalid_api_key"));
}

#[tokio::test]
async fn only_unknown_keys_count_as_wrong() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let (row, secret) = create(&keys, Draft::new("ci", &all(), None)).await.unwrap();
    revoke(&keys, &row.id).await.unwrap();
    for _ in 0..20 {
        assert_eq!(present(&keys, &secret).await, Err("revoked_api_key"));
        let error = authenticate(&keys, &HeaderMap::new(), HERE).await.unwrap_err();
        assert_eq!(error.code, "missing_api_key");
    }
    assert_eq!(present(&keys, &Secret::new("sk-sb-wrong")).await, Err("invalid_api_key"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_lookup_in_flight_outlives_a_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, other) = (process(dir.path(), &Clock::Real).await, process(dir.path(), &Clock::Real).await);
    keys.refresh().await.unwrap();
    for round in 0..30 {
        let (row, secret) = create(&other, Draft::new(&format!("key {round}"), &all(), None)).await.unwrap();
        let lookups = join_all((0..16).map(|_| present(&keys, &secret)));
        let revocation = async {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            revoke(&other, &row.id).await.unwrap();
            keys.refresh().await.unwrap();
            // From here on the revocation was noticed: no call that begins now may pass.
            present(&keys, &secret).await
        };
        let (during, after) = tokio::join!(lookups, revocation);
        assert!(during.iter().all(|outcome| matches!(outcome, Ok(_) | Err("revoked_api_key"))), "{during:?}");
        assert_eq!(after, Err("revoked_api_key"));
        assert_eq!(present(&keys, &secret).await, Err("revoked_api_key"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_with_one_new_key_asks_the_store_once() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let (_, secret) = create(&keys, Draft::new("ci", &all(), None)).await.unwrap();
    let callers = join_all((0..200).map(|_| present(&keys, &secret))).await;
    let first = callers[0].as_ref().unwrap();
    assert!(callers.iter().all(|caller| Arc::ptr_eq(caller.as_ref().unwrap(), first)));
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let (row, secret) = create(&keys, Draft::new("ci", &all(), None)).await.unwrap();
    let settings = declared("mine", "canary-0123456789");
    let table = declared_keys(std::slice::from_ref(&settings));
    let principal = present(&keys, &secret).await.unwrap();
    let shown = format!("{keys:?} {row:?} {secret:?} {settings:?} {table:?} {principal:?} {:?}", keys.db());
    assert!(!shown.contains("canary") && !shown.contains(secret.expose()), "{shown}");
    assert!(!shown.contains(&row.hash.to_string()), "{shown}");
}

#[tokio::test]
async fn the_database_holds_no_key() {
    let Setup { keys, dir, .. } = setup().await;
    let (_, secret) = create(&keys, Draft::new("ci", &all(), None)).await.unwrap();
    present(&keys, &secret).await.unwrap();
    keys.db().close().await;
    let needle = &secret.expose().as_bytes()[6..];
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    }
}

#[tokio::test]
async fn keys_are_long_plain_and_all_different() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let mut made = std::collections::HashSet::new();
    for n in 0..50 {
        let (row, secret) = create(&keys, Draft::new("many", &all(), None)).await.unwrap();
        let key = secret.expose();
        let random = key.strip_prefix("sk-sb-").unwrap();
        assert_eq!(random.len(), 43);
        assert!(random.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{n}");
        assert!(key.ends_with(&row.hint));
        assert!(made.insert(key.to_owned()));
    }
    let error = revoke(&keys, "many").await.unwrap_err();
    assert!(matches!(&error, ManageError::Ambiguous { ids, .. } if ids.len() == 10), "{error}");
}

#[tokio::test]
async fn every_change_of_keys_is_in_the_audit_log_and_no_secret() {
    let Setup { keys, clock, dir: _dir } = setup().await;
    let (row, secret) = create(&keys, Draft::new("app", &all(), None)).await.unwrap();
    for step in ["update", "revoke"] {
        clock.advance(std::time::Duration::from_millis(5));
        match step {
            "update" => update(&keys, &row.id, KeyEdit { enabled: Some(false), ..KeyEdit::default() }).await.unwrap(),
            _ => revoke(&keys, &row.id).await.unwrap(),
        };
    }
    clock.advance(std::time::Duration::from_millis(5));
    keys.rotate_admin_key(&Actor::COMMAND).await.unwrap();
    let log = audit::list(keys.db(), &AuditFilter::default(), None, 10).await.unwrap();
    let told: Vec<_> = log.iter().map(|entry| (&*entry.action, &*entry.object_id)).collect();
    let id = &*row.id;
    assert_eq!(told, [("admin_key.rotate", "admin"), ("key.revoke", id), ("key.update", id), ("key.create", id)]);
    assert!(log.iter().all(|entry| !entry.detail.contains(secret.expose())));
}
