//! The scenarios, and the order in which contestants take their turns.

use anyhow::Result;

use crate::contestants::{Contestant, PASSED, Running, TRANSLATED};
use crate::measure::{self, Figures, Setting};
use crate::payload::BURST_CHUNKS;
use crate::report::Results;

/// Chunks in a long burst: the cost of a chunk must not depend on how many came before.
const LONG_BURST_CHUNKS: usize = 2000;

/// A way to load a contestant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Scenario {
    #[value(name = "whole-1k")]
    Whole1k,
    #[value(name = "whole-32k")]
    Whole32k,
    Burst,
    BurstSome,
    BurstEach,
    BurstLong,
    Paced,
    #[value(name = "translated-4k")]
    Translated4k,
    TranslatedBurst,
    TranslatedEach,
    TranslatedPaced,
    Images,
    TranslatedImages,
    OpenStreams,
    #[value(alias = "idle")]
    Start,
}

/// A figure: its key in the JSON report, its heading and decimals in the table, and whether the ratio to nginx is shown.
pub struct Figure {
    pub key: &'static str,
    pub heading: &'static str,
    pub decimals: usize,
    pub ratio: bool,
}

impl Scenario {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole1k => "whole-1k",
            Self::Whole32k => "whole-32k",
            Self::Burst => "burst",
            Self::BurstSome => "burst-some",
            Self::BurstEach => "burst-each",
            Self::BurstLong => "burst-long",
            Self::Paced => "paced",
            Self::Translated4k => "translated-4k",
            Self::TranslatedBurst => "translated-burst",
            Self::TranslatedEach => "translated-each",
            Self::TranslatedPaced => "translated-paced",
            Self::Images => "images",
            Self::TranslatedImages => "translated-images",
            Self::OpenStreams => "open-streams",
            Self::Start => "start",
        }
    }

    /// What it does, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Whole1k => "1 KB prompt, whole answer: cost under load, then time added to single calls",
            Self::Whole32k => "32 KB prompt, whole answer: cost under load, then time added to single calls",
            Self::Burst => "200 chunks at once, one upstream write: cost of a chunk, the call included",
            Self::BurstSome => "200 chunks at once, an upstream write for every four",
            Self::BurstEach => "200 chunks at once, an upstream write for each",
            Self::BurstLong => "2,000 chunks at once: the cost of a chunk must not grow with the stream",
            Self::Paced => "200 streams at once, a chunk each 20 ms: time added by the proxy",
            Self::Translated4k => "4 KB prompt, whole answer, from OpenAI's format to Anthropic's and back",
            Self::TranslatedBurst => "200 chunks at once in Anthropic's format, one upstream write: cost of a chunk",
            Self::TranslatedEach => "200 chunks at once in Anthropic's format, an upstream write for each",
            Self::TranslatedPaced => "200 streams at once in Anthropic's format, a chunk each 20 ms",
            Self::Images => "requests with an image of 20 MB, and what small calls beside them feel",
            Self::TranslatedImages => "the same from OpenAI's format to Anthropic's",
            Self::OpenStreams => "memory for each open stream, in a fresh process",
            Self::Start => "from exec to ready, and memory when idle",
        }
    }

    /// The columns of its table.
    pub fn figures(self) -> &'static [Figure] {
        match self {
            Self::Whole1k | Self::Whole32k | Self::Translated4k => WHOLE,
            Self::Burst | Self::BurstSome | Self::BurstEach | Self::BurstLong => BURST,
            Self::TranslatedBurst | Self::TranslatedEach => BURST,
            Self::Paced | Self::TranslatedPaced => PACED,
            Self::Images | Self::TranslatedImages => IMAGES,
            Self::OpenStreams => OPEN_STREAMS,
            Self::Start => START,
        }
    }

    /// These look at fresh processes and have no direct call to compare with.
    pub fn is_of_processes(self) -> bool {
        matches!(self, Self::OpenStreams | Self::Start)
    }

    async fn measure(self, setting: &Setting, running: &Running) -> Result<Figures> {
        let all = BURST_CHUNKS;
        match self {
            Self::Whole1k => measure::whole(setting, running, PASSED, 1024).await,
            Self::Whole32k => measure::whole(setting, running, PASSED, 32 * 1024).await,
            Self::Translated4k => measure::whole(setting, running, TRANSLATED, 4 * 1024).await,
            Self::Burst => measure::burst(setting, running, PASSED, (all, all)).await,
            Self::BurstSome => measure::burst(setting, running, PASSED, (all, 4)).await,
            Self::BurstEach => measure::burst(setting, running, PASSED, (all, 1)).await,
            Self::BurstLong => measure::burst(setting, running, PASSED, (LONG_BURST_CHUNKS, LONG_BURST_CHUNKS)).await,
            Self::TranslatedBurst => measure::burst(setting, running, TRANSLATED, (all, all)).await,
            Self::TranslatedEach => measure::burst(setting, running, TRANSLATED, (all, 1)).await,
            Self::Paced => measure::paced(setting, running, PASSED).await,
            Self::TranslatedPaced => measure::paced(setting, running, TRANSLATED).await,
            Self::Images => measure::images(setting, &running.contestant, PASSED).await,
            Self::TranslatedImages => measure::images(setting, &running.contestant, TRANSLATED).await,
            Self::OpenStreams => measure::open_streams(setting, &running.contestant).await,
            Self::Start if running.contestant.is_started_here() => measure::start(setting, &running.contestant).await,
            Self::Start => measure::resident(running),
        }
    }
}

/// Runs `scenario` for `rounds` rounds, the contestants of each round in random order: whatever else the machine does
/// meanwhile then meets all of them.
pub async fn run(scenario: Scenario, rounds: usize, setting: &Setting, contestants: &[Running], results: &mut Results) {
    let takes_part = |running: &&Running| !scenario.is_of_processes() || running.pid.is_some();
    let mut order: Vec<&Running> = contestants.iter().filter(takes_part).collect();
    for round in 1..=rounds {
        eprintln!("{} round {round} of {rounds}", scenario.name());
        fastrand::shuffle(&mut order);
        order.retain(|running| !results.has_failed(scenario, running.name()));
        if round > 1 && scenario.is_of_processes() {
            // A peer is not started afresh, and its memory has grown in the first round.
            order.retain(|running| running.contestant.is_started_here());
        }
        for running in &order {
            match scenario.measure(setting, running).await {
                Ok(figures) => results.add(scenario, running.name(), &figures),
                Err(error) => results.fail(scenario, running.name(), &error),
            }
            measure::settle(running).await;
        }
    }
}

/// Fails with the first thing that does not work in `contestant`.
pub async fn check(setting: &Setting, contestant: &Contestant, folder: &std::path::Path) -> Result<Running> {
    let running = contestant.start(setting.upstream.addr, setting.core, folder).await?;
    let asks = measure::check(setting, &running).await?;
    let usage = if asks { ", asks the upstream for usage in streams" } else { "" };
    eprintln!("{} is ready{usage}", running.name());
    Ok(running)
}

const fn figure(key: &'static str, heading: &'static str, decimals: usize) -> Figure {
    Figure { key, heading, decimals, ratio: false }
}

const fn compared(key: &'static str, heading: &'static str, decimals: usize) -> Figure {
    Figure { key, heading, decimals, ratio: true }
}

const BUSY: Figure = figure("busy_percent", "core busy %", 0);
const OTHER: Figure = figure("other_percent", "others %", 0);

const WHOLE: &[Figure] = &[
    compared("cpu_us_per_call", "CPU µs/call", 1),
    figure("calls_per_s", "calls/s", 0),
    figure("p50_us", "p50 µs", 0),
    figure("added_p50_us", "added p50 µs", 0),
    figure("added_p99_us", "added p99 µs", 0),
    BUSY,
    OTHER,
];

const BURST: &[Figure] = &[
    compared("cpu_us_per_chunk", "CPU µs/chunk", 2),
    figure("cpu_us_per_call", "CPU µs/stream", 0),
    figure("chunks_per_s", "chunks/s", 0),
    figure("calls_per_s", "streams/s", 0),
    BUSY,
    OTHER,
];

const PACED: &[Figure] = &[
    figure("added_first_p50_us", "first token added p50 µs", 0),
    figure("added_first_p99_us", "p99 µs", 0),
    figure("added_delay_p50_us", "each chunk added p50 µs", 0),
    figure("added_delay_p99_us", "p99 µs", 0),
    figure("gap_p99_us", "gap p99 µs", 0),
    compared("cpu_us_per_chunk", "CPU µs/chunk", 1),
    BUSY,
    OTHER,
];

const IMAGES: &[Figure] = &[
    figure("alone_p50_us", "small alone p50 µs", 0),
    figure("alone_p99_us", "p99 µs", 0),
    figure("beside_p50_us", "beside images p50 µs", 0),
    figure("beside_p99_us", "p99 µs", 0),
    figure("image_p50_us", "image p50 µs", 0),
    figure("held_per_body", "held, bodies", 2),
];

const OPEN_STREAMS: &[Figure] = &[
    compared("kib_per_stream", "KiB/stream", 1),
    figure("rss_before_mib", "before MiB", 1),
    figure("rss_open_mib", "all open MiB", 1),
];

const START: &[Figure] = &[
    figure("start_ms", "start ms", 1),
    figure("first_start_ms", "first start ms", 1),
    compared("idle_mib", "idle MiB", 1),
];
