//! The catalogue in the binary: a file for each vendor, looked into only when one of its models is asked for.
//!
//! A file's text is part of the binary, which the kernel maps and does not copy. The first question about a vendor makes
//! an index of names over that text; an entry is parsed when it is asked for. So a gateway pays for the vendors it uses.

use std::{collections::BTreeMap, sync::OnceLock};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Price, entry::Entry, names::matches, price::Origin};

/// One vendor's file.
struct File {
    vendor: &'static str,
    text: &'static str,
    index: OnceLock<Index>,
}

/// By name, the model's own name and its entry.
type Index = BTreeMap<&'static str, (&'static str, &'static RawValue)>;

macro_rules! files {
    ($($vendor:literal),* $(,)?) => {
        [$(File {
            vendor: $vendor,
            text: include_str!(concat!("../../config/prices/", $vendor, ".json")),
            index: OnceLock::new(),
        }),*]
    };
}

/// By name.
static FILES: [File; 50] = files![
    "aihubmix",
    "anthropic",
    "azure",
    "azure_ai",
    "baseten",
    "bedrock",
    "cerebras",
    "cloudflare",
    "cohere",
    "crusoe",
    "dashscope",
    "dashscope_cn",
    "databricks",
    "deepgram",
    "deepinfra",
    "deepseek",
    "digitalocean",
    "fireworks",
    "friendli",
    "gemini",
    "gmi",
    "groq",
    "huggingface",
    "hyperbolic",
    "inception",
    "meta",
    "minimax",
    "mistral",
    "moonshot",
    "nebius",
    "novita",
    "nscale",
    "openai",
    "openrouter",
    "ovhcloud",
    "perplexity",
    "sambanova",
    "scaleway",
    "tencent",
    "together",
    "vercel_ai_gateway",
    "vertex",
    "volcengine",
    "voyage",
    "wandb",
    "watsonx",
    "xai",
    "xiaomi_mimo",
    "zai",
    "zhipu"
];

/// The price of `model` at a vendor, if the catalogue has it.
pub(super) fn find(vendor: &str, model: &str) -> Option<Price> {
    let file = file(vendor)?;
    matches(file.vendor, model, |name| {
        let (model, raw) = file.index().get(name)?;
        read(file.vendor, model, raw)
    })
}

/// The vendors of the catalogue, by name.
pub fn vendors() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|file| file.vendor)
}

/// A vendor's models, by name, each with its other names left out.
pub fn models(vendor: &str) -> impl Iterator<Item = (&'static str, Price)> {
    let index = file(vendor).map(|file| (file.vendor, file.index()));
    index.into_iter().flat_map(|(vendor, index)| {
        let own = index.iter().filter(|(name, (model, _))| *name == model);
        own.filter_map(move |(name, (_, raw))| Some((*name, read(vendor, name, raw)?)))
    })
}

/// Every vendor with the text of its file.
#[cfg(test)]
pub(super) fn texts() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().map(|file| (file.vendor, file.text))
}

fn file(vendor: &str) -> Option<&'static File> {
    FILES.binary_search_by_key(&vendor, |file| file.vendor).ok().map(|at| &FILES[at])
}

impl File {
    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            // A test reads every file, so this cannot fail in a binary that was tested.
            let file: BTreeMap<&str, BTreeMap<&'static str, &'static RawValue>> =
                serde_json::from_str(self.text).unwrap_or_default();
            let mut index = Index::new();
            for (model, raw) in file.into_values().flatten() {
                index.insert(model, (model, raw));
                for name in other_names(raw) {
                    index.insert(name, (model, raw));
                }
            }
            index
        })
    }
}

fn other_names(raw: &'static RawValue) -> Vec<&'static str> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default, borrow)]
        also: Vec<&'static str>,
    }
    if !raw.get().contains("\"also\"") {
        return Vec::new();
    }
    serde_json::from_str::<Names>(raw.get()).map(|names| names.also).unwrap_or_default()
}

/// `None` for an entry that cannot be read; a test reads all of them.
fn read(vendor: &str, model: &str, raw: &RawValue) -> Option<Price> {
    serde_json::from_str::<Entry>(raw.get()).ok()?.price(vendor, model, Origin::Catalogue).ok()
}
