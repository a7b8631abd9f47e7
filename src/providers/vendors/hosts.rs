//! Vendors who host other people's models, by name.

use super::HOSTED;
use crate::providers::vendor::{
    Endpoint::{Chat, Completions, Embeddings, Models},
    ErrorShape, LimitHeaders, LimitNames, MaxTokensField, OPENAI_LIMITS, UNTOLD, Vendor,
};

/// Cerebras names the window in the header; of its several windows these are the two its documentation lists.
const CEREBRAS_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames {
        limit: "x-ratelimit-limit-requests-day",
        remaining: "x-ratelimit-remaining-requests-day",
        reset: "x-ratelimit-reset-requests-day",
    },
    tokens: LimitNames {
        limit: "x-ratelimit-limit-tokens-minute",
        remaining: "x-ratelimit-remaining-tokens-minute",
        reset: "x-ratelimit-reset-tokens-minute",
    },
};

/// Together counts by the second; one reset time serves both limits.
const TOGETHER_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames { limit: "x-ratelimit-limit", remaining: "x-ratelimit-remaining", reset: "x-ratelimit-reset" },
    tokens: LimitNames { limit: "x-tokenlimit-limit", remaining: "x-tokenlimit-remaining", reset: "x-ratelimit-reset" },
};

/// Fireworks tells its limits, in tokens a second, but not what is left of them.
const FIREWORKS_LIMITS: LimitHeaders = LimitHeaders {
    requests: UNTOLD,
    tokens: LimitNames { limit: "x-ratelimit-limit-tokens-prompt", remaining: "", reset: "" },
};

/// SambaNova limits requests by the minute and, under `-day` names, by the day; tokens only on its free tier.
const SAMBANOVA_LIMITS: LimitHeaders = LimitHeaders { requests: OPENAI_LIMITS.requests, tokens: UNTOLD };

/// DigitalOcean's token window is in the name; its reset times are Unix seconds.
const DIGITALOCEAN_LIMITS: LimitHeaders = LimitHeaders {
    requests: OPENAI_LIMITS.requests,
    tokens: LimitNames {
        limit: "x-ratelimit-limit-tokens-per-minute",
        remaining: "x-ratelimit-remaining-tokens-per-minute",
        reset: "x-ratelimit-reset-tokens-per-minute",
    },
};

pub(super) const HOSTS: &[Vendor] = &[
    // The model APIs answer an error as text; dedicated deployments pass their server's OpenAI shape on.
    Vendor {
        name: "baseten",
        title: "Baseten",
        base_url: "https://inference.baseten.co/v1",
        key_env: &["BASETEN_API_KEY"],
        errors: ErrorShape::Text,
        note: "A dedicated deployment has a base URL of its own.",
        docs: "https://docs.baseten.co/inference/model-apis/overview",
        ..HOSTED
    },
    Vendor {
        name: "cerebras",
        title: "Cerebras",
        base_url: "https://api.cerebras.ai/v1",
        key_env: &["CEREBRAS_API_KEY"],
        max_tokens: MaxTokensField::MaxCompletionTokens,
        limits: Some(&CEREBRAS_LIMITS),
        errors: ErrorShape::Flat,
        serves: &[Chat, Completions, Models],
        note: "Counts the whole requested answer length against the token limit before it starts.",
        docs: "https://inference-docs.cerebras.ai/support/rate-limits",
        ..HOSTED
    },
    Vendor {
        name: "chutes",
        title: "Chutes",
        base_url: "https://llm.chutes.ai/v1",
        key_env: &["CHUTES_API_KEY"],
        docs: "https://llm.chutes.ai/v1/models",
        ..HOSTED
    },
    Vendor {
        name: "crusoe",
        title: "Crusoe",
        base_url: "https://api.inference.crusoecloud.com/v1",
        key_env: &["CRUSOE_API_KEY"],
        docs: "https://docs.crusoecloud.com/tags/rate-limits",
        ..HOSTED
    },
    Vendor {
        name: "deepinfra",
        also: &["deep_infra"],
        title: "DeepInfra",
        base_url: "https://api.deepinfra.com/v1/openai",
        key_env: &["DEEPINFRA_API_KEY"],
        serves: &[Chat, Completions, Embeddings, Models],
        docs: "https://deepinfra.com/docs/advanced/openai_api",
        ..HOSTED
    },
    // `DIGITALOCEAN_ACCESS_TOKEN`, in one catalogue, is the vendor's name for account tokens, which do not work here.
    Vendor {
        name: "digitalocean",
        also: &["gradient_ai"],
        title: "DigitalOcean",
        base_url: "https://inference.do-ai.run/v1",
        key_env: &["DIGITALOCEAN_INFERENCE_KEY"],
        limits: Some(&DIGITALOCEAN_LIMITS),
        note: "The key is a model access key, not an account token.",
        docs: "https://docs.digitalocean.com/products/inference/reference/quota-specific-response-headers/",
        ..HOSTED
    },
    Vendor {
        name: "featherless",
        also: &["featherless_ai"],
        title: "Featherless",
        base_url: "https://api.featherless.ai/v1",
        key_env: &["FEATHERLESS_API_KEY", "FEATHERLESS_AI_API_KEY"],
        serves: &[Chat, Completions, Models],
        docs: "https://featherless.ai/docs/completions",
        ..HOSTED
    },
    // Usage comes with the last chunk unasked; asking is accepted and keeps `/completions` safe. Models are listed by
    // an account API in another shape. A fault in the request itself is answered in FastAPI's `detail` shape.
    Vendor {
        name: "fireworks",
        also: &["fireworks_ai"],
        title: "Fireworks AI",
        base_url: "https://api.fireworks.ai/inference/v1",
        key_env: &["FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"],
        max_tokens: MaxTokensField::Either,
        limits: Some(&FIREWORKS_LIMITS),
        serves: &[Chat, Completions, Embeddings],
        note: "Shortens an answer limit that does not fit the context instead of refusing the call.",
        docs: "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        ..HOSTED
    },
    Vendor {
        name: "friendli",
        also: &["friendliai"],
        title: "FriendliAI",
        base_url: "https://api.friendli.ai/serverless/v1",
        key_env: &["FRIENDLI_TOKEN", "FRIENDLIAI_API_KEY"],
        serves: &[Chat, Completions],
        note: "Serverless endpoints; dedicated ones have a base URL of their own.",
        docs: "https://friendli.ai/docs/guides/serverless_endpoints/introduction",
        ..HOSTED
    },
    Vendor {
        name: "gmi",
        also: &["gmicloud"],
        title: "GMI Cloud",
        base_url: "https://api.gmi-serving.com/v1",
        key_env: &["GMI_API_KEY", "GMI_CLOUD_APIKEY", "GMICLOUD_API_KEY"],
        docs: "https://docs.gmicloud.ai/inference-engine/api-reference/llm-api-reference",
        ..HOSTED
    },
    // Unasked, the counts sit in `x_groq.usage` instead of `usage`.
    Vendor {
        name: "groq",
        title: "Groq",
        base_url: "https://api.groq.com/openai/v1",
        key_env: &["GROQ_API_KEY"],
        max_tokens: MaxTokensField::Either,
        limits: Some(&OPENAI_LIMITS),
        note: "The request limit it tells is by the day, the token limit by the minute.",
        docs: "https://console.groq.com/docs/rate-limits",
        ..HOSTED
    },
    Vendor {
        name: "huggingface",
        also: &["hf"],
        title: "Hugging Face Inference Providers",
        base_url: "https://router.huggingface.co/v1",
        key_env: &["HF_TOKEN", "HUGGINGFACE_API_KEY"],
        errors: ErrorShape::Text,
        note: "A router: what a model accepts depends on who serves it.",
        docs: "https://huggingface.co/docs/inference-providers",
        ..HOSTED
    },
    Vendor {
        name: "hyperbolic",
        title: "Hyperbolic",
        base_url: "https://api.hyperbolic.xyz/v1",
        key_env: &["HYPERBOLIC_API_KEY"],
        docs: "https://docs.hyperbolic.xyz/docs/rest-api",
        ..HOSTED
    },
    // One catalogue has `https://inference.net/v1`; every client in use has this host.
    Vendor {
        name: "inference_net",
        title: "Inference.net",
        base_url: "https://api.inference.net/v1",
        key_env: &["INFERENCE_API_KEY"],
        docs: "https://inference.net/models",
        ..HOSTED
    },
    Vendor {
        name: "io_net",
        also: &["ionet", "io_intelligence"],
        title: "io.net Intelligence",
        base_url: "https://api.intelligence.io.solutions/api/v1",
        key_env: &["IOINTELLIGENCE_API_KEY", "IONET_API_KEY"],
        docs: "https://io.net/docs/guides/intelligence/io-intelligence",
        ..HOSTED
    },
    Vendor {
        name: "modelscope",
        title: "ModelScope",
        base_url: "https://api-inference.modelscope.cn/v1",
        key_env: &["MODELSCOPE_API_KEY"],
        docs: "https://modelscope.cn/docs/model-service/API-Inference/intro",
        ..HOSTED
    },
    // The service was Nebius AI Studio at `api.studio.nebius.ai` before it was called Token Factory.
    Vendor {
        name: "nebius",
        title: "Nebius Token Factory",
        base_url: "https://api.tokenfactory.nebius.com/v1",
        key_env: &["NEBIUS_API_KEY"],
        serves: &[Chat, Completions, Embeddings, Models],
        docs: "https://docs.tokenfactory.nebius.com/",
        ..HOSTED
    },
    // The older base, `/v3/openai`, is still in catalogues.
    Vendor {
        name: "novita",
        also: &["novita_ai"],
        title: "Novita AI",
        base_url: "https://api.novita.ai/openai/v1",
        key_env: &["NOVITA_API_KEY"],
        serves: &[Chat, Completions, Models],
        docs: "https://novita.ai/docs/guides/llm-api",
        ..HOSTED
    },
    Vendor {
        name: "nscale",
        title: "Nscale",
        base_url: "https://inference.api.nscale.com/v1",
        key_env: &["NSCALE_API_KEY", "NSCALE_SERVICE_TOKEN"],
        docs: "https://docs.nscale.com/",
        ..HOSTED
    },
    Vendor {
        name: "nvidia_nim",
        also: &["nvidia"],
        title: "NVIDIA NIM",
        base_url: "https://integrate.api.nvidia.com/v1",
        key_env: &["NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"],
        serves: &[Chat, Embeddings, Models],
        note: "For a NIM container of your own give its address as `base_url`.",
        docs: "https://docs.api.nvidia.com/nim/reference/",
        ..HOSTED
    },
    Vendor {
        name: "ollama_cloud",
        title: "Ollama Cloud",
        base_url: "https://ollama.com/v1",
        key_env: &["OLLAMA_API_KEY"],
        docs: "https://docs.ollama.com/cloud",
        ..HOSTED
    },
    Vendor {
        name: "ovhcloud",
        also: &["ovh"],
        title: "OVHcloud AI Endpoints",
        base_url: "https://oai.endpoints.kepler.ai.cloud.ovh.net/v1",
        key_env: &["OVHCLOUD_API_KEY"],
        serves: &[Chat, Embeddings],
        docs: "https://www.ovhcloud.com/en/public-cloud/ai-endpoints/catalog/",
        ..HOSTED
    },
    Vendor {
        name: "parasail",
        title: "Parasail",
        base_url: "https://api.parasail.io/v1",
        key_env: &["PARASAIL_API_KEY"],
        docs: "https://docs.parasail.io/",
        ..HOSTED
    },
    Vendor {
        name: "sambanova",
        title: "SambaNova",
        base_url: "https://api.sambanova.ai/v1",
        key_env: &["SAMBANOVA_API_KEY"],
        limits: Some(&SAMBANOVA_LIMITS),
        serves: &[Chat, Embeddings, Models],
        docs: "https://docs.sambanova.ai/docs/en/models/rate-limits",
        ..HOSTED
    },
    Vendor {
        name: "scaleway",
        title: "Scaleway Generative APIs",
        base_url: "https://api.scaleway.ai/v1",
        key_env: &["SCW_SECRET_KEY", "SCALEWAY_API_KEY"],
        serves: &[Chat, Embeddings, Models],
        docs: "https://www.scaleway.com/en/docs/generative-apis/",
        ..HOSTED
    },
    // Wrong keys are answered with a bare JSON string, everything else in this shape.
    Vendor {
        name: "siliconflow",
        title: "SiliconFlow",
        base_url: "https://api.siliconflow.com/v1",
        key_env: &["SILICONFLOW_API_KEY"],
        errors: ErrorShape::Flat,
        serves: &[Chat, Embeddings, Models],
        note: "International.",
        docs: "https://docs.siliconflow.com/",
        ..HOSTED
    },
    Vendor {
        name: "siliconflow_cn",
        title: "SiliconFlow (China)",
        base_url: "https://api.siliconflow.cn/v1",
        key_env: &["SILICONFLOW_CN_API_KEY"],
        errors: ErrorShape::Flat,
        serves: &[Chat, Embeddings, Models],
        note: "Keys differ from the international ones.",
        docs: "https://docs.siliconflow.cn/",
        ..HOSTED
    },
    // `api.together.xyz` is the older host and still answers. The list of models is a bare array.
    Vendor {
        name: "together",
        also: &["together_ai", "togetherai"],
        title: "Together AI",
        base_url: "https://api.together.ai/v1",
        key_env: &["TOGETHER_API_KEY", "TOGETHER_AI_API_KEY", "TOGETHERAI_API_KEY"],
        limits: Some(&TOGETHER_LIMITS),
        serves: &[Chat, Completions, Embeddings, Models],
        docs: "https://docs.together.ai/docs/openai-api-compatibility",
        ..HOSTED
    },
    Vendor {
        name: "venice",
        also: &["veniceai"],
        title: "Venice",
        base_url: "https://api.venice.ai/api/v1",
        key_env: &["VENICE_API_KEY", "VENICE_AI_API_KEY"],
        docs: "https://docs.venice.ai/",
        ..HOSTED
    },
    Vendor {
        name: "wandb",
        also: &["wandb_inference"],
        title: "W&B Inference (CoreWeave)",
        base_url: "https://api.inference.wandb.ai/v1",
        key_env: &["WANDB_API_KEY"],
        docs: "https://docs.wandb.ai/inference/",
        ..HOSTED
    },
];
