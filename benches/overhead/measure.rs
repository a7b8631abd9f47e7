//! One measurement of one contestant: put load on, read the clocks on both sides, return figures by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Connection, Progress, Seen, closed_loop, paced_loop};
use crate::contestants::{Contestant, PASSED, Running, TRANSLATED, folder};
use crate::payload::BURST_CHUNKS;
use crate::process::{CpuReading, core_busy, peak_kib, resident_kib};
use crate::upstream::{Mode, Upstream, now};

/// Results of a measurement by the name of the figure; `scenarios::FIGURES` says what each is.
pub type Figures = BTreeMap<&'static str, f64>;

/// What measurements need to know of the machine and of the time they may take.
pub struct Setting {
    pub upstream: Upstream,
    /// The core of the contestants, if they are pinned.
    pub core: Option<usize>,
    /// How long one measurement under full load lasts.
    pub load: Duration,
    /// How long calls are made one at a time.
    pub latency: Duration,
    /// How long paced streams are observed.
    pub paced: Duration,
    /// How many streams are held open to measure memory.
    pub open_streams: u32,
}

/// Load is on for this long before it counts.
const WARM_UP: Duration = Duration::from_millis(200);
/// Connections under full load without streaming.
const CONNECTIONS: usize = 32;
/// Connections under full load in bursts.
const BURST_CONNECTIONS: usize = 8;
/// Body of the requests whose answers are streamed, in bytes.
const STREAM_PROMPT: usize = 1024;
/// The image in a request, in bytes.
const IMAGE: usize = 20_000_000;
const PACED_STREAMS: u32 = 200;
const PACED_CHUNKS: u32 = 100;
const PACE: Duration = Duration::from_millis(20);

/// Makes sure that calls pass through `running` unharmed. Returns true when the upstream was asked for usage in streams.
pub async fn check(setting: &Setting, running: &Running) -> Result<bool> {
    let asks = check_model(setting, running, PASSED).await?;
    check_model(setting, running, TRANSLATED).await.context("across formats")?;
    Ok(asks)
}

async fn check_model(setting: &Setting, running: &Running, model: &str) -> Result<bool> {
    let mut connection = Connection::new(&running.endpoint);
    let mut body = Vec::new();
    setting.upstream.watch(true);
    setting.upstream.set_mode(Mode::Whole);
    connection.call(&running.endpoint.request(model, 1024, false), |piece| body.extend_from_slice(piece)).await?;
    let text = String::from_utf8_lossy(&body).into_owned();
    ensure!(connection.status() == 200, "status {}: {text}", connection.status());
    let answer: serde_json::Value = serde_json::from_str(&text).context("the answer is not JSON")?;
    ensure!(answer["usage"]["completion_tokens"] == 200, "the answer lost its usage: {text}");
    running.check_forwarded(&setting.upstream.seen().context("the upstream saw no call")?, model)?;

    body.clear();
    setting.upstream.set_mode(Mode::Burst { chunks: BURST_CHUNKS, per_write: BURST_CHUNKS });
    connection = Connection::new(&running.endpoint);
    let request = running.endpoint.request(model, STREAM_PROMPT, true);
    connection.call(&request, |piece| body.extend_from_slice(piece)).await?;
    let chunks = memmem::find_iter(&body, b"@t").count();
    let text = String::from_utf8_lossy(&body[body.len().saturating_sub(500)..]);
    ensure!(chunks == BURST_CHUNKS, "{chunks} of {BURST_CHUNKS} chunks arrived, the end of the answer: {text}");
    ensure!(body.trim_ascii_end().ends_with(b"data: [DONE]"), "the stream did not end with [DONE]");
    let seen = setting.upstream.seen().context("the upstream saw no stream")?;
    running.check_forwarded(&seen, model)?;
    running.check_stream(&body)?;
    setting.upstream.watch(false);
    Ok(memmem::find(&seen, b"include_usage").is_some())
}

/// Whole answers to prompts of `bytes` bytes: cost under full load, then time with one call at a time.
pub async fn whole(setting: &Setting, running: &Running, model: &str, bytes: usize) -> Result<Figures> {
    setting.upstream.set_mode(Mode::Whole);
    let request = running.endpoint.request(model, bytes, false);
    let (mut figures, _) = load(setting, running, &request, CONNECTIONS, setting.load).await?;
    // An upstream's connection pool should be warm and its surplus idle: one call at a time on one connection.
    let times = {
        let (endpoint, progress) = (Arc::clone(&running.endpoint), Arc::new(Progress::default()));
        closed_loop(endpoint, request, progress, now() + nanos(setting.latency)).await?
    };
    add_percentiles(&mut figures, ["p50_us", "p99_us"], times)?;
    Ok(figures)
}

/// Streams whose chunks are all there at once: cost for each chunk, the call's own cost included.
pub async fn burst(
    setting: &Setting,
    running: &Running,
    model: &str,
    (chunks, per_write): (usize, usize),
) -> Result<Figures> {
    setting.upstream.set_mode(Mode::Burst { chunks, per_write });
    let request = running.endpoint.request(model, STREAM_PROMPT, true);
    let (mut figures, window) = load(setting, running, &request, BURST_CONNECTIONS, setting.load).await?;
    // Two line ends for each event.
    let events = window.events / 2.0;
    figures.insert("chunks_per_s", events / window.seconds);
    if let Some(cpu) = window.cpu.filter(|_| events > 0.0) {
        figures.insert("cpu_us_per_chunk", cpu / 1e3 / events);
    }
    Ok(figures)
}

/// Many slow streams at once, their starts spread evenly: how much later than without a proxy do chunks arrive?
pub async fn paced(setting: &Setting, running: &Running, model: &str) -> Result<Figures> {
    setting.upstream.set_mode(Mode::Paced { chunks: PACED_CHUNKS, every: PACE });
    let request = running.endpoint.request(model, STREAM_PROMPT, true);
    let progress = Arc::new(Progress::default());
    let length = PACE * PACED_CHUNKS;
    let from = now() + nanos(length);
    let until = from + nanos(setting.paced);
    let mut users = JoinSet::new();
    for user in 0..PACED_STREAMS {
        let (endpoint, request, progress) =
            (Arc::clone(&running.endpoint), Arc::clone(&request), Arc::clone(&progress));
        users.spawn(paced_loop(endpoint, request, progress, length * user / PACED_STREAMS, (from, until)));
    }
    sleep(Duration::from_nanos(from - now())).await;
    let window = Window::observe(setting, running, &progress, setting.paced).await;
    let mut all = Seen::default();
    while let Some(user) = users.join_next().await {
        let seen = user??;
        all.first.extend(seen.first);
        all.delay.extend(seen.delay);
        all.gap.extend(seen.gap);
    }
    let mut figures = window.figures(setting);
    if let Some(cpu) = window.cpu.filter(|_| window.events > 0.0) {
        figures.insert("cpu_us_per_chunk", cpu / 1e3 / window.events);
    }
    add_percentiles(&mut figures, ["first_p50_us", "first_p99_us"], all.first)?;
    if !all.gap.is_empty() {
        add_percentiles(&mut figures, ["delay_p50_us", "delay_p99_us"], all.delay)?;
        add_percentiles(&mut figures, ["gap_p50_us", "gap_p99_us"], all.gap)?;
    }
    Ok(figures)
}

/// Images of 20 MB, one after the other, and small calls beside them: how much longer do those take than alone, and how
/// much memory is there at most for each byte of a body?
pub async fn images(setting: &Setting, contestant: &Contestant, model: &str) -> Result<Figures> {
    let folder = folder()?;
    let running = contestant.start(setting.upstream.addr, setting.core, folder.path()).await?;
    if running.pid.is_some() {
        check(setting, &running).await?;
    }
    setting.upstream.set_mode(Mode::Whole);
    let small = running.endpoint.request(PASSED, 1024, false);
    let alone = small_calls(&running, &small, now() + nanos(setting.latency)).await?;
    let before = running.pid.map(peak_kib);
    let image = running.endpoint.image(model, IMAGE);
    let until = now() + nanos(setting.load * 2);
    let large = {
        let (endpoint, progress) = (Arc::clone(&running.endpoint), Arc::new(Progress::default()));
        tokio::spawn(closed_loop(endpoint, image, progress, until))
    };
    let beside = small_calls(&running, &small, until).await?;
    let mut figures = Figures::new();
    add_percentiles(&mut figures, ["alone_p50_us", "alone_p99_us"], alone)?;
    add_percentiles(&mut figures, ["beside_p50_us", "beside_p99_us"], beside)?;
    add_percentiles(&mut figures, ["image_p50_us", "image_p99_us"], large.await??)?;
    if let (Some(before), Some(pid)) = (before, running.pid) {
        let held = float(peak_kib(pid)) - float(before);
        figures.insert("held_per_body", held * 1024.0 / float(IMAGE as u64));
    }
    Ok(figures)
}

/// Calls one after the other, each some time after the one before: nobody waits behind them.
async fn small_calls(running: &Running, request: &[u8], until: u64) -> Result<Vec<u64>> {
    let mut connection = Connection::new(&running.endpoint);
    let mut times = Vec::new();
    while now() < until {
        let begin = now();
        connection.call(request, |_| {}).await?;
        ensure!(connection.status() == 200, "status {}", connection.status());
        times.push(now() - begin);
        sleep(Duration::from_millis(2)).await;
    }
    Ok(times)
}

/// Memory of a fresh process before its first call and for each stream held open.
pub async fn open_streams(setting: &Setting, contestant: &Contestant) -> Result<Figures> {
    let folder = folder()?;
    let running = contestant.start(setting.upstream.addr, setting.core, folder.path()).await?;
    let pid = running.pid.context("memory needs a process id")?;
    // One call of each sort, so that code read from disk for the first time is not charged to the streams.
    check(setting, &running).await?;
    sleep(Duration::from_millis(200)).await;
    let before = resident_kib(pid);

    // Slow enough that the streams themselves are hardly any work.
    setting.upstream.set_mode(Mode::Paced { chunks: 120, every: Duration::from_millis(500) });
    let request = running.endpoint.request(PASSED, STREAM_PROMPT, true);
    let progress = Arc::new(Progress::default());
    let mut users = JoinSet::new();
    for user in 0..setting.open_streams {
        let (endpoint, request, progress) =
            (Arc::clone(&running.endpoint), Arc::clone(&request), Arc::clone(&progress));
        let delay = Duration::from_millis(u64::from(user));
        users.spawn(paced_loop(endpoint, request, progress, delay, (u64::MAX, now() + 40_000_000_000)));
    }
    let deadline = now() + 30_000_000_000;
    while progress.events.load(Relaxed) < 3 * u64::from(setting.open_streams) {
        ensure!(now() < deadline, "{} chunks arrived on the open streams", progress.events.load(Relaxed));
        ensure!(users.try_join_next().is_none(), "a stream ended early");
        sleep(Duration::from_millis(20)).await;
    }
    let open = resident_kib(pid);
    users.shutdown().await;
    let streams = f64::from(setting.open_streams);
    Ok(Figures::from([
        ("rss_before_mib", float(before) / 1024.0),
        ("rss_open_mib", float(open) / 1024.0),
        ("kib_per_stream", (float(open) - float(before)) / streams),
    ]))
}

/// Time from exec to readiness, with an empty folder and with the files of an earlier run, and memory when idle.
pub async fn start(setting: &Setting, contestant: &Contestant) -> Result<Figures> {
    let folder = folder()?;
    let first = contestant.start(setting.upstream.addr, setting.core, folder.path()).await?;
    sleep(Duration::from_millis(500)).await;
    let idle = first.pid.map(resident_kib).context("memory needs a process id")?;
    let first_start = first.started_in;
    drop(first);
    let again = contestant.start(setting.upstream.addr, setting.core, folder.path()).await?;
    Ok(Figures::from([
        ("first_start_ms", first_start.as_secs_f64() * 1e3),
        ("start_ms", again.started_in.as_secs_f64() * 1e3),
        ("idle_mib", float(idle) / 1024.0),
    ]))
}

/// Memory of a peer, which cannot be started afresh.
pub fn resident(running: &Running) -> Result<Figures> {
    let pid = running.pid.context("memory needs a process id")?;
    Ok(Figures::from([("idle_mib", float(resident_kib(pid)) / 1024.0)]))
}

/// Waits until `running` has nothing left to do for calls that were cut off, which would slow down the next contestant.
pub async fn settle(running: &Running) {
    let Some(pid) = running.pid else { return };
    for _ in 0..100 {
        let before = CpuReading::of(pid);
        sleep(Duration::from_millis(100)).await;
        if CpuReading::of(pid).since(&before) < 20_000_000 {
            return;
        }
    }
}

/// What happened between two moments under load.
struct Window {
    seconds: f64,
    calls: f64,
    events: f64,
    /// Nanoseconds of CPU the contestant used.
    cpu: Option<f64>,
    /// Nanoseconds the contestant's core was busy.
    busy: Option<f64>,
}

async fn load(
    setting: &Setting,
    running: &Running,
    request: &Arc<Vec<u8>>,
    connections: usize,
    duration: Duration,
) -> Result<(Figures, Window)> {
    let progress = Arc::new(Progress::default());
    let until = now() + nanos(WARM_UP + duration + Duration::from_millis(20));
    let mut users = JoinSet::new();
    for _ in 0..connections {
        let (endpoint, request, progress) = (Arc::clone(&running.endpoint), Arc::clone(request), Arc::clone(&progress));
        users.spawn(closed_loop(endpoint, request, progress, until));
    }
    sleep(WARM_UP).await;
    let window = Window::observe(setting, running, &progress, duration).await;
    let mut times = Vec::new();
    while let Some(user) = users.join_next().await {
        times.extend(user??);
    }
    let mut figures = window.figures(setting);
    add_percentiles(&mut figures, ["loaded_p50_us", "loaded_p99_us"], times)?;
    Ok((figures, window))
}

impl Window {
    async fn observe(setting: &Setting, running: &Running, progress: &Progress, duration: Duration) -> Self {
        let read = || {
            let cpu = running.pid.map(CpuReading::of);
            (now(), progress.calls.load(Relaxed), progress.events.load(Relaxed), cpu, setting.core.map(core_busy))
        };
        let before = read();
        sleep(duration).await;
        let after = read();
        Self {
            seconds: float(after.0 - before.0) / 1e9,
            calls: float(after.1 - before.1),
            events: float(after.2 - before.2),
            cpu: before.3.zip(after.3).map(|(before, after)| float(after.since(&before))),
            busy: before.4.zip(after.4).map(|(before, after)| float(after.saturating_sub(before))),
        }
    }

    fn figures(&self, setting: &Setting) -> Figures {
        let mut figures = Figures::from([("calls_per_s", self.calls / self.seconds)]);
        if let Some(cpu) = self.cpu {
            if self.calls > 0.0 {
                figures.insert("cpu_us_per_call", cpu / 1e3 / self.calls);
            }
            figures.insert("busy_percent", cpu / self.seconds / 1e7);
        }
        if let (Some(_), Some(busy)) = (setting.core, self.busy) {
            figures.insert("other_percent", (busy - self.cpu.unwrap_or(0.0)).max(0.0) / self.seconds / 1e7);
        }
        figures
    }
}

fn add_percentiles(figures: &mut Figures, names: [&'static str; 2], mut nanoseconds: Vec<u64>) -> Result<()> {
    ensure!(!nanoseconds.is_empty(), "no call was completed in time");
    nanoseconds.sort_unstable();
    for (name, per_mille) in names.into_iter().zip([500, 990]) {
        let rank = (nanoseconds.len() * per_mille).div_ceil(1000).saturating_sub(1);
        figures.insert(name, float(nanoseconds[rank]) / 1e3);
    }
    Ok(())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts and nanoseconds of a few minutes fit the 53 bits exactly.
fn float(count: u64) -> f64 {
    count as f64
}
