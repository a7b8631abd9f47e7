//! Both kinds of keys, each on the right side and on the wrong one.

use serde_json::json;
use switchboard::store::Actor;

use super::{ADMIN, gate};
use crate::harness::{Gate, KEY, PrivatePostgres, Rows, chat, secs};

#[tokio::test]
async fn each_key_opens_its_own_side_alone() {
    let gate = gate("").await;
    let mut rows = Rows::new();
    let cases = [
        ("no key", None, 401, "missing_admin_key"),
        ("an API key", Some(KEY), 403, "admin_key_required"),
        ("a wrong key", Some("it-admin-0123456789abcdeX"), 401, "invalid_admin_key"),
        ("the beginning of the admin key", Some("it-admin-0123456789"), 401, "invalid_admin_key"),
        ("the admin key", Some(ADMIN), 200, ""),
    ];
    for path in ["/admin/v1/usage", "/admin/v1/requests", "/admin/v1/openapi.json"] {
        for (name, key, status, code) in cases {
            rows.row(format!("{path} with {name}"));
            let answer = gate.admin(path, key).await;
            rows.equal("answer", (answer.status, answer.code().as_str()), (status, code));
            rows.equal("nothing is cached", answer.header("cache-control"), "no-store");
            rows.equal("a request id", answer.header("x-request-id").len(), 26);
        }
    }
    let bearer = format!("Bearer {ADMIN}");
    for (path, body) in
        [("/v1/chat/completions", chat(json!({}))), ("/embeddings", json!({ "model": "m", "input": "x" }))]
    {
        for headers in [[("authorization", bearer.as_str())], [("authorization", "")]] {
            rows.row(format!("{path} with the admin key in {headers:?}"));
            let headers = if headers[0].1.is_empty() {
                vec![("authorization", ""), ("x-api-key", ADMIN)]
            } else {
                headers.to_vec()
            };
            let answer = gate.post(path, body.to_string(), &headers).await;
            rows.equal("answer", (answer.status, answer.code()), (403, "admin_key_not_allowed_here".to_owned()));
            rows.equal("not to be repeated", answer.header("x-should-retry"), "false");
        }
    }
    rows.row("/v1/models with the admin key");
    rows.equal("answer", gate.admin("/v1/models", Some(ADMIN)).await.status, 403);
    rows.row("calls");
    rows.equal("nothing was sent", gate.served("a"), 0);
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_right_key_goes_on_working() {
    let gate = gate("auth: { wrong_keys_per_minute: 3 }").await;
    let mut codes = Vec::new();
    for guess in 0..5 {
        let key = format!("it-admin-guess-{guess:010}");
        codes.push(gate.admin("/admin/v1/usage", Some(&key)).await.code());
    }
    assert_eq!(codes[..3], ["invalid_admin_key"; 3]);
    assert_eq!(codes[3..], ["too_many_wrong_keys"; 2]);
    let refused = gate.admin("/admin/v1/usage", Some("it-admin-guess-again-and-again")).await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    // What was counted on one side counts on the other, and a right key passes on both.
    let bearer = [("authorization", "Bearer sk-sb-guess-of-an-api-key")];
    assert_eq!(gate.post("/v1/chat/completions", chat(json!({})).to_string(), &bearer).await.status, 429);
    assert_eq!(gate.admin("/admin/v1/usage", Some(ADMIN)).await.status, 200);
    assert_eq!(gate.chat(json!({})).await.status, 200);
    gate.finish().await;
}

#[tokio::test]
async fn the_key_is_made_once_kept_as_a_hash_and_replaced_at_once() {
    let gate = Gate::build().mock("a").start().await;
    let app = gate.app.as_ref().unwrap();
    assert_eq!(gate.admin("/admin/v1/usage", Some(ADMIN)).await.status, 401, "there is no default");
    let first = app.keys.first_admin_key().await.unwrap().expect("none was there");
    assert!(app.keys.first_admin_key().await.unwrap().is_none(), "it is made once");
    assert!(first.expose().starts_with("sk-sb-admin-") && first.expose().len() == 55);
    assert_eq!(gate.admin("/admin/v1/usage", Some(first.expose())).await.status, 200);

    let second = app.keys.rotate_admin_key(&Actor::COMMAND).await.unwrap();
    assert_eq!(gate.admin("/admin/v1/usage", Some(first.expose())).await.status, 401);
    assert_eq!(gate.admin("/admin/v1/usage", Some(second.expose())).await.status, 200);

    for file in std::fs::read_dir(gate.data_dir()).unwrap() {
        let Ok(bytes) = std::fs::read(file.unwrap().path()) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(first.expose()) && !text.contains(second.expose()), "a key was stored");
    }
    gate.finish().await;
}

#[tokio::test]
async fn an_address_of_its_own_takes_the_admin_api_off_the_other() {
    let gate =
        Gate::build().mock("a").config(&format!("admin: {{ key: {ADMIN}, listen: \"127.0.0.1:0\" }}")).start().await;
    let admin = gate.app.as_ref().unwrap().admin_address.expect("an address of its own");
    assert_ne!(admin, gate.address);
    assert_eq!(gate.admin("/admin/v1/usage", Some(ADMIN)).await.status, 200);
    assert_eq!(gate.admin("/healthz", None).await.status, 200);
    assert_eq!(gate.admin("/v1/models", Some(KEY)).await.status, 404, "no calls there");
    assert_eq!(gate.get("/admin/v1/usage").await.status, 404, "no admin API here");
    assert_eq!(gate.chat(json!({})).await.status, 200);
    gate.finish().await;
}

/// What decides is the path alone, as the router has parsed it.
#[tokio::test]
async fn no_way_of_writing_a_path_or_a_host_opens_an_admin_route() {
    let gate = gate("").await;
    let paths = [
        "/admin/v1/usage/",
        "//admin/v1/usage",
        "/v1/../admin/v1/usage",
        "/admin/v1/%75sage",
        "/v1/models/../../admin/v1/usage",
        "/admin/v1/requests/..%2fusage",
    ];
    for path in paths {
        for host in ["localhost", "admin", "127.0.0.1/v1/models?"] {
            let mut raw = gate.raw().await;
            raw.send(format!(
                "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n"
            ))
            .await;
            let answer = raw.read_to_end().await;
            let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
            assert!(["400", "401", "403", "404"].contains(&status.as_str()), "{path} {host}: {answer}");
        }
    }
    gate.finish().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_a_503_soon() {
    let mut server = PrivatePostgres::start();
    let settings = format!("database: \"{}\"\nadmin: {{ key: {ADMIN} }}", server.url("postgres"));
    let gate = Gate::build().mock("a").config(&settings).real_time().start().await;
    assert_eq!(gate.admin("/admin/v1/usage", Some(ADMIN)).await.status, 200);
    let mut rows = Rows::new();
    for is_frozen in [false, true] {
        if is_frozen {
            server.pause();
        } else {
            server.stop();
        }
        for path in ["/admin/v1/usage", "/admin/v1/requests", "/admin/v1/requests/01K9000000000000000000000A"] {
            rows.row(format!("{path}, frozen {is_frozen}"));
            let began = gate.clock.now();
            let answer = gate.admin(path, Some(ADMIN)).await;
            rows.equal("answer", (answer.status, answer.code()), (503, "ledger_unavailable".to_owned()));
            rows.equal("retry-after", answer.header("retry-after"), "5");
            let took = gate.clock.now() - began;
            rows.holds("soon", took < secs(4), took);
        }
        if is_frozen { server.resume() } else { server.restart() }
    }
    rows.finish();
    assert_eq!(gate.admin("/admin/v1/openapi.json", Some(ADMIN)).await.status, 200);
    gate.finish().await;
}
