//! The ledger on a real database: how many calls a second it takes, what that costs this process, and how long usage
//! takes to be summed over many.
//!
//! ```text
//! cargo bench --bench ledger -- DATABASE write [CALLS [BATCH]]
//! cargo bench --bench ledger -- DATABASE fill CALLS
//! cargo bench --bench ledger -- DATABASE usage
//! ```
//!
//! DATABASE is a `postgres://` URL or a folder for SQLite; take an empty one. `write` writes CALLS (100,000) for each
//! batch size, fewer for the smallest. `fill` makes thirty days of calls in the database itself, with short receipts, which is quicker and takes
//! about 600 bytes for each. `usage` asks what a dashboard asks, and prints the time of each answer.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot go on has nothing to say but that")]

use std::{env, fs, time::Duration};

use jiff::tz::TimeZone;
use sqlx::AssertSqlSafe;
use switchboard::{
    store::{
        DatabaseSettings, Db,
        ledger::{
            AttemptRow, Bucket, CallRow, Dimension, RequestFilter, SpentQuestion, UsageQuery, Who, prepare, requests,
            spent, usage, write,
        },
    },
    types::{Clock, Nanos, Outcome, RequestId, Secret, Usage, UsageSource},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// 2026-11-01 00:00 UTC.
const START: i64 = 1_793_491_200_000;
const HOUR: i64 = 3_600_000;
const DAYS: i64 = 30;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((database, rest)) = words.split_first() else {
        println!("cargo bench --bench ledger -- DATABASE write|fill|usage; the file says more");
        return;
    };
    let db = open(database).await;
    prepare(&db, START).await.unwrap();
    match rest {
        ["write"] => write_all(&db, 100_000, &[1, 10, 100, 1_000, 5_000]).await,
        ["write", calls] => write_all(&db, calls.parse().unwrap(), &[1, 10, 100, 1_000, 5_000]).await,
        ["write", calls, batch] => write_all(&db, calls.parse().unwrap(), &[batch.parse().unwrap()]).await,
        ["fill", calls] => fill(&db, calls.parse().unwrap()).await,
        ["usage"] => ask(&db).await,
        _ => println!("write [CALLS [BATCH]], fill CALLS or usage"),
    }
}

async fn open(database: &str) -> Db {
    if database.starts_with("postgres") {
        let mut settings = DatabaseSettings::at(Secret::new(database.to_owned()));
        settings.statement_timeout = switchboard::types::Period::from_secs(3_600);
        return Db::open("unused".as_ref(), Some(&settings)).await.unwrap();
    }
    Db::open(database.as_ref(), None).await.unwrap()
}

/// Writes `count` calls in batches of several sizes, without and with end users and tags.
async fn write_all(db: &Db, count: usize, batches: &[usize]) {
    println!("{:<28} {:>6} {:>12} {:>16}", "calls", "batch", "calls/s", "own CPU µs/call");
    let mut first = 0;
    for (kind, who) in [("plain", plain as fn(usize) -> Who), ("two tags, 10,000 users", tagged)] {
        for &batch in batches {
            let count = if batch == 1 {
                count / 50
            } else if batch == 10 {
                count / 5
            } else {
                count
            };
            let calls: Vec<CallRow> = (0..count).map(|n| call(first + n, who(n))).collect();
            first += count;
            let (cpu, started) = (cpu_time(), Clock::Real.now());
            for batch in calls.chunks(batch) {
                assert_eq!(write(db, batch).await.unwrap().inserted, batch.len());
            }
            let (cpu, took) = (cpu_time() - cpu, started.elapsed());
            let each = cpu.as_secs_f64() * 1e6 / count as f64;
            println!("{kind:<28} {batch:>6} {:>12.0} {each:>16.2}", count as f64 / took.as_secs_f64());
        }
    }
}

fn plain(n: usize) -> Who {
    let (project, key_id) = (format!("project-{}", n % 5).into(), format!("01K{:023}", n % 20).into());
    Who { project, key_id, key_name: "production".into(), ..Who::default() }
}

fn tagged(n: usize) -> Who {
    let tags = vec!["team:search".into(), format!("feature:{}", n % 7).into()];
    Who { end_user: Some(format!("user-{}", fastrand::u32(..10_000)).into()), tags, ..plain(n) }
}

fn call(n: usize, who: Who) -> CallRow {
    let at = START + i64::try_from(n).unwrap() * 40;
    let model = format!("model-{}", n % 4);
    let attempt = AttemptRow {
        number: 1,
        at: at + 2,
        target: format!("openai/{model}").into(),
        provider: "openai".into(),
        upstream_model: model.as_str().into(),
        provider_key: 0,
        outcome: Outcome::Ok,
        status: Some(200),
        provider_id: Some("chatcmpl-CYx3bQd8u0kqzXJm4sV1pT7nR2wLa".into()),
        usage: Usage { input: 812, cache_read: 1_024, output: 240, reasoning: 64, ..Usage::default() },
        usage_source: UsageSource::Reported,
        cost: Some(Nanos(4_300_250)),
        reported_cost: None,
        price: "openai/gpt-5.5@2026-04-01".into(),
        service_tier: Some("default".into()),
        first_token_ms: Some(410),
        duration_ms: 2_950,
    };
    CallRow {
        id: RequestId::new(at.unsigned_abs()).to_string().into(),
        at,
        instance: "gateway-7d9c5b".into(),
        operation: "chat".into(),
        requested: "assistant".into(),
        model: model.into(),
        who,
        client: Some("OpenAI/Python 3.4.0".into()),
        stream: true,
        status: 200,
        outcome: Outcome::Ok,
        error_code: None,
        finish_reason: Some("stop".into()),
        first_output_ms: Some(412),
        duration_ms: 2_953,
        overhead_us: 78,
        bytes_in: 3_410,
        bytes_out: 18_204,
        notes: None,
        attempts: vec![attempt],
    }
}

/// The processor time of all threads of this process so far. Linux counts it in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Thirty days of `count` calls of one attempt each: 20 projects, 100 keys, 5 models over 10 targets; a call in ten names
/// one of 10,000 end users and bears one of ten tags.
async fn fill(db: &Db, count: i64) {
    let step = DAYS * 24 * HOUR / count;
    let (numbers, pad) = match db {
        Db::Sqlite(..) => (
            "with recursive numbers(n) as (select 0 union all select n + 1 from numbers where n + 1 < {count}) ",
            "printf('01%024d', n)",
        ),
        Db::Postgres(_) => (
            "with numbers(n) as (select * from generate_series(0::bigint, {count} - 1)) ",
            "'01' || lpad(n::text, 24, '0')",
        ),
    };
    let numbers = numbers.replace("{count}", &count.to_string());
    let at = format!("{START} + n * {step}");
    let key = "'key-' || ((n * 7919) % 100)";
    let project = "'project-' || ((n * 7919) % 20)";
    let model = "'model-' || ((n * 31) % 5)";
    let target = "'provider-' || ((n * 17) % 2) || '/model-' || ((n * 31) % 5)";
    let user = "case when n % 10 = 0 then 'user-' || ((n * 104729) % 10000) end";
    let tags = "case when n % 10 = 0 then '[\"tag-' || (n % 100 / 10) || '\"]' end";
    let zeros = ", 0".repeat(7);
    let mut statements = vec![
        format!(
            "insert into requests {numbers} select {at}, {pad}, {project}, {key}, {model}, 'chat', \
             case when n % 50 = 0 then 'cut' else 'ok' end, {user}, {tags}, null, null, null, '{{}}' from numbers"
        ),
        format!(
            "insert into attempts {numbers} select {at}, {pad}, 1, 1, {at}, {target}, 'provider-' || ((n * 17) % 2), \
             {model}, 0, 'ok', 'reported', 4000 + n % 1000, null, 800, 1000, 0, 0, 0, 0, 200 + n % 100, 60 - n % 7 \
             {zeros}, '{{}}' from numbers",
        ),
    ];
    const COLUMNS: &str = "hour, facet, project, key_id, model, provider, target, calls, attempts, errors, \
                           failed_attempts, unpriced, estimated, cost, reported_cost, input, cache_read, cache_write, \
                           cache_write_1h, audio_input, image_input, output, reasoning, audio_output, image_output, \
                           searches, tool_calls, images, millis, characters";
    for (table, facet, only) in [
        ("usage_hours", "''", "true"),
        ("usage_hours_by_tag", "'tag-' || (n % 100 / 10)", "n % 10 = 0"),
        ("usage_hours_by_user", "'user-' || ((n * 104729) % 10000)", "n % 10 = 0"),
    ] {
        statements.push(format!(
            "insert into {table} ({COLUMNS}) {numbers} select ({at}) / {HOUR} * {HOUR} as h, {facet} as f, {project} as p, {key} as k, \
             {model} as m, 'provider-' || ((n * 17) % 2) as v, {target} as t, count(*), count(*), \
             sum(case when n % 50 = 0 then 1 else 0 end), 0, 0, 0, sum(4000 + n % 1000), 0, sum(800), sum(1000), 0, 0, \
             0, 0, sum(200 + n % 100), sum(60 - n % 7), 0, 0, 0, 0, 0, 0, 0 from numbers where {only} \
             group by h, f, p, k, m, v, t order by h, f, p, k, m, v, t"
        ));
    }
    statements.push("analyze".to_owned());
    for sql in statements {
        let started = Clock::Real.now();
        let what: String = sql.chars().take(32).collect();
        match db {
            Db::Sqlite(pool, _) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(|_| ()).unwrap(),
            Db::Postgres(pool) => sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.map(|_| ()).unwrap(),
        }
        println!("{what:<34} {:>8.1} s", started.elapsed().as_secs_f64());
    }
}

/// Asks each question three times, and prints the quickest and the slowest answer in milliseconds.
async fn ask(db: &Db) {
    use Dimension::{EndUser, Key, Model, Outcome, Project, Provider, Tag, Target};
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let month = UsageQuery {
        from: START,
        to: START + DAYS * 24 * HOUR,
        bucket: None,
        zone: berlin,
        by: Vec::new(),
        filters: Vec::new(),
        limit: 1_000,
        after: None,
    };
    let cuts = UsageQuery { from: START + 1_234_567, to: START + 29 * 24 * HOUR + 7_654_321, ..month.clone() };
    let by = |by: &[Dimension], bucket: Option<Bucket>| UsageQuery { by: by.to_vec(), bucket, ..month.clone() };
    let kolkata = TimeZone::get("Asia/Kolkata").unwrap();
    let one_day = UsageQuery { to: START + 24 * HOUR, ..by(&[Outcome], Some(Bucket::Hour)) };
    let questions = [
        ("the month's total", month.clone()),
        ("model by day", by(&[Model], Some(Bucket::Day))),
        ("project and model by day", by(&[Project, Model], Some(Bucket::Day))),
        ("key and target, whole month", by(&[Key, Target], None)),
        ("provider by hour", by(&[Provider], Some(Bucket::Hour))),
        ("a range that cuts hours, project", UsageQuery { by: vec![Project], ..cuts }),
        ("one key by day", UsageQuery { filters: vec![(Key, "key-7".to_owned())], ..by(&[Model], Some(Bucket::Day)) }),
        ("tag and model by day", by(&[Tag, Model], Some(Bucket::Day))),
        ("end user, whole month", by(&[EndUser], None)),
        ("end user and model by day", by(&[EndUser, Model], Some(Bucket::Day))),
        ("rows: tag and end user", by(&[Tag, EndUser], None)),
        ("rows: outcome by hour, one day", one_day),
        ("rows: model by day, half-hour zone", UsageQuery { zone: kolkata, ..by(&[Model], Some(Bucket::Day)) }),
    ];
    for (name, query) in questions {
        let mut times = Vec::new();
        let mut groups = 0;
        for _ in 0..3 {
            let started = Clock::Real.now();
            match usage(db, &query).await {
                Ok(page) => groups = page.groups.len(),
                Err(error) => println!("{name}: {error}"),
            }
            times.push(started.elapsed().as_millis());
        }
        times.sort_unstable();
        println!("{name:<36} {groups:>6} groups {:>8} to {:>6} ms", times[0], times[2]);
    }
    let since = |by: &[Dimension]| SpentQuestion { since_ms: START + 1_234_567, by: by.to_vec(), ..Default::default() };
    let one_user = SpentQuestion { filters: vec![(EndUser, "user-7".to_owned())], ..since(&[]) };
    for (name, question) in [
        ("spent since amid an hour", since(&[])),
        ("spent by key", since(&[Key])),
        ("spent by project, model and target", since(&[Project, Model, Target])),
        ("spent by tag and key", since(&[Tag, Key])),
        ("spent by end user", since(&[EndUser])),
        ("spent by one end user", one_user),
    ] {
        let mut times = Vec::new();
        let mut groups = 0;
        for _ in 0..3 {
            let started = Clock::Real.now();
            groups = spent(db, &question).await.unwrap().len();
            times.push(started.elapsed().as_millis());
        }
        times.sort_unstable();
        println!("{name:<36} {groups:>6} groups {:>8} to {:>6} ms", times[0], times[2]);
    }
    let newest = RequestFilter { limit: 100, ..RequestFilter::default() };
    let failed =
        RequestFilter { filters: vec![(Outcome, "cut".to_owned()), (Key, "key-7".to_owned())], ..newest.clone() };
    for (name, filter) in [("the newest 100 calls", newest), ("the newest 100 failed ones of a key", failed)] {
        let started = Clock::Real.now();
        let calls = requests(db, &filter).await.unwrap();
        println!("{name:<36} {:>6} calls  {:>8} ms", calls.len(), started.elapsed().as_millis());
    }
}
