//! What a key may do within its project, and both as they change.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    auth::{settings::ProjectSettings, watch::WATCH_INTERVAL},
    store::ProjectEdit,
};

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

fn project(id: &str, models: &[&str]) -> ProjectDraft {
    ProjectDraft {
        id: id.to_owned(),
        name: None,
        tags: Vec::new(),
        models: texts(models),
        endpoints: all(),
        addresses: all(),
        log_content: None,
        quotas: Vec::new(),
    }
}

async fn edit_project(keys: &Keys, id: &str, edit: ProjectEdit) {
    keys.update_project(id, edit, Vec::new(), None, &Actor::COMMAND).await.unwrap();
}

async fn ask(keys: &Keys, key: &Secret, address: &str, endpoint: Endpoint) -> &'static str {
    let asked = keys.authenticate(&headers(key.expose()), address.parse().unwrap(), endpoint).await;
    asked.map_or_else(|error| error.code, |_| "")
}

#[tokio::test]
async fn a_key_may_do_what_it_and_its_project_allow() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    let within = ProjectDraft {
        endpoints: texts(&["chat", "models"]),
        addresses: texts(&["10.0.0.0/8", "2001:db8::/32"]),
        ..project("search", &["openai/*", "gpt"])
    };
    keys.create_project(within, &Actor::COMMAND).await.unwrap();
    let draft = Draft {
        project: "search".to_owned(),
        endpoints: texts(&["chat", "embeddings"]),
        addresses: texts(&["10.1.0.0/16", "192.0.2.1"]),
        max_tokens: Some(100),
        ..Draft::new("ci", &texts(&["gpt", "openai/gpt-5", "claude"]), None)
    };
    let (_, key) = create(&keys, draft).await.unwrap();
    let cases = [
        ("10.1.2.3", Endpoint::Chat, ""),
        ("::ffff:10.1.2.3", Endpoint::Chat, ""),
        ("10.1.2.3", Endpoint::Models, "endpoint_not_allowed"),
        ("10.1.2.3", Endpoint::Embeddings, "endpoint_not_allowed"),
        ("10.2.0.1", Endpoint::Chat, "address_not_allowed"),
        ("192.0.2.1", Endpoint::Chat, "address_not_allowed"),
        ("2001:db8::1", Endpoint::Chat, "address_not_allowed"),
    ];
    for (address, endpoint, code) in cases {
        assert_eq!(ask(&keys, &key, address, endpoint).await, code, "{address} {endpoint:?}");
    }
    let principal =
        keys.authenticate(&headers(key.expose()), "10.1.2.3".parse().unwrap(), Endpoint::Chat).await.unwrap();
    for (name, allowed) in [("gpt", true), ("openai/gpt-5", true), ("claude", false), ("openai/o3", false)] {
        assert_eq!(principal.may_use(&[name]), allowed, "{name}");
    }
    // By an alias that the key lists, of a model that the project lists.
    assert!(principal.may_use(&["claude", "openai/o3"]));
    assert_eq!((principal.max_tokens, &*principal.project), (Some(100), "search"));
}

#[tokio::test]
async fn a_project_that_changes_changes_its_keys_everywhere_within_a_second() {
    let setup = setup().await;
    let tasks = Tasks::new();
    let other = process(setup.dir.path(), &setup.clock).await;
    setup.keys.create_project(project("search", &["a"]), &Actor::COMMAND).await.unwrap();
    let draft = Draft { project: "search".to_owned(), ..Draft::new("ci", &all(), None) };
    let (_, key) = create(&setup.keys, draft).await.unwrap();
    setup.keys.refresh().await.unwrap();
    tasks.spawn(setup.keys.clone().watch(tasks.stopping()));
    let before = present(&setup.keys, &key).await.unwrap();
    assert!(before.may_use(&["a"]) && !before.may_use(&["b"]));

    edit_project(&other, "search", ProjectEdit { models: Some(texts(&["b"])), ..ProjectEdit::default() }).await;
    one_second(&setup).await;
    let after = present(&setup.keys, &key).await.unwrap();
    assert!(after.may_use(&["b"]) && !after.may_use(&["a"]));
    assert!(before.may_use(&["a"]), "a call in flight keeps what it began with");

    other.archive_project("search", true, None, &Actor::COMMAND).await.unwrap();
    one_second(&setup).await;
    assert_eq!(present(&setup.keys, &key).await, Err("project_archived"));
    other.archive_project("search", false, None, &Actor::COMMAND).await.unwrap();
    one_second(&setup).await;
    present(&setup.keys, &key).await.unwrap();

    edit_project(&other, "search", ProjectEdit { endpoints: Some(Vec::new()), ..ProjectEdit::default() }).await;
    one_second(&setup).await;
    assert_eq!(present(&setup.keys, &key).await, Err("endpoint_not_allowed"));
    assert!(tasks.shut_down(&Clock::Real, Duration::from_secs(5)).await);
    assert!(WATCH_INTERVAL <= Duration::from_millis(500), "two looks in a second");
}

#[tokio::test]
async fn a_key_of_a_project_that_nobody_knows_may_do_nothing_until_there_is_one() {
    let setup = setup().await;
    let keys = &setup.keys;
    keys.refresh().await.unwrap();
    let mine = Secret::new("0123456789abcdef");
    let settings = KeySettings { project: "lost".to_owned(), ..declared("mine", mine.expose()) };
    keys.declare(declared_keys(&[settings]));
    for _ in 0..2 {
        assert_eq!(present(keys, &mine).await, Err("project_unknown"));
    }
    let other = process(setup.dir.path(), &setup.clock).await;
    other.create_project(project("lost", &["*"]), &Actor::COMMAND).await.unwrap();
    keys.refresh().await.unwrap();
    present(keys, &mine).await.unwrap();
    // A stored key whose row somebody edited by hand.
    let (row, key) = create(keys, Draft::new("ci", &all(), None)).await.unwrap();
    let Db::Sqlite(pool, _) = keys.db() else { unreachable!() };
    sqlx::query("update keys set project_id = 'nowhere' where id = $1").bind(&row.id).execute(pool).await.unwrap();
    assert_eq!(present(keys, &key).await, Err("project_unknown"));
}

#[tokio::test]
async fn what_the_file_declares_of_projects_wins_and_cannot_be_changed_elsewhere() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    keys.create_project(project("search", &["stored"]), &Actor::COMMAND).await.unwrap();
    let draft = Draft { project: "search".to_owned(), ..Draft::new("ci", &all(), None) };
    let (_, key) = create(&keys, draft).await.unwrap();
    assert!(present(&keys, &key).await.unwrap().may_use(&["stored"]));

    let settings = ProjectSettings {
        name: None,
        tags: Vec::new(),
        models: texts(&["declared"]),
        endpoints: all(),
        addresses: all(),
        log_content: None,
        archived: false,
    };
    let archived = ProjectSettings { archived: true, ..settings.clone() };
    let projects = BTreeMap::from([("search".to_owned(), settings), ("old".to_owned(), archived)]);
    keys.declare(Declared::new(&[], &projects).unwrap());
    let principal = present(&keys, &key).await.unwrap();
    assert!(principal.may_use(&["declared"]) && !principal.may_use(&["stored"]));
    let rename = ProjectEdit { name: Some("x".to_owned()), ..ProjectEdit::default() };
    let error = keys.update_project("search", rename, Vec::new(), None, &Actor::COMMAND).await.unwrap_err();
    assert!(matches!(error, ManageError::Declared(_)), "{error}");
    let error = keys.create_project(project("old", &[]), &Actor::COMMAND).await.unwrap_err();
    assert!(matches!(error, ManageError::Declared(_)), "{error}");
    let into_old = Draft { project: "old".to_owned(), ..Draft::new("x", &all(), None) };
    assert!(create(&keys, into_old).await.unwrap_err().to_string().contains("archived"));
    let listed = keys.list_projects(None, 10).await.unwrap().data;
    let told: Vec<_> = listed.iter().map(|view| (view.id.as_str(), view.declared, view.models.join(","))).collect();
    assert_eq!(
        told,
        [("default", false, "*".into()), ("old", true, "declared".into()), ("search", true, "declared".into())]
    );

    keys.declare(Declared::default());
    assert!(present(&keys, &key).await.unwrap().may_use(&["stored"]));
}

#[tokio::test]
async fn pages_of_keys_and_projects_hold_everything_once_whoever_says_it() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    for name in ["a", "b", "c"] {
        create(&keys, Draft::new(name, &all(), None)).await.unwrap();
        keys.create_project(project(&format!("{name}-project"), &[]), &Actor::COMMAND).await.unwrap();
    }
    let one = declared("x", "0123456789abcdef-1");
    let two = KeySettings { enabled: false, ..declared("a", "0123456789abcdef-2") };
    let settings = ProjectSettings {
        name: None,
        tags: Vec::new(),
        models: Vec::new(),
        endpoints: all(),
        addresses: all(),
        log_content: None,
        archived: false,
    };
    let projects = ["b-project", "a", "z"].map(|id| (id.to_owned(), settings.clone()));
    keys.declare(Declared::new(&[one, two], &BTreeMap::from(projects)).unwrap());
    for limit in 1..=6 {
        let (mut names, mut ids) = (Vec::new(), Vec::new());
        let mut cursor = None;
        loop {
            let page = keys.list_keys(&Default::default(), cursor.as_deref(), limit).await.unwrap();
            assert!(page.data.len() <= limit as usize);
            names.extend(page.data.into_iter().map(|view| view.name));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        // Made in one millisecond, the stored ones stand in the order of chance.
        names[..3].sort();
        assert_eq!(names, ["a", "b", "c", "a", "x"], "{limit}");
        loop {
            let page = keys.list_projects(cursor.as_deref(), limit).await.unwrap();
            assert!(page.data.len() <= limit as usize);
            ids.extend(page.data.into_iter().map(|view| view.id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(ids, ["a", "a-project", "b-project", "c-project", "default", "z"], "{limit}");
    }
    let now = Timestamp::try_from(Clock::Real.wall()).unwrap();
    let disabled =
        crate::store::KeyFilter { state: Some((crate::store::KeyState::Disabled, now)), ..Default::default() };
    assert_eq!(keys.list_keys(&disabled, None, 9).await.unwrap().data[0].id, "declared:a");
    assert!(matches!(keys.key("declared:nobody").await, Err(ManageError::NoKey(_))));
    assert_eq!(keys.key("declared:x").await.unwrap().state, "active");
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while_and_one_identity() {
    let setup = setup().await;
    let Setup { keys, clock, .. } = &setup;
    let other = process(setup.dir.path(), clock).await;
    let (row, first) = create(keys, Draft::new("ci", &all(), None)).await.unwrap();
    let rotate = async |overlap: u64| {
        let overlap = Duration::from_secs(overlap);
        keys.rotate(&row.id, overlap, None, &Actor::COMMAND).await.unwrap().1
    };
    let everywhere = async |key: &Secret| {
        other.refresh().await.unwrap();
        let (here, there) = (present(keys, key).await, present(&other, key).await);
        assert_eq!(here, there);
        here.map(|principal| (principal.id.to_string(), principal.name.to_string()))
    };
    let it = || Ok((row.id.clone(), "ci".to_owned()));
    assert_eq!(everywhere(&first).await, it());

    let second = rotate(60).await;
    assert_eq!((everywhere(&first).await, everywhere(&second).await), (it(), it()));
    clock.advance(Duration::from_secs(59));
    assert_eq!(everywhere(&first).await, it());
    clock.advance(Duration::from_secs(1));
    assert_eq!((everywhere(&first).await, everywhere(&second).await), (Err("rotated_api_key"), it()));

    // A second rotation during the overlap ends the older, and one with no overlap ends the present one at once.
    let third = rotate(60).await;
    let fourth = rotate(60).await;
    assert_eq!(everywhere(&second).await, Err("invalid_api_key"));
    assert_eq!((everywhere(&third).await, everywhere(&fourth).await), (it(), it()));
    let fifth = rotate(0).await;
    assert_eq!((everywhere(&third).await, everywhere(&fourth).await), (Err("invalid_api_key"), Err("rotated_api_key")));
    assert_eq!(everywhere(&fifth).await, it());

    // What befalls the key befalls both secrets.
    let sixth = rotate(3_600).await;
    let off = KeyEdit { enabled: Some(false), ..KeyEdit::default() };
    update(keys, "ci", off).await.unwrap();
    for key in [&fifth, &sixth] {
        assert_eq!(everywhere(key).await, Err("disabled_api_key"));
    }
    revoke(keys, sixth.expose()).await.unwrap();
    for key in [&fifth, &sixth] {
        assert_eq!(everywhere(key).await, Err("revoked_api_key"));
    }
    let error = keys.rotate(&row.id, Duration::ZERO, None, &Actor::COMMAND).await.unwrap_err();
    assert!(matches!(error, ManageError::Revoked(_)), "{error}");
    let error = keys.rotate("declared:x", Duration::ZERO, None, &Actor::COMMAND).await.unwrap_err();
    assert!(matches!(error, ManageError::Declared(_)), "{error}");
}

#[tokio::test]
async fn without_the_store_the_rights_of_known_projects_hold() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    keys.refresh().await.unwrap();
    keys.create_project(project("search", &["a"]), &Actor::COMMAND).await.unwrap();
    let (_, known) =
        create(&keys, Draft { project: "search".to_owned(), ..Draft::new("ci", &all(), None) }).await.unwrap();
    present(&keys, &known).await.unwrap();
    let mine = Secret::new("0123456789abcdef");
    keys.declare(declared_keys(&[KeySettings { project: "search".to_owned(), ..declared("mine", mine.expose()) }]));
    keys.refresh().await.unwrap();
    keys.db().close().await;
    for key in [&known, &mine] {
        let principal = present(&keys, key).await.unwrap();
        assert!(principal.may_use(&["a"]) && !principal.may_use(&["b"]));
    }
}

#[tokio::test]
async fn a_store_that_never_answered_takes_nothing_from_declared_keys() {
    let Setup { keys, dir: _dir, .. } = setup().await;
    keys.db().close().await;
    let mine = Secret::new("0123456789abcdef");
    keys.declare(declared_keys(&[KeySettings { models: texts(&["a"]), ..declared("mine", mine.expose()) }]));
    let principal = present(&keys, &mine).await.unwrap();
    assert!(principal.may_use(&["a"]) && !principal.may_use(&["b"]));
}

fn pattern() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{1,2}", "[ab]{0,1}\\*[ab]{0,1}"]
}

fn rights() -> impl Strategy<Value = Rights> {
    let words = ["chat", "models", "embeddings", "*"].map(str::to_owned).to_vec();
    let ranges = ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32", "*"].map(str::to_owned).to_vec();
    let lists = (
        prop::collection::vec(pattern(), 0..4),
        prop::collection::vec(prop::sample::select(words), 0..3),
        prop::collection::vec(prop::sample::select(ranges), 0..3),
    );
    lists.prop_map(|(models, endpoints, addresses)| Rights::new(&models, &endpoints, &addresses).unwrap())
}

fn within(own: &Rights, project: &Rights) -> Principal {
    Principal {
        id: "k".into(),
        name: "k".into(),
        project: "p".into(),
        tags: [].into(),
        max_tokens: None,
        key_logs_content: None,
        expires: None,
        own: Arc::new(own.clone()),
        within: Arc::new(Project { id: "p".into(), rights: project.clone(), log_content: None, is_archived: false }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A child's rights are the intersection with its parent's: never more than either has, never less than both have.
    #[test]
    fn rights_within_a_project_are_the_intersection(
        own in rights(),
        project in rights(),
        names in prop::collection::vec("[ab]{1,3}", 1..4),
        address in prop::sample::select(vec!["10.1.2.3", "10.2.0.1", "192.0.2.1", "2001:db8::1", "::ffff:10.1.2.3", "::1"]),
        endpoint in prop::sample::select(Endpoint::ALL.to_vec()),
    ) {
        let address: IpAddr = address.parse().unwrap();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (both, alone, parent) =
            (within(&own, &project), within(&own, &Rights::all()), within(&Rights::all(), &project));
        prop_assert_eq!(both.may_use(&names), alone.may_use(&names) && parent.may_use(&names));
        let may = |principal: &Principal| principal.check(address, endpoint).is_ok();
        prop_assert_eq!(may(&both), may(&alone) && may(&parent));
        prop_assert!(!within(&own, &Rights::default()).may_use(&names) && !within(&Rights::default(), &own).may_use(&names));
        prop_assert!(!may(&within(&own, &Rights::default())) && !may(&within(&Rights::default(), &own)));
    }
}

#[test]
fn what_is_said_is_logged_as_the_key_says_unless_its_project_forbids_it() {
    let (no, yes) = (Some(false), Some(true));
    let cases = [
        (None, None, None),
        (yes, None, yes),
        (no, None, no),
        (None, yes, yes),
        (None, no, no),
        (yes, yes, yes),
        (no, yes, no),
        (yes, no, no),
        (no, no, no),
    ];
    for (of_key, of_project, expected) in cases {
        let principal = within(&Rights::all(), &Rights::all());
        let project = Project { id: "p".into(), rights: Rights::all(), log_content: of_project, is_archived: false };
        let principal = Principal { key_logs_content: of_key, within: Arc::new(project), ..principal };
        assert_eq!(principal.log_content(), expected, "key {of_key:?}, project {of_project:?}");
    }
}
