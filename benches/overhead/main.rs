#![expect(clippy::disallowed_methods, reason = "a bench measures real time and owns its tasks; see clippy.toml")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what a bench is for")]

//! What a gateway costs: the release binary between a load generator and a fast upstream, beside a direct call and
//! beside nginx, in one interleaved run. The README in this folder says how to run it and how to read it.

mod client;
mod contestants;
mod http1;
mod measure;
mod options;
mod payload;
mod process;
mod report;
mod scenarios;
mod upstream;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::Setting;
use crate::options::Options;
use crate::report::Results;
use crate::upstream::Upstream;

fn main() -> Result<ExitCode> {
    // `cargo test --benches` runs bench targets without `--bench`, and listing tests must not take minutes.
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if has("--test") || has("--list") || !(has("--bench") || has("--help") || has("-h")) {
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    process::raise_open_files()?;
    let (theirs, ours) = cores(&options)?;
    if let Some(core) = ours {
        process::pin(std::process::id(), core)?;
    }
    // One thread for the load and the upstream: it is pinned, and threads would only take turns.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the run stops every process it started.
        tokio::select! {
            ended = run(&options, theirs) => ended,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(130)),
            _ = terminate.recv() => Ok(ExitCode::from(143)),
        }
    })
}

async fn run(options: &Options, core: Option<usize>) -> Result<ExitCode> {
    let begin = Instant::now();
    let setting = Setting {
        upstream: Upstream::start(options.upstream_port).await?,
        core,
        load: options.time(300, 2_000),
        latency: options.time(200, 1_000),
        paced: options.time(2_000, 4_000),
        open_streams: if options.quick { 500 } else { 1_000 },
    };
    let contestants = options.contestants()?;
    let mut results = Results::new(contestants.iter().map(|contestant| contestant.name.clone()).collect());
    let (mut folders, mut running, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for contestant in &contestants {
        let folder = contestants::folder()?;
        match scenarios::check(&setting, contestant, folder.path()).await {
            Ok(ready) => running.push(ready),
            Err(error) => absent.push(format!("{} was left out: {error:#}", contestant.name)),
        }
        folders.push(folder);
    }
    absent.iter().for_each(|line| eprintln!("{line}"));
    for scenario in options.scenarios() {
        scenarios::run(scenario, options.rounds(scenario), &setting, &running, &mut results).await;
    }
    drop(running);

    println!("{}", results.tables());
    println!("Medians of interleaved rounds, {:.0} s in all. {}", begin.elapsed().as_secs_f64(), machine());
    if results.noise() > 10.0 {
        println!("Other work took up to {:.0} % of the contestants' core: times and p99 mean little.", results.noise());
    }
    absent.iter().for_each(|line| println!("{line}"));
    if let Some(file) = &options.json {
        let about =
            json!({"machine": machine(), "quick": options.quick, "noise_percent": results.noise(), "left_out": absent});
        let text = serde_json::to_string_pretty(&results.json(&about))?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(if absent.is_empty() && !results.any_failed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The core of the contestants and the core of the load; none when there is only one to share.
fn cores(options: &Options) -> Result<(Option<usize>, Option<usize>)> {
    let allowed = process::allowed_cores();
    match (options.cores.as_slice(), allowed.as_slice()) {
        ([theirs, ours], _) | ([], [theirs, ours, ..]) => Ok((Some(*theirs), Some(*ours))),
        ([], _) => {
            eprintln!("Only one core: nothing is pinned, and times are of little worth.");
            Ok((None, None))
        }
        _ => anyhow::bail!("--cores takes two"),
    }
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("{}, Linux {}, load {}.", model.trim_start_matches([' ', '\t', ':']), kernel.trim(), load.trim())
}
