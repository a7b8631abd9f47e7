//! What calls say and are answered, logged: whose, how much of it, and never a key.

use std::path::Path;

use serde_json::{Value, json};
use switchboard::mock::Behaviour;

use crate::harness::*;

const CHOOSY: &str = "sk-choosy-0123456789";
const BOUND: &str = "sk-bound-0123456789";

/// A gateway that logs content into this folder, with a key that wants it and one that its project forbids it.
async fn gate(folder: &Path, more: &str) -> Gate {
    let path = folder.join("content.jsonl");
    let config = format!(
        "admin: {{ key: {ADMIN} }}\nlog: {{ level: \"off\", calls: false, content: {{ to: {}, {more} }} }}\n\
         models: {{ m: {{ targets: [a/up] }} }}\nprojects: {{ quiet: {{ models: [\"*\"], log_content: false }} }}\n",
        path.display()
    );
    let gate = Gate::build()
        .mock("a")
        .key(&format!("{{ name: choosy, value: {CHOOSY}, models: [\"*\"], log_content: true }}"))
        .key(&format!("{{ name: bound, value: {BOUND}, models: [\"*\"], log_content: true, project: quiet }}"));
    let gate = gate.config(&config).start().await;
    gate.mock("a").set_default(fixed());
    gate
}

/// The lines that were written, once the gateway is down.
async fn lines(gate: Gate, folder: &Path) -> Vec<Value> {
    gate.finish().await;
    let text = std::fs::read_to_string(folder.join("content.jsonl")).unwrap();
    for secret in [KEY, CHOOSY, BOUND, ADMIN] {
        assert!(!text.contains(secret), "a key is in the log: {text}");
    }
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn say(gate: &Gate, key: &str, more: Value) -> Answer {
    let body = serde_json::to_vec(&chat(more)).unwrap();
    gate.post("/v1/chat/completions", body, &[("authorization", &format!("Bearer {key}"))]).await
}

#[tokio::test]
async fn a_line_holds_what_was_sent_and_what_was_got() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path(), "keys: opt_in").await;
    let mut got = Vec::new();
    for is_stream in [false, true] {
        got.push(say(&gate, CHOOSY, json!({ "stream": is_stream, "odd": "\u{1f980}" })).await);
    }
    gate.mock("a").set_default(Behaviour::status(400));
    got.push(say(&gate, CHOOSY, json!({})).await);
    got.push(say(&gate, CHOOSY, json!({ "model": "nobody" })).await);
    // Not of the key that has not chosen, nor of the one that its project speaks for.
    gate.chat(json!({})).await;
    say(&gate, BOUND, json!({})).await;
    let lines = lines(gate, folder.path()).await;
    assert_eq!(lines.len(), got.len());
    for (line, answer) in lines.iter().zip(&got) {
        assert_eq!(line["request_id"], answer.header("x-request-id"));
        assert_eq!(line["answer"].as_str().unwrap(), answer.text());
        assert_eq!(line["answer_bytes"], answer.text().len());
        assert_eq!((&line["status"], &line["whole"]), (&json!(answer.status), &json!(true)), "{line}");
        assert_eq!(
            (&line["message"], &line["key_name"], &line["operation"]),
            (&json!("content"), &json!("choosy"), &json!("chat"))
        );
        assert_eq!((line.get("request_cut"), line.get("answer_cut")), (None, None));
    }
    let request: Value = serde_json::from_str(lines[1]["request"].as_str().unwrap()).unwrap();
    assert_eq!(request, chat(json!({ "stream": true, "odd": "\u{1f980}" })));
    assert!(lines[1]["answer"].as_str().unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(
        (&lines[0]["model"], &lines[3]["model"], &lines[3]["status"]),
        (&json!("m"), &json!("nobody"), &json!(404))
    );
}

#[tokio::test]
async fn what_is_long_is_cut_and_marked_and_a_client_that_leaves_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path(), "max_bytes: 100, keys: opt_out").await;
    gate.ask(true, json!({ "odd": "x".repeat(500) })).await;
    gate.mock("a").set_default(Behaviour { hang_after_chunks: Some(2), ..fixed() });
    let mut left = gate.open(json!({})).await;
    left.next().await.unwrap();
    drop(left);
    until(|| gate.app.as_ref().unwrap().metrics.streams_open.get() == 0).await;
    let lines = lines(gate, folder.path()).await;
    let kept = |line: &Value, name: &str| line[name].as_str().unwrap().len();
    assert_eq!((kept(&lines[0], "request"), kept(&lines[0], "answer")), (100, 100));
    assert_eq!((&lines[0]["request_cut"], &lines[0]["answer_cut"]), (&json!(true), &json!(true)));
    assert!(lines[0]["request_bytes"].as_u64().unwrap() > 500);
    assert_eq!((&lines[0]["whole"], &lines[1]["whole"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn keys_and_projects_choose_while_the_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate(folder.path(), "keys: opt_in").await;
    let project = json!({ "id": "search", "models": ["*"] });
    assert_eq!(gate.manage("POST", "/admin/v1/projects", project).await.json()["log_content"], Value::Null);
    let body = json!({ "name": "web", "project": "search", "models": ["*"] });
    let made = gate.manage("POST", "/admin/v1/keys", body).await.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let (of_key, of_project) = (format!("/admin/v1/keys/{id}"), "/admin/v1/projects/search".to_owned());
    let steps = [
        (&of_project, Value::Null, false),
        (&of_project, json!(true), true),
        (&of_key, json!(false), false),
        (&of_key, json!(true), true),
        (&of_project, json!(false), false),
        (&of_project, Value::Null, true),
        (&of_key, Value::Null, false),
    ];
    let mut expected = Vec::new();
    for (path, choice, logged) in steps {
        let changed = gate.manage("PATCH", path, json!({ "log_content": choice })).await;
        assert_eq!((changed.status, &changed.json()["log_content"]), (200, &choice), "{}", changed.text());
        let answer = say(&gate, key, json!({})).await;
        if logged {
            expected.push(answer.header("x-request-id").to_owned());
        }
    }
    let audit = gate.manage("GET", "/admin/v1/audit?action=key.update", Value::Null).await.json();
    let told: Vec<_> = audit["data"].as_array().unwrap().iter().map(|entry| &entry["changes"]["log_content"]).collect();
    assert!(told.contains(&&json!({ "before": true, "after": null })), "{audit}");
    let lines = lines(gate, folder.path()).await;
    let written: Vec<_> = lines.iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(written, expected);
}

#[tokio::test]
async fn nobody_waits_for_a_reader_that_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.jsonl");
    // A pipe that nobody reads is full after 64 KiB. Reading is opened, or opening it to write would wait.
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let reader = std::thread::spawn({
        let path = path.clone();
        move || std::fs::File::open(path).unwrap()
    });
    let gate = gate(folder.path(), "keys: opt_out, max_bytes: 1MiB").await;
    let reader = reader.join().unwrap();
    let long = "x".repeat(1 << 20);
    for _ in 0..12 {
        assert_eq!(soon(gate.chat(json!({ "odd": long }))).await.status, 200);
    }
    until(|| gate.app.as_ref().unwrap().metrics.content_lines_dropped.get() > 0).await;
    drop(reader);
    gate.finish().await;
}
