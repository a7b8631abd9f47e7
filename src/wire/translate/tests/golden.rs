//! What every fixture becomes in every other format, kept as text to be read by people.

use super::*;

fn pretty(body: &[u8]) -> String {
    // Order and spelling are checked elsewhere; here it is for reading.
    let value: serde_json::Value = serde_json::from_slice(body).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

fn list(losses: &Losses) -> String {
    losses.iter().map(|loss| format!("{}: {}\n", loss.path, loss.why)).collect()
}

fn snapshot(name: &str, content: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, content));
}

fn other(format: Format) -> (Format, &'static str) {
    match format {
        Format::OpenAiChat => (Format::Anthropic, "anthropic"),
        Format::Anthropic => (Format::OpenAiChat, "openai"),
    }
}

#[test]
fn requests() {
    for (name, format, text) in REQUESTS {
        let (to, word) = other(*format);
        let request = decode_request(*format, text.as_bytes()).unwrap();
        let encoded = encode_request(&request, &target(to));
        let content = format!("{}\n\nlosses:\n{}", pretty(&encoded.body), list(&encoded.losses));
        snapshot(&format!("{}.to_{word}", name.trim_end_matches(".json")), &content);
    }
}

#[test]
fn requests_for_older_models_and_other_servers() {
    let old = anthropic::Options {
        model: "claude-opus-4-1",
        thinking: anthropic::ThinkingSupport::Budget,
        sampling: anthropic::SamplingSupport::One,
        efforts: &[],
        json_schema: false,
        system_turns: false,
        ..Default::default()
    };
    let deepseek = openai_chat::Options {
        model: "deepseek-v4",
        max_tokens_name: "max_tokens",
        reasoning: openai_chat::ReasoningField::Named { name: "reasoning_content", required: true },
        cache_marks: openai_chat::CacheMarks::CacheControl,
        json_schema: false,
        user: false,
        ..Default::default()
    };
    for (name, format, text) in REQUESTS {
        let (target, word) = match format {
            Format::OpenAiChat => (Target::Anthropic(old.clone()), "old_claude"),
            Format::Anthropic => (Target::OpenAiChat(deepseek.clone()), "deepseek"),
        };
        let request = decode_request(*format, text.as_bytes()).unwrap();
        let encoded = encode_request(&request, &target);
        let content = format!(
            "{}\n\njson tool: {}\nlosses:\n{}",
            pretty(&encoded.body),
            encoded.undo.json_tool,
            list(&encoded.losses)
        );
        snapshot(&format!("{}.to_{word}", name.trim_end_matches(".json")), &content);
    }
}

#[test]
fn replies() {
    for (name, format, text) in REPLIES {
        let (to, word) = other(*format);
        let reply = decode_reply(*format, text.as_bytes(), &Undo::default()).unwrap();
        let mut losses = Losses::default();
        let written = encode_reply(to, &reply, &options(), &mut losses);
        let content = format!("{}\n\nlosses:\n{}", pretty(&written), list(&losses));
        snapshot(&format!("{}.to_{word}", name.trim_end_matches(".json")), &content);
    }
}

#[test]
fn streams() {
    for (name, format, text) in STREAMS {
        let (to, word) = other(*format);
        let (written, losses) = translate(text.as_bytes(), *format, to, usize::MAX, true);
        let content = format!("{}\n\nlosses:\n{}", written.trim_end(), list(&losses));
        snapshot(&format!("{}.to_{word}", name.trim_end_matches(".sse")), &content);
    }
}
