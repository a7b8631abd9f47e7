//! The stage: two providers in this process, the gateway in its own, and where its ledger is.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener as StdListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, atomic::AtomicU64},
    time::Duration,
};

use serde_json::Value;
use switchboard::{
    mock::{Behaviour, Mock},
    types::{Clock, Tasks},
};
use tokio::net::TcpListener;

pub const KEY: &str = "sk-chaos-0123456789";

/// How much room the journal has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    Roomy,
    /// A disk that takes 128 KiB and no more, and as little memory for rows as can be set.
    Full,
}

pub struct Lab {
    pub mocks: [Mock; 2],
    pub client: reqwest::Client,
    pub address: SocketAddr,
    /// Calls made so far; each has a number of its own.
    pub calls: AtomicU64,
    /// How many requests of each call the providers have seen.
    pub served: Mutex<HashMap<String, u64>>,
    pub dir: tempfile::TempDir,
    pub database: Option<String>,
    /// Calls that were refused because their rows could not be kept.
    pub refused: AtomicU64,
    journal: Journal,
    config: PathBuf,
    gateway: Mutex<Option<Child>>,
    tasks: Tasks,
}

impl Lab {
    pub async fn new(database: Option<String>, journal: Journal) -> Self {
        let tasks = Tasks::new();
        let (a, at_a) = provider(&tasks).await;
        let (b, at_b) = provider(&tasks).await;
        let dir = tempfile::tempdir().unwrap();
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = dir.path().join("switchboard.yaml");
        let mut text = format!(
            "listen: 127.0.0.1:{port}\n\
             data_dir: {data}\n\
             log: {{ level: warn, calls: false }}\n\
             timeout: {{ connect: 1s, first_output: 150ms, between_chunks: 150ms, total: 1s }}\n\
             health: {{ consecutive_failures: 1000, failure_ratio: 1, min_calls: 100000 }}\n\
             providers:\n\
             \x20 a: {{ kind: openai_compatible, base_url: \"http://{at_a}/v1\", api_key: a-key }}\n\
             \x20 b: {{ kind: openai_compatible, base_url: \"http://{at_b}/v1\", api_key: b-key }}\n\
             models:\n\
             \x20 m: {{ strategy: ordered, targets: [a/up, b/up] }}\n\
             keys:\n\
             \x20 - {{ name: chaos, value: {KEY}, models: [\"*\"] }}\n\
             prices:\n\
             \x20 models:\n\
             \x20   a/up: {{ input: 2, output: 10 }}\n\
             \x20   b/up: {{ input: 4, output: 20 }}\n",
            data = dir.path().join("data").display(),
        );
        if journal == Journal::Full {
            text.push_str("ledger: { max_memory: 1MiB }\n");
        }
        if let Some(url) = &database {
            text.push_str(&format!("database: \"{url}\"\n"));
        }
        fs::write(&config, text).unwrap();
        Self {
            mocks: [a, b],
            client: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
            address: ([127, 0, 0, 1], port).into(),
            calls: AtomicU64::new(0),
            served: Mutex::default(),
            dir,
            database,
            refused: AtomicU64::new(0),
            journal,
            config,
            gateway: Mutex::new(None),
            tasks,
        }
    }

    /// Starts the gateway and waits until it takes calls.
    pub async fn start(&self) {
        // The shell ends files at 128 KiB for whoever it becomes, and a write beyond that fails instead of killing.
        let limit = match self.journal {
            Journal::Roomy => "",
            Journal::Full => "trap '' XFSZ; ulimit -f 256;",
        };
        let child = Command::new("sh")
            .args(["-c", &format!("{limit} exec \"$0\" serve --config \"$1\"")])
            .arg(env!("CARGO_BIN_EXE_switchboard"))
            .arg(&self.config)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        *self.gateway.lock().unwrap() = Some(child);
        let ready = format!("http://{}/readyz", self.address);
        for _ in 0..1_000 {
            if self.client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the gateway does not start:\n{}", self.log());
    }

    pub fn is_running(&self) -> bool {
        self.gateway.lock().unwrap().is_some()
    }

    /// Kill -9.
    pub fn kill(&self) {
        if let Some(mut child) = self.gateway.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Lets it end by itself.
    pub async fn stop(&self) {
        let Some(mut child) = self.gateway.lock().unwrap().take() else { return };
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        for _ in 0..1_000 {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "it ended with {status}:\n{}", self.log());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the gateway does not stop:\n{}", self.log());
    }

    /// What the gateways have said last.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("the price of a model")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Takes over what the providers have seen since the last time, once they are at rest.
    pub async fn collect(&self) {
        for mock in &self.mocks {
            for round in 0.. {
                if mock.open_streams() == 0 {
                    break;
                }
                assert!(round < 1_000, "calls stay open at a provider");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let mut served = self.served.lock().unwrap();
            let requests = mock.requests();
            assert!(requests.len() < 10_000, "the mock forgets beyond that");
            for request in requests {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                *served.entry(body["user"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            mock.clear();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
        self.tasks.stopping().cancel();
    }
}

async fn provider(tasks: &Tasks) -> (Mock, SocketAddr) {
    let mock = Mock::new(Behaviour::default(), Clock::Real);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (served, all) = (mock.clone(), tasks.clone());
    tasks.spawn(async move { served.serve(listener, all.stopping(), &all).await });
    (mock, address)
}
