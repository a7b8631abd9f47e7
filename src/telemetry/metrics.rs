//! Every metric of the gateway, in one list.
//!
//! Labels are bounded: a label value comes from the configuration or from a closed list in the code, never from a
//! client, and beyond [`MAX_LABELS`] distinct targets or models further ones share the value `other`. Per-key and
//! per-user figures belong in the ledger, not here.
//!
//! The hot path touches no label: a target and a model resolve their own counters once ([`TargetMetrics`],
//! [`ModelMetrics`]) and keep them. A series appears with its first event, so that a gateway with many targets shows
//! only those in use.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::{
    Counter as FloatCounter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
    core::Collector,
    proto::{Counter, Gauge, Metric, MetricFamily, MetricType},
};

use super::{Outcome, exposition, process::Process};
use crate::types::{Nanos, Usage};

/// The `content-type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Distinct targets, and distinct pairs of operation and model, that get series of their own.
pub const MAX_LABELS: usize = 1_000;

/// The label of what came after [`MAX_LABELS`].
const OTHER: &str = "other";

/// The gateway's own share of a call: 50 µs to 100 ms.
const OVERHEAD: &[f64] = &[50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3];
/// Until a model says its first word: 50 ms to a minute.
const FIRST_TOKEN: &[f64] = &[0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Between two pieces of a stream: 1 ms to half a minute.
const CHUNK_GAP: &[f64] = &[1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// A whole call: 50 ms to ten minutes.
const CALL: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Declares the struct and its constructor from one list, so that a metric's documentation is its help text.
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        pub struct Metrics {
            $( $(#[doc = $help:literal])+ pub $field:ident: $kind:ident = $name:literal $([$($label:literal),+])? $(in $buckets:ident)?; )+
        }
    ) => {
        $(#[$meta])*
        pub struct Metrics {
            $( $(#[doc = $help])+ pub $field: $kind, )+
            registry: Registry,
            breakers: OnceLock<Breakers>,
            targets: Mutex<HashMap<Box<str>, Arc<TargetMetrics>>>,
            models: Mutex<HashMap<(&'static str, Box<str>), Arc<ModelMetrics>>>,
        }

        impl Metrics {
            fn build() -> prometheus::Result<Self> {
                let registry = Registry::new_custom(Some("switchboard".to_owned()), None)?;
                $( let $field = metrics!(@make $kind, $name, concat!($($help),+).trim() $(, [$($label),+])? $(, $buckets)?)?;
                   registry.register(Box::new($field.clone()))?; )+
                let breakers = OnceLock::new();
                Ok(Self { $($field,)+ registry, breakers, targets: Mutex::default(), models: Mutex::default() })
            }
        }
    };
    (@make IntCounter, $name:literal, $help:expr) => { IntCounter::new($name, $help) };
    (@make CounterVec, $name:literal, $help:expr, $labels:expr) => { CounterVec::new(Opts::new($name, $help), &$labels) };
    (@make IntGauge, $name:literal, $help:expr) => { IntGauge::new($name, $help) };
    (@make IntCounterVec, $name:literal, $help:expr, $labels:expr) => { IntCounterVec::new(Opts::new($name, $help), &$labels) };
    (@make IntGaugeVec, $name:literal, $help:expr, $labels:expr) => { IntGaugeVec::new(Opts::new($name, $help), &$labels) };
    (@make Histogram, $name:literal, $help:expr, $buckets:ident) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@make HistogramVec, $name:literal, $help:expr, $labels:expr, $buckets:ident) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &$labels)
    };
}

metrics! {
    /// Every metric of the gateway. Names begin with `switchboard_`. Cheap to share behind an `Arc`.
    pub struct Metrics {
        /// Calls that ended, by what they asked for, the configured model that served them, and how they ended.
        pub calls: IntCounterVec = "calls_total" ["operation", "model", "outcome"];
        /// Requests sent to a provider's model, by how they ended. One call may need several.
        pub attempts: IntCounterVec = "attempts_total" ["target", "outcome"];
        /// Error answers to clients, by class, whether or not a model was reached.
        pub errors: IntCounterVec = "errors_total" ["class"];
        /// Time from sending a request to a provider to its first real output.
        pub time_to_first_token: HistogramVec = "time_to_first_token_seconds" ["target"] in FIRST_TOKEN;
        /// Time between two pieces of a provider's stream.
        pub chunk_gap: HistogramVec = "chunk_gap_seconds" ["target"] in CHUNK_GAP;
        /// Time from a call's arrival to the end of its answer.
        pub call_duration: HistogramVec = "call_duration_seconds" ["operation"] in CALL;
        /// The gateway's own time in a call: all of it but the time spent waiting for providers and for the client.
        pub overhead: Histogram = "overhead_seconds" in OVERHEAD;
        /// Calls being served now.
        pub calls_in_flight: IntGauge = "calls_in_flight";
        /// Client connections open now.
        pub connections_open: IntGauge = "connections_open";
        /// Streamed answers open now.
        pub streams_open: IntGauge = "streams_open";
        /// Tokens reported by providers. The kinds are disjoint, so their sum is the total.
        pub tokens: IntCounterVec = "tokens_total" ["target", "kind"];
        /// What attempts cost, in US dollars, by the price catalogue; estimates included. For charts: the ledger is exact.
        pub cost: CounterVec = "cost_dollars_total" ["target"];
        /// Attempts that consumed something whose price is unknown.
        pub unpriced: IntCounterVec = "unpriced_attempts_total" ["target"];
        /// Repeats of a target already tried, by how the attempt before ended.
        pub retries: IntCounterVec = "retries_total" ["reason"];
        /// Calls that went on to a fallback of their model, by reason.
        pub fallbacks: IntCounterVec = "fallbacks_total" ["model", "reason"];
        /// Attempts to load a changed configuration, by result (ok, rejected).
        pub config_reloads: IntCounterVec = "config_reloads_total" ["result"];
        /// Fetches of prices: ok or failed.
        pub price_fetches: IntCounterVec = "price_fetches_total" ["result"];
        /// The configuration in force, as the hash of its text; always 1.
        pub config_info: IntGaugeVec = "config_info" ["hash"];
        /// The running version; always 1.
        pub build_info: IntGaugeVec = "build_info" ["version"];
        /// Requests refused for their key, by error code.
        pub auth_failures: IntCounterVec = "auth_failures_total" ["code"];
        /// Calls that have ended or will end and whose settlement is not yet written.
        pub settlements_pending: IntGauge = "settlements_pending";
        /// Rows that the store took, those of earlier gateways included.
        pub ledger_rows_written: IntCounter = "ledger_rows_written_total";
        /// Calls written as lost: they were under way when a gateway died.
        pub ledger_rows_lost: IntCounter = "ledger_rows_lost_total";
        /// Rows that the store refused for what is in them, and that were set aside.
        pub ledger_rows_refused: IntCounter = "ledger_rows_refused_total";
        /// Rows given up because the store, the journal and memory had no room for them.
        pub ledger_rows_dropped: IntCounter = "ledger_rows_dropped_total";
        /// Records that the journal could not take: what they say was in memory alone.
        pub ledger_unjournaled: IntCounter = "ledger_unjournaled_total";
        /// Rows of ended calls that are not in the store yet.
        pub ledger_rows_waiting: IntGauge = "ledger_rows_waiting";
        /// For how long the oldest of those has waited.
        pub ledger_oldest_row_seconds: IntGauge = "ledger_oldest_row_seconds";
        /// What the journal takes on the disk, what dead gateways left included.
        pub ledger_journal_bytes: IntGauge = "ledger_journal_bytes";
        /// Files of the journal.
        pub ledger_journal_segments: IntGauge = "ledger_journal_segments";
        /// Whether the journal takes new calls (1) or not (0).
        pub ledger_journal_up: IntGauge = "ledger_journal_up";
        /// Whether the store took the ledger's rows at the last attempt (1) or not (0).
        pub ledger_store_up: IntGauge = "ledger_store_up";
        /// Calls that did not fit a quota, by what became of them (reject, downgrade, warn, shadow). Stored quotas share one
        /// name.
        pub quota_refusals: IntCounterVec = "quota_refusals_total" ["quota", "action"];
        /// Takes of a counter beyond the bound on counters in this process, which shared one with others of its rule.
        pub quota_counters_shared: IntCounter = "quota_counters_shared_total";
        /// Whether Redis counts (1), or this gateway alone because Redis is away or has lost its counters (0).
        pub redis_up: IntGauge = "redis_up";
        /// Commands that Redis did not answer in time, or with an error.
        pub redis_failures: IntCounter = "redis_failures_total";
        /// Gateways that share the counters in Redis, this one included.
        pub redis_replicas: IntGauge = "redis_replicas";
        /// Takes decided by this gateway alone because Redis was away or had lost its counters.
        pub quota_takes_alone: IntCounter = "quota_takes_alone_total";
        /// Calls of which Redis has not been told what they consumed or gave back.
        pub quota_settlements_waiting: IntGauge = "quota_settlements_waiting";
        /// Holds of dead gateways that this one gave back.
        pub quota_holds_returned: IntCounter = "quota_holds_returned_total";
        /// Log lines given up because whoever reads the log was too slow.
        pub log_lines_dropped: IntCounter = "log_lines_dropped_total";
        /// Calls whose content was not logged because whoever takes it was too slow.
        pub content_lines_dropped: IntCounter = "content_lines_dropped_total";
    }
}

/// What is counted about one target. Resolved once, then free of labels and locks.
#[derive(Debug)]
pub struct TargetMetrics {
    attempts: Slots<IntCounter, { Outcome::ALL.len() }>,
    time_to_first_token: OnceLock<Histogram>,
    chunk_gap: OnceLock<Histogram>,
    tokens: Slots<IntCounter, KINDS>,
    cost: OnceLock<FloatCounter>,
    unpriced: OnceLock<IntCounter>,
    label: Box<str>,
    all: Families,
}

/// What is counted about one operation on one model. Resolved once, then free of labels and locks.
#[derive(Debug)]
pub struct ModelMetrics {
    calls: Slots<IntCounter, { Outcome::ALL.len() }>,
    duration: Histogram,
    operation: &'static str,
    label: Box<str>,
    calls_of_all: IntCounterVec,
    fallbacks_of_all: IntCounterVec,
}

/// A breaker as a scrape shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSample {
    /// The target's label.
    pub target: Arc<str>,
    /// The key's place in its provider's list, from 0.
    pub key: usize,
    pub state: BreakerState,
}

/// The state of a breaker; its number is the metric's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    Closed = 0,
    HalfOpen = 1,
    Open = 2,
}

/// Adds one to a gauge while it lives.
#[derive(Debug)]
pub struct Counted(IntGauge);

type Breakers = Box<dyn Fn() -> Vec<BreakerSample> + Send + Sync>;
type Slots<T, const N: usize> = [OnceLock<T>; N];

/// The kinds of tokens, in the order of [`Usage::buckets`], whose first ten are tokens.
const KINDS: usize = 10;

/// The families a target takes its series from.
#[derive(Clone, Debug)]
struct Families {
    attempts: IntCounterVec,
    time_to_first_token: HistogramVec,
    chunk_gap: HistogramVec,
    tokens: IntCounterVec,
    cost: CounterVec,
    unpriced: IntCounterVec,
}

impl Metrics {
    /// A fresh set in a registry of its own.
    #[expect(clippy::expect_used, reason = "only the list above can make it fail, and then it does so in every test")]
    pub fn new() -> Self {
        let metrics = Self::build().expect("metrics have distinct, valid names");
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics
    }

    /// The counters of the target with this label (`openai/gpt-5.5`). Ask once per snapshot, not per call.
    pub fn target(&self, label: &str) -> Arc<TargetMetrics> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let label = if targets.len() < MAX_LABELS || targets.contains_key(label) { label } else { OTHER };
        if let Some(known) = targets.get(label) {
            return known.clone();
        }
        let target = Arc::new(TargetMetrics {
            attempts: Default::default(),
            time_to_first_token: OnceLock::new(),
            chunk_gap: OnceLock::new(),
            tokens: Default::default(),
            cost: OnceLock::new(),
            unpriced: OnceLock::new(),
            label: label.into(),
            all: Families {
                attempts: self.attempts.clone(),
                time_to_first_token: self.time_to_first_token.clone(),
                chunk_gap: self.chunk_gap.clone(),
                tokens: self.tokens.clone(),
                cost: self.cost.clone(),
                unpriced: self.unpriced.clone(),
            },
        });
        targets.insert(label.into(), target.clone());
        target
    }

    /// The counters of `operation` on the configured model `name`. Ask once per snapshot, not per call, and never with
    /// a name that only a client made up.
    pub fn model(&self, operation: &'static str, name: &str) -> Arc<ModelMetrics> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let full = models.len() >= MAX_LABELS && !models.contains_key(&(operation, name.into()));
        let label: Box<str> = if full { OTHER.into() } else { name.into() };
        let made = models.entry((operation, label)).or_insert_with_key(|(_, label)| {
            Arc::new(ModelMetrics {
                calls: Default::default(),
                duration: self.call_duration.with_label_values(&[operation]),
                operation,
                label: label.clone(),
                calls_of_all: self.calls.clone(),
                fallbacks_of_all: self.fallbacks.clone(),
            })
        });
        made.clone()
    }

    /// An error answer was sent to a client.
    pub fn error(&self, class: Outcome) {
        self.errors.with_label_values(&[class.as_str()]).inc();
    }

    /// Another attempt is made because the one before ended like this.
    pub fn retry(&self, reason: Outcome) {
        self.retries.with_label_values(&[reason.as_str()]).inc();
    }

    /// A request was refused for its key; `code` is the error's stable code.
    pub fn auth_failure(&self, code: &'static str) {
        self.auth_failures.with_label_values(&[code]).inc();
    }

    /// A changed configuration was taken (`Ok`, with the hash of its text) or turned down.
    pub fn config_reload(&self, result: Result<&str, ()>) {
        self.config_reloads.with_label_values(&[if result.is_ok() { "ok" } else { "rejected" }]).inc();
        if let Ok(hash) = result {
            self.config_in_force(hash);
        }
    }

    /// The hash of the configuration now in force.
    pub fn config_in_force(&self, hash: &str) {
        self.config_info.reset();
        self.config_info.with_label_values(&[hash]).set(1);
    }

    /// Sets where a scrape reads the breakers from. The first call counts; `read` should take the current snapshot.
    pub fn read_breakers_with(&self, read: impl Fn() -> Vec<BreakerSample> + Send + Sync + 'static) {
        // A second source would be a second gateway on the same metrics, which does not exist.
        let _ = self.breakers.set(Box::new(read));
    }

    /// Counts one more in `gauge` until the returned guard is dropped.
    pub fn count(gauge: &IntGauge) -> Counted {
        gauge.inc();
        Counted(gauge.clone())
    }

    /// All metrics in Prometheus' text format; see [`CONTENT_TYPE`].
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(self.breaker_family());
        families.extend(Process::read().into_iter().flat_map(process_families));
        let mut text = String::with_capacity(16 * 1024);
        families.iter().for_each(|family| exposition::write(&mut text, family));
        text
    }

    /// The breakers as they are now. They are not kept as gauges: a target that a reload removed must vanish.
    fn breaker_family(&self) -> Option<MetricFamily> {
        let samples = self.breakers.get()?();
        let help = "The breaker of each target and key: 0 closed, 1 half-open, 2 open.";
        let opts = Opts::new("breaker_state", help).namespace("switchboard");
        let family = IntGaugeVec::new(opts, &["target", "key"]).ok()?;
        for sample in samples.into_iter().take(MAX_LABELS) {
            family.with_label_values(&[&*sample.target, &sample.key.to_string()]).set(sample.state as i64);
        }
        family.collect().pop().filter(|family| !family.get_metric().is_empty())
    }
}

impl TargetMetrics {
    /// An attempt ended.
    pub fn attempt(&self, outcome: Outcome) {
        self.attempts[outcome.index()]
            .get_or_init(|| self.all.attempts.with_label_values(&[&*self.label, outcome.as_str()]))
            .inc();
    }

    /// The first real output came this long after the request was sent.
    pub fn first_token(&self, after: Duration) {
        self.time_to_first_token
            .get_or_init(|| self.all.time_to_first_token.with_label_values(&[&*self.label]))
            .observe(after.as_secs_f64());
    }

    /// A piece of a stream came this long after the one before.
    pub fn chunk_gap(&self, gap: Duration) {
        self.chunk_gap.get_or_init(|| self.all.chunk_gap.with_label_values(&[&*self.label])).observe(gap.as_secs_f64());
    }

    /// A reply consumed this much.
    pub fn tokens(&self, usage: &Usage) {
        for (slot, (kind, amount)) in self.tokens.iter().zip(usage.buckets()) {
            if amount > 0 {
                slot.get_or_init(|| self.all.tokens.with_label_values(&[&*self.label, kind])).inc_by(amount);
            }
        }
    }

    /// An attempt cost this much.
    pub fn cost(&self, cost: Nanos) {
        if cost > Nanos::ZERO {
            self.cost.get_or_init(|| self.all.cost.with_label_values(&[&*self.label])).inc_by(cost.as_dollars());
        }
    }

    /// An attempt consumed something whose price is unknown. Says whether it was this target's first.
    pub fn unpriced(&self) -> bool {
        let is_first = self.unpriced.get().is_none();
        self.unpriced.get_or_init(|| self.all.unpriced.with_label_values(&[&*self.label])).inc();
        is_first
    }
}

impl ModelMetrics {
    /// A call ended, this long after it came.
    pub fn ended(&self, outcome: Outcome, took: Duration) {
        self.calls[outcome.index()]
            .get_or_init(|| self.calls_of_all.with_label_values(&[self.operation, &*self.label, outcome.as_str()]))
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A call went on to this model's fallbacks; `reason` is a word of a closed list.
    pub fn fell_back(&self, reason: &'static str) {
        self.fallbacks_of_all.with_label_values(&[&*self.label, reason]).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn process_families(process: Process) -> [MetricFamily; 4] {
    let gauge = |name, help, value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        family(name, help, MetricType::GAUGE, Metric::from_gauge(gauge))
    };
    let mut cpu = Counter::default();
    cpu.set_value(process.cpu_seconds);
    let mut metric = Metric::default();
    metric.set_counter(cpu);
    [
        family("process_cpu_seconds_total", "User and system CPU time in seconds.", MetricType::COUNTER, metric),
        gauge("process_open_fds", "Open file descriptors.", process.open_fds),
        gauge("process_resident_memory_bytes", "Memory in RAM, in bytes.", process.resident_bytes),
        gauge("process_start_time_seconds", "Start of the process, in Unix seconds.", process.start_seconds),
    ]
}

fn family(name: &str, help: &str, kind: MetricType, metric: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![metric]);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the series that begins with `series`.
    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    #[test]
    fn what_is_counted_is_rendered_under_its_documented_name() {
        let metrics = Metrics::new();
        let target = metrics.target("openai/gpt-5.5");
        target.attempt(Outcome::Ok);
        target.attempt(Outcome::RateLimited);
        target.attempt(Outcome::RateLimited);
        target.first_token(Duration::from_millis(300));
        target.chunk_gap(Duration::from_millis(20));
        target.tokens(&Usage { input: 11, reasoning: 7, ..Usage::default() });
        target.cost(Nanos(1_500_000));
        target.cost(Nanos(500_000));
        target.cost(Nanos::ZERO);
        assert!(target.unpriced() && !target.unpriced());
        let model = metrics.model("chat", "gpt-5.5");
        model.ended(Outcome::Cut, Duration::from_secs(3));
        model.fell_back("rate_limit");
        metrics.overhead.observe(80e-6);
        metrics.error(Outcome::BadRequest);
        metrics.retry(Outcome::Connect);
        metrics.auth_failure("invalid_api_key");
        metrics.config_reload(Ok("abc"));
        metrics.config_reload(Err(()));
        metrics.config_reload(Ok("def"));
        let text = metrics.render();
        let expected = [
            ("switchboard_attempts_total{outcome=\"ok\",target=\"openai/gpt-5.5\"}", 1.0),
            ("switchboard_attempts_total{outcome=\"rate_limited\",target=\"openai/gpt-5.5\"}", 2.0),
            ("switchboard_time_to_first_token_seconds_count{target=\"openai/gpt-5.5\"}", 1.0),
            ("switchboard_chunk_gap_seconds_sum{target=\"openai/gpt-5.5\"}", 0.02),
            ("switchboard_tokens_total{kind=\"input\",target=\"openai/gpt-5.5\"}", 11.0),
            ("switchboard_tokens_total{kind=\"reasoning\",target=\"openai/gpt-5.5\"}", 7.0),
            ("switchboard_cost_dollars_total{target=\"openai/gpt-5.5\"}", 0.002),
            ("switchboard_unpriced_attempts_total{target=\"openai/gpt-5.5\"}", 2.0),
            ("switchboard_calls_total{model=\"gpt-5.5\",operation=\"chat\",outcome=\"cut\"}", 1.0),
            ("switchboard_call_duration_seconds_sum{operation=\"chat\"}", 3.0),
            ("switchboard_fallbacks_total{model=\"gpt-5.5\",reason=\"rate_limit\"}", 1.0),
            ("switchboard_overhead_seconds_bucket{le=\"0.0001\"}", 1.0),
            ("switchboard_overhead_seconds_bucket{le=\"0.00005\"}", 0.0),
            ("switchboard_errors_total{class=\"bad_request\"}", 1.0),
            ("switchboard_retries_total{reason=\"connect\"}", 1.0),
            ("switchboard_auth_failures_total{code=\"invalid_api_key\"}", 1.0),
            ("switchboard_config_reloads_total{result=\"ok\"}", 2.0),
            ("switchboard_config_reloads_total{result=\"rejected\"}", 1.0),
            ("switchboard_config_info{hash=\"def\"}", 1.0),
            ("switchboard_calls_in_flight", 0.0),
            ("switchboard_connections_open", 0.0),
            ("switchboard_streams_open", 0.0),
            ("switchboard_settlements_pending", 0.0),
            ("switchboard_log_lines_dropped_total", 0.0),
            ("switchboard_content_lines_dropped_total", 0.0),
        ];
        for (series, expected) in expected {
            assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
        }
        assert_eq!(value(&text, "switchboard_config_info{hash=\"abc\"}"), None, "only one configuration is in force");
        assert!(text.contains("# HELP switchboard_retries_total Repeats of a target already tried"), "{text}");
        assert!(!text.contains("kind=\"output\""), "a series appears with its first event: {text}");
    }

    #[test]
    fn the_same_label_gives_the_same_counters_after_a_reload() {
        let metrics = Metrics::new();
        assert!(Arc::ptr_eq(&metrics.target("a/b"), &metrics.target("a/b")));
        assert!(Arc::ptr_eq(&metrics.model("chat", "m"), &metrics.model("chat", "m")));
        assert!(!Arc::ptr_eq(&metrics.model("chat", "m"), &metrics.model("embeddings", "m")));
    }

    #[test]
    fn labels_beyond_the_bound_share_one_series() {
        let metrics = Metrics::new();
        for index in 0..MAX_LABELS + 100 {
            metrics.target(&format!("p/{index}")).attempt(Outcome::Ok);
            metrics.model("chat", &format!("m{index}")).ended(Outcome::Ok, Duration::ZERO);
        }
        let text = metrics.render();
        assert_eq!(value(&text, "switchboard_attempts_total{outcome=\"ok\",target=\"other\"}"), Some(100.0));
        let calls = "switchboard_calls_total{model=\"other\",operation=\"chat\",outcome=\"ok\"}";
        assert_eq!(value(&text, calls), Some(100.0));
        assert_eq!(text.matches("switchboard_attempts_total{").count(), MAX_LABELS + 1);
    }

    #[test]
    fn breakers_are_read_at_the_scrape_and_vanish_with_their_target() {
        let metrics = Metrics::new();
        assert!(!metrics.render().contains("breaker_state"));
        let breakers = Arc::new(Mutex::new(vec![
            BreakerSample { target: "a/b".into(), key: 0, state: BreakerState::Closed },
            BreakerSample { target: "a/b".into(), key: 1, state: BreakerState::Open },
        ]));
        let source = breakers.clone();
        metrics.read_breakers_with(move || source.lock().unwrap().clone());
        let text = metrics.render();
        assert_eq!(value(&text, "switchboard_breaker_state{key=\"0\",target=\"a/b\"}"), Some(0.0));
        assert_eq!(value(&text, "switchboard_breaker_state{key=\"1\",target=\"a/b\"}"), Some(2.0));
        breakers.lock().unwrap().clear();
        assert!(!metrics.render().contains("breaker_state"));
    }

    #[test]
    fn a_guard_counts_while_it_lives() {
        let metrics = Metrics::new();
        let guard = Metrics::count(&metrics.streams_open);
        assert_eq!(metrics.streams_open.get(), 1);
        drop(guard);
        assert_eq!(metrics.streams_open.get(), 0);
    }
}
