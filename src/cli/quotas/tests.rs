//! Quotas from the command line.

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    quotas: QuotasArgs,
}

#[tokio::test]
async fn a_quota_is_made_listed_changed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::folder(dir.path());
    let run = async |args: &[&str]| {
        let cli = Cli::try_parse_from(std::iter::once(&"quotas").chain(args)).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let outcome = run(cli.quotas.command, &place, &Clock::Real, &mut out).await;
        outcome.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
    };
    let json = async |args: &[&str]| -> Value { serde_json::from_str(&run(args).await.unwrap()).unwrap() };
    let made = json(&[
        "create",
        "--name",
        "research",
        "--scope",
        "project",
        "--match",
        "research",
        "--measure",
        "usd",
        "--limit",
        "500",
        "--window",
        "month@Europe/Berlin",
        "--action",
        "downgrade=small",
        "--warn-at",
        "0.8,1",
        "--json",
    ]);
    let said = json!({
        "name": "research", "scope": "project", "match": "research", "measure": "usd", "limit": 500,
        "window": { "month": "Europe/Berlin" }, "action": { "downgrade": "small" }, "warn_at": [0.8, 1.0],
    });
    assert_eq!(made.await["quota"], said);
    run(&[
        "create",
        "--scope",
        "key,model",
        "--match",
        "key=ci,model=gpt-*",
        "--measure",
        "requests",
        "--limit",
        "9",
        "--window",
        "1m",
    ])
    .await
    .unwrap();
    let listed = json(&["list", "--json"]).await;
    assert_eq!(listed[1]["quota"]["match"], json!({ "key": "ci", "model": "gpt-*" }));
    assert_eq!(json(&["list", "--project", "research", "--json"]).await.as_array().unwrap().len(), 1);
    assert!(run(&["list"]).await.unwrap().contains("month Europe/Berlin"));
    assert!(run(&["list"]).await.unwrap().contains("calls that have ended"), "whose figures these are");

    run(&["edit", "research", "--limit", "600", "--raise", "800", "--until", "2099-01-01", "--action", "reject"])
        .await
        .unwrap();
    run(&["disable", "research"]).await.unwrap();
    let shown = json(&["show", "research", "--json"]).await;
    assert_eq!((&shown["quota"]["limit"], &shown["enabled"]), (&json!(600), &json!(false)));
    assert_eq!(shown["quota"]["raise"], json!({ "to": 800, "until": "2099-01-01T00:00:00Z" }));
    assert_eq!(shown["quota"].get("action"), None);
    run(&["edit", "research", "--no-raise", "--match-all"]).await.unwrap();
    let shown = json(&["show", "research", "--json"]).await;
    assert_eq!((shown["quota"].get("raise"), shown["quota"].get("match")), (None, None));
    assert!(run(&["enable", "research"]).await.unwrap().contains("in force"));
    run(&["delete", "research"]).await.unwrap();
    assert!(run(&["show", "research"]).await.unwrap_err().contains("no quota"));
}

#[tokio::test]
async fn quotas_of_the_file_are_shown_and_listed_with_those_of_the_store_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let in_file =
        |name: &str| json!({ "name": name, "scope": "key", "measure": "requests", "limit": 5, "window": "1m" });
    let in_file = ["filed", "both"].map(|name| serde_json::from_value(in_file(name)).unwrap());
    let place = Place::folder(dir.path()).with_quotas(in_file.to_vec());
    let run = async |args: &[&str]| {
        let cli = Cli::try_parse_from(std::iter::once(&"quotas").chain(args)).unwrap();
        let mut out = Vec::new();
        let outcome = run(cli.quotas.command, &place, &Clock::Real, &mut out).await;
        outcome.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
    };
    let base = ["create", "--scope", "key", "--measure", "usd", "--limit", "9", "--window", "1h", "--name"];
    for name in ["stored", "both"] {
        run(&[&base[..], &[name]].concat()).await.unwrap();
    }
    for name in ["filed", "declared:filed"] {
        let shown = run(&["show", name]).await.unwrap();
        assert!(shown.contains("declared:filed") && shown.contains("in the configuration file"), "{shown}");
        assert!(shown.contains("Nothing of it is used"), "{shown}");
    }
    let shown: Value = serde_json::from_str(&run(&["show", "filed", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&shown["declared"], &shown["quota"]["limit"]), (&json!(true), &json!(5)));
    let shown = run(&["show", "stored"]).await.unwrap();
    assert!(!shown.contains("configuration file"), "{shown}");
    // Both are meant by that name, and each has an id.
    let error = run(&["show", "both"]).await.unwrap_err();
    assert!(error.contains("declared:both"), "{error}");
    assert!(run(&["show", "declared:both"]).await.unwrap().contains("requests"));
    assert!(run(&["show", "nobody"]).await.unwrap_err().contains("no quota"));

    let listed = run(&["list"]).await.unwrap();
    let line = |name: &str| listed.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
    assert!(line("filed").len() == 1 && line("filed")[0].contains("in the file"), "{listed}");
    assert!(line("stored").len() == 1 && !line("stored")[0].contains("in the file"), "{listed}");
    assert_eq!(line("both").len(), 2, "{listed}");

    let changes: [&[&str]; 3] = [&["edit", "filed", "--limit", "6"], &["disable", "filed"], &["delete", "filed"]];
    for change in changes {
        let error = run(change).await.unwrap_err();
        assert!(error.contains("configuration file"), "{change:?}: {error}");
    }
    run(&["edit", "both", "--limit", "6"]).await.unwrap();
    run(&["delete", "both"]).await.unwrap();
    assert!(run(&["show", "both"]).await.unwrap().contains("declared:both"), "the one that is left");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_option_at_fault() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::folder(dir.path());
    let base = ["create", "--scope", "key", "--measure", "requests", "--limit", "9", "--window", "1m"];
    let with = |option: &'static str, value: &'static str| {
        let mut args: Vec<&str> = base.to_vec();
        match args.iter().position(|arg| *arg == option) {
            Some(at) => args[at + 1] = value,
            None => args.extend([option, value]),
        }
        args
    };
    let cases = [
        (with("--scope", "team"), "--scope: the scope must be one of"),
        (with("--measure", "dollars"), "--measure: unknown variant"),
        (with("--limit", "0.5"), "whole numbers"),
        (with("--limit", "many"), "number"),
        (with("--window", "fortnight"), "--window: "),
        (with("--window", "month@Mars"), "--window: "),
        (with("--action", "explode"), "--action: unknown variant"),
        (with("--warn-at", "70"), "no part of a limit"),
        (with("--raise", "10"), "--until"),
    ];
    for (args, words) in cases {
        let parsed = Cli::try_parse_from(std::iter::once(&"quotas").chain(&args)).map_err(|error| error.to_string());
        let error = match parsed {
            Err(error) => error,
            Ok(cli) => {
                let ran = run(cli.quotas.command, &place, &Clock::Real, &mut Vec::new()).await;
                ran.map_err(|error| format!("{error:#}")).unwrap_err()
            }
        };
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let nothing = Cli::try_parse_from(["quotas", "edit", "x"]).unwrap();
    let error = run(nothing.quotas.command, &place, &Clock::Real, &mut Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("nothing to change"), "{error}");
}
