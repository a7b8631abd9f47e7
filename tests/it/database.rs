//! A database server that goes away, hangs and comes back, seen by clients.

use serde_json::json;
use switchboard::{auth::Draft, store::Actor, types::Secret};

use crate::harness::{Gate, KEY, PrivatePostgres, Rows, chat, millis, soon};

async fn gate(server: &PrivatePostgres) -> Gate {
    let database = format!("database: \"{}\"", server.url("postgres"));
    Gate::build().mock("a").config(&database).real_time().start().await
}

async fn new_key(gate: &Gate, name: &str) -> Secret {
    let draft = Draft::new(name, &["*".to_owned()], None);
    gate.app.as_ref().unwrap().keys.create(draft, &Actor::COMMAND).await.unwrap().1
}

/// The status of a chat with this key, and the code if it is an error.
async fn ask(gate: &Gate, key: &str) -> (u16, String) {
    let authorization = format!("Bearer {key}");
    let headers = [("authorization", authorization.as_str())];
    let answer = gate.post("/v1/chat/completions", chat(json!({})).to_string(), &headers).await;
    (answer.status, answer.code())
}

#[tokio::test]
async fn keys_seen_before_work_while_the_database_is_away_and_others_are_503() {
    let mut server = PrivatePostgres::start();
    let gate = gate(&server).await;
    let (known, fresh) = (new_key(&gate, "known").await, new_key(&gate, "fresh").await);
    let (known, fresh) = (known.expose(), fresh.expose());
    let mut rows = Rows::new();
    let worked = (200, String::new());
    let away = (503, "key_store_unavailable".to_owned());
    assert_eq!(ask(&gate, known).await, worked);
    for frozen in [false, true] {
        rows.row(if frozen { "frozen" } else { "stopped" });
        if frozen {
            server.pause();
        } else {
            server.stop();
        }
        rows.equal("a declared key", ask(&gate, KEY).await, worked.clone());
        rows.equal("a known key", ask(&gate, known).await, worked.clone());
        rows.equal("a key nobody has seen", ask(&gate, "sk-sb-nobody-has-seen-it").await, away.clone());
        if !frozen {
            rows.equal("a stored key that was not used yet", ask(&gate, fresh).await, away.clone());
        }
        rows.equal("readiness", gate.get("/readyz").await.status, 200);
        if frozen {
            server.resume();
        } else {
            server.restart();
        }
        let began = gate.clock.now();
        let back = async {
            while ask(&gate, fresh).await != worked {
                gate.clock.sleep(millis(50)).await;
            }
        };
        soon(back).await;
        let took = gate.clock.now() - began;
        rows.holds("works again within 5 s", took < millis(5_000), took);
        rows.equal("a wrong key", ask(&gate, "sk-sb-nobody-has-seen-it").await, (401, "invalid_api_key".to_owned()));
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn a_gateway_starts_without_its_database_and_finds_it_later() {
    let mut server = PrivatePostgres::start();
    server.stop();
    let gate = gate(&server).await;
    assert!(gate.app.as_ref().unwrap().without_store);
    assert_eq!(ask(&gate, KEY).await.0, 200);
    assert_eq!(ask(&gate, "sk-sb-some-other-key").await.0, 503);
    assert_eq!(gate.get("/readyz").await.status, 200);

    server.restart();
    let wrong = async {
        while ask(&gate, "sk-sb-some-other-key").await.0 != 401 {
            gate.clock.sleep(millis(50)).await;
        }
    };
    soon(wrong).await;
    let key = new_key(&gate, "later").await;
    assert_eq!(ask(&gate, key.expose()).await.0, 200);
    gate.finish().await;
}

#[tokio::test]
async fn what_one_gateway_changes_another_follows_within_a_second() {
    let server = PrivatePostgres::start();
    let (one, other) = (gate(&server).await, gate(&server).await);
    let key = new_key(&one, "shared").await;
    assert_eq!(ask(&other, key.expose()).await.0, 200);
    let keys = &one.app.as_ref().unwrap().keys;
    keys.revoke(&keys.find("shared").await.unwrap().id, None, &Actor::COMMAND).await.unwrap();
    let began = other.clock.now();
    let revoked = async {
        while ask(&other, key.expose()).await.0 == 200 {
            other.clock.sleep(millis(20)).await;
        }
    };
    soon(revoked).await;
    let took = other.clock.now() - began;
    assert!(took < millis(1_500), "{took:?}");
    assert_eq!(ask(&other, key.expose()).await, (401, "revoked_api_key".to_owned()));
    one.finish().await;
    other.finish().await;
}
