//! Vendors who pass calls on to other vendors, by name.

use super::HOSTED;
use crate::providers::vendor::{
    Endpoint::{Chat, Embeddings, Models},
    LimitHeaders, LimitNames, MaxTokensField, StreamUsage, UNTOLD, Vendor,
};
use crate::wire::openai_chat::convert::ReasoningField;

/// OpenRouter speaks of limits only on a 429, with a reset in Unix milliseconds.
const OPENROUTER_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames { limit: "x-ratelimit-limit", remaining: "x-ratelimit-remaining", reset: "x-ratelimit-reset" },
    tokens: UNTOLD,
};

pub(super) const RELAYS: &[Vendor] = &[
    Vendor {
        name: "aihubmix",
        title: "AIHubMix",
        base_url: "https://aihubmix.com/v1",
        key_env: &["AIHUBMIX_API_KEY"],
        docs: "https://docs.aihubmix.com/",
        ..HOSTED
    },
    // One address for both of Cloudflare's products: `@cf/…` models run on Workers AI, `author/model` goes through
    // AI Gateway to the author.
    Vendor {
        name: "cloudflare",
        also: &["cloudflare_workers_ai", "workers_ai"],
        title: "Cloudflare (Workers AI and AI Gateway)",
        base_url: "https://api.cloudflare.com/client/v4/accounts/{account_id}/ai/v1",
        key_env: &["CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"],
        serves: &[Chat, Embeddings],
        note: "Fill in the account. `@cf/…` models are Workers AI, others go through AI Gateway.",
        docs: "https://developers.cloudflare.com/ai-gateway/usage/rest-api/",
        ..HOSTED
    },
    // Kept running for those who have it; its vendor points new users to the row above. Signed in to with the key of
    // the provider behind it.
    Vendor {
        name: "cloudflare_ai_gateway",
        title: "Cloudflare AI Gateway (older endpoint)",
        base_url: "https://gateway.ai.cloudflare.com/v1/{account_id}/{gateway}/compat",
        serves: &[Chat],
        note: "Deprecated by its vendor for `cloudflare`. The key is that of the provider behind the gateway.",
        docs: "https://developers.cloudflare.com/ai-gateway/usage/chat-completion/",
        ..HOSTED
    },
    // Usage is in every stream; the field that asked for it has no effect any more.
    Vendor {
        name: "openrouter",
        title: "OpenRouter",
        base_url: "https://openrouter.ai/api/v1",
        key_env: &["OPENROUTER_API_KEY", "OR_API_KEY"],
        stream_usage: StreamUsage::Unasked,
        max_tokens: MaxTokensField::Either,
        limits: Some(&OPENROUTER_LIMITS),
        serves: &[Chat, Embeddings, Models],
        messages: Some("/api/v1"),
        // Those that its page on provider routing names, and no others (for chat completions it has them in a header of its
        // own, `x-anthropic-beta`).
        betas: Some(&["fine-grained-tool-streaming", "interleaved-thinking", "structured-outputs"]),
        reasoning: ReasoningField::Named { name: "reasoning", required: false },
        cache_control: true,
        top_k: true,
        docs: "https://openrouter.ai/docs/api_reference/limits",
        ..HOSTED
    },
    Vendor {
        name: "poe",
        title: "Poe",
        base_url: "https://api.poe.com/v1",
        key_env: &["POE_API_KEY"],
        docs: "https://creator.poe.com/docs/external-applications/openai-compatible-api",
        ..HOSTED
    },
    Vendor {
        name: "requesty",
        title: "Requesty",
        base_url: "https://router.requesty.ai/v1",
        key_env: &["REQUESTY_API_KEY"],
        serves: &[Chat, Embeddings, Models],
        docs: "https://docs.requesty.ai/",
        ..HOSTED
    },
    Vendor {
        name: "vercel_ai_gateway",
        also: &["vercel"],
        title: "Vercel AI Gateway",
        base_url: "https://ai-gateway.vercel.sh/v1",
        key_env: &["AI_GATEWAY_API_KEY", "VERCEL_AI_GATEWAY_API_KEY"],
        serves: &[Chat, Embeddings, Models],
        docs: "https://vercel.com/docs/ai-gateway/sdks-and-apis/openai-chat-completions",
        ..HOSTED
    },
];
