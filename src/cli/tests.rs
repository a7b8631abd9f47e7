//! Commands that read the ledger, over a ledger written for the occasion. What they print is compared as text.

use std::path::Path;

use clap::Parser;

use super::{quotas, reconcile, requests, store::Place, usage};
use crate::{
    store::{
        Db,
        ledger::{self, AttemptRow, CallRow, Who},
    },
    types::{Clock, Nanos, Outcome, Usage, UsageSource},
};

/// 2026-11-01T12:00:00Z.
const NOON: i64 = 1_793_534_400_000;

const HOUR: i64 = 3_600_000;

#[derive(Debug, Parser)]
struct UsageCli {
    #[command(flatten)]
    args: usage::UsageArgs,
}

#[derive(Debug, Parser)]
struct ReconcileCli {
    #[command(flatten)]
    args: reconcile::ReconcileArgs,
}

#[derive(Debug, Parser)]
struct QuotasCli {
    #[command(flatten)]
    args: quotas::QuotasArgs,
}

#[derive(Debug, Parser)]
struct RequestCli {
    #[command(flatten)]
    args: requests::RequestArgs,
}

fn call(number: u8, at: i64, key: &str, model: &str, usage: Usage, cost: Option<&str>) -> CallRow {
    CallRow {
        id: format!("01K900000000000000000000{number:02}").into(),
        at,
        instance: "one".into(),
        operation: "chat".into(),
        requested: model.into(),
        model: model.into(),
        who: Who { project: "default".into(), key_id: key.into(), key_name: key.into(), ..Who::default() },
        client: None,
        stream: false,
        status: 200,
        outcome: Outcome::Ok,
        error_code: None,
        finish_reason: None,
        first_output_ms: None,
        duration_ms: 1,
        overhead_us: 1,
        bytes_in: 1,
        bytes_out: 1,
        notes: None,
        attempts: vec![AttemptRow {
            number: 1,
            at,
            target: format!("openai/{model}").into(),
            provider: "openai".into(),
            upstream_model: model.into(),
            provider_key: 0,
            outcome: Outcome::Ok,
            status: Some(200),
            provider_id: None,
            usage,
            usage_source: UsageSource::Reported,
            cost: cost.map(|cost| Nanos::from_dollars(cost).unwrap()),
            reported_cost: None,
            price: "known".into(),
            service_tier: None,
            first_token_ms: None,
            duration_ms: 1,
        }],
    }
}

fn tokens(input: u64, cache_read: u64, output: u64) -> Usage {
    Usage { input, cache_read, output, ..Usage::default() }
}

/// A folder with a ledger: two days, three models, a call without a price and one that was lost.
async fn booked() -> (tempfile::TempDir, Place) {
    let dir = tempfile::tempdir().unwrap();
    let mut lost = call(5, NOON + HOUR, "ci", "gpt-5.5", tokens(1_000, 0, 0), Some("0.002"));
    lost.outcome = Outcome::Lost;
    lost.attempts[0].outcome = Outcome::Lost;
    lost.attempts[0].usage_source = UsageSource::Estimated;
    let calls = [
        call(1, NOON, "ci", "gpt-5.5", tokens(10_000, 2_000, 500), Some("0.027750001")),
        call(2, NOON, "web", "gpt-5.5-mini", tokens(400, 0, 100), Some("0.0003")),
        call(3, NOON + 24 * HOUR, "web", "gpt-5.5", tokens(1_000_000, 0, 0), Some("2.00")),
        call(4, NOON, "web", "new-model", tokens(50, 0, 50), None),
        lost,
    ];
    let calls: Vec<CallRow> = calls.into_iter().collect();
    let db = Db::open(dir.path(), None).await.unwrap();
    assert_eq!(ledger::write(&db, &calls).await.unwrap().inserted, 5);
    db.close().await;
    let place = Place::folder(dir.path());
    (dir, place)
}

async fn ask_usage(place: &Place, args: &[&str]) -> Result<String, String> {
    let cli = UsageCli::try_parse_from(std::iter::once(&"usage").chain(args)).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let ran = usage::run(cli.args, place, &Clock::held(), &mut out).await;
    ran.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
}

async fn ask_reconcile(place: &Place, args: &[&str]) -> Result<(bool, String), String> {
    let cli = ReconcileCli::try_parse_from(["reconcile", "--provider", "openai"].iter().chain(args));
    let mut out = Vec::new();
    let ran = reconcile::run(cli.map_err(|error| error.to_string())?.args, place, &mut out).await;
    ran.map(|agrees| (agrees, String::from_utf8(out).unwrap())).map_err(|error| format!("{error:#}"))
}

const NOVEMBER: [&str; 4] = ["--from", "2026-11-01", "--to", "2026-12-01"];

#[tokio::test]
async fn usage_is_a_table_for_people() {
    let (_dir, place) = booked().await;
    let table = ask_usage(&place, &[&NOVEMBER[..], &["--by", "key,model"]].concat()).await.unwrap();
    insta::assert_snapshot!(table, @r"
    2026-11-01T00:00:00+00:00 to 2026-12-01T00:00:00+00:00 (UTC)

    KEY    MODEL         CALLS  ERRORS    INPUT  CACHED  OUTPUT  UNPRICED     COST USD
    ci     gpt-5.5           2       1    13000    2000     500         0  0.029750001
    web    gpt-5.5           1       0  1000000       0       0         0         2.00
    web    gpt-5.5-mini      1       0      400       0     100         0       0.0003
    web    new-model         1       0       50       0      50         1      unknown
    TOTAL                    5       1  1013450    2000     650         1  2.030050001

    Attempts without a known price: 1. What they cost is not in these sums; see `switchboard prices check`.
");
    let days = [&NOVEMBER[..], &["--bucket", "day", "--tz", "Asia/Tokyo", "--filter", "key=web"]].concat();
    insta::assert_snapshot!(ask_usage(&place, &days).await.unwrap(), @r"
    2026-11-01T00:00:00+09:00 to 2026-12-01T00:00:00+09:00 (Asia/Tokyo)

    START                      CALLS  ERRORS    INPUT  CACHED  OUTPUT  UNPRICED  COST USD
    2026-11-01T00:00:00+09:00      2       0      450       0     150         1    0.0003
    2026-11-02T00:00:00+09:00      1       0  1000000       0       0         0      2.00
    TOTAL                          3       0  1000450       0     150         1    2.0003

    Attempts without a known price: 1. What they cost is not in these sums; see `switchboard prices check`.
");
    let nothing = ask_usage(&place, &["--from", "2026-10-01", "--to", "2026-10-02", "--by", "model"]).await.unwrap();
    assert!(nothing.contains("Nothing was used"), "{nothing}");
}

#[tokio::test]
async fn usage_for_programs_is_csv_and_json() {
    let (_dir, place) = booked().await;
    let csv = ask_usage(&place, &[&NOVEMBER[..], &["--by", "model", "--format", "csv"]].concat()).await.unwrap();
    insta::assert_snapshot!(csv, @r"
    model,calls,errors,attempts,failed_attempts,unpriced_attempts,estimated_attempts,cost_usd,reported_cost_usd,input,cache_read,cache_write,cache_write_1h,audio_input,image_input,output,reasoning,audio_output,image_output,searches,tool_calls,images,millis,characters
    gpt-5.5,3,1,3,1,0,1,2.029750001,0.00,1011000,2000,0,0,0,0,500,0,0,0,0,0,0,0,0
    gpt-5.5-mini,1,0,1,0,0,0,0.0003,0.00,400,0,0,0,0,0,100,0,0,0,0,0,0,0,0
    new-model,1,0,1,0,1,0,0.00,0.00,50,0,0,0,0,0,50,0,0,0,0,0,0,0,0
");
    let json = ask_usage(&place, &[&NOVEMBER[..], &["--by", "model", "--format", "json"]].concat()).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["data"].as_array().unwrap().len(), &json["next_cursor"]), (3, &serde_json::Value::Null));
}

#[tokio::test]
async fn a_wrong_question_is_refused_with_what_to_write() {
    let (dir, place) = booked().await;
    let cases: &[(&[&str], &str)] = &[
        (&["--by", "modle"], "did you mean `model`?"),
        (&["--by", "model,key,tag"], "at most two"),
        (&["--from", "2026-02-30"], "neither a date"),
        (&["--tz", "Europe/Berlim"], "Europe/Berlin"),
        (&["--bucket", "week"], "hour, day, month"),
        (&["--filter", "key"], "NAME=VALUE"),
        (&["--filter", "kay=a"], "did you mean `key`?"),
        (&["--filter", "outcome=lots"], "did you mean `lost`?"),
        (&["--from", "2026-11-02", "--to", "2026-11-01"], "must be before"),
    ];
    for (args, words) in cases {
        let error = ask_usage(&place, args).await.unwrap_err();
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let nowhere = Place::folder(&dir.path().join("nothing-here"));
    assert!(ask_usage(&nowhere, &[]).await.unwrap_err().contains("no database"));
    assert!(!nowhere.data_dir.exists(), "a wrong directory is not made");
}

#[tokio::test]
async fn a_request_is_shown_by_its_id() {
    let (_dir, place) = booked().await;
    let ask = async |id: &str| {
        let cli = RequestCli::try_parse_from(["request", id]).unwrap();
        let mut out = Vec::new();
        requests::run(cli.args, &place, &mut out).await.map(|()| String::from_utf8(out).unwrap())
    };
    let error = ask("01K9000000000000000000000A").await.unwrap_err().to_string();
    assert!(error.contains("no call with the id"), "{error}");
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const COSTS: &str = r#"{"object":"page","data":[
 {"object":"bucket","start_time":1793491200,"end_time":1793577600,"results":[
  {"object":"organization.costs.result","amount":{"value":0.02775,"currency":"usd"},"line_item":"gpt-5.5-2026-04-23, input"},
  {"object":"organization.costs.result","amount":{"value":0.0004,"currency":"usd"},"line_item":"gpt-5.5-mini, input"},
  {"object":"organization.costs.result","amount":{"value":0.0001,"currency":"usd"},"line_item":"new-model, input"},
  {"object":"organization.costs.result","amount":{"value":0.5,"currency":"usd"},"line_item":"gpt-4o, output"}]},
 {"object":"bucket","start_time":1793577600,"end_time":1793664000,"results":[
  {"object":"organization.costs.result","amount":{"value":"2.5","currency":"usd"},"line_item":"gpt-5.5-2026-04-23, input"}]}],
"has_more":false,"next_page":null}"#;

const USAGE: &str = r#"{"object":"page","data":[
 {"object":"bucket","start_time":1793491200,"end_time":1793577600,"results":[
  {"object":"organization.usage.completions.result","input_tokens":12000,"input_cached_tokens":2000,"output_tokens":500,"num_model_requests":1,"model":"gpt-5.5-2026-04-23"},
  {"object":"organization.usage.completions.result","input_tokens":400,"output_tokens":150,"num_model_requests":1,"model":"gpt-5.5-mini"},
  {"object":"organization.usage.completions.result","input_tokens":50,"output_tokens":50,"num_model_requests":1,"model":"new-model"},
  {"object":"organization.usage.completions.result","input_tokens":90,"output_tokens":10,"num_model_requests":3,"model":"gpt-4o"}]},
 {"object":"bucket","start_time":1793577600,"end_time":1793664000,"results":[
  {"object":"organization.usage.completions.result","input_tokens":1000000,"output_tokens":0,"num_model_requests":1,"model":"gpt-5.5-2026-04-23"}]}],
"has_more":false,"next_page":null}"#;

#[tokio::test]
async fn a_gap_is_explained_by_its_reasons() {
    let (dir, place) = booked().await;
    let (costs, used) = (write(dir.path(), "costs.json", COSTS), write(dir.path(), "usage.json", USAGE));
    let (agrees, table) = ask_reconcile(&place, &[&costs, &used]).await.unwrap();
    assert!(!agrees);
    insta::assert_snapshot!(table, @r"
    openai, 2026-11-01 until before 2026-11-03 (UTC)

                    PROVIDER       LEDGER    DIFFERENCE
    calls                  7            5            +2
    uncached input   1010540      1011450          -910
    cache read          2000         2000            +0
    output               710          650           +60
    cost usd         3.02825  2.030050001  +0.998199999

    WHY                    PLACES      COST USD  TOKENS
    missing in the ledger       1         +0.50    +100
    rows without a price        1       +0.0001      +0
    estimated rows              1        -0.002   -1000
    other tokens                1       +0.0001     +50
    other price                 1         +0.50      +0
    rounding                    1  -0.000000001      +0

    DAY         MODEL         KEY  WHY                    COST USD      TOKENS  NOTE
    2026-11-01  gpt-4o             missing in the ledger  +0.50         +100    the ledger has nothing here: 3 calls
    2026-11-01  gpt-5.5            estimated rows         -0.002        -1000   1 estimated row, which the provider did not charge
    2026-11-01  gpt-5.5            rounding               -0.000000001  +0
    2026-11-01  gpt-5.5-mini       other tokens           +0.0001       +50     output +50
    2026-11-01  new-model          rows without a price   +0.0001       +0      1 call without a price: see `switchboard prices check`
    2026-11-02  gpt-5.5            other price            +0.50         +0      for a million tokens the provider took 2.50 $, the ledger 2.00 $

    Note: Keys are not compared: a file is not told by key, or nobody said which is whose.
    33.10 % of the larger side differs, beyond rounding and the boundary of days.
");
    let (agrees, csv) =
        ask_reconcile(&place, &[&costs, &used, "--tolerance", "100%", "--format", "csv"]).await.unwrap();
    assert!(agrees);
    insta::assert_snapshot!(csv, @r#"
    day,model,key,why,cost_usd,tokens,note
    2026-11-01,gpt-4o,,missing in the ledger,+0.50,+100,the ledger has nothing here: 3 calls
    2026-11-01,gpt-5.5,,estimated rows,-0.002,-1000,"1 estimated row, which the provider did not charge"
    2026-11-01,gpt-5.5,,rounding,-0.000000001,+0,
    2026-11-01,gpt-5.5-mini,,other tokens,+0.0001,+50,output +50
    2026-11-01,new-model,,rows without a price,+0.0001,+0,1 call without a price: see `switchboard prices check`
    2026-11-02,gpt-5.5,,other price,+0.50,+0,"for a million tokens the provider took 2.50 $, the ledger 2.00 $"
"#);
    let (_, json) = ask_reconcile(&place, &[&costs, "--format", "json"]).await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["provider"]["cost_nanos"], 3_028_250_000_i64);
}

#[tokio::test]
async fn equal_sides_agree_to_the_last_nano_dollar() {
    let (dir, place) = booked().await;
    let table = "day,model,cost\n2026-11-02,gpt-5.5,2.000000000\n";
    let file = write(dir.path(), "figures.csv", table);
    let (agrees, text) = ask_reconcile(&place, &[&file, "--tolerance", "0"]).await.unwrap();
    assert!(agrees, "{text}");
    assert!(text.contains("0.00 % of the larger side differs"), "{text}");
    let wrong = write(dir.path(), "wrong.csv", &table.replace("2.0000", "2.0001"));
    assert!(!ask_reconcile(&place, &[&wrong, "--tolerance", "0.001%"]).await.unwrap().0);
}

#[tokio::test]
async fn a_wrong_file_is_named_with_its_place() {
    let (dir, place) = booked().await;
    let damaged = write(dir.path(), "damaged.json", &COSTS[..COSTS.len() - 70]);
    let foreign = write(dir.path(), "foreign.csv", "name,age\nx,3\n");
    let empty = write(dir.path(), "empty.json", "");
    let day = write(dir.path(), "day.csv", "day,cost\n2026-11-01,1\nsoon,1\n");
    let fine = write(dir.path(), "fine.csv", "day,cost\n2026-11-01,1\n");
    std::fs::write(dir.path().join("bytes.json"), b"{\n\xff").unwrap();
    let bytes = dir.path().join("bytes.json").to_str().unwrap().to_owned();
    let cases: &[(&[&str], &str)] = &[
        (&[&damaged], "damaged.json:8:"),
        (&[&foreign], "foreign.csv:1:1: expected a header `day`"),
        (&[&empty], "empty.json:1:1: expected a header `day`"),
        (&[&day], "day.csv:3:1: expected a day"),
        (&[&bytes], "bytes.json:2: expected UTF-8"),
        (&["nowhere.json"], "nowhere.json cannot be read"),
        (&[&fine, "--column", "costs=x"], "did you mean `cost`?"),
        (&[&fine, "--column", "cost=Amount"], "fine.csv:1:1: there is no header `Amount`"),
        (&[&fine, "--key", "first=key_a"], "PLACE=ID"),
        (&[&fine, "--tolerance", "a lot"], "percentage"),
        (&[&fine, "--from", "2026-11-31"], "write a day"),
        (&[&fine, "--from", "2026-11-09", "--to", "2026-11-08"], "must be before"),
    ];
    for (args, words) in cases {
        let error = ask_reconcile(&place, args).await.unwrap_err();
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let cli = ["reconcile", "--provider", "opnai", fine.as_str()];
    let args = ReconcileCli::try_parse_from(cli).unwrap().args;
    let error = reconcile::run(args, &place, &mut Vec::new()).await.unwrap_err().to_string();
    assert!(error.contains("did you mean `openai`?"), "{error}");
}

#[tokio::test]
async fn quotas_show_what_the_ledger_has_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (db, now) = (Db::open(dir.path(), None).await.unwrap(), i64::try_from(Clock::Real.unix_millis()).unwrap());
    let calls = [("ci", "0.02"), ("web", "2"), ("ci", "0.01")];
    let calls = calls.into_iter().zip(1..);
    let calls: Vec<CallRow> =
        calls.map(|((key, cost), number)| call(number, now - HOUR, key, "m", tokens(1, 0, 1), Some(cost))).collect();
    ledger::write(&db, &calls).await.unwrap();
    db.close().await;
    let place = Place::folder(dir.path());
    let ask = async |args: &[&str]| {
        let cli = QuotasCli::try_parse_from(std::iter::once(&"quotas").chain(args)).unwrap();
        let mut out = Vec::new();
        quotas::run(cli.args.command, &place, &Clock::Real, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    };
    let words = [
        (&["--name", "each", "--scope", "key", "--measure", "usd", "--limit", "5"][..], "24h"),
        (&["--name", "one", "--scope", "key", "--match", "ci", "--measure", "requests", "--limit", "9"], "24h"),
        (&["--name", "now", "--scope", "global", "--measure", "concurrent", "--limit", "3"], ""),
    ];
    for (args, window) in words {
        let window: &[&str] = if window.is_empty() { &[] } else { &["--window", window] };
        ask(&[&["create"], args, window].concat()).await;
    }
    let lines = ask(&["list"]).await;
    let used = |name: &str| {
        let line = lines.lines().find(|line| line.contains(name)).unwrap().to_owned();
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).nth(5).unwrap().to_owned()
    };
    assert_eq!([used(" each "), used(" one "), used(" now ")], ["2.00 (web)", "2 (ci)", "?"], "{lines}");
    let each = ask(&["show", "each"]).await;
    assert!(each.contains("web      2.00") && each.contains("ci       0.03"), "{each}");
    assert!(ask(&["show", "now"]).await.contains("Only running gateways know"));
}
