//! Where names lead.

use std::sync::LazyLock;

use proptest::prelude::*;

use crate::catalog::{Book, Catalog, Overrides, Price, PriceFile, embedded, price::Origin};

fn book(text: &str) -> Book {
    let file: PriceFile = serde_json::from_str(text).unwrap();
    Book::new(&file, Origin::File).unwrap()
}

#[test]
fn a_name_is_found_as_it_is_and_as_vendors_spell_it() {
    let book = book(
        r#"{
            "openai": {"gpt-4o": {"input": 1, "also": ["gpt-4o-2024-08-06"]}, "gpt-4o-2024-05-13": {"input": 5}, "o3": {"input": 2}},
            "openrouter": {"openai/gpt-4o": {"input": 3}},
            "fireworks": {"accounts/fireworks/models/deepseek-v3": {"input": 4}},
            "vertex": {"claude-opus-4": {"input": 6}}
        }"#,
    );
    let cases = [
        ("openai", "gpt-4o", Some("openai/gpt-4o")),
        ("openai", "openai/gpt-4o", Some("openai/gpt-4o")),
        ("openai", "gpt-4o-2024-08-06", Some("openai/gpt-4o")),
        ("openai", "gpt-4o-2024-05-13", Some("openai/gpt-4o-2024-05-13")),
        ("openai", "gpt-4o-2024-11-20", Some("openai/gpt-4o")),
        ("openai", "gpt-4o-latest", Some("openai/gpt-4o")),
        ("openai", "o3-20250416", Some("openai/o3")),
        ("vertex", "claude-opus-4@20250514", Some("vertex/claude-opus-4")),
        ("fireworks", "deepseek-v3", Some("fireworks/accounts/fireworks/models/deepseek-v3")),
        ("openrouter", "openai/gpt-4o", Some("openrouter/openai/gpt-4o")),
        ("openrouter", "openai/gpt-4o:free", Some("free")),
        // What could be another price is unknown.
        ("openai", "gpt-4o-mini", None),
        ("openai", "gpt-4o-audio-preview", None),
        ("openai", "gpt-4", None),
        ("openai", "GPT-4o", None),
        ("openai", "gpt-4o-2024-13-01", None),
        ("openai", "gpt-4o-0513", None),
        ("openai", "azure/gpt-4o", None),
        ("openai", "o3-mini", None),
        ("openai", "", None),
        ("openai", "-latest", None),
        ("openrouter", "openai/gpt-4o:nitro", None),
        ("openrouter", "gpt-4o", None),
        ("openai", "gpt-4o:free", None),
        ("groq", "gpt-4o", None),
    ];
    for (vendor, model, expected) in cases {
        let found = book.find(vendor, model).map(|price| price.name(0).trim_start_matches("file:").to_owned());
        assert_eq!(found.as_deref(), expected, "{vendor} {model}");
    }
}

#[test]
fn servers_of_the_operators_own_are_free_and_others_unknown() {
    let catalog = Catalog::embedded();
    for kind in ["ollama", "vllm", "sglang", "llama_cpp", "lm_studio", "tgi", "localai", "mock"] {
        assert_eq!(catalog.find(kind, "anything"), Price::Free, "{kind}");
    }
    for kind in ["openai_compatible", "litellm", "openai", "no_such_kind"] {
        assert_eq!(catalog.find(kind, "anything"), Price::Unknown, "{kind}");
    }
}

#[test]
fn what_is_nearest_to_the_operator_comes_first() {
    let known = |name: &str| {
        let book = book(&format!(r#"{{"{name}": {{"m": {{"input": 1}}}}}}"#));
        book.find(name, "m").unwrap()
    };
    let Price::Known(ceiling) = known("ceiling") else { unreachable!() };
    let models = [("mine/m".to_owned(), known("set")), ("hosted/*".to_owned(), Price::Free)];
    let overrides = Overrides { models: models.into(), ceiling: Some(ceiling) };
    let file = book(r#"{"openai": {"m": {"input": 2}}, "ollama": {"m": {"input": 3}}}"#);
    let fetched = book(r#"{"openai": {"m": {"input": 9}, "n": {"input": 4}}}"#);
    let catalog = Catalog::embedded();
    let catalog = catalog.with(overrides).with_file(Some(file.into())).with_fetched(Some(fetched.into()));
    let cases = [
        ("mine", "openai", "m", "file:set/m"),
        ("other", "openai", "m", "file:openai/m"),
        ("other", "openai", "n", "file:openai/n"),
        ("other", "openai", "gpt-5.5", "openai/gpt-5.5"),
        ("hosted", "openai", "gpt-5.5", "free"),
        ("local", "ollama", "m", "file:ollama/m"),
        ("local", "ollama", "n", "free"),
        ("other", "openai", "no-such-model", "file:ceiling/m"),
    ];
    for (provider, kind, model, expected) in cases {
        assert_eq!(&*catalog.price_of(provider, kind, model).name(0), expected, "{provider} {kind} {model}");
    }
}

/// Every vendor and model of the catalogue with all its names.
static NAMES: LazyLock<Vec<(&str, String, Vec<String>)>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for (vendor, text) in embedded::texts() {
        let file: PriceFile = serde_json::from_str(text).unwrap();
        for (model, entry) in &file[vendor] {
            let names = std::iter::once(model).chain(&entry.also).cloned().collect();
            all.push((vendor, model.clone(), names));
        }
    }
    all
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Whatever is put before or behind the name of a model: a price that is found is that of an entry whose name is the
    /// name asked for, but for a documented prefix, a date or `-latest`. This oracle knows no more than that sentence.
    #[test]
    fn a_name_never_leads_to_another_models_price(
        at in any::<prop::sample::Index>(), cut in 0_usize..6,
        before in prop_oneof![Just(""), Just("openai/"), Just("google/"), Just("x"), Just("us."), Just("models/")],
        behind in prop_oneof![
            Just(String::new()), Just("-latest".to_owned()), Just("-2024-08-06".to_owned()), Just("@20250101".to_owned()),
            Just(":free".to_owned()), Just(":nitro".to_owned()), "[-a-z0-9.:@]{1,8}",
        ],
    ) {
        let (vendor, model, _) = at.get(&NAMES);
        let kept: String = model.chars().take(model.chars().count().saturating_sub(cut)).collect();
        let asked = format!("{before}{kept}{behind}");
        if let Price::Known(price) = Catalog::embedded().find(vendor, &asked) {
            let entry = NAMES.iter().find(|(of, model, _)| of == vendor && **model == *price.model);
            let (_, _, names) = entry.unwrap();
            prop_assert!(names.iter().any(|name| is_another_spelling(name, &asked)), "{} for {asked}", price.model);
        }
    }
}

/// Whether `asked` is `name` with what this test allows around it.
fn is_another_spelling(name: &str, asked: &str) -> bool {
    let prefixes = [
        "",
        "anthropic/",
        "cohere/",
        "qwen/",
        "deepseek/",
        "accounts/fireworks/models/",
        "models/",
        "google/",
        "mistralai/",
        "openai/",
        "perplexity/",
        "xai/",
        "x-ai/",
    ];
    let dated = |rest: &str| {
        let digits: String = rest.chars().filter(char::is_ascii_digit).collect();
        let rest = rest.trim_start_matches(['-', '@']);
        rest.is_empty()
            || rest == "latest"
            || (digits.len() == 8 && rest.chars().all(|c| c.is_ascii_digit() || c == '-'))
    };
    prefixes.iter().any(|prefix| {
        let with = format!("{prefix}{name}");
        let short = name.strip_prefix(prefix).unwrap_or(name);
        [with.as_str(), short].into_iter().any(|spelling| asked.strip_prefix(spelling).is_some_and(dated))
    })
}
