//! `switchboard keys` on a store of its own.

use std::path::Path;

use clap::Parser;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    keys: KeysArgs,
}

async fn keys(data_dir: &Path, clock: &Clock, args: &[&str]) -> Result<String> {
    let cli = Cli::try_parse_from(std::iter::once(&"keys").chain(args))?;
    let mut out = Vec::new();
    let place = Place::folder(data_dir);
    run(cli.keys.command, &place, clock, &mut out).await?;
    Ok(String::from_utf8(out)?)
}

#[tokio::test]
async fn a_key_is_made_listed_changed_and_revoked() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::Real);
    let run = async |args: &[&str]| keys(dir.path(), &clock, args).await;

    let made = run(&["create", "--name", "ci", "--models", "openai/*,gpt-5.5", "--expires", "30d", "--tag", "eu"])
        .await
        .unwrap();
    let key = made.lines().next().unwrap().to_owned();
    assert!(key.starts_with("sk-sb-"), "{made}");
    assert!(made.contains("openai/*, gpt-5.5"), "{made}");

    let table = run(&["list"]).await.unwrap();
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains("ci") && table.contains("active") && !table.contains(&key), "{table}");

    run(&["disable", "ci"]).await.unwrap();
    assert!(run(&["list"]).await.unwrap().contains("disabled"));
    run(&["enable", &key[key.len() - 4..]]).await.unwrap();
    run(&["edit", "ci", "--name", "ci two", "--models", "*", "--expires", "never"]).await.unwrap();

    let listed: Value = serde_json::from_str(&run(&["list", "--json"]).await.unwrap()).unwrap();
    let row = &listed[0];
    assert_eq!((&row["name"], &row["models"], &row["state"]), (&json!("ci two"), &json!(["*"]), &json!("active")));
    assert_eq!((&row["expires"], &row["project"], &row["tags"]), (&Value::Null, &json!("default"), &json!(["eu"])));
    assert!(!listed.to_string().contains(&key));

    // A key that leaked can be revoked by itself, and is not echoed.
    let revoked = run(&["revoke", &key]).await.unwrap();
    assert!(revoked.contains("ci two") && !revoked.contains(&key), "{revoked}");
    assert!(run(&["list"]).await.unwrap().contains("revoked"));
    let error = run(&["enable", row["id"].as_str().unwrap()]).await.unwrap_err().to_string();
    assert!(error.contains("revoked"), "{error}");
}

#[tokio::test]
async fn json_of_a_new_key_holds_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["create", "--name", "ci", "--models", "*", "--json"];
    let made: Value = serde_json::from_str(&keys(dir.path(), &Clock::Real, &args).await.unwrap()).unwrap();
    assert!(made["key"].as_str().unwrap().ends_with(made["hint"].as_str().unwrap()));
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_reason() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::Real);
    let other = dir.path().join("nothing-here");
    let cases: &[(&[&str], &str)] = &[
        (&["create", "--name", "a"], "--models"),
        (&["create", "--name", " ", "--models", "*"], "needs a name"),
        (&["create", "--name", "a", "--models", "*/*"], "more than one `*`"),
        (&["create", "--name", "a", "--models", "*", "--expires", "2001-01-01"], "in the past"),
        (&["create", "--name", "a", "--models", "*", "--expires", "soon"], "write a span"),
        (&["create", "--name", "a", "--models", "*", "--expires", "9999y"], "too far away"),
        (&["edit", "a"], "required"),
        (&["revoke", "nobody"], "no key has"),
        (&["create", "--name", "a", "--models", "*", "--project", "nobody"], "projects create"),
        (&["create", "--name", "a", "--models", "*", "--tag", "a b"], "visible ASCII"),
    ];
    keys(dir.path(), &clock, &["create", "--name", "a", "--models", "*"]).await.unwrap();
    for (args, reason) in cases {
        let error = keys(dir.path(), &clock, args).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{args:?}: {error}");
    }
    let error = keys(&other, &clock, &["list"]).await.unwrap_err().to_string();
    assert!(error.contains("no key store"), "{error}");
    assert!(!other.exists(), "a wrong directory is not made");
}

#[test]
fn an_expiry_is_a_span_a_date_or_a_time() {
    let now: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    let cases = [
        ("never", None),
        ("30d", Some("2026-12-20T10:00:00Z")),
        ("12h", Some("2026-11-20T22:00:00Z")),
        ("90m", Some("2026-11-20T11:30:00Z")),
        ("6mo", Some("2027-05-20T10:00:00Z")),
        ("2w", Some("2026-12-04T10:00:00Z")),
        ("2027-01-31", Some("2027-01-31T00:00:00Z")),
        ("2027-01-31T12:00:00+01:00", Some("2027-01-31T11:00:00Z")),
    ];
    for (text, at) in cases {
        let resolved = text.parse::<Expires>().unwrap().resolve(now).unwrap();
        assert_eq!(resolved, at.map(|at| at.parse().unwrap()), "{text}");
    }
    for text in ["", "30", "d", "2027-13-01", "2027-01-31T12:00:00", "tomorrow"] {
        assert!(text.parse::<Expires>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn a_key_is_made_with_quotas_of_its_own_and_a_choice_or_not_at_all() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::Real);
    let run = async |args: &[&str]| keys(dir.path(), &clock, args).await;
    let lab = ["create", "--name", "lab", "--models", "*", "--json", "--log-content", "true"];
    let quotas = ["--quota", "usd=50.5/month@Europe/Berlin", "--quota", "requests=60/1m", "--quota", "concurrent=4"];
    let made: Value = serde_json::from_str(&run(&[&lab[..], &quotas].concat()).await.unwrap()).unwrap();
    assert_eq!(made["log_content"], true);
    run(&["edit", "lab", "--quota", "tokens=9/1h", "--log-content", "inherit"]).await.unwrap();
    let shown: Value = serde_json::from_str(&run(&["show", "lab", "--json"]).await.unwrap()).unwrap();
    assert_eq!(shown["log_content"], Value::Null);
    let place = Place::folder(dir.path());
    let db = place.open().await.unwrap();
    let filter = store::QuotaFilter { owner: Some(("key", shown["id"].as_str().unwrap().to_owned())), name: None };
    let own = place.keys(&db, &clock).list_quotas(&filter, None, 10).await.unwrap().data;
    let mut names: Vec<&str> = own.iter().map(|quota| quota.name.split(").").last().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["concurrent", "requests.1m", "tokens.1h", "usd.month-of-Europe/Berlin"]);
    db.close().await;

    for (quota, words) in [
        ("usd", "write a measure"),
        ("dollars=5/month", "unknown variant"),
        ("usd=5/fortnight", "usd=50/month"),
        ("usd=5", "window"),
        ("requests=0.5/1m", "whole numbers"),
    ] {
        let error = run(&["create", "--name", "bad", "--models", "*", "--quota", quota]).await.unwrap_err();
        assert!(format!("{error:#}").contains(words), "{quota}: {error:#}");
    }
    let choice = run(&["edit", "lab", "--log-content", "perhaps"]).await.unwrap_err().to_string();
    assert!(choice.contains("true, false or inherit"), "{choice}");
    assert!(!run(&["list"]).await.unwrap().contains("bad"), "what was refused left nothing");
}
