//! The vendors that speak OpenAI's formats, a row each, looked up in November 2026.
//!
//! Where sources disagree the vendor's own documentation wins, and the row says so in a comment. A field that no
//! source settles keeps the value of `HOSTED`: asking a stream for usage and limiting an answer with `max_tokens`,
//! which nearly every server accepts. The same tables for readers are in `docs/providers.md`; a test keeps them equal.

mod hosts;
mod makers;
mod own;
mod relays;

use super::vendor::{
    BEARER,
    Endpoint::{Chat, Completions, Embeddings, Models},
    ErrorShape, MaxTokensField, Retired, StreamUsage, Vendor,
};
use crate::wire::openai_chat::convert::ReasoningField;

/// The four groups of rows, in the order of the user guide; by name within each.
pub static GROUPS: [&[Vendor]; 4] = [makers::MAKERS, hosts::HOSTS, relays::RELAYS, own::OWN];

/// Every row, group by group.
pub fn all() -> impl Iterator<Item = &'static Vendor> {
    GROUPS.into_iter().flatten()
}

/// The row with this name or other spelling.
pub fn find(name: &str) -> Option<&'static Vendor> {
    all().find(|vendor| vendor.name == name || vendor.also.contains(&name))
}

/// The vendor with this name or other spelling whose API is gone.
pub fn retired(name: &str) -> Option<&'static Retired> {
    RETIRED.iter().find(|vendor| vendor.name == name || vendor.also.contains(&name))
}

/// What a hosted vendor is taken to be like until a source says otherwise.
const HOSTED: Vendor = Vendor {
    name: "",
    also: &[],
    title: "",
    base_url: "",
    key_env: &[],
    local: false,
    auth: BEARER,
    stream_usage: StreamUsage::Ask,
    max_tokens: MaxTokensField::MaxTokens,
    openai: true,
    messages: None,
    betas: Some(&[]),
    reasoning: ReasoningField::None,
    cache_control: false,
    top_k: false,
    takes_urls: true,
    limits: None,
    errors: ErrorShape::OpenAi,
    serves: &[Chat, Models],
    note: "",
    docs: "",
};

/// What a server on the operator's own machine is taken to be like.
const LOCAL: Vendor = Vendor { local: true, top_k: true, serves: &[Chat, Completions, Embeddings, Models], ..HOSTED };

/// Where most of those who think aloud put their reasoning, and take it back.
const REASONING_CONTENT: ReasoningField = ReasoningField::Named { name: "reasoning_content", required: false };

/// Vendors whose API is gone.
pub static RETIRED: &[Retired] = &[
    Retired {
        name: "ai21",
        also: &["ai21_chat"],
        title: "AI21 Labs",
        why: "AI21 announced the end of its Jamba API for 9 August 2026; take the models from another vendor.",
        docs: "https://docs.ai21.com/august-deprecation-notice",
    },
    Retired {
        name: "github_models",
        also: &["github"],
        title: "GitHub Models",
        why: "GitHub Models was retired on 30 July 2026; call the makers of the models, or Azure.",
        docs: "https://github.blog/changelog/2026-07-30-github-models-is-now-retired/",
    },
    // Lambda announced the end on its own page in the first half of 2026 without a date, and its page of prices has
    // none for tokens any more. An account that still works can use `openai_compatible`.
    Retired {
        name: "lambda",
        also: &["lambda_ai"],
        title: "Lambda",
        why: "Lambda is closing its hosted Inference API; if your key still works, use kind `openai_compatible` with \
              base_url `https://api.lambda.ai/v1`.",
        docs: "https://lambda.ai/inference",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::providers::vendor::UNTOLD;

    #[test]
    fn there_are_at_least_thirty_five_vendors() {
        assert!(all().count() >= 35, "{}", all().count());
    }

    #[test]
    fn no_two_rows_share_a_spelling() {
        let rows = all().map(|vendor| (vendor.name, vendor.also));
        let gone = RETIRED.iter().map(|vendor| (vendor.name, vendor.also));
        let mut seen = BTreeSet::new();
        for (name, also) in rows.chain(gone) {
            for spelling in std::iter::once(&name).chain(also) {
                assert!(seen.insert(*spelling), "`{spelling}` is used twice");
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                assert!(!spelling.is_empty() && spelling.chars().all(plain), "`{spelling}`");
            }
        }
    }

    #[test]
    fn a_row_is_found_by_its_name_and_by_its_other_spellings() {
        for (spelling, name) in
            [("groq", "groq"), ("together_ai", "together"), ("kimi", "moonshot"), ("vercel", "vercel_ai_gateway")]
        {
            assert_eq!(find(spelling).map(|vendor| vendor.name), Some(name), "{spelling}");
        }
        for unknown in ["", "Groq", "groq ", "no_such_vendor", "github_models"] {
            assert!(find(unknown).is_none(), "{unknown}");
        }
        assert_eq!(retired("github").map(|vendor| vendor.name), Some("github_models"));
        assert!(retired("openai").is_none());
    }

    #[test]
    fn rows_stand_by_name_and_only_the_last_group_is_the_operators_own() {
        for (index, group) in GROUPS.iter().enumerate() {
            assert!(group.is_sorted_by_key(|vendor| vendor.name), "group {index}");
            assert!(group.iter().all(|vendor| vendor.local == (index == 3)), "group {index}");
        }
    }

    #[test]
    fn base_urls_are_absolute_and_end_without_a_slash() {
        for Vendor { name, base_url, local, .. } in all() {
            if base_url.is_empty() {
                assert_eq!(*name, "openai_compatible", "only the row for anything else has no address");
                continue;
            }
            let uri: http::Uri = base_url.replace(['{', '}'], "").parse().unwrap();
            assert!(uri.host().is_some_and(|host| !host.is_empty()), "{name}: {base_url}");
            assert!(!base_url.ends_with('/') && uri.query().is_none(), "{name}: {base_url}");
            let scheme = if *local { "http" } else { "https" };
            assert_eq!(uri.scheme_str(), Some(scheme), "{name}: {base_url}");
        }
    }

    #[test]
    fn environment_variables_are_well_formed_and_shared_only_by_a_vendors_regions() {
        let mut owners: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for vendor in all() {
            for variable in vendor.key_env {
                let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                assert!(variable.chars().all(plain) && variable.contains('_'), "{variable}");
                owners.entry(variable).or_default().push(vendor.name);
            }
        }
        for (variable, names) in owners {
            let regions = |name: &str| {
                [names[0].to_owned(), format!("{}_cn", names[0]), format!("{}_openai", names[0])]
                    .contains(&name.to_owned())
            };
            assert!(names.iter().all(|name| regions(name)), "{variable} is shared by {names:?}");
        }
    }

    #[test]
    fn a_hosted_vendor_names_its_key_and_the_page_it_rests_on() {
        for vendor in all() {
            assert!(!vendor.title.is_empty() && !vendor.serves.is_empty(), "{}", vendor.name);
            assert!(vendor.docs.starts_with("https://"), "{}", vendor.name);
            // The older Cloudflare endpoint takes the key of whoever stands behind it.
            let keyless = vendor.local || vendor.name == "cloudflare_ai_gateway";
            assert!(keyless || !vendor.key_env.is_empty(), "{}", vendor.name);
        }
        for vendor in RETIRED {
            assert!(vendor.docs.starts_with("https://") && vendor.why.ends_with('.'), "{}", vendor.name);
        }
    }

    #[test]
    fn every_vendor_speaks_a_format_and_paths_are_paths() {
        for vendor in all() {
            assert!(vendor.openai || vendor.messages.is_some(), "{}", vendor.name);
            let is_path = |path: &str| path.starts_with('/') && path.ends_with("/v1");
            assert!(vendor.messages.is_none_or(is_path), "{}", vendor.name);
            assert_eq!(vendor.openai, vendor.serves.contains(&Chat) || vendor.name == "perplexity", "{}", vendor.name);
        }
    }

    #[test]
    fn header_names_are_lower_case_as_the_http_library_has_them() {
        for vendor in all() {
            let limits = vendor.limits.map(|limits| [limits.requests, limits.tokens]).unwrap_or([UNTOLD; 2]);
            let names = limits.into_iter().flat_map(|names| [names.limit, names.remaining, names.reset]);
            for name in names.filter(|name| !name.is_empty()).chain([vendor.auth.header]) {
                assert_eq!(http::HeaderName::from_bytes(name.as_bytes()).unwrap().as_str(), name, "{}", vendor.name);
            }
        }
    }

    #[test]
    fn the_user_guide_lists_exactly_these_vendors() {
        let guide = include_str!("../../../docs/providers.md");
        let listed: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = all().map(guide_row).chain(RETIRED.iter().map(retired_row)).collect();
        assert!(listed == expected, "the tables of docs/providers.md should read:\n{}", expected.join("\n"));
    }

    fn guide_row(vendor: &Vendor) -> String {
        let code = |text: &str| if text.is_empty() { "—".to_owned() } else { format!("`{text}`") };
        let variables = match vendor.key_env {
            [] => "—".to_owned(),
            variables => variables.iter().map(|variable| code(variable)).collect::<Vec<_>>().join(", "),
        };
        let Vendor { name, title, docs, note, .. } = vendor;
        format!("| `{name}` | [{title}]({docs}) | {} | {variables} | {note} |", code(vendor.base_url))
    }

    fn retired_row(vendor: &Retired) -> String {
        let Retired { name, title, docs, why, .. } = vendor;
        format!("| `{name}` | [{title}]({docs}) | {why} |")
    }
}
