//! The gateway under test, its providers, and what must hold when a test is over.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use switchboard::{
    app::App,
    config::{self, Environment},
    mock::{Behaviour, Mock, Recorded},
    store::ledger::CallRow,
    telemetry::Metrics,
    types::{Clock, Tasks},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::{Answer, Counts, Live, RawClient, books, chat, settle, soon};

/// The key that tests present. It may use every model.
pub const KEY: &str = "it-key-0123456789abcdef";

/// The admin key of tests that declare one.
pub const ADMIN: &str = "it-admin-0123456789abcdef";

/// The model that tests ask for.
pub const MODEL: &str = "m";

/// Codes of errors that are given before a call is admitted: nothing is charged for them and nothing settles.
const BEFORE_ADMISSION: &[&str] = &[
    "address_not_allowed",
    "admin_key_not_allowed_here",
    "body_incomplete",
    "body_timeout",
    "body_too_large",
    "disabled_api_key",
    "duplicate_field",
    "endpoint_not_allowed",
    "expired_api_key",
    "gateway_full",
    "headers_too_large",
    "invalid_api_key",
    "invalid_json",
    "invalid_model",
    "invalid_type",
    "invalid_utf8",
    "key_store_unavailable",
    "ledger_full",
    "method_not_allowed",
    "missing_api_key",
    "missing_field",
    "missing_model",
    "model_not_allowed",
    "model_not_found",
    "project_archived",
    "project_unknown",
    "revoked_api_key",
    "rotated_api_key",
    "too_many_wrong_keys",
    "unknown_path",
    "unsupported_encoding",
];

/// A gateway that is yet to be started.
#[derive(Debug)]
pub struct Builder {
    providers: Vec<Planned>,
    config: String,
    keys: String,
    clock: Clock,
}

#[derive(Debug)]
struct Planned {
    name: String,
    /// More members of the provider's settings, as YAML in flow style.
    more: String,
    /// Where it is, if the test plays it by hand.
    address: Option<SocketAddr>,
}

/// A running gateway.
#[derive(Debug)]
pub struct Gate {
    pub address: SocketAddr,
    pub clock: Clock,
    pub app: Option<App>,
    /// For the counts of a gateway that answers no more.
    metrics: Arc<Metrics>,
    http: reqwest::Client,
    mocks: BTreeMap<String, Upstream>,
    tasks: Tasks,
    /// Calls that must have settled by the end.
    admitted: Cell<u64>,
    /// Attempts that no mock can have seen.
    unseen: Cell<u64>,
    began: Instant,
    finished: Cell<bool>,
    /// The ledger is in `dir`, not in a database of the test's own, and the test has written nothing into it.
    has_books: Cell<bool>,
    dir: TempDir,
}

#[derive(Debug)]
struct Upstream {
    mock: Mock,
    address: SocketAddr,
}

impl Builder {
    /// A scripted provider: correct, immediate answers until it is told otherwise.
    pub fn mock(self, name: &str) -> Self {
        self.mock_with(name, "")
    }

    /// A scripted provider with more settings, such as `http: http2` or `api_keys: [k1, k2]`.
    pub fn mock_with(mut self, name: &str, more: &str) -> Self {
        self.providers.push(Planned { name: name.into(), more: more.into(), address: None });
        self
    }

    /// A provider that the test plays by hand, or that does not exist.
    pub fn upstream(self, name: &str, address: SocketAddr) -> Self {
        self.upstream_with(name, address, "")
    }

    /// Such a provider with more settings.
    pub fn upstream_with(mut self, name: &str, address: SocketAddr, more: &str) -> Self {
        self.providers.push(Planned { name: name.into(), more: more.into(), address: Some(address) });
        self
    }

    /// More of the configuration file. Without `models` the first provider's `up` is served as `m`.
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// One more key, as a YAML mapping in flow style.
    pub fn key(mut self, mapping: &str) -> Self {
        _ = writeln!(self.keys, "  - {mapping}");
        self
    }

    /// Time passes by itself.
    pub fn real_time(mut self) -> Self {
        self.clock = Clock::Real;
        self
    }

    pub async fn start(self) -> Gate {
        let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let mut mocks = BTreeMap::new();
        let mut text = format!("listen: 127.0.0.1:0\ndata_dir: {:?}\n", dir.path().join("data"));
        if !self.config.contains("log: {") {
            text.push_str("log: { level: \"off\", calls: false }\n");
        }
        text.push_str("providers:\n");
        for Planned { name, more, address } in &self.providers {
            let address = match address {
                Some(address) => *address,
                None => {
                    let upstream = Upstream::start(self.clock.clone(), &tasks).await;
                    let address = upstream.address;
                    mocks.insert(name.clone(), upstream);
                    address
                }
            };
            let key = if more.contains("api_key") { String::new() } else { format!("api_key: up-key-{name}, ") };
            let kind = if more.contains("kind:") { "" } else { "kind: openai_compatible, " };
            _ = writeln!(text, "  {name}: {{ {kind}base_url: \"http://{address}/v1\", {key}{more} }}");
        }
        text.push_str(&self.config);
        if !self.config.contains("models:") {
            let first = self.providers.first().map_or("none", |provider| &provider.name);
            _ = writeln!(text, "models: {{ m: {{ targets: [{first}/up] }} }}");
        }
        _ = write!(text, "keys:\n  - {{ name: tests, value: {KEY}, models: [\"*\"] }}\n{}", self.keys);
        let file = dir.path().join("switchboard.yaml");
        std::fs::write(&file, &text).unwrap();
        let env = Environment::of::<String, String>([]);
        let loaded = config::load(Some(&file), &env).unwrap_or_else(|complaints| panic!("{complaints}\n{text}"));
        let app = App::start(loaded, env, self.clock.clone()).await.unwrap_or_else(|error| panic!("{error}\n{text}"));
        Gate {
            address: app.address,
            metrics: app.metrics.clone(),
            app: Some(app),
            began: self.clock.now(),
            clock: self.clock,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            mocks,
            tasks,
            admitted: Cell::new(0),
            unseen: Cell::new(0),
            finished: Cell::new(false),
            has_books: Cell::new(!self.config.contains("database:")),
            dir,
        }
    }
}

impl Upstream {
    async fn start(clock: Clock, tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mock = Mock::new(Behaviour::default(), clock);
        let (served, all) = (mock.clone(), tasks.clone());
        tasks.spawn(async move { served.serve(listener, all.stopping(), &all).await });
        Self { mock, address }
    }
}

impl Gate {
    /// A gateway is described here and then started.
    pub fn build() -> Builder {
        Builder { providers: Vec::new(), config: String::new(), keys: String::new(), clock: Clock::held() }
    }

    // Calls.

    /// A chat with some members added, and its whole answer.
    pub async fn chat(&self, more: Value) -> Answer {
        self.post("/v1/chat/completions", chat(more).to_string(), &[]).await
    }

    /// A streamed chat with some members added, and its whole answer.
    pub async fn stream(&self, mut more: Value) -> Answer {
        more["stream"] = true.into();
        self.chat(more).await
    }

    /// Either of the two.
    pub async fn ask(&self, is_stream: bool, more: Value) -> Answer {
        if is_stream { self.stream(more).await } else { self.chat(more).await }
    }

    /// A streamed chat, as it comes.
    pub async fn open(&self, mut more: Value) -> Live {
        more["stream"] = true.into();
        let request = self.request("/v1/chat/completions", chat(more).to_string(), &[]);
        Live::of(soon(request.send()).await.expect("a response head"))
    }

    /// Any body to any path. A header named here takes the place of the usual one.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>, headers: &[(&str, &str)]) -> Answer {
        self.exchange(self.request(path, body, headers)).await
    }

    /// Any request that is made elsewhere. It counts as a call that settles, unless its answer says otherwise.
    pub async fn exchange(&self, request: reqwest::RequestBuilder) -> Answer {
        match request.send().await {
            Ok(response) => {
                let answer = self.read(response).await;
                // A provider may use the same words; its answer names the attempts.
                let tried = answer.headers.contains_key("x-switchboard-attempts");
                if !tried && BEFORE_ADMISSION.contains(&answer.code().as_str()) {
                    self.not_admitted();
                }
                answer
            }
            Err(error) => Answer {
                status: 0,
                headers: HeaderMap::new(),
                body: Bytes::from(format!("{error:?}")),
                complete: false,
            },
        }
    }

    /// A request with the tests' key, counted as one that will be admitted.
    pub fn request(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> reqwest::RequestBuilder {
        self.admits();
        let mut map = HeaderMap::new();
        map.insert("authorization", format!("Bearer {KEY}").parse().unwrap());
        map.insert("content-type", "application/json".parse().unwrap());
        for (name, value) in headers {
            map.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        self.http.post(format!("http://{}{path}", self.address)).headers(map).body(body)
    }

    /// A request that is no call.
    pub async fn get(&self, path: &str) -> Answer {
        let request = self.http.get(format!("http://{}{path}", self.address)).bearer_auth(KEY);
        self.read(soon(request.send()).await.unwrap()).await
    }

    /// A request to an admin route, with this key or none.
    pub async fn admin(&self, path: &str, key: Option<&str>) -> Answer {
        let address = self.app.as_ref().and_then(|app| app.admin_address).unwrap_or(self.address);
        let request = self.http.get(format!("http://{address}{path}"));
        let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        self.read(soon(request.send()).await.unwrap()).await
    }

    /// A change over the admin API, with the tests' admin key.
    pub async fn manage(&self, method: &str, path: &str, body: Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.manage_with(method, path, text, &[]).await
    }

    /// Any request to an admin route. A header named here takes the place of the usual one.
    pub async fn manage_with(&self, method: &str, path: &str, body: String, headers: &[(&str, &str)]) -> Answer {
        let address = self.app.as_ref().and_then(|app| app.admin_address).unwrap_or(self.address);
        let mut map = HeaderMap::new();
        map.insert("authorization", format!("Bearer {ADMIN}").parse().unwrap());
        for (name, value) in headers {
            map.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        let request = self.http.request(method.parse().unwrap(), format!("http://{address}{path}"));
        self.read(soon(request.headers(map).body(body).send()).await.unwrap()).await
    }

    /// A chat with this key, for this model.
    pub async fn chat_as(&self, key: &str, model: &str) -> Answer {
        let authorization = format!("Bearer {key}");
        let body = chat(serde_json::json!({ "model": model }));
        self.post("/v1/chat/completions", body.to_string(), &[("authorization", &authorization)]).await
    }

    /// Where the gateway's ledger is, for a test that writes into it; it is then not compared with the calls.
    pub fn cook_the_books(&self) -> std::path::PathBuf {
        self.has_books.set(false);
        self.data_dir()
    }

    /// Where the gateway keeps its state.
    pub fn data_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// A bare socket to the gateway. Calls made on it are to be counted with [`Gate::admits`].
    pub async fn raw(&self) -> RawClient {
        RawClient::connect(self.address).await
    }

    pub(super) async fn read(&self, mut response: reqwest::Response) -> Answer {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let (mut body, mut complete) = (Vec::new(), true);
        loop {
            match response.chunk().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => {
                    complete = false;
                    break;
                }
            }
        }
        Answer { status, headers, body: body.into(), complete }
    }

    // Providers.

    pub fn mock(&self, name: &str) -> &Mock {
        &self.mocks[name].mock
    }

    /// How many requests a provider got.
    pub fn served(&self, name: &str) -> u64 {
        self.mock(name).served()
    }

    /// The last request that a provider got.
    pub fn last(&self, name: &str) -> Recorded {
        self.mock(name).requests().pop().expect("a request")
    }

    /// What a provider answers when it is asked directly. It counts as an attempt, since the provider cannot tell.
    pub async fn direct(&self, name: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.unseen.set(self.unseen.get().wrapping_sub(1));
        let url = format!("http://{}/v1/chat/completions", self.mocks[name].address);
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        self.read(soon(request.send()).await.unwrap()).await
    }

    // Time.

    /// How far the clock has been moved since the start.
    pub fn elapsed(&self) -> Duration {
        self.clock.now() - self.began
    }

    /// Lets time pass, and whatever it causes happen.
    pub async fn advance(&self, by: Duration) {
        settle().await;
        self.clock.advance(by);
        settle().await;
    }

    /// Moves the time in steps, each when nothing is left to do, until `future` is done.
    pub async fn advance_until<F: Future>(&self, future: F, step: Duration) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..20_000 {
            for _ in 0..64 {
                if let Poll::Ready(output) = futures_util::poll!(future.as_mut()) {
                    return output;
                }
                tokio::task::yield_now().await;
            }
            self.clock.advance(step);
        }
        panic!("not done after {:?}", self.elapsed());
    }

    /// Waits for what takes real time, such as a database, and moves the time once in a while for what waits for that.
    pub async fn patiently<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        for _ in 0..200 {
            let clock = Clock::Real;
            if let Ok(output) = clock.timeout_at(clock.now() + Duration::from_millis(250), future.as_mut()).await {
                return output;
            }
            if let Clock::Held(_) = self.clock {
                self.clock.advance(Duration::from_millis(500));
            }
        }
        panic!("not done after {:?}", self.elapsed());
    }

    // The end.

    /// Notes a call that was made without the methods above.
    pub fn admits(&self) {
        self.admitted.set(self.admitted.get() + 1);
    }

    /// Notes that a call which was made will not be admitted.
    pub fn not_admitted(&self) {
        self.admitted.set(self.admitted.get() - 1);
    }

    /// Notes attempts that no mock can have seen: to providers played by hand, or to nobody.
    pub fn unseen(&self, attempts: u64) {
        self.unseen.set(self.unseen.get().wrapping_add(attempts));
    }

    /// What has been counted so far.
    pub async fn counts(&self) -> Counts {
        if self.app.as_ref().is_some_and(|app| app.shutdown.ready()) {
            return Counts::parse(&self.get("/metrics").await.text());
        }
        Counts::parse(&self.metrics.render())
    }

    /// Checks what must hold after every test, stops the gateway, and gives its last counts.
    pub async fn finish(self) -> Counts {
        self.audit().await.unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// [`Gate::finish`], and the ledger, oldest call first.
    pub async fn finish_books(mut self) -> (Counts, Vec<CallRow>) {
        let counts = self.settle_up().await.unwrap_or_else(|wrong| panic!("{wrong}"));
        let rows = self.rows().await;
        (counts, rows)
    }

    /// [`Gate::finish`] for a row of a table.
    pub async fn audit(mut self) -> Result<Counts, String> {
        self.settle_up().await
    }

    async fn settle_up(&mut self) -> Result<Counts, String> {
        self.finished.set(true);
        let counts = self.quiet().await;
        let (calls, attempts) = (counts.sum("calls_total", &[]), counts.sum("attempts_total", &[]));
        let unseen = counts.sum("attempts_total", &[("outcome", "connect")]);
        let served = self.mocks.values().map(|upstream| upstream.mock.served()).sum::<u64>();
        let open = self.mocks.values().map(|upstream| upstream.mock.open_streams() as u64).sum();
        let checks = [
            ("calls that settled are the calls that were admitted", calls, self.admitted.get()),
            ("durations were observed once per call", counts.sum("call_duration_seconds_count", &[]), calls),
            ("the gateway's own time was observed once per call", counts.sum("overhead_seconds_count", &[]), calls),
            ("attempts are what the providers saw", attempts, served.wrapping_add(self.unseen.get()) + unseen),
            ("no call is in flight", counts.sum("calls_in_flight", &[]), 0),
            ("no stream is open", counts.sum("streams_open", &[]), 0),
            ("no provider is still answering", open, 0),
        ];
        let wrong = checks.iter().filter(|(_, found, expected)| found != expected);
        let mut wrong: Vec<String> =
            wrong.map(|(what, found, expected)| format!("{what}: found {found}, expected {expected}")).collect();
        self.stop().await;
        if self.has_books.get() {
            let mocks = self.mocks.iter().map(|(name, upstream)| (name.as_str(), &upstream.mock));
            wrong.extend(books::audit(&self.rows().await, calls, attempts, mocks));
        }
        if wrong.is_empty() {
            return Ok(counts);
        }
        let (outcomes, attempts) = (counts.outcomes(), counts.attempts());
        Err(format!("{}\n      calls: {outcomes}\n      attempts: {attempts}", wrong.join("\n      ")))
    }

    /// The ledger, oldest call first. Complete once the gateway has stopped.
    async fn rows(&self) -> Vec<CallRow> {
        books::rows(&self.dir.path().join("data")).await
    }

    /// The counts once nothing is in flight, or as they are if that does not come.
    async fn quiet(&self) -> Counts {
        // A little time, so that what waits for a moment at a stream's end can end; too little for any deadline.
        for _ in 0..100 {
            settle().await;
            let counts = self.counts().await;
            let busy = counts.sum("calls_in_flight", &[]) + counts.sum("streams_open", &[]);
            let open = self.mocks.values().map(|upstream| upstream.mock.open_streams()).sum::<usize>();
            if busy == 0 && open == 0 && counts.sum("calls_total", &[]) >= self.admitted.get() {
                return counts;
            }
            // Counting tokens takes real time, on a thread of its own.
            if busy == 0 && open == 0 && counts.sum("settlements_pending", &[]) > 0 {
                Clock::Real.sleep(Duration::from_millis(100)).await;
                continue;
            }
            match self.clock {
                Clock::Real => Clock::Real.sleep(Duration::from_millis(25)).await,
                Clock::Held(_) => self.clock.advance(Duration::from_millis(25)),
            }
        }
        self.counts().await
    }

    /// Takes the gateway down. It must not take long when nothing is in flight.
    async fn stop(&mut self) {
        let Some(app) = self.app.take() else { return };
        // The connections of the tests' client are idle; closing them is what a load balancer would do.
        self.http = reqwest::Client::new();
        self.patiently(app.stop()).await;
        self.tasks.stopping().cancel();
    }

    /// Stops the gateway and starts it again on its data directory, with the same providers. What is counted begins anew,
    /// and the books are the test's to look at.
    pub async fn restart(&mut self) {
        self.quiet().await;
        let app = self.app.take().expect("it runs");
        self.patiently(app.stop()).await;
        let env = Environment::of::<String, String>([]);
        let loaded = config::load(Some(&self.dir.path().join("switchboard.yaml")), &env).unwrap();
        let app = App::start(loaded, env, self.clock.clone()).await.unwrap();
        (self.address, self.metrics) = (app.address, app.metrics.clone());
        self.app = Some(app);
        let served = self.mocks.values().map(|upstream| upstream.mock.served()).sum::<u64>();
        self.admitted.set(0);
        self.unseen.set(0_u64.wrapping_sub(served));
        self.has_books.set(false);
    }

    /// Stops the gateway early, as SIGTERM does, and gives what must run for it.
    pub fn stopping(&mut self) -> impl Future<Output = ()> + use<> {
        let app = self.app.take().expect("it runs");
        app.stop()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.tasks.stopping().cancel();
        let excused = self.finished.get() || std::thread::panicking();
        assert!(excused, "a test ends with `gate.finish().await`");
    }
}
