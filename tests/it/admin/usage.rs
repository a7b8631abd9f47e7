//! What the admin API says of the ledger, and what it refuses to be asked.

use serde_json::{Value, json};
use switchboard::types::Clock;

use super::{ADMIN, book, call, gate, ulid};
use crate::harness::{Answer, Gate, Rows, millis};

const NOVEMBER: &str = "from=2026-11-01&to=2026-12-01";

/// Three calls on the first of November and one on the second, of two keys and two models; one has no price.
async fn booked() -> Gate {
    let gate = gate("").await;
    let calls = [
        call(1, 0, "ci", "big", Some(1_500_000_375)),
        call(2, 1, "ci", "small", Some(375)),
        call(3, 61, "web", "big", None),
        call(4, 13 * 60, "web", "big", Some(2_000_000_000)),
    ];
    book(&gate, &calls).await;
    gate
}

async fn ask(gate: &Gate, path: &str) -> Answer {
    gate.admin(path, Some(ADMIN)).await
}

/// `start | group | calls | usd | unpriced` of each item.
fn lines(answer: &Answer) -> Vec<String> {
    let line = |item: &Value| {
        let group: Vec<&str> =
            item["group"].as_object().unwrap().values().map(|value| value.as_str().unwrap()).collect();
        let (start, usd) = (item["start"].as_str().unwrap_or("-"), item["cost"]["usd"].as_str().unwrap());
        format!("{start} | {} | {} | {usd} | {}", group.join(" "), item["calls"], item["unpriced_attempts"])
    };
    answer.json()["data"].as_array().unwrap_or_else(|| panic!("{}", answer.text())).iter().map(line).collect()
}

#[tokio::test]
async fn sums_are_exact_and_grouped_and_divided_as_asked() {
    let gate = booked().await;
    let cases: [(&str, &[&str]); 11] = [
        ("", &["- |  | 4 | 3.50000075 | 1"]),
        ("&group_by=model", &["- | big | 3 | 3.500000375 | 1", "- | small | 1 | 0.000000375 | 0"]),
        (
            "&group_by=key,model",
            &["- | ci big | 1 | 1.500000375 | 0", "- | ci small | 1 | 0.000000375 | 0", "- | web big | 2 | 2.00 | 1"],
        ),
        (
            "&bucket=day&tz=UTC",
            &["2026-11-01T00:00:00+00:00 |  | 3 | 1.50000075 | 1", "2026-11-02T00:00:00+00:00 |  | 1 | 2.00 | 0"],
        ),
        ("&bucket=day&tz=America/New_York", &["2026-11-01T00:00:00-04:00 |  | 4 | 3.50000075 | 1"]),
        ("&bucket=month&group_by=provider&tz=Europe%2FBerlin", &["2026-11-01T00:00:00+01:00 | a | 4 | 3.50000075 | 1"]),
        (
            "&key=web&bucket=hour",
            &["2026-11-01T13:00:00+00:00 |  | 1 | 0.00 | 1", "2026-11-02T01:00:00+00:00 |  | 1 | 2.00 | 0"],
        ),
        ("&end_user=user-0&model=big", &["- |  | 1 | 2.00 | 0"]),
        ("&group_by=tag&key=ci", &["- | batch | 2 | 1.50000075 | 0", "- | night | 2 | 1.50000075 | 0"]),
        ("&group_by=workflow,step", &["- | one flow'; drop table requests; -- | 4 | 3.50000075 | 1"]),
        ("&outcome=lost", &[]),
    ];
    let mut rows = Rows::new();
    for (query, expected) in cases {
        rows.row(query);
        let answer = ask(&gate, &format!("/admin/v1/usage?{NOVEMBER}{query}")).await;
        let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
        let found = if answer.status == 200 { lines(&answer) } else { vec![answer.text()] };
        // A question for everything has one sum even of nothing, or none: both say the same.
        rows.equal("items", found, expected);
    }
    rows.finish();
    let all = ask(&gate, &format!("/admin/v1/usage?{NOVEMBER}")).await.json();
    assert_eq!(
        (&all["from"], &all["to"], &all["tz"]),
        (&json!("2026-11-01T00:00:00+00:00"), &json!("2026-12-01T00:00:00+00:00"), &json!("UTC"))
    );
    let item = &all["data"][0];
    assert_eq!(item["cost"]["nanos"], 3_500_000_750_i64);
    assert_eq!(
        (&item["usage"]["input"], &item["usage"]["cache_read"], &item["usage"]["reasoning"]),
        (&json!(400), &json!(80), &json!(12))
    );
    gate.finish().await;
}

#[tokio::test]
async fn pages_hold_everything_once_and_cursors_belong_to_their_question() {
    let gate = booked().await;
    let mut rows = Rows::new();
    for path in [
        format!("/admin/v1/usage?{NOVEMBER}&group_by=key,model&bucket=hour"),
        "/admin/v1/requests?from=2026-11-01".to_owned(),
    ] {
        rows.row(&*path);
        let whole = ask(&gate, &path).await.json()["data"].clone();
        let (mut gathered, mut cursor, mut first) = (Vec::new(), String::new(), String::new());
        for _ in 0..9 {
            let page = ask(&gate, &format!("{path}&limit=1{cursor}")).await.json();
            gathered.extend(page["data"].as_array().cloned().unwrap_or_default());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={}", next.replace('%', "%25"));
            if first.is_empty() {
                first.clone_from(&cursor);
            }
        }
        rows.equal("pages", Value::from(gathered), whole);
        for elsewhere in ["/admin/v1/usage?bucket=day", "/admin/v1/requests?key=ci", "/admin/v1/requests?to=2026-11-02"]
        {
            let answer = ask(&gate, &format!("{elsewhere}{first}")).await;
            let param = answer.json()["error"]["param"].clone();
            rows.equal("elsewhere", (answer.status, param), (400, json!("cursor")));
        }
    }
    for forged in ["", "x", "7.a.b", "000000000000-7", "%00", "9223372036854775808.a", "'%20or%201=1"] {
        rows.row(format!("cursor {forged}"));
        for path in ["/admin/v1/usage?", "/admin/v1/requests?"] {
            rows.equal("status", ask(&gate, &format!("{path}cursor={forged}")).await.status, 400);
        }
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let gate = booked().await;
    let cases = [
        ("usage?form=2026-11-01", "unknown_parameter", "form", "Did you mean `from`?"),
        ("usage?group-by=model", "unknown_parameter", "group-by", "Did you mean `group_by`?"),
        ("usage?api_key=x", "unknown_parameter", "api_key", "There are: "),
        ("openapi.json?pretty=1", "unknown_parameter", "pretty", "takes none"),
        ("usage?key=a&key=b", "duplicate_parameter", "key", "twice"),
        ("usage?group_by=model,modle", "invalid_parameter", "group_by", "did you mean `model`?"),
        ("usage?group_by=model,key,tag", "invalid_parameter", "group_by", "at most two"),
        ("usage?group_by=", "invalid_parameter", "group_by", "there are: project"),
        ("usage?bucket=week", "invalid_parameter", "bucket", "hour, day, month"),
        ("usage?tz=Europe/Berlim", "invalid_parameter", "tz", "Did you mean `Europe/Berlin`?"),
        ("usage?tz=..%2F..%2Fetc%2Fpasswd", "invalid_parameter", "tz", "is no time zone"),
        ("usage?from=yesterday", "invalid_parameter", "from", "2026-11-30T12:00:00Z"),
        ("usage?from=2026-02-30", "invalid_parameter", "from", "neither a date"),
        ("usage?to=2026-11-01T00:00:00", "invalid_parameter", "to", "with its offset"),
        ("usage?from=2026-11-02&to=2026-11-02", "invalid_parameter", "from", "must be before"),
        ("usage?limit=0", "invalid_parameter", "limit", "1 to 1000"),
        ("usage?limit=1e3", "invalid_parameter", "limit", "1 to 1000"),
        ("usage?limit=99999999999999999999", "invalid_parameter", "limit", "1 to 1000"),
        ("usage?outcome=lots", "invalid_parameter", "outcome", "did you mean `lost`?"),
        ("requests?limit=501", "invalid_parameter", "limit", "1 to 500"),
        ("requests?bucket=day", "unknown_parameter", "bucket", "There are: "),
        ("requests?from=%ff", "invalid_parameter", "", "UTF-8"),
    ];
    let mut rows = Rows::new();
    for (path, code, param, words) in cases {
        rows.row(path);
        let answer = ask(&gate, &format!("/admin/v1/{path}")).await;
        let error = answer.json()["error"].clone();
        rows.equal("status", answer.status, 400);
        rows.equal(
            "code and param",
            (error["code"].as_str(), error["param"].as_str().unwrap_or("")),
            (Some(code), param),
        );
        rows.holds(words, error["message"].as_str().is_some_and(|message| message.contains(words)), &error["message"]);
    }
    rows.finish();
    gate.finish().await;
}

#[tokio::test]
async fn hostile_values_are_data() {
    let gate = booked().await;
    let hostile =
        ["'%20or%20'1'='1", "%27%3B%20drop%20table%20requests%3B%20--", "%00", "%25", "*", "\\", "$1", "{{7*7}}"];
    for name in
        ["project", "key", "model", "provider", "target", "tag", "end_user", "workflow", "session", "step", "operation"]
    {
        for value in hostile {
            for path in ["usage", "requests"] {
                let answer = ask(&gate, &format!("/admin/v1/{path}?{NOVEMBER}&{name}={value}")).await;
                assert_eq!(answer.status, 200, "{path} {name}={value}: {}", answer.text());
                assert_eq!(answer.json()["data"], json!([]), "{path} {name}={value}");
            }
        }
    }
    let one =
        ask(&gate, &format!("/admin/v1/usage?{NOVEMBER}&workflow=flow%27%3B%20drop%20table%20requests%3B%20--")).await;
    assert_eq!(one.json()["data"][0]["calls"], 4);
    gate.finish().await;
}

#[tokio::test]
async fn a_receipt_tells_the_whole_call() {
    let gate = booked().await;
    let list = ask(&gate, "/admin/v1/requests?key=web").await.json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [ulid(super::NOON + 13 * 60 * 60_000, 4), ulid(super::NOON + 61 * 60_000, 3)], "newest first");
    let one = ask(&gate, &format!("/admin/v1/requests/{}", ids[1])).await.json();
    assert_eq!(one, list["data"][1]);
    assert_eq!((&one["cost"], &one["attempts"][0]["price"]), (&Value::Null, &json!("unknown")), "unknown is not zero");
    assert_eq!(
        (&one["at"], &one["key"]["name"], &one["tags"]),
        (&json!("2026-11-01T13:01:00.000Z"), &json!("web"), &json!(["batch", "night"]))
    );
    assert_eq!((&one["attempts"][0]["provider_key"], &one["usage"]["input"]), (&json!(1), &json!(100)));
    for id in ["01K9000000000000000000000A", "x", "%00", "..%2fusage", "'%20or%201=1"] {
        let answer = ask(&gate, &format!("/admin/v1/requests/{id}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "request_not_found"), "{id}");
    }
    gate.finish().await;
}

#[tokio::test]
async fn a_call_that_was_made_is_on_the_books() {
    let gate = gate("").await;
    let answer = gate.chat(json!({ "user": "u-1" })).await;
    let id = answer.header("x-request-id").to_owned();
    let written = async {
        loop {
            let receipt = ask(&gate, &format!("/admin/v1/requests/{id}")).await;
            if receipt.status == 200 {
                return receipt;
            }
            Clock::Real.sleep(millis(5)).await;
        }
    };
    let receipt = gate.patiently(written).await;
    let receipt = receipt.json();
    assert_eq!(
        (&receipt["id"], &receipt["outcome"], &receipt["key"]["name"]),
        (&json!(id), &json!("ok"), &json!("tests"))
    );
    assert_eq!((&receipt["end_user"], receipt["attempts"].as_array().map(Vec::len)), (&json!("u-1"), Some(1)));
    let sums = ask(&gate, "/admin/v1/usage?group_by=end_user").await.json();
    assert_eq!((&sums["data"][0]["calls"], &sums["data"][0]["group"]["end_user"]), (&json!(1), &json!("u-1")));
    gate.finish().await;
}
