//! Within a format nothing is lost: the document that is written is the document that was read, member for member.

use proptest::prelude::*;

use super::*;

#[test]
fn requests_come_back_as_they_were() {
    for (name, format, text) in REQUESTS {
        let request = decode_request(*format, text.as_bytes()).unwrap();
        let encoded = encode_request(&request, &target(*format));
        let mut expected = compact(text);
        if *format == Format::Anthropic {
            // Thinking that nobody signed would be refused.
            expected = expected.replace(
                r#"{"type":"thinking","thinking":"Reasoned elsewhere.","signature":"switchboard.unsigned"},"#,
                "",
            );
            assert_eq!(encoded.losses.is_empty(), !text.contains("unsigned"), "{name}");
        }
        assert_eq!(compact(std::str::from_utf8(&encoded.body).unwrap()), expected, "{name}");
    }
}

#[test]
fn replies_come_back_as_they_were() {
    for (name, format, text) in REPLIES {
        let reply = decode_reply(*format, text.as_bytes(), &Undo::default()).unwrap();
        let mut losses = Losses::default();
        let written = encode_reply(*format, &reply, &options(), &mut losses);
        assert_eq!(compact(std::str::from_utf8(&written).unwrap()), compact(text), "{name}");
        assert!(losses.is_empty(), "{name}");
    }
}

#[test]
fn the_model_is_the_one_thing_that_changes() {
    let text = named(REQUESTS, "request_anthropic_documents.json");
    let request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    let options = anthropic::Options { model: "claude-haiku-5-5", ..Default::default() };
    let encoded = encode_request(&request, &Target::Anthropic(options));
    assert_eq!(
        compact(std::str::from_utf8(&encoded.body).unwrap()),
        compact(text).replace(r#""model":"claude-opus-5""#, r#""model":"claude-haiku-5-5""#)
    );
}

#[test]
fn the_same_request_gives_the_same_bytes_every_time() {
    for (name, format, text) in REQUESTS {
        for to in FORMATS {
            let encode = || {
                let request = decode_request(*format, text.as_bytes()).unwrap();
                encode_request(&request, &target(to)).body
            };
            let first = encode();
            for _ in 0..50 {
                assert_eq!(first, encode(), "{name} to {to:?}");
            }
        }
    }
}

/// Any JSON value, as text.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?(e[+-]?[0-9]{1,3})?",
        "[a-z\u{e9}\u{1f600}]{0,6}".prop_map(|text| format!("\"{text}\\u00e9\\ud800\\n\"")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(inner, 0..4).prop_map(|items| {
                let members = items.iter().enumerate().map(|(index, item)| format!("\"m{index}\":{item}"));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// Puts a member `zz` with this value into some object of a document: in front of its first member, or behind it.
fn insert(text: &str, place: usize, value: &str) -> String {
    let opens: Vec<usize> = text.match_indices("{\"").map(|(at, _)| at).collect();
    // Objects inside strings are not objects.
    let at = opens[place % opens.len()];
    format!("{}{{\"zz\":{value},{}", &text[..at], &text[at + 1..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn unknown_members_survive_at_any_depth(which in 0usize..6, place in 0usize..200, value in json()) {
        let (name, format, text) = REQUESTS[which];
        let text = insert(&compact(text), place, &value);
        let Ok(request) = decode_request(format, text.as_bytes()) else {
            // It fell into a string, whose escapes make the whole no JSON.
            return Ok(());
        };
        let encoded = encode_request(&request, &target(format));
        let expected = text.replace(
            r#"{"type":"thinking","thinking":"Reasoned elsewhere.","signature":"switchboard.unsigned"},"#,
            "",
        );
        if !text.contains(r#""Reasoned elsewhere."#) || expected != text {
            prop_assert_eq!(std::str::from_utf8(&encoded.body).unwrap(), expected, "{}", name);
        }
    }

    #[test]
    fn members_keep_their_order(order in Just((0..8).collect::<Vec<usize>>()).prop_shuffle()) {
        let members = [
            r#""model":"m""#,
            r#""messages":[{"content":[{"text":"a","cache_control":{"type":"ephemeral"},"type":"text"}],"role":"user"}]"#,
            r#""max_tokens":10"#,
            r#""system":"s""#,
            r#""temperature":0.50"#,
            r#""tools":[]"#,
            r#""x":1E2"#,
            r#""stream":false"#,
        ];
        let text = format!("{{{}}}", order.iter().map(|index| members[*index]).collect::<Vec<_>>().join(","));
        for format in FORMATS {
            let request = decode_request(format, text.as_bytes()).unwrap();
            let encoded = encode_request(&request, &target(format));
            prop_assert_eq!(std::str::from_utf8(&encoded.body).unwrap(), &text);
        }
    }
}
