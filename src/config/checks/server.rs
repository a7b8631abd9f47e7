//! The listening side, logs, deadlines, retries, health, and what models say about bodies.

use std::{fmt::Display, fs::File, ops::RangeInclusive, path::Path, time::Duration};

use tracing_subscriber::filter::EnvFilter;

use super::Report;
use crate::{
    config::{complaint::nearest, environment::describe, settings::Settings},
    providers::settings::Timeout,
    shared::settings::RedisSettings,
    types::{Period, Size},
};

const DAY: Period = Period::from_secs(86_400);
/// More connections or calls than a machine can hold are a typing error.
const MANY: usize = 10_000_000;
/// Words that `log.level` may be without being a filter.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

pub(super) fn check(settings: &Settings, report: &mut Report<'_>) {
    listener(settings, report);
    log(settings, report);
    ledger(settings, report);
    timeout(&["timeout"], &settings.timeout, report);
    retries(settings, report);
    health(settings, report);
    fetch(settings, report);
    models(settings, report);
}

fn listener(settings: &Settings, report: &mut Report<'_>) {
    let server = &settings.server;
    if let Some(tls) = &settings.tls {
        readable(&["tls", "cert"], &tls.cert, report);
        readable(&["tls", "key"], &tls.key, report);
    }
    if settings.data_dir.as_os_str().is_empty() {
        report.error(&["data_dir"], "this must name a folder");
    }
    if let Some(database) = &settings.database {
        if let Err(message) = database.check() {
            let help = "postgres://user:password@host:5432/database?sslmode=verify-full";
            report.error_with_help(&["database", "url"], format!("this URL cannot be used: {message}"), help);
        }
        let timeout = database.statement_timeout;
        let a_second = Period::from_secs(1);
        if timeout < a_second {
            report.error_with_help(&["database", "statement_timeout"], "this is too short", "at least 1s");
        }
        at_most_a_day(&["database", "statement_timeout"], timeout, report);
    }
    if let Some(redis) = &settings.redis {
        if let Err((setting, message)) = redis.check() {
            // A bare URL has no members; the place is then the URL itself.
            let help = "redis://user:password@host:6379/0, or rediss:// for TLS";
            report.error_with_help(&["redis", setting], message, help);
        } else if let Some(file) = &redis.ca_file {
            authorities(&["redis", "ca_file"], file, report);
        }
    }
    within(&["server", "max_body"], server.max_body, Size(1)..=Size::mib(4096), report);
    // Less than 8 KiB is less than what HTTP/1 is read into at once.
    within(&["server", "max_headers"], server.max_headers, Size::kib(8)..=Size::mib(16), report);
    within(&["server", "max_in_flight"], server.max_in_flight, 1..=MANY, report);
    within(&["server", "max_connections"], server.max_connections, 1..=MANY, report);
    let wrong_keys = settings.auth.wrong_keys_per_minute;
    within(&["auth", "wrong_keys_per_minute"], wrong_keys, 1..=1_000_000, report);
    positive(&["server", "read_timeout"], server.read_timeout, report);
    positive(&["server", "idle_timeout"], server.idle_timeout, report);
    positive(&["server", "write_timeout"], server.write_timeout, report);
    positive(&["server", "keepalive"], server.keepalive, report);
    at_most_a_day(&["server", "drain", "pre_stop"], server.drain.pre_stop, report);
    at_most_a_day(&["server", "drain", "grace"], server.drain.grace, report);
}

fn log(settings: &Settings, report: &mut Report<'_>) {
    let level = settings.log.level.as_str();
    let bare = level.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // A filter takes any bare word for the name of a module, all of which it would then log.
    let understood = if bare { LEVELS.contains(&level) } else { EnvFilter::builder().parse(level).is_ok() };
    if !understood {
        let help = match nearest(level, LEVELS) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "write error, warn, info, debug, trace, or a filter such as info,switchboard::routing=debug".into(),
        };
        report.error_with_help(&["log", "level"], "this is neither a level nor a filter", help);
    }
    if let Some(content) = &settings.log.content {
        if content.to.as_os_str().is_empty() {
            report.error(&["log", "content", "to"], "this must be `stdout` or name a file");
        }
        // Every call under way may keep as much of its request, and of its answer.
        within(&["log", "content", "max_bytes"], content.max_bytes, Size(1)..=Size::mib(1), report);
    }
}

fn ledger(settings: &Settings, report: &mut Report<'_>) {
    let ledger = &settings.ledger;
    // Less than two segments would be full all the time. More than these is a typing error.
    within(&["ledger", "max_journal"], ledger.max_journal, Size::mib(16)..=Size::mib(16 << 20), report);
    within(&["ledger", "max_memory"], ledger.max_memory, Size::mib(1)..=Size::mib(1 << 20), report);
    let longest = Period::from_secs(60);
    if ledger.retention.is_some_and(|retention| retention < Period::from_secs(86_400)) {
        report.error(&["ledger", "retention"], "this is less than a day");
    }
    if ledger.linger > longest {
        report.error(&["ledger", "linger"], format!("this is more than {longest}"));
    }
}

/// Deadlines in one place. That of a whole call is compared with the others of the same place alone: elsewhere it is
/// usual to shorten one of them and leave the rest.
pub(super) fn timeout(path: &[&str], timeout: &Timeout, report: &mut Report<'_>) {
    let at = |name| [path, &[name]].concat();
    let all = [
        ("connect", timeout.connect),
        ("first_output", timeout.first_output),
        ("between_chunks", timeout.between_chunks),
        ("total", timeout.total),
    ];
    for (name, period) in all {
        if let Some(period) = period {
            positive(&at(name), period, report);
        }
    }
    let written = |name| report.document.is_written(&at(name));
    if let (Some(first), Some(total)) = (timeout.first_output, timeout.total)
        && first > total
        && written("first_output")
        && written("total")
    {
        let message = format!("the first output may take {first}, but the whole call only {total}");
        report.error(&at("first_output"), message);
    }
}

fn retries(settings: &Settings, report: &mut Report<'_>) {
    let retries = &settings.retries;
    within(&["retries", "max_attempts"], retries.max_attempts, 1..=100, report);
    positive(&["retries", "base"], retries.base, report);
    positive(&["retries", "max"], retries.max, report);
    at_most_a_day(&["retries", "max_retry_after"], retries.max_retry_after, report);
    if retries.base > retries.max {
        let message = format!("the first backoff is {}, longer than the longest, {}", retries.base, retries.max);
        report.error(&["retries", "base"], message);
    }
}

fn health(settings: &Settings, report: &mut Report<'_>) {
    let health = &settings.health;
    if health.failure_ratio <= 0.0 {
        let help = "1 means: only when every call fails";
        report.error_with_help(&["health", "failure_ratio"], "this must be more than 0", help);
    }
    positive(&["health", "window"], health.window, report);
    positive(&["health", "rest"], health.rest, report);
    positive(&["health", "max_rest"], health.max_rest, report);
    positive(&["health", "dead_key_rest"], health.dead_key_rest, report);
    at_most_a_day(&["health", "max_wait"], health.max_wait, report);
    if health.rest > health.max_rest {
        let message = format!("the first rest is {}, longer than the longest, {}", health.rest, health.max_rest);
        report.error(&["health", "rest"], message);
    }
}

fn fetch(settings: &Settings, report: &mut Report<'_>) {
    let fetch = &settings.fetch;
    within(&["fetch", "max_size"], fetch.max_size, Size(1)..=Size::mib(1024), report);
    within(&["fetch", "max_total"], fetch.max_total, Size(1)..=Size::mib(4096), report);
    within(&["fetch", "max_files"], fetch.max_files, 1..=1_000, report);
    within(&["fetch", "max_concurrent"], fetch.max_concurrent, 1..=10_000, report);
    positive(&["fetch", "timeout"], fetch.timeout, report);
    for (index, host) in fetch.allow_hosts.iter().enumerate() {
        if host.is_empty() || host.contains(|c: char| "/:@* ".contains(c) && !host.contains("::")) {
            let help = "a name such as files.example.internal, or an address; no scheme, port or pattern";
            report.error_with_help(&["fetch", "allow_hosts", &index.to_string()], "this is not a host", help);
        }
    }
}

fn models(settings: &Settings, report: &mut Report<'_>) {
    for (name, model) in &settings.models {
        timeout(&["models", name, "timeout"], &model.timeout, report);
        ceilings(&["models", name, "ceilings"], &model.ceilings, report);
        for (index, target) in model.targets.iter().enumerate() {
            let index = index.to_string();
            timeout(&["models", name, "targets", &index, "timeout"], &target.timeout, report);
            ceilings(&["models", name, "targets", &index, "ceilings"], &target.params.ceilings, report);
        }
    }
}

fn ceilings(path: &[&str], ceilings: &serde_json::Map<String, serde_json::Value>, report: &mut Report<'_>) {
    for (name, value) in ceilings {
        if !value.is_number() {
            report.error(&[path, &[name]].concat(), "a ceiling must be a number");
        }
    }
}

/// Certificate authorities that connections to Redis are to trust.
fn authorities(path: &[&str], file: &Path, report: &mut Report<'_>) {
    match std::fs::read(file) {
        Err(error) => report.error(path, format!("the file cannot be read: {}", describe(&error))),
        Ok(pem) => {
            if let Err(why) = RedisSettings::check_authorities(&pem) {
                report.error_with_help(
                    path,
                    format!("the file cannot be used: {why}"),
                    "certificates in PEM, as in ca.pem",
                );
            }
        }
    }
}

/// Complains unless the file can be opened.
pub(super) fn readable(path: &[&str], file: &Path, report: &mut Report<'_>) {
    if let Err(error) = File::open(file) {
        report.error(path, format!("the file cannot be read: {}", describe(&error)));
    }
}

pub(super) fn positive(path: &[&str], period: Period, report: &mut Report<'_>) {
    if period.0 == Duration::ZERO {
        report.error(path, "this must be more than 0");
    }
    at_most_a_day(path, period, report);
}

pub(super) fn at_most_a_day(path: &[&str], period: Period, report: &mut Report<'_>) {
    if period > DAY {
        report.error(path, "this is more than a day");
    }
}

pub(super) fn within<T: Copy + PartialOrd + Display>(
    path: &[&str],
    value: T,
    range: RangeInclusive<T>,
    report: &mut Report<'_>,
) {
    if value < *range.start() {
        report.error_with_help(path, "this is too small", format!("at least {}", range.start()));
    } else if value > *range.end() {
        report.error_with_help(path, "this is too large", format!("at most {}", range.end()));
    }
}
