//! What a report means: a table, tried from the top. A row holds if the status is one of its own and the report bears
//! one of its codes or one of its phrases; if none does, the status alone decides.
//!
//! Codes come from the providers' documentation and from recorded answers; phrases are for those who put everything
//! in words, and are kept long enough not to fit what a user may have written.

use super::{ErrorClass, report::Report};

struct Rule {
    class: ErrorClass,
    /// The statuses that may mean this, besides none at all.
    statuses: &'static [u16],
    /// Compared with `code`, `type`, Google's `status` and inner codes, in any case.
    codes: &'static [&'static str],
    /// Looked for in the message, in lower case.
    phrases: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        class: ErrorClass::ContextLength,
        statuses: &[400, 413, 422, 500],
        codes: &[
            "context_length_exceeded",
            "context_window_exceeded",
            "token_limit_exceeded",
            "exceed_context_size_error",        // llama.cpp
            "model_max_prompt_tokens_exceeded", // GitHub
            "max_prompt_tokens_exceeded",
        ],
        phrases: &[
            "maximum context length",
            "model's context length", // vLLM, SGLang
            "context length exceeded",
            "context window",
            "exceed context limit",
            "available context size",                       // llama.cpp
            "exceeds the maximum number of tokens allowed", // Gemini
            "maximum number of input tokens",
            "input tokens exceed",
            "inputs tokens + max_new_tokens",     // TGI
            "`inputs` tokens + `max_new_tokens`", // TGI
            "prompt is too long",                 // Anthropic, Fireworks
            "prompt too long",                    // Ollama
            "prompt contains",                    // Mistral: "Prompt contains N tokens … too large for model with M"
            "too large for model with",
            "input is too long", // Bedrock
            "too many input tokens",
            "range of input length should be", // DashScope
            "exceeded model token limit",      // Moonshot
            "maximum prompt length is",        // xAI
            "please reduce the length of",     // OpenAI, Groq, Cerebras
            "current length is",               // Cerebras
            "maximum input length",
            "longer than the model",
        ],
    },
    Rule {
        class: ErrorClass::ContentPolicy,
        statuses: &[400, 403, 422, 451, 500],
        codes: &[
            "content_filter", // Azure, Moonshot
            "content_policy_violation",
            "content_policy",
            "responsibleaipolicyviolation", // Azure's inner code
            "data_inspection_failed",       // DashScope
            "datainspectionfailed",
            "moderation_blocked",
            "sensitive_content",
            "1301", // Zhipu
            "1026", // MiniMax, input
            "1027", // MiniMax, output
        ],
        phrases: &[
            "content management policy", // Azure
            "content filtering policy",
            "our safety system",                // OpenAI
            "flagged as potentially violating", // OpenAI, reasoning models
            "the response was blocked",
            "input was flagged",                 // OpenRouter
            "content exists risk",               // DeepSeek
            "violates usage guidelines",         // xAI
            "may contain inappropriate content", // DashScope
            "considered high risk",              // Moonshot
        ],
    },
    Rule {
        class: ErrorClass::QuotaExhausted,
        statuses: &[400, 401, 402, 403, 412, 429],
        codes: &[
            "insufficient_quota",
            "billing_hard_limit_reached",
            "billing_not_active",
            "exceeded_current_quota_error", // Moonshot
            "insufficient_balance",
            "insufficient_credits",
            "payment_required",
            "arrearage", // DashScope
            "1113",      // Zhipu
            "1008",      // MiniMax
        ],
        phrases: &[
            "insufficient balance", // DeepSeek, MiniMax
            "insufficient credit",  // OpenRouter
            "insufficient funds",
            "requires more credits",                   // OpenRouter
            "credit balance is too low",               // Anthropic
            "reached your specified api usage limits", // Anthropic
            "credit limit exceeded",                   // Together
            "used all available credits",              // xAI
            "monthly spending limit",                  // xAI, Fireworks
            "monthly included credits",                // Hugging Face
            "account is in good standing",             // DashScope
        ],
    },
    Rule {
        class: ErrorClass::Overloaded,
        statuses: &[429, 498, 500, 502, 503, 529],
        codes: &[
            "overloaded_error",
            "engine_overloaded",
            "engine_overloaded_error", // Moonshot
            "model_overloaded",
            "server_overloaded",
            "service_unavailable",
            "service_unavailable_error",
            "service_tier_unavailable",
            "capacity_exceeded", // Groq, flex tier
            "unavailable",       // Google
        ],
        phrases: &["overloaded", "over capacity", "at capacity", "no healthy upstream", "server is busy"],
    },
    Rule {
        class: ErrorClass::RateLimited,
        statuses: &[400, 403, 429, 500, 503],
        codes: &[
            "rate_limit_exceeded",
            "rate_limit_error",
            "rate_limit_reached_error", // Moonshot
            "rate_limited",
            "ratelimitreached", // GitHub
            "too_many_requests",
            "throttling", // DashScope
            "throttling.ratequota",
            "throttling.allocationquota",
            "throttlingexception", // AWS
            "limit_requests",      // DashScope
            "resource_exhausted",  // Google
            "1302",                // Zhipu
        ],
        phrases: &[
            "rate limit",
            "rate-limit",
            "rate_limit",
            "too many requests",
            "resource exhausted",
            "quota exceeded",
        ],
    },
    Rule {
        class: ErrorClass::Authentication,
        statuses: &[400, 401, 403],
        codes: &[
            "invalid_api_key",
            "invalidapikey", // DashScope
            "authentication_error",
            "invalid_authentication_error", // Moonshot
            "unauthenticated",              // Google
            "unauthorized",
            "expiredtokenexception", // AWS
            "unrecognizedclientexception",
            "1004", // MiniMax
        ],
        phrases: &[
            "incorrect api key",
            "invalid api key",
            "api key not valid",
            "api key expired",
            "no auth credentials",
        ],
    },
    Rule {
        class: ErrorClass::NotFound,
        statuses: &[400, 403, 404],
        codes: &[
            "model_not_found",
            "deploymentnotfound", // Azure
            "invalid_model",      // Mistral
            "unknown_model",      // GitHub
            "model_not_available",
            "not_found",
            "not_found_error",
            "notfounderror",            // vLLM
            "resource_not_found_error", // Moonshot
        ],
        phrases: &["model not found", "is not a valid model id", "model does not exist"],
    },
    Rule {
        class: ErrorClass::Permission,
        statuses: &[400, 403],
        codes: &[
            "permission_denied",
            "permission_error",
            "permission_denied_error",
            "accessdenied",
            "accessdeniedexception",
            "unsupported_country_region_territory",
        ],
        phrases: &["this organization has been disabled"], // Anthropic
    },
    Rule {
        class: ErrorClass::Timeout,
        statuses: &[408, 500, 502, 503, 504],
        codes: &["timeout", "request_timeout", "timeout_error", "deadline_exceeded"],
        phrases: &["request timed out", "upstream timed out", "upstream request timeout", "deadline exceeded"],
    },
    Rule {
        class: ErrorClass::TooLarge,
        statuses: &[400, 413],
        codes: &["request_too_large", "payload_too_large", "request_entity_too_large"],
        phrases: &["request payload size exceeds", "request entity too large"],
    },
    // From here on the status says as much; these are for reports inside a stream or a success.
    Rule {
        class: ErrorClass::BadRequest,
        statuses: &[400, 422],
        codes: &[
            "invalid_request_error",
            "invalid_argument", // Google
            "bad_request",
            "badrequesterror",      // vLLM
            "tool_use_failed",      // Groq
            "json_validate_failed", // Groq
            "validation",           // TGI
            "invalid_prompt",
        ],
        phrases: &[],
    },
    Rule {
        class: ErrorClass::Server,
        statuses: &[500, 502],
        codes: &[
            "server_error",
            "internal_server_error",
            "internalservererror", // vLLM
            "internal_error",
            "internal", // Google
            "api_error",
            "upstream_error",
            "generation", // TGI
        ],
        phrases: &[],
    },
];

/// Which class a report belongs to.
pub(super) fn class(status: Option<u16>, report: &Report<'_>) -> ErrorClass {
    let words = || [&report.code, &report.kind].into_iter().flatten().chain(&report.detail);
    let mut message = report.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    for detail in &report.detail {
        message.push('\n');
        message.push_str(&detail.to_ascii_lowercase());
    }
    // A single field that is too long is not the conversation.
    let is_field_length = words().any(|word| word == "string_above_max_length");
    let rule = RULES.iter().find(|rule| {
        let applies = status.is_none_or(|status| rule.statuses.contains(&status));
        applies
            && !(is_field_length && rule.class == ErrorClass::ContextLength)
            && (words().any(|word| rule.codes.iter().any(|code| word.eq_ignore_ascii_case(code)))
                || rule.phrases.iter().any(|phrase| message.contains(phrase)))
    });
    rule.map_or_else(|| by_status(status), |rule| rule.class)
}

fn by_status(status: Option<u16>) -> ErrorClass {
    match status {
        Some(401) => ErrorClass::Authentication,
        Some(402) => ErrorClass::QuotaExhausted,
        Some(403 | 451) => ErrorClass::Permission,
        Some(404 | 410) => ErrorClass::NotFound,
        // 524 is Cloudflare's.
        Some(408 | 504 | 524) => ErrorClass::Timeout,
        Some(413) => ErrorClass::TooLarge,
        Some(429) => ErrorClass::RateLimited,
        // Groq's flex tier, the standard, Anthropic.
        Some(498 | 503 | 529) => ErrorClass::Overloaded,
        // A conflict, a dependency that failed or a request sent too early may well succeed later.
        Some(409 | 424 | 425 | 500..=599) => ErrorClass::Server,
        Some(400..=499) => ErrorClass::BadRequest,
        _ => ErrorClass::Unknown,
    }
}
