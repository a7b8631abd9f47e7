//! Several gateways on one PostgreSQL, each in a process of its own: what is changed over the admin API of one holds on
//! the others within a second, and streams that are under way go on.

use std::{
    fs,
    net::TcpListener as StdListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use switchboard::{
    mock::{Behaviour, Mock},
    types::{Clock, Period, Tasks},
};
use tokio::net::TcpListener;

use crate::postgres::PrivatePostgres;

const ADMIN: &str = "sk-replicas-admin-0123456789";

/// How long a change may take to hold elsewhere.
const PROMISED: Duration = Duration::from_secs(1);

/// A gateway in a process of its own.
pub struct Replica {
    url: String,
    child: Child,
    client: reqwest::Client,
    dir: Arc<tempfile::TempDir>,
}

impl Replica {
    /// `database` is what stands in the configuration: a URL, or a mapping.
    pub async fn start(database: &str, provider: std::net::SocketAddr) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), provider, &format!("database: {database}\n")).await
    }

    /// With `more` in its configuration, and what it keeps in a folder that a gateway may have used before.
    pub async fn start_in(dir: Arc<tempfile::TempDir>, provider: std::net::SocketAddr, more: &str) -> Self {
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("switchboard.yaml");
        let text = format!(
            "listen: 127.0.0.1:{port}\n\
             data_dir: {data}\n\
             log: {{ level: warn, calls: false }}\n\
             admin: {{ key: {ADMIN} }}\n\
             providers: {{ a: {{ kind: openai_compatible, base_url: \"http://{provider}/v1\", api_key: a-key }} }}\n\
             models: {{ m: {{ targets: [a/up] }}, other: {{ targets: [a/up] }} }}\n\
             {more}",
            data = dir.path().join("data").display(),
        );
        fs::write(&config, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .args(["serve", "--config"])
            .arg(&config)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let replica = Self { url: format!("http://127.0.0.1:{port}"), child, client, dir };
        for _ in 0..3_000 {
            let ready = replica.client.get(format!("{}/readyz", replica.url)).send().await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return replica;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the gateway does not start");
    }

    /// A change over the admin API, which must be made.
    pub async fn manage(&self, method: &str, path: &str, body: Value) -> Value {
        let request = self.client.request(method.parse().unwrap(), format!("{}/admin/v1{path}", self.url));
        let answer = request.bearer_auth(ADMIN).body(body.to_string()).send().await.unwrap();
        let (status, answer) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// Waits until Redis counts for it.
    pub async fn counts_in_redis(self) -> Self {
        for _ in 0..3_000 {
            let metrics = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
            if metrics.contains("\nswitchboard_redis_up 1\n") {
                return self;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("Redis does not count");
    }

    /// Where it keeps what it keeps.
    pub fn folder(&self) -> Arc<tempfile::TempDir> {
        self.dir.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn is_ready(&self) -> bool {
        self.client.get(format!("{}/readyz", self.url)).send().await.unwrap().status().is_success()
    }

    pub fn request(&self, key: &str, model: &str, is_stream: bool) -> reqwest::RequestBuilder {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "Hello" }], "stream": is_stream });
        self.client.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(key).body(body.to_string())
    }

    /// The code of a call's error; empty when it is answered.
    pub async fn ask(&self, key: &str, model: &str) -> String {
        let answer = self.request(key, model, false).send().await.unwrap().json::<Value>().await.unwrap();
        answer["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// How long it takes until a call is answered so.
    pub async fn until(&self, key: &str, code: &str) -> Duration {
        let began = Instant::now();
        while self.ask(key, "m").await != code {
            assert!(began.elapsed() < Duration::from_secs(20), "`{code}` does not come");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers at once; streams take a few seconds.
pub async fn provider(tasks: &Tasks) -> std::net::SocketAddr {
    let behaviour = Behaviour { chunks: Some(40), chunk_delay: Some(Period::from_millis(100)), ..Behaviour::default() };
    provider_of(behaviour, tasks).await
}

pub async fn provider_of(behaviour: Behaviour, tasks: &Tasks) -> std::net::SocketAddr {
    let mock = Mock::new(behaviour, Clock::Real);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let all = tasks.clone();
    tasks.spawn(async move { mock.serve(listener, all.stopping(), &all).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_changes_holds_on_all_within_a_second_and_streams_go_on() {
    let server = PrivatePostgres::start();
    let database = format!("\"{}\"", server.create_database("replicas"));
    let tasks = Tasks::new();
    let provider = provider(&tasks).await;
    let one = Replica::start(&database, provider).await;
    let others = [Replica::start(&database, provider).await, Replica::start(&database, provider).await];
    one.manage("POST", "/projects", json!({ "id": "search", "models": ["*"] })).await;

    let mut keys = Vec::new();
    for name in ["edited", "revoked", "rotated", "disabled", "archived", "narrowed"] {
        let project = if ["archived", "narrowed"].contains(&name) { "search" } else { "default" };
        let made = one.manage("POST", "/keys", json!({ "name": name, "models": ["m"], "project": project })).await;
        keys.push((made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned()));
    }
    // Every key is known everywhere, and has a stream under way at the second replica.
    let mut streams = Vec::new();
    for (_, key) in &keys {
        for replica in [&one].into_iter().chain(&others) {
            assert_eq!(replica.ask(key, "m").await, "");
        }
        let mut stream = others[0].request(key, "m", true).send().await.unwrap();
        assert!(stream.status().is_success());
        let first = stream.chunk().await.unwrap().expect("a first piece");
        streams.push((stream, first.to_vec()));
    }

    let path = |index: usize| format!("/keys/{}", keys[index].0);
    let mut took = Vec::new();
    let changes = [
        ("PATCH", path(0), json!({ "models": ["other"] }), 0, "model_not_allowed"),
        ("DELETE", path(1), json!({}), 1, "revoked_api_key"),
        ("POST", path(2) + "/rotate", json!({ "overlap": "0s" }), 2, "rotated_api_key"),
        ("PATCH", path(3), json!({ "enabled": false }), 3, "disabled_api_key"),
        ("PATCH", "/projects/search".to_owned(), json!({ "endpoints": ["models"] }), 5, "endpoint_not_allowed"),
        ("POST", "/projects/search/archive".to_owned(), json!({}), 4, "project_archived"),
    ];
    for (method, path, body, key, code) in changes {
        let answer = one.manage(method, &path, body).await;
        let key = &keys[key].1;
        assert_eq!(one.ask(key, "m").await, code, "here it holds at once");
        for replica in &others {
            took.push(replica.until(key, code).await);
        }
        if let Some(new) = answer["key"].as_str() {
            for replica in &others {
                assert_eq!(replica.ask(new, "m").await, "", "the new secret works at once");
            }
        }
    }
    // A machine that is busy with other tests may be late once, but not usually.
    took.sort();
    assert!(took[took.len() / 2] <= PROMISED && took[took.len() - 1] <= PROMISED * 4, "{took:?}");

    for (mut stream, mut text) in streams {
        while let Some(piece) = stream.chunk().await.expect("a stream that is not cut") {
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("\"error\""), "{text}");
    }
    drop((one, others));
    tasks.stopping().cancel();
}
