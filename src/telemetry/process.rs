//! The process as the kernel sees it, read from `/proc` at each scrape, under the names every Prometheus client
//! library uses. On systems without `/proc` these metrics are absent.

use std::fs;

/// The kernel reports CPU time in hundredths of a second, whatever its own tick is (`USER_HZ`, proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// User and system time since the start, in seconds.
    pub(super) cpu_seconds: f64,
    /// Memory in RAM, in bytes.
    pub(super) resident_bytes: f64,
    pub(super) open_fds: f64,
    /// When the process began, in Unix seconds.
    pub(super) start_seconds: f64,
}

impl Process {
    /// Reads all of it, or `None` where the kernel does not tell.
    pub(super) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let boot: f64 = after(&fs::read_to_string("/proc/stat").ok()?, "btime ")?;
        let (cpu_seconds, since_boot) = times(&stat)?;
        Some(Self {
            cpu_seconds,
            resident_bytes: after(&status, "VmRSS:")? * 1024.0,
            open_fds: open_fds()?,
            start_seconds: boot + since_boot,
        })
    }
}

/// How many files, sockets included, the process may have open: the soft limit. `None` where there is no limit or the
/// kernel does not tell.
pub fn descriptor_limit() -> Option<u64> {
    soft_limit(&fs::read_to_string("/proc/self/limits").ok()?, "Max open files")
}

/// The first figure of a row of `/proc/self/limits`: name, soft limit, hard limit, unit, in columns (proc(5)).
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    row.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU seconds and the start in seconds after boot: fields 14, 15 and 22 of `/proc/self/stat`. The second field is
/// the program's name in parentheses and may itself hold spaces, so counting starts behind the last parenthesis.
fn times(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND, ticks(22)? / TICKS_PER_SECOND))
}

/// The number that follows `name` at the start of a line.
fn after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Since Linux 6.2 the directory's length is the number of open descriptors; before, it is 0 and they are counted.
fn open_fds() -> Option<f64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64),
        known => Some(known as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_open_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             95642                95642                processes \n\
                      Max open files            1024                 524288               files     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
        assert_eq!(soft_limit(limits, "Max cpu time"), None);
        assert_eq!(soft_limit(limits, "Max of something new"), None);
    }

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 4200 1 1";
        assert_eq!(times(stat), Some((2.0, 42.0)));
        assert_eq!(times("7 (a"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_running_process_is_read() {
        let process = Process::read().unwrap();
        assert!(process.resident_bytes > 1e6, "{process:?}");
        assert!(process.open_fds >= 3.0, "{process:?}");
        assert!(process.start_seconds > 1.6e9, "{process:?}");
    }
}
