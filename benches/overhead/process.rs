//! Child processes: started on a core of their own, measured through `/proc`, and stopped on every way out.
//!
//! CPU time is the scheduler's own account in nanoseconds (`/proc/PID/task/*/schedstat`, first field), summed over all
//! threads of the process and of its descendants: `/proc/PID/stat` counts in ticks of 10 ms, too coarse for a round of
//! half a second. The commands `taskset`, `setpriv`, `prlimit` and `kill` of util-linux and procps stand in for system
//! calls that would need `unsafe` here.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running process that is stopped when this value goes.
pub struct Process {
    child: Child,
}

/// CPU time used so far, in nanoseconds, by each thread of a process tree.
pub struct CpuReading {
    threads: HashMap<u32, u64>,
}

impl Process {
    /// Starts `program` pinned to `core`, its output appended to `log`.
    pub fn start(core: Option<usize>, log: &Path, program: &str, args: &[&str]) -> Result<Self> {
        let mut words: Vec<String> = Vec::new();
        if let Some(core) = core {
            words.extend(["taskset", "-c"].map(String::from));
            words.push(core.to_string());
        }
        // A bench killed outright runs no destructor; the kernel then ends the child.
        words.extend(["setpriv", "--pdeathsig", "TERM"].map(String::from));
        words.push(program.to_owned());
        words.extend(args.iter().map(|arg| String::from(*arg)));
        let output = File::options().create(true).append(true).open(log)?;
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self { child })
    }

    /// The process id. `taskset` and `setpriv` replace themselves by the program, so it is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True once the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let family = tree(self.pid());
        let _ = quiet("kill", &["-TERM", &self.pid().to_string()]);
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline && !self.has_ended() {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !self.has_ended() {
            for pid in family.iter().skip(1) {
                let _ = quiet("kill", &["-KILL", &pid.to_string()]);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl CpuReading {
    /// Reads the CPU time of `pid` and its descendants.
    pub fn of(pid: u32) -> Self {
        let mut threads = HashMap::new();
        for process in tree(pid) {
            for thread in numbered(&format!("/proc/{process}/task")) {
                let path = format!("/proc/{process}/task/{thread}/schedstat");
                if let Some(time) = fs::read_to_string(path).ok().as_deref().and_then(first_number) {
                    threads.insert(thread, time);
                }
            }
        }
        Self { threads }
    }

    /// Nanoseconds used between `earlier` and this reading. A thread that ended in between is left out: what it used
    /// can no longer be known, and no contestant ends threads while it is under load.
    pub fn since(&self, earlier: &Self) -> u64 {
        let used = |(thread, time): (&u32, &u64)| time.saturating_sub(*earlier.threads.get(thread).unwrap_or(&0));
        self.threads.iter().map(used).sum()
    }
}

/// Resident memory of `pid` and its descendants, in KiB.
pub fn resident_kib(pid: u32) -> u64 {
    kib(pid, "VmRSS:")
}

/// The most that was ever resident, in KiB, of the process and its children.
pub fn peak_kib(pid: u32) -> u64 {
    kib(pid, "VmHWM:")
}

fn kib(pid: u32, name: &str) -> u64 {
    let of_one = |pid: u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix(name).and_then(first_number)).unwrap_or(0)
    };
    tree(pid).into_iter().map(of_one).sum()
}

/// Time that `core` has been busy since boot, whoever used it, in nanoseconds (resolution 10 ms).
pub fn core_busy(core: usize) -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let Some(line) = stat.lines().find_map(|line| line.strip_prefix(&name)) else { return 0 };
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // Fields: user nice system idle iowait irq softirq steal; idle and iowait are not work.
    ticks
        .iter()
        .enumerate()
        .filter(|(field, _)| ![3, 4].contains(field) && *field < 8)
        .map(|(_, t)| t * 10_000_000)
        .sum()
}

/// Pins `pid`, with all of its threads and descendants, to `core`.
pub fn pin(pid: u32, core: usize) -> Result<()> {
    for process in tree(pid) {
        quiet("taskset", &["-a", "-c", "-p", &core.to_string(), &process.to_string()])?;
    }
    Ok(())
}

/// Raises the limit of open files of this process, which its children inherit, as far as the system allows.
pub fn raise_open_files() -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let hard = line.split_whitespace().nth(1).unwrap_or("unlimited");
    let wanted = hard.parse::<u64>().unwrap_or(65_536).min(65_536);
    quiet("prlimit", &["--pid", &std::process::id().to_string(), &format!("--nofile={wanted}:{hard}")])
}

/// The cores this process may run on, in order.
pub fn allowed_cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

/// `pid` first, then its descendants.
fn tree(pid: u32) -> Vec<u32> {
    let (mut found, mut seen, mut next) = (vec![pid], HashSet::from([pid]), 0);
    while next < found.len() {
        let parent = found[next];
        next += 1;
        for thread in numbered(&format!("/proc/{parent}/task")) {
            let children = fs::read_to_string(format!("/proc/{parent}/task/{thread}/children")).unwrap_or_default();
            found.extend(
                children.split_whitespace().filter_map(|word| word.parse().ok()).filter(|pid| seen.insert(*pid)),
            );
        }
    }
    found
}

fn numbered(folder: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn quiet(program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status.with_context(|| format!("running {program}"))? {
        status if status.success() => Ok(()),
        status => bail!("{program} {} ended with {status}", args.join(" ")),
    }
}
