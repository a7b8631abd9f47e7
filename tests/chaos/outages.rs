//! PostgreSQL is stopped and frozen under load, and keys that have been seen before do not notice.

use std::{
    collections::HashSet,
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use switchboard::types::Tasks;

use crate::{
    postgres::PrivatePostgres,
    replicas::{Replica, provider},
};

/// Connections to the database that the gateway may have.
const CONNECTIONS: usize = 5;

/// How soon it must work again once the database does.
const BACK: Duration = Duration::from_secs(5);

/// How many connections a process has to this port of this machine.
fn connections(pid: u32, port: u16) -> usize {
    let open = |entry: std::io::Result<fs::DirEntry>| fs::read_link(entry.ok()?.path()).ok();
    let sockets: HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(open)
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let remote = format!(":{port:04X}");
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let theirs = lines.filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Where it leads, and which socket it is.
        fields.get(2).is_some_and(|to| to.ends_with(&remote)) && fields.get(9).is_some_and(|at| sockets.contains(*at))
    });
    theirs.count()
}

/// What was seen while the load ran.
#[derive(Default)]
struct Seen {
    calls: AtomicU64,
    most_connections: AtomicU64,
}

async fn load(replica: &Replica, known: &[String], port: u16, seen: &Seen, over: &AtomicBool) {
    let call = |key: &str| {
        let key = key.to_owned();
        async move {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(replica.ask(&key, "m").await, "", "a key that was seen before");
                assert_eq!(replica.ask(&key, "other").await, "model_not_allowed", "its limits hold");
                seen.calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let watch = async {
        while !over.load(Ordering::Relaxed) {
            assert!(replica.is_ready().await, "readiness stays");
            let now = connections(replica.pid(), port) as u64;
            seen.most_connections.fetch_max(now, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Keys that nobody knows make the gateway want the database all the time.
    let strangers = |n: u32| async move {
        while !over.load(Ordering::Relaxed) {
            let code = replica.ask(&format!("sk-sb-stranger-{n}"), "m").await;
            let expected = ["invalid_api_key", "too_many_wrong_keys", "key_store_unavailable"];
            assert!(expected.contains(&code.as_str()), "{code}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(
        futures_util::future::join_all(known.iter().map(|key| call(key))),
        futures_util::future::join_all((0..12).map(strangers)),
        watch,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_seen_before_work_within_their_limits_while_postgres_is_away_and_it_is_found_again() {
    let mut server = PrivatePostgres::start();
    let url = server.create_database("outages");
    let port: u16 = url.rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
    let tasks = Tasks::new();
    let provider = provider(&tasks).await;
    let database = format!("{{ url: \"{url}\", max_connections: {CONNECTIONS} }}");
    let replica = Replica::start(&database, provider).await;
    // The key may use both models, its project one of them.
    replica.manage("POST", "/projects", json!({ "id": "search", "models": ["m"] })).await;
    let mut known = Vec::new();
    for name in ["a", "b", "c"] {
        let made = replica.manage("POST", "/keys", json!({ "name": name, "models": ["*"], "project": "search" })).await;
        known.push(made["key"].as_str().unwrap().to_owned());
        assert_eq!(replica.ask(&known[known.len() - 1], "m").await, "");
    }
    let fresh = replica.manage("POST", "/keys", json!({ "name": "fresh", "models": ["*"] })).await;
    let fresh = fresh["key"].as_str().unwrap();

    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    let trouble = async {
        for round in 0..4 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let is_frozen = round % 2 == 1;
            match is_frozen {
                true => server.pause(),
                false => server.stop(),
            }
            let before = seen.calls.load(Ordering::Relaxed);
            let began = Instant::now();
            for stranger in 0..3 {
                let code = replica.ask(&format!("sk-sb-nobody-{round}-{stranger}"), "m").await;
                assert_eq!(code, "key_store_unavailable", "frozen {is_frozen}: never that the key is wrong");
            }
            if round == 0 {
                assert_eq!(replica.ask(fresh, "m").await, "key_store_unavailable");
            }
            // Long enough for connections to be given up.
            let rest = Duration::from_secs(4).saturating_sub(began.elapsed());
            tokio::time::sleep(rest).await;
            assert!(seen.calls.load(Ordering::Relaxed) > before, "calls went on");
            match is_frozen {
                true => server.resume(),
                false => server.restart(),
            }
            let took = replica.until(fresh, "").await;
            assert!(took <= BACK, "frozen {is_frozen}: back after {took:?}");
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load(&replica, &known, port, &seen, &over), trouble);
    let most = seen.most_connections.load(Ordering::Relaxed);
    assert!((1..=CONNECTIONS as u64).contains(&most), "{most} connections were open");
    drop(replica);
    tasks.stopping().cancel();
}
