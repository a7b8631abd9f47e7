//! There and back again: what both formats can say means the same after two translations.

use super::*;
use crate::wire::conversation::{
    BlockKind, Role, ToolChoice,
    fetch::{Follows, fill, pending},
};

/// A request of one format, through the other and back.
fn there_and_back(format: Format, text: &str) -> serde_json::Value {
    let (there, back) = match format {
        Format::OpenAiChat => (Format::Anthropic, Format::OpenAiChat),
        Format::Anthropic => (Format::OpenAiChat, Format::Anthropic),
    };
    let request = decode_request(format, text.as_bytes()).unwrap();
    let middle = encode_request(&request, &target(there));
    assert!(middle.losses.is_empty(), "{:?}", middle.losses);
    let middle_request = decode_request(there, &middle.body).unwrap();
    let end = encode_request(&middle_request, &target(back));
    assert!(end.losses.is_empty(), "{:?}", end.losses);
    serde_json::from_slice(&end.body).unwrap()
}

#[test]
fn a_conversation_with_tools_means_the_same_there_and_back() {
    let openai = r#"{"model":"m","max_completion_tokens":100,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Look: \"é\""},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"image_url","image_url":{"url":"https://e.com/a.png"}}]},{"role":"assistant","content":"Two.","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1.0}"}},{"id":"c2","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"one","tool_call_id":"c1"},{"role":"tool","content":"two","tool_call_id":"c2"},{"role":"user","content":"Go on."}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{}}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"stop":["x"],"user":"u","response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object","properties":{},"additionalProperties":false},"strict":true}}}"#;
    assert_eq!(there_and_back(Format::OpenAiChat, openai), serde_json::from_str::<serde_json::Value>(openai).unwrap());
    let anthropic = r#"{"model":"m","max_tokens":100,"system":"Be brief.","messages":[{"role":"user","content":[{"type":"text","text":"Look."}]},{"role":"assistant","content":[{"type":"text","text":"Two."},{"type":"tool_use","id":"t1","name":"f","input":{"a":1.5}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"one"},{"type":"text","text":"Go on."}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},"stop_sequences":["x"],"metadata":{"user_id":"u"},"stream":true,"service_tier":"auto"}"#;
    assert_eq!(
        there_and_back(Format::Anthropic, anthropic),
        serde_json::from_str::<serde_json::Value>(anthropic).unwrap()
    );
}

#[test]
fn every_choice_of_tools_has_its_counterpart() {
    let tools = r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]"#;
    for (openai, anthropic) in [
        (r#""auto""#, r#"{"type":"auto"}"#),
        (r#""none""#, r#"{"type":"none"}"#),
        (r#""required""#, r#"{"type":"any"}"#),
        (r#"{"type":"function","function":{"name":"g"}}"#, r#"{"type":"tool","name":"g"}"#),
        (
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}"#,
            r#"{"type":"auto"}"#,
        ),
        (
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}}"#,
            r#"{"type":"any"}"#,
        ),
    ] {
        let text =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],{tools},"tool_choice":{openai}}}"#);
        let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
        let body = encode_request(&request, &target(Format::Anthropic)).body;
        let body = std::str::from_utf8(&body).unwrap();
        assert!(body.contains(&format!(r#""tool_choice":{anthropic}"#)), "{openai}: {body}");
        assert_eq!(body.contains(r#""name":"f""#), !openai.contains("allowed"), "{body}");
    }
    let text = r#"{"model":"m","messages":[],"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"tool","name":"f"}}"#;
    let request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    assert!(matches!(&request.tool_choice, Some(ToolChoice::Tool(name)) if *name == "f"));
}

#[test]
fn thinking_keeps_to_the_rules_of_budgets() {
    let old = |max_tokens: u64, more: &str| {
        let text = format!(
            r#"{{"model":"m","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f"}}}}]{more}}}"#
        );
        let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
        let options = anthropic::Options {
            thinking: anthropic::ThinkingSupport::Budget,
            sampling: anthropic::SamplingSupport::All,
            ..Default::default()
        };
        let encoded = encode_request(&request, &Target::Anthropic(options));
        let body: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
        (body["thinking"]["budget_tokens"].as_u64(), body["temperature"].as_f64(), encoded.losses.header())
    };
    assert_eq!(old(50_000, r#","reasoning_effort":"high""#), (Some(16_384), None, String::new()));
    assert_eq!(old(10_000, r#","reasoning_effort":"high""#), (Some(8000), None, String::new()));
    assert_eq!(old(1200, r#","reasoning_effort":"low""#), (Some(1024), None, String::new()));
    assert_eq!(old(1024, r#","reasoning_effort":"low""#), (None, None, "reasoning".to_owned()));
    assert_eq!(
        old(9000, r#","reasoning_effort":"low","temperature":0.5"#),
        (Some(2048), None, "temperature".to_owned())
    );
    assert_eq!(old(9000, r#","reasoning_effort":"low","temperature":1.0"#), (Some(2048), Some(1.0), String::new()));
    assert_eq!(
        old(9000, r#","reasoning_effort":"low","tool_choice":"required""#),
        (None, None, "reasoning".to_owned())
    );
    assert_eq!(old(9000, r#","temperature":1.8"#), (None, Some(1.0), "temperature".to_owned()));
}

#[test]
fn cache_marks_reach_anthropic_from_every_position() {
    let text = r#"{"model":"m","messages":[{"role":"system","content":[{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}]},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://e.com"},"cache_control":{"type":"ephemeral","ttl":"5m"}}]},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}],"cache_control":{"type":"ephemeral","n":1}},{"role":"tool","tool_call_id":"c","content":"r","cache_control":{"type":"ephemeral","n":2}},{"role":"user","content":[{"type":"text","text":"b","prompt_cache_breakpoint":{"mode":"explicit"}}]}],"tools":[{"type":"function","function":{"name":"f"},"cache_control":{"type":"ephemeral","n":3}}],"cache_control":{"type":"ephemeral","n":4}}"#;
    let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
    let body = encode_request(&request, &target(Format::Anthropic)).body;
    let body = std::str::from_utf8(&body).unwrap();
    for part in [
        r#"{"type":"text","text":"s","cache_control":{"type":"ephemeral","ttl":"1h"}}"#,
        r#""source":{"type":"url","url":"https://e.com"},"cache_control":{"type":"ephemeral","ttl":"5m"}}"#,
        r#""input":{},"cache_control":{"type":"ephemeral","n":1}}"#,
        r#"{"type":"tool_result","tool_use_id":"c","content":"r","cache_control":{"type":"ephemeral","n":2}}"#,
        r#"{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}"#,
        r#""cache_control":{"type":"ephemeral","n":3}}]"#,
        r#","cache_control":{"type":"ephemeral","n":4}"#,
    ] {
        assert!(body.contains(part), "{part}\n{body}");
    }
}

#[test]
fn what_has_to_be_fetched_is_named_and_filled_in() {
    const NONE: Follows = Follows { images: false, documents: false };
    let text = named(REQUESTS, "request_anthropic_documents.json");
    let mut request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    let list = pending(&request, NONE);
    let found: Vec<_> = list.iter().map(|wanted| (wanted.path.as_str(), wanted.url.as_str())).collect();
    let expected = [
        ("messages[0].content[1].source.url", "https://example.com/b.pdf"),
        ("messages[0].content[3].source.content[1].source.url", "https://example.com/c.png"),
    ];
    assert_eq!(found, expected);
    assert_eq!(pending(&request, Follows { images: true, documents: false }).len(), 1);
    let fetched = [
        list[0].filled("application/octet-stream", b"%PDF-1.7").unwrap().into(),
        list[1].filled("image/png", b"\x89PNG\r\n\x1a\n").unwrap().into(),
    ];
    fill(&mut request, &fetched);
    assert!(pending(&request, NONE).is_empty());
    for format in FORMATS {
        let body = encode_request(&request, &target(format)).body;
        let body = std::str::from_utf8(&body).unwrap();
        assert!(body.contains("application/pdf") && body.contains("JVBERi0xLjc=") && !body.contains("b.pdf"), "{body}");
        assert!(body.contains("image/png") && body.contains("iVBORw0KGgo=") && !body.contains("c.png"), "{body}");
    }
}

#[test]
fn urls_are_named_by_their_place_in_the_clients_own_format() {
    let none = Follows { images: false, documents: false };
    let open = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://e.com/1"}},{"type":"file","file":{"file_data":"https://e.com/2"}}]},{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"r"},{"type":"image_url","image_url":{"url":"https://e.com/3"}}]}]}"#;
    let claude = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"r"},{"type":"image","source":{"type":"url","url":"https://e.com/1"}}]},{"type":"document","source":{"type":"content","content":[{"type":"image","source":{"type":"url","url":"https://e.com/2"}}]}}]}]}"#;
    let cases = [
        (
            Format::OpenAiChat,
            open,
            &[
                "messages[0].content[1].image_url.url",
                "messages[0].content[2].file.file_data",
                "messages[1].content[1].image_url.url",
            ][..],
        ),
        (
            Format::Anthropic,
            claude,
            &["messages[0].content[0].content[1].source.url", "messages[0].content[1].source.content[0].source.url"][..],
        ),
    ];
    for (format, text, expected) in cases {
        let request = decode_request(format, text.as_bytes()).unwrap();
        let paths: Vec<_> = pending(&request, none).into_iter().map(|wanted| wanted.path).collect();
        assert_eq!(paths, expected);
    }
}

#[test]
fn a_file_of_one_provider_is_named_where_it_means_nothing_to_the_other() {
    for (name, format, place) in [
        ("request_openai_search.json", Format::Anthropic, "messages[0].content[1]"),
        ("request_anthropic_effort.json", Format::OpenAiChat, "messages[0].content[1]"),
    ] {
        let client = if format == Format::Anthropic { Format::OpenAiChat } else { Format::Anthropic };
        let request = decode_request(client, named(REQUESTS, name).as_bytes()).unwrap();
        let encoded = encode_request(&request, &target(format));
        assert!(encoded.losses.iter().any(|loss| loss.path == place), "{name}: {:?}", encoded.losses);
        assert!(!String::from_utf8_lossy(&encoded.body).contains("file_id"), "{name}");
    }
}

#[test]
fn an_effort_that_a_model_does_not_know_becomes_the_next_lower_one() {
    let effort = |word: &str, efforts: &'static [&'static str]| {
        let text =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"a"}}],"reasoning_effort":"{word}"}}"#);
        let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
        let options = anthropic::Options { efforts, ..anthropic::Options::default() };
        let encoded = encode_request(&request, &Target::Anthropic(options));
        let body: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
        let found = body.pointer("/output_config/effort").and_then(|effort| effort.as_str()).map(str::to_owned);
        (found, encoded.losses.header())
    };
    const OLD: &[&str] = &["low", "medium", "high", "max"];
    let cases: &[(&str, &'static [&'static str], Option<&str>, &str)] = &[
        ("minimal", &anthropic::EVERY_EFFORT, Some("low"), ""),
        ("xhigh", &anthropic::EVERY_EFFORT, Some("xhigh"), ""),
        ("xhigh", OLD, Some("high"), "reasoning_effort"),
        ("max", OLD, Some("max"), ""),
        ("max", &OLD[..3], Some("high"), "reasoning_effort"),
        ("newer", OLD, Some("newer"), ""),
        ("high", &[], None, ""),
    ];
    for (word, efforts, expected, lost) in cases {
        let found = effort(word, efforts);
        assert_eq!((found.0.as_deref(), found.1.as_str()), (*expected, *lost), "{word}");
    }
}

#[test]
fn one_message_is_one_turn() {
    for (name, format, text) in REQUESTS {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let request = decode_request(*format, text.as_bytes()).unwrap();
        assert_eq!(request.turns.len(), value["messages"].as_array().unwrap().len(), "{name}");
        for turn in &request.turns {
            let results = turn.content.blocks.iter().filter(|block| matches!(block.kind, BlockKind::ToolResult(_)));
            assert!(turn.role != Role::Tool || results.count() == 1);
        }
    }
}

#[test]
fn long_names_of_tools_are_shortened_for_the_provider_and_restored_for_the_client() {
    let name = format!("mcp__{}", "server".repeat(15));
    let text = format!(
        r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"tools":[{{"name":"{name}","input_schema":{{"type":"object"}}}}],"tool_choice":{{"type":"tool","name":"{name}"}}}}"#
    );
    let request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    let encoded = encode_request(&request, &target(Format::OpenAiChat));
    let body = std::str::from_utf8(&encoded.body).unwrap();
    let short = &encoded.undo.names[0].0;
    assert!(short.len() == 64 && body.matches(short.as_str()).count() == 2 && !body.contains(&name), "{body}");
    let reply = named(REPLIES, "reply_openai.json").replace(r#""name":"f""#, &format!(r#""name":"{short}""#));
    let reply = decode_reply(Format::OpenAiChat, reply.as_bytes(), &encoded.undo).unwrap();
    let whole = encode_reply(Format::Anthropic, &reply, &options(), &mut Losses::default());
    assert!(String::from_utf8(whole).unwrap().contains(&name));
    let stream = named(STREAMS, "stream_openai_parallel.sse").replace(r#""name":"f""#, &format!(r#""name":"{short}""#));
    let mut translator = StreamTranslator::new(Format::OpenAiChat, Format::Anthropic, &encoded.undo, &options());
    let mut out = Vec::new();
    frames(&stream).iter().for_each(|frame| translator.frame(frame, &mut out, &mut |_| {}));
    assert!(String::from_utf8(out).unwrap().contains(&name));
}

#[test]
fn ids_reach_clients_unchanged_and_anthropic_in_its_own_letters() {
    let reply = named(REPLIES, "reply_openai.json").replace("call_1", "functions.f:0");
    let reply = decode_reply(Format::OpenAiChat, reply.as_bytes(), &Undo::default()).unwrap();
    let whole = encode_reply(Format::Anthropic, &reply, &options(), &mut Losses::default());
    assert!(String::from_utf8(whole).unwrap().contains(r#""id":"functions.f:0""#));
    let text = r#"{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"functions.f:0","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"functions.f:0"}]}]}"#;
    let request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    let body = encode_request(&request, &target(Format::Anthropic)).body;
    assert_eq!(std::str::from_utf8(&body).unwrap(), text.replace("functions.f:0", "functions_2ef_3a0"));
}

#[test]
fn a_count_asks_for_what_counts() {
    let text = named(REQUESTS, "request_openai_tools.json");
    let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
    let body = anthropic::encode_count_request(&request, &anthropic::Options::default()).body;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"]);
    assert_eq!(anthropic::decode_count(&anthropic::encode_count(7)), Some(7));
}

#[test]
fn instructions_among_the_turns_stand_where_anthropic_takes_them() {
    let roles = |text: &str, system_turns: bool| {
        let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
        let options = anthropic::Options { system_turns, ..Default::default() };
        let encoded = encode_request(&request, &Target::Anthropic(options));
        let body: serde_json::Value = serde_json::from_slice(&encoded.body).unwrap();
        let messages = body["messages"].as_array().unwrap();
        let roles: Vec<String> = messages.iter().map(|message| message["role"].as_str().unwrap().to_owned()).collect();
        (roles.join(" "), body["system"].to_string(), encoded.losses.header())
    };
    let message = |role: &str| format!(r#"{{"role":"{role}","content":"{role}"}}"#);
    let text = |list: &[&str]| {
        let messages: Vec<_> = list.iter().map(|role| message(role)).collect();
        format!(r#"{{"model":"m","messages":[{}]}}"#, messages.join(","))
    };
    let whole = text(&["system", "developer", "user", "system", "assistant", "user", "developer"]);
    assert_eq!(roles(&whole, true).0, "user system assistant user system");
    assert!(roles(&whole, true).2.is_empty());
    let (order, system, header) = roles(&whole, false);
    assert_eq!((order.as_str(), header.as_str()), ("user assistant user", "messages[3], messages[6]"));
    assert_eq!(system.matches("system").count() + system.matches("developer").count(), 4);
    let between = text(&["user", "system", "user", "assistant"]);
    assert_eq!(roles(&between, true).0, "user system assistant");
    assert_eq!(roles(&between, true).2, "messages[2]");
    assert_eq!(roles(&text(&["user", "assistant", "system", "user"]), true).0, "user assistant user system");
}

#[test]
fn results_come_first_in_their_turn_and_hold_only_what_can_be_said() {
    let text = r#"{"model":"m","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"user","content":"wait"},{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":""},{"type":"input_audio","input_audio":{"data":"x","format":"wav"}},"bare",{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}]}"#;
    let request = decode_request(Format::OpenAiChat, text.as_bytes()).unwrap();
    let encoded = encode_request(&request, &target(Format::Anthropic));
    let body = std::str::from_utf8(&encoded.body).unwrap();
    let expected = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"bare"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]},{"type":"text","text":"wait"}]}"#;
    assert!(body.contains(expected), "{body}");
    assert_eq!(encoded.losses.header(), "messages[2].content[0]");
}

#[test]
fn a_long_name_of_the_user_reaches_openai_as_its_hash() {
    let request = |user: &str| {
        let text = format!(
            r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"x"}}],"metadata":{{"user_id":"{user}"}}}}"#
        );
        let request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
        let body = encode_request(&request, &target(Format::OpenAiChat)).body;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body["user"].as_str().unwrap().to_owned()
    };
    let (short, long) = ("é".repeat(64), r#"{\"device\":\"1\",\"session\":\"2\"}"#.repeat(3));
    assert_eq!(request(&short), short);
    let hashed = request(&long);
    assert!(hashed.starts_with("user_") && hashed.len() == 53, "{hashed}");
    assert_eq!(hashed, request(&long));
    assert_ne!(hashed, request(&long.replace('2', "3")));
}

#[test]
fn a_tool_that_was_found_is_named_to_those_who_know_no_such_search() {
    let text = named(REQUESTS, "request_anthropic_claude_code_search.json");
    let request = decode_request(Format::Anthropic, text.as_bytes()).unwrap();
    let body = encode_request(&request, &target(Format::OpenAiChat)).body;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let messages = body["messages"].as_array().unwrap();
    let result = messages.iter().find(|message| message["role"] == "tool").unwrap();
    assert_eq!(*result, serde_json::json!({ "role": "tool", "content": "WebFetch", "tool_call_id": "toolu_01S" }));
    assert_eq!(body["tools"][1]["function"]["name"], "WebFetch");
}
