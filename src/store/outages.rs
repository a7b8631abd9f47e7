//! PostgreSQL servers that are new, gone, frozen or back again. Each test that harms a server has one of its own.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::{
    DatabaseSettings, Db, StoreError, keys, projects,
    settings::MigrateMode,
    testing::{PrivatePostgres, postgres, postgres_settings},
};
use crate::types::{Clock, Secret, Tasks};

const NOWHERE: &str = "unused";

async fn open(settings: &DatabaseSettings) -> Result<Db, StoreError> {
    Db::open(Path::new(NOWHERE), Some(settings)).await
}

fn pool(db: &Db) -> &sqlx::PgPool {
    match db {
        Db::Postgres(pool) => pool,
        Db::Sqlite(..) => unreachable!(),
    }
}

/// How long `work` takes.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let clock = Clock::Real;
    let began: Instant = clock.now();
    let output = work.await;
    (output, clock.now() - began)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_start_at_once_on_a_fresh_database_all_open_it() {
    for _ in 0..3 {
        let settings = postgres_settings();
        let opened = join_all((0..8).map(|_| open(&settings))).await;
        for db in opened {
            let db = db.unwrap();
            assert_eq!(keys::count(&db).await.unwrap(), 0);
            db.close().await;
        }
        let applied = join_all((0..8).map(|_| Db::migrate(Path::new(NOWHERE), Some(&settings)))).await;
        assert!(applied.into_iter().all(|steps| steps.unwrap().is_empty()));
    }
}

#[tokio::test]
async fn one_of_those_who_migrate_at_once_says_it_did() {
    let settings = postgres_settings();
    let missing = Db::pending(Path::new(NOWHERE), Some(&settings)).await.unwrap();
    assert_eq!(missing[0].to_string(), "0001 keys");
    let applied = join_all((0..6).map(|_| Db::migrate(Path::new(NOWHERE), Some(&settings)))).await;
    let worked: Vec<_> = applied.into_iter().map(Result::unwrap).filter(|steps| !steps.is_empty()).collect();
    assert_eq!(worked, [missing]);
}

#[tokio::test]
async fn a_newer_schema_is_used_as_long_as_it_only_adds() {
    let settings = postgres_settings();
    let db = open(&settings).await.unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (9999, 'later', true, '\\x00', 0)";
    sqlx::query(newer).execute(pool(&db)).await.unwrap();
    open(&settings).await.unwrap().close().await;

    sqlx::query("update schema_floor set version = 9999").execute(pool(&db)).await.unwrap();
    let error = open(&settings).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { needed: 9999, .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
    db.close().await;
}

#[tokio::test]
async fn an_operator_who_migrates_by_hand_is_told_what_to_type() {
    let settings = DatabaseSettings { migrate: MigrateMode::Manual, ..postgres_settings() };
    let error = open(&settings).await.unwrap_err().to_string();
    assert!(error.contains("switchboard migrate") && error.contains("0001 keys"), "{error}");
    assert!(!Db::migrate(Path::new(NOWHERE), Some(&settings)).await.unwrap().is_empty());
    open(&settings).await.unwrap().close().await;
}

#[tokio::test]
async fn a_server_that_refuses_is_an_error_at_once_and_shows_no_password() {
    let settings = postgres_settings();
    let url = settings.url.expose().replace("switchboard@", "nobody:canary-password@");
    let error = Db::open_or_wait(Path::new(NOWHERE), Some(&DatabaseSettings::at(Secret::new(url)))).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("nobody") && !format!("{error} {error:?}").contains("canary"), "{error:?}");

    let url = settings.url.expose().to_owned() + "_missing";
    let error = open(&DatabaseSettings::at(Secret::new(url))).await.unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_never_exceed_the_bound() {
    let settings = DatabaseSettings { max_connections: 5, ..postgres_settings() };
    let db = open(&settings).await.unwrap();
    let watcher = postgres().await;
    let name = settings.url.expose().rsplit('/').next().unwrap();
    let asked = join_all((0..200).map(|_| projects::list(&db, None, 10)));
    let count = async {
        let mut most = 0_i64;
        for _ in 0..40 {
            let open = "select count(*) from pg_stat_activity where datname = $1";
            most = most.max(sqlx::query_scalar(open).bind(name).fetch_one(pool(&watcher)).await.unwrap());
        }
        most
    };
    let (asked, most) = tokio::join!(asked, count);
    assert!(asked.into_iter().all(|rows| rows.unwrap().len() == 1));
    assert!((1..=5).contains(&most), "{most} connections were open");
}

#[tokio::test]
async fn the_server_gives_up_on_a_statement_that_takes_too_long() {
    let settings =
        DatabaseSettings { statement_timeout: crate::types::Period::from_millis(200), ..postgres_settings() };
    let db = open(&settings).await.unwrap();
    let (outcome, took) = timed(sqlx::query("select pg_sleep(30)").execute(pool(&db))).await;
    assert!(outcome.unwrap_err().to_string().contains("statement timeout"));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_or_frozen_server_fails_in_time_and_works_again_within_five_seconds() {
    let mut server = PrivatePostgres::start();
    let db = open(&DatabaseSettings::at(Secret::new(server.url("postgres")))).await.unwrap();
    let all_connections = || join_all((0..10).map(|_| keys::count(&db)));
    assert!(all_connections().await.into_iter().all(|count| count.unwrap() == 0));

    for frozen in [false, true] {
        if frozen {
            server.pause();
        } else {
            server.stop();
        }
        // More than there are connections, so that each of them is found dead by somebody.
        let (outcomes, took) = timed(join_all((0..30).map(|_| keys::count(&db)))).await;
        assert!(outcomes.iter().all(Result::is_err), "frozen: {frozen}: {outcomes:?}");
        assert!(took < Duration::from_secs(11), "frozen: {frozen}: {took:?}");
        if frozen {
            server.resume();
        } else {
            server.restart();
        }
        let (worked, took) = timed(async {
            while keys::count(&db).await.is_err() {
                tokio::task::yield_now().await;
            }
            all_connections().await
        })
        .await;
        assert!(took < Duration::from_secs(5), "frozen: {frozen}: back after {took:?}");
        assert!(worked.iter().all(Result::is_ok), "frozen: {frozen}: {worked:?}");
    }
}

/// Forwards connections to `server` until it is told to swallow: those that are open then stay open and silent, as when
/// the other machine is gone without a word. New ones are forwarded.
async fn swallowing_proxy(server: u16, swallow: CancellationToken, tasks: Tasks) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.clone().spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let swallow = match swallow.is_cancelled() {
                true => CancellationToken::new(),
                false => swallow.clone(),
            };
            tasks.spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    () = swallow.cancelled() => std::future::pending().await,
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_went_silent_are_found_out_before_a_query_is_sent() {
    let settings = postgres_settings();
    let url = settings.url.expose();
    let port: u16 = url.rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
    let (swallow, tasks) = (CancellationToken::new(), Tasks::new());
    let proxy = swallowing_proxy(port, swallow.clone(), tasks).await;
    let url = url.replace(&format!(":{port}/"), &format!(":{proxy}/"));
    let db = open(&DatabaseSettings::at(Secret::new(url))).await.unwrap();
    let all_connections = || join_all((0..10).map(|_| keys::count(&db)));
    assert!(all_connections().await.iter().all(Result::is_ok));
    swallow.cancel();
    // A connection is asked only when it has not been used for a moment.
    Clock::Real.sleep(Duration::from_millis(1_100)).await;
    let (worked, took) = timed(all_connections()).await;
    assert!(worked.iter().all(Result::is_ok), "{worked:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_after_the_gateway_is_migrated_and_used() {
    let mut server = PrivatePostgres::start();
    server.stop();
    let url = server.url("postgres").replace('@', ":canary-password@");
    let settings = DatabaseSettings::at(Secret::new(url));
    assert!(matches!(open(&settings).await.unwrap_err(), StoreError::Unreachable { .. }));
    let (opened, took) = timed(Db::open_or_wait(Path::new(NOWHERE), Some(&settings))).await;
    let (db, waiting) = opened.unwrap();
    assert!(!format!("{db:?} {waiting:?}").contains("canary"));
    assert!(took < Duration::from_secs(6), "{took:?}");
    let tasks = Tasks::new();
    tasks.spawn(waiting.unwrap().run(Clock::Real, tasks.stopping()));
    server.restart();
    let (count, took) = timed(async {
        loop {
            if let Ok(count) = keys::count(&db).await {
                return count;
            }
            Clock::Real.sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(count, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(tasks.shut_down(&Clock::Real, Duration::from_secs(5)).await);
}

#[tokio::test]
async fn the_url_says_how_far_the_server_is_trusted() {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = PrivatePostgres::start_with("ssl = on\n", &[("server.crt", &cert), ("server.key", &key)]);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, cert).unwrap();

    let url = server.url("postgres");
    let trusting = format!("sslmode=verify-full&sslrootcert={}", ca.display());
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let cases = [
        (format!("{url}?sslmode=disable"), Some(false)),
        (format!("{url}?sslmode=prefer"), Some(true)),
        (format!("{url}?sslmode=require"), Some(true)),
        (format!("{url}?{trusting}"), Some(true)),
        (format!("{url}?sslmode=verify-full"), None),
        (format!("{elsewhere}?{trusting}"), None),
        (format!("{url}?sslmode=verify-full&sslrootcert={}", folder.path().join("no.pem").display()), None),
    ];
    for (url, encrypted) in cases {
        let opened = open(&DatabaseSettings::at(Secret::new(url.as_str()))).await;
        match encrypted {
            Some(encrypted) => {
                let asked = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
                let ssl: bool = sqlx::query_scalar(asked).fetch_one(pool(&opened.unwrap())).await.unwrap();
                assert_eq!(ssl, encrypted, "{url}");
            }
            None => assert!(matches!(&opened, Err(StoreError::Refused { .. })), "{url}: {opened:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_with_the_tables_of_a_newer_version_is_not_used() {
    let mut server = PrivatePostgres::start();
    let settings = DatabaseSettings::at(Secret::new(server.url("postgres")));
    let db = open(&settings).await.unwrap();
    sqlx::query("update schema_floor set version = 9999").execute(pool(&db)).await.unwrap();
    server.stop();
    let (db, waiting) = Box::pin(Db::open_or_wait(Path::new(NOWHERE), Some(&settings))).await.unwrap();
    server.restart();
    let tasks = Tasks::new();
    waiting.unwrap().run(Clock::Real, tasks.stopping()).await;
    let error = keys::count(&db).await.unwrap_err();
    assert!(matches!(error, StoreError::Query(sqlx::Error::PoolClosed)), "{error:?}");
}
