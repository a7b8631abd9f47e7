//! Vendors who make models and serve them themselves, by name.

use super::{HOSTED, REASONING_CONTENT};
use crate::providers::vendor::{
    ANTHROPIC_LIMITS, Auth,
    Endpoint::{Chat, Completions, Embeddings, Messages, Models},
    ErrorShape, LimitHeaders, LimitNames, MaxTokensField, OPENAI_LIMITS, StreamUsage, Vendor,
};
use crate::wire::openai_chat::convert::ReasoningField;

/// xAI has OpenAI's names but tells no reset time.
const XAI_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames { reset: "", ..OPENAI_LIMITS.requests },
    tokens: LimitNames { reset: "", ..OPENAI_LIMITS.tokens },
};

/// Mistral counts by the minute and tells no reset time.
const MISTRAL_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames {
        limit: "x-ratelimit-limit-req-minute",
        remaining: "x-ratelimit-remaining-req-minute",
        reset: "",
    },
    tokens: LimitNames {
        limit: "x-ratelimit-limit-tokens-minute",
        remaining: "x-ratelimit-remaining-tokens-minute",
        reset: "",
    },
};

pub(super) const MAKERS: &[Vendor] = &[
    Vendor {
        name: "anthropic",
        also: &["claude"],
        title: "Anthropic",
        base_url: "https://api.anthropic.com/v1",
        key_env: &["ANTHROPIC_API_KEY"],
        auth: Auth { header: "x-api-key", prefix: "" },
        openai: false,
        messages: Some("/v1"),
        betas: None,
        limits: Some(&ANTHROPIC_LIMITS),
        serves: &[Messages, Models],
        note: "Speaks its own messages format; clients of OpenAI's are translated.",
        docs: "https://platform.claude.com/docs/en/api/messages",
        ..HOSTED
    },
    // Anthropic calls this endpoint one for trying things out: no prompt caching, no thinking text.
    Vendor {
        name: "anthropic_openai",
        title: "Anthropic (OpenAI-compatible)",
        base_url: "https://api.anthropic.com/v1",
        key_env: &["ANTHROPIC_API_KEY"],
        max_tokens: MaxTokensField::Either,
        limits: Some(&OPENAI_LIMITS),
        serves: &[Chat],
        note: "Meant for trials, its vendor says: no prompt caching, no thinking text.",
        docs: "https://platform.claude.com/docs/en/api/openai-sdk",
        ..HOSTED
    },
    // The address is BytePlus's own; its China twin is `volcengine`, with keys of its own.
    Vendor {
        name: "byteplus",
        title: "BytePlus ModelArk",
        base_url: "https://ark.ap-southeast.bytepluses.com/api/v3",
        key_env: &["BYTEPLUS_API_KEY"],
        serves: &[Chat, Embeddings],
        note: "The international twin of `volcengine`.",
        docs: "https://docs.byteplus.com/en/docs/ModelArk/",
        ..HOSTED
    },
    // Cohere's list of supported fields has no `stream_options`, and the field is refused. It does not say whether
    // streams report usage unasked.
    Vendor {
        name: "cohere",
        title: "Cohere (OpenAI-compatible)",
        base_url: "https://api.cohere.ai/compatibility/v1",
        key_env: &["COHERE_API_KEY", "CO_API_KEY"],
        stream_usage: StreamUsage::Refused,
        errors: ErrorShape::Flat,
        serves: &[Chat, Embeddings],
        note: "Refuses `stream_options`, so streamed usage may have to be estimated.",
        docs: "https://docs.cohere.com/docs/compatibility-api",
        ..HOSTED
    },
    Vendor {
        name: "dashscope",
        also: &["qwen", "alibaba", "qwencloud"],
        title: "Alibaba Model Studio (DashScope, Qwen)",
        base_url: "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        key_env: &["DASHSCOPE_API_KEY", "ALIBABA_API_KEY"],
        serves: &[Chat, Embeddings],
        note: "International (Singapore). For the United States give `https://dashscope-us.aliyuncs.com/compatible-mode/v1`.",
        docs: "https://www.alibabacloud.com/help/en/model-studio/models",
        ..HOSTED
    },
    Vendor {
        name: "dashscope_cn",
        also: &["qwen_cn", "alibaba_cn"],
        title: "Alibaba Bailian (DashScope, China)",
        base_url: "https://dashscope.aliyuncs.com/compatible-mode/v1",
        key_env: &["DASHSCOPE_API_KEY"],
        serves: &[Chat, Embeddings],
        note: "Keys differ from the international ones.",
        docs: "https://help.aliyun.com/zh/model-studio/compatibility-of-openai-with-dashscope",
        ..HOSTED
    },
    // The documented base has no version; `/v1` is accepted too and means nothing. `/beta` adds completions.
    Vendor {
        name: "deepseek",
        title: "DeepSeek",
        base_url: "https://api.deepseek.com",
        key_env: &["DEEPSEEK_API_KEY"],
        note: "Tells no rate limits; under load it keeps the connection open with comments instead of refusing.",
        messages: Some("/anthropic/v1"),
        // Its answers to tool calls are refused without the reasoning that led to them.
        reasoning: ReasoningField::Named { name: "reasoning_content", required: true },
        docs: "https://api-docs.deepseek.com/",
        ..HOSTED
    },
    // `streamOptions` is in the API reference; older clients that leave it out rest on a refusal since lifted.
    Vendor {
        name: "gemini_openai",
        also: &["google_openai"],
        title: "Google Gemini (OpenAI-compatible)",
        base_url: "https://generativelanguage.googleapis.com/v1beta/openai",
        key_env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        errors: ErrorShape::List,
        serves: &[Chat, Embeddings, Models],
        docs: "https://ai.google.dev/api/compatibility",
        ..HOSTED
    },
    Vendor {
        name: "inception",
        title: "Inception (Mercury)",
        base_url: "https://api.inceptionlabs.ai/v1",
        key_env: &["INCEPTION_API_KEY"],
        docs: "https://docs.inceptionlabs.ai/",
        ..HOSTED
    },
    // The variable is `MODEL_API_KEY` in the vendor's examples; that word is too general to look for unasked.
    Vendor {
        name: "meta",
        also: &["meta_llama"],
        title: "Meta Model API",
        base_url: "https://api.meta.ai/v1",
        key_env: &["META_API_KEY"],
        docs: "https://dev.meta.ai/docs",
        ..HOSTED
    },
    Vendor {
        name: "minimax",
        title: "MiniMax",
        base_url: "https://api.minimax.io/v1",
        key_env: &["MINIMAX_API_KEY"],
        serves: &[Chat],
        note: "International.",
        messages: Some("/anthropic/v1"),
        docs: "https://platform.minimax.io/docs/guides/quickstart",
        ..HOSTED
    },
    Vendor {
        name: "minimax_cn",
        title: "MiniMax (China)",
        base_url: "https://api.minimaxi.com/v1",
        key_env: &["MINIMAX_API_KEY"],
        serves: &[Chat],
        messages: Some("/anthropic/v1"),
        docs: "https://platform.minimaxi.com/docs/guides/quickstart",
        ..HOSTED
    },
    // Mistral contradicts itself: its page of limitations says that usage needs `stream_options.include_usage`, its
    // OpenAPI file has no such field, and the API answers it, like `max_completion_tokens` and every other unknown
    // field, with 422 `extra_forbidden`. Recorded streams carry usage in their last chunk unasked.
    Vendor {
        name: "mistral",
        also: &["mistralai"],
        title: "Mistral",
        base_url: "https://api.mistral.ai/v1",
        key_env: &["MISTRAL_API_KEY"],
        stream_usage: StreamUsage::Unasked,
        limits: Some(&MISTRAL_LIMITS),
        errors: ErrorShape::Flat,
        serves: &[Chat, Embeddings, Models],
        note: "Refuses fields it does not know (422).",
        docs: "https://docs.mistral.ai/api",
        ..HOSTED
    },
    Vendor {
        name: "moonshot",
        also: &["moonshotai", "kimi"],
        title: "Moonshot AI (Kimi)",
        base_url: "https://api.moonshot.ai/v1",
        key_env: &["MOONSHOT_API_KEY", "MOONSHOTAI_API_KEY"],
        note: "International.",
        messages: Some("/anthropic/v1"),
        reasoning: REASONING_CONTENT,
        // Its vision guide has base64 and uploaded files; one help page speaks of URLs. Bytes are right either way.
        takes_urls: false,
        docs: "https://platform.moonshot.ai/docs/api/chat",
        ..HOSTED
    },
    Vendor {
        name: "moonshot_cn",
        also: &["moonshotai_cn", "kimi_cn"],
        title: "Moonshot AI (Kimi, China)",
        base_url: "https://api.moonshot.cn/v1",
        key_env: &["MOONSHOT_API_KEY"],
        note: "Keys differ from the international ones.",
        messages: Some("/anthropic/v1"),
        reasoning: REASONING_CONTENT,
        // Its vision guide has base64 and uploaded files; one help page speaks of URLs. Bytes are right either way.
        takes_urls: false,
        docs: "https://platform.moonshot.cn/docs/api/chat",
        ..HOSTED
    },
    // Reasoning models refuse `max_tokens`; every model takes the newer name.
    Vendor {
        name: "openai",
        title: "OpenAI",
        base_url: "https://api.openai.com/v1",
        key_env: &["OPENAI_API_KEY"],
        max_tokens: MaxTokensField::MaxCompletionTokens,
        limits: Some(&OPENAI_LIMITS),
        serves: &[Chat, Completions, Embeddings, Models],
        docs: "https://platform.openai.com/docs/api-reference",
        ..HOSTED
    },
    // Perplexity ended chat completions for its Agent API, which speaks OpenAI's responses format, on 2026-09-27;
    // embeddings and the list of models stayed.
    Vendor {
        name: "perplexity",
        title: "Perplexity",
        base_url: "https://api.perplexity.ai/v1",
        key_env: &["PERPLEXITY_API_KEY", "PERPLEXITYAI_API_KEY"],
        serves: &[Embeddings, Models],
        note: "No chat completions since 27 September 2026: its vendor moved them to the responses format.",
        docs: "https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/overview",
        ..HOSTED
    },
    Vendor {
        name: "stepfun",
        title: "StepFun",
        base_url: "https://api.stepfun.com/v1",
        key_env: &["STEPFUN_API_KEY"],
        docs: "https://platform.stepfun.com/docs/zh/overview/concept",
        ..HOSTED
    },
    // TokenHub replaces the older Hunyuan and LKEAP addresses, which sell nothing new since May 2026.
    Vendor {
        name: "tencent",
        also: &["tokenhub", "hunyuan"],
        title: "Tencent TokenHub (Hunyuan)",
        base_url: "https://tokenhub-intl.tencentcloudmaas.com/v1",
        key_env: &["TENCENT_API_KEY", "TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY"],
        note: "International (Singapore).",
        docs: "https://www.tencentcloud.com/document/product/1300/78941",
        ..HOSTED
    },
    // The pages for accounts abroad name another host for Guangzhou, `tokenhub.tencentcloudmaas.com`.
    Vendor {
        name: "tencent_cn",
        also: &["tokenhub_cn", "hunyuan_cn"],
        title: "Tencent TokenHub (China)",
        base_url: "https://tokenhub.tencentmaas.com/v1",
        key_env: &["TENCENT_API_KEY", "TOKENHUB_API_KEY", "TENCENT_TOKENHUB_API_KEY"],
        docs: "https://cloud.tencent.com/document/product/1823/130078",
        ..HOSTED
    },
    // `/v1/solar` is the older base and still in catalogues; both answer.
    Vendor {
        name: "upstage",
        title: "Upstage (Solar)",
        base_url: "https://api.upstage.ai/v1",
        key_env: &["UPSTAGE_API_KEY"],
        serves: &[Chat, Embeddings],
        docs: "https://console.upstage.ai/docs",
        ..HOSTED
    },
    Vendor {
        name: "volcengine",
        also: &["ark", "doubao"],
        title: "Volcengine Ark (Doubao)",
        base_url: "https://ark.cn-beijing.volces.com/api/v3",
        key_env: &["ARK_API_KEY", "VOLCENGINE_API_KEY"],
        serves: &[Chat, Embeddings],
        note: "China; abroad it is `byteplus`.",
        docs: "https://www.volcengine.com/docs/82379/1494384",
        ..HOSTED
    },
    Vendor {
        name: "xai",
        also: &["grok"],
        title: "xAI",
        base_url: "https://api.x.ai/v1",
        key_env: &["XAI_API_KEY"],
        max_tokens: MaxTokensField::Either,
        limits: Some(&XAI_LIMITS),
        errors: ErrorShape::Text,
        serves: &[Chat, Completions, Models],
        docs: "https://docs.x.ai/developers/rest-api-reference/inference",
        ..HOSTED
    },
    Vendor {
        name: "xiaomi_mimo",
        also: &["xiaomi"],
        title: "Xiaomi MiMo",
        base_url: "https://api.xiaomimimo.com/v1",
        key_env: &["XIAOMI_API_KEY", "XIAOMI_MIMO_API_KEY"],
        docs: "https://platform.xiaomimimo.com/#/docs",
        ..HOSTED
    },
    // One client of 2025 left `stream_options` out for an error 1210; recorded calls of August 2026 send it.
    Vendor {
        name: "zai",
        also: &["z_ai"],
        title: "Z.ai (GLM)",
        base_url: "https://api.z.ai/api/paas/v4",
        key_env: &["ZAI_API_KEY"],
        serves: &[Chat],
        note: "International. Its coding plan has an address of its own, `https://api.z.ai/api/coding/paas/v4`.",
        messages: Some("/api/anthropic/v1"),
        reasoning: REASONING_CONTENT,
        docs: "https://docs.z.ai/guides/develop/python/introduction",
        ..HOSTED
    },
    Vendor {
        name: "zhipu",
        also: &["zhipuai", "bigmodel"],
        title: "Zhipu BigModel (GLM, China)",
        base_url: "https://open.bigmodel.cn/api/paas/v4",
        key_env: &["ZHIPU_API_KEY", "ZHIPUAI_API_KEY"],
        serves: &[Chat, Embeddings],
        note: "Its coding plan has an address of its own, `https://open.bigmodel.cn/api/coding/paas/v4`.",
        docs: "https://docs.bigmodel.cn/",
        ..HOSTED
    },
];
