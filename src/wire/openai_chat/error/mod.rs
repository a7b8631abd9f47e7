//! Errors: what a provider's report means, and how ours are written. Providers that speak OpenAI's format agree on
//! little when it comes to failing, so reports are read in every shape seen (`report`), and what they mean is looked
//! up in a table (`rules`).

mod render;
mod report;
mod rules;
mod translated;

pub use render::{render, render_event, render_provider};
pub use translated::{render_translated, shown_status};

use crate::wire::json::{Kind, Value};

use report::Report;

/// A failure as a provider reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    pub class: ErrorClass,
    /// The HTTP status, or for a report inside a success the status it names.
    pub status: Option<u16>,
    pub code: Option<String>,
    /// OpenAI's `type`.
    pub kind: Option<String>,
    /// The provider's words.
    pub message: String,
    pub param: Option<String>,
    /// The report as it came, up to 4 KiB of it. Empty if there was none.
    pub raw: Box<str>,
}

/// What a failure means for what to do next. Retrying, falling back and blaming the target hang on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    BadRequest,
    Authentication,
    Permission,
    NotFound,
    RateLimited,
    /// Money or credits are used up: waiting a little will not help.
    QuotaExhausted,
    /// The conversation is longer than the model takes.
    ContextLength,
    /// A content filter refused the request.
    ContentPolicy,
    Overloaded,
    Server,
    Timeout,
    /// The body is larger than the provider takes.
    TooLarge,
    Unknown,
}

impl ErrorClass {
    /// The class as a word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Authentication => "authentication",
            Self::Permission => "permission",
            Self::NotFound => "not_found",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::ContextLength => "context_length",
            Self::ContentPolicy => "content_policy",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unknown => "unknown",
        }
    }

    /// OpenAI's `type` for a report that has none.
    pub fn kind(self) -> &'static str {
        match self {
            Self::BadRequest | Self::NotFound | Self::ContextLength | Self::ContentPolicy | Self::TooLarge => {
                "invalid_request_error"
            }
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::RateLimited => "rate_limit_error",
            Self::QuotaExhausted => "insufficient_quota",
            Self::Overloaded => "service_unavailable_error",
            Self::Timeout => "timeout_error",
            Self::Server | Self::Unknown => "api_error",
        }
    }
}

/// Reads the body of an answer with this status: anything from OpenAI's error object to a proxy's HTML page.
pub fn classify(status: u16, body: &[u8]) -> ProviderError {
    let report = Report::read(body);
    let status = if status >= 400 { Some(status) } else { report.status };
    finish(status, report, body)
}

/// Reads a report that came with a status of success: in a stream or as a whole body.
pub(super) fn classify_in_band(body: &[u8]) -> ProviderError {
    classify(200, body)
}

/// Whether a body is already in OpenAI's shape, `{"error":{"message":…}}`, and can be passed on untouched.
pub fn is_error_object(body: &[u8]) -> bool {
    let Ok(document) = Value::parse(body) else { return false };
    let Some(error) = document.get("error") else { return false };
    simdutf8::basic::from_utf8(body).is_ok() && error.get("message").is_some_and(|text| text.kind == Kind::String)
}

/// Whether a body is an error report in an array, as Gemini's compatible endpoint sends it.
pub(super) fn is_listed_error(body: &[u8]) -> bool {
    Value::parse(body).is_ok_and(|list| list.items().next().is_some_and(|first| first.get("error").is_some()))
}

fn finish(status: Option<u16>, report: Report<'_>, body: &[u8]) -> ProviderError {
    let class = rules::class(status, &report);
    let message = match report.message {
        Some(message) => message.into_owned(),
        None => match status {
            Some(status) => format!("the provider answered with status {status} and no explanation"),
            None => "the provider reported an error without an explanation".to_owned(),
        },
    };
    ProviderError {
        class,
        status,
        code: report.code.map(Into::into),
        kind: report.kind.map(Into::into),
        message,
        param: report.param.map(Into::into),
        raw: report::excerpt(body).into(),
    }
}

#[cfg(test)]
mod tests {
    use ErrorClass as Class;

    use super::*;

    /// Reports as providers have sent them: (who, status, body, class, message begins with).
    const RECORDED: &[(&str, u16, &str, Class, &str)] = &[
        (
            "openai",
            400,
            r#"{"error":{"message":"This model's maximum context length is 4097 tokens. However, you requested 4120 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            Class::ContextLength,
            "This model's",
        ),
        (
            "openai",
            400,
            r#"{"error":{"message":"Invalid 'input': string too long. Expected a string with maximum length 10, please reduce the length of it.","type":"invalid_request_error","param":"input","code":"string_above_max_length"}}"#,
            Class::BadRequest,
            "Invalid",
        ),
        (
            "openai",
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-x.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
            Class::Authentication,
            "Incorrect",
        ),
        (
            "openai",
            403,
            r#"{"error":{"message":"Project `p` does not have access to model `m`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            Class::NotFound,
            "Project",
        ),
        (
            "openai",
            403,
            r#"{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported","param":null,"type":"request_forbidden"}}"#,
            Class::Permission,
            "Country",
        ),
        (
            "openai",
            404,
            r#"{"error":{"message":"The model `m` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
            Class::NotFound,
            "The model",
        ),
        (
            "openai",
            429,
            r#"{"error":{"message":"Rate limit reached for gpt in organization o on requests per min.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
            Class::RateLimited,
            "Rate",
        ),
        (
            "openai",
            429,
            r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
            Class::QuotaExhausted,
            "You",
        ),
        (
            "openai",
            500,
            r#"{"error":{"message":"The server had an error processing your request.","type":"server_error","param":null,"code":null}}"#,
            Class::Server,
            "The server",
        ),
        (
            "openai",
            503,
            r#"{"error":{"message":"That model is currently overloaded with other requests.","type":"server_error","param":null,"code":null}}"#,
            Class::Overloaded,
            "That",
        ),
        (
            "openai",
            400,
            r#"{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy.","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
            Class::ContentPolicy,
            "Invalid",
        ),
        (
            "azure",
            400,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#,
            Class::ContentPolicy,
            "The response",
        ),
        (
            "azure",
            404,
            r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
            Class::NotFound,
            "The API",
        ),
        (
            "azure",
            401,
            r#"{"statusCode":401,"message":"Unauthorized. Access token is missing, invalid or expired."}"#,
            Class::Authentication,
            "Unauthorized",
        ),
        (
            "azure",
            429,
            r#"{"error":{"code":"429","message":"Requests to the ChatCompletions Operation have exceeded call rate limit."}}"#,
            Class::RateLimited,
            "Requests",
        ),
        (
            "vllm",
            400,
            r#"{"object":"error","message":"This model's maximum context length is 131072 tokens. However, you requested 156632 tokens.","type":"BadRequestError","param":null,"code":400}"#,
            Class::ContextLength,
            "This",
        ),
        (
            "vllm",
            400,
            r#"{"error":{"message":"You passed 1015 input tokens and requested 10 output tokens. However, the model's context length is only 1024 tokens.","type":"BadRequestError","param":"input_tokens","code":400}}"#,
            Class::ContextLength,
            "You",
        ),
        (
            "vllm",
            404,
            r#"{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","param":null,"code":404}"#,
            Class::NotFound,
            "The model",
        ),
        (
            "vllm",
            500,
            r#"{"object":"error","message":"EngineCore encountered an issue.","type":"InternalServerError","param":null,"code":500}"#,
            Class::Server,
            "EngineCore",
        ),
        (
            "mistral",
            422,
            r#"{"object":"error","message":{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":{}}]},"type":"invalid_request_error","param":null,"code":null}"#,
            Class::BadRequest,
            "Field required",
        ),
        (
            "mistral",
            400,
            r#"{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}"#,
            Class::ContextLength,
            "Prompt",
        ),
        (
            "mistral",
            400,
            r#"{"object":"error","message":"Invalid model: m","type":"invalid_model","param":null,"code":"1500"}"#,
            Class::NotFound,
            "Invalid model",
        ),
        (
            "mistral",
            429,
            r#"{"object":"error","message":"Service tier capacity exceeded for this model.","type":"service_tier_capacity_exceeded","param":null,"code":"3505"}"#,
            Class::RateLimited,
            "Service",
        ),
        ("mistral", 401, r#"{"detail":"Unauthorized"}"#, Class::Authentication, "Unauthorized"),
        (
            "groq",
            400,
            r#"{"error":{"message":"Failed to call a function.","type":"invalid_request_error","code":"tool_use_failed","failed_generation":"<f>"}}"#,
            Class::BadRequest,
            "Failed",
        ),
        (
            "groq",
            413,
            r#"{"error":{"message":"Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7000","type":"tokens","code":"rate_limit_exceeded"}}"#,
            Class::TooLarge,
            "Request too large",
        ),
        (
            "groq",
            498,
            r#"{"error":{"message":"Flex tier capacity exceeded","type":"capacity","code":"capacity_exceeded"}}"#,
            Class::Overloaded,
            "Flex",
        ),
        (
            "deepseek",
            402,
            r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
            Class::QuotaExhausted,
            "Insufficient",
        ),
        (
            "deepseek",
            400,
            r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
            Class::ContentPolicy,
            "Content",
        ),
        (
            "openrouter",
            402,
            r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#,
            Class::QuotaExhausted,
            "This",
        ),
        (
            "openrouter",
            403,
            r#"{"error":{"message":"m requires moderation. Your input was flagged for \"violence\".","code":403,"metadata":{"reasons":["violence"],"flagged_input":"x","provider_name":"OpenAI"}}}"#,
            Class::ContentPolicy,
            "m requires",
        ),
        (
            "openrouter",
            400,
            r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"message\":\"prompt is too long: 210000 tokens > 200000 maximum\"}","provider_name":"Anthropic"}}}"#,
            Class::ContextLength,
            "Provider",
        ),
        ("openrouter", 400, r#"{"error":{"message":"x is not a valid model ID","code":400}}"#, Class::NotFound, "x is"),
        (
            "openrouter in a stream",
            200,
            r#"{"error":{"message":"The model is gone","code":502}}"#,
            Class::Server,
            "The model",
        ),
        (
            "gemini",
            400,
            r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
            Class::Authentication,
            "API key",
        ),
        (
            "gemini",
            400,
            r#"[{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]"#,
            Class::ContextLength,
            "The input",
        ),
        (
            "gemini",
            429,
            r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED"}}]"#,
            Class::RateLimited,
            "You exceeded",
        ),
        (
            "gemini",
            503,
            r#"[{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}]"#,
            Class::Overloaded,
            "The model",
        ),
        (
            "moonshot",
            429,
            r#"{"error":{"message":"Your account is suspended, please check your plan.","type":"exceeded_current_quota_error"}}"#,
            Class::QuotaExhausted,
            "Your",
        ),
        (
            "moonshot",
            429,
            r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}"#,
            Class::Overloaded,
            "The engine",
        ),
        (
            "moonshot",
            400,
            r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192","type":"invalid_request_error"}}"#,
            Class::ContextLength,
            "Invalid",
        ),
        (
            "dashscope",
            400,
            r#"{"error":{"code":"data_inspection_failed","param":null,"message":"Input data may contain inappropriate content.","type":"data_inspection_failed"}}"#,
            Class::ContentPolicy,
            "Input",
        ),
        (
            "dashscope",
            400,
            r#"{"error":{"code":"Arrearage","param":null,"message":"Access denied, please make sure your account is in good standing.","type":"Arrearage"}}"#,
            Class::QuotaExhausted,
            "Access",
        ),
        (
            "zhipu",
            429,
            r#"{"error":{"code":"1113","message":"余额不足或无可用资源包,请充值。"}}"#,
            Class::QuotaExhausted,
            "余额",
        ),
        (
            "minimax",
            200,
            r#"{"base_resp":{"status_code":1004,"status_msg":"login fail"}}"#,
            Class::Authentication,
            "login",
        ),
        (
            "xai",
            400,
            r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***."}"#,
            Class::Authentication,
            "Incorrect",
        ),
        (
            "xai",
            403,
            r#"{"code":"The caller does not have permission","error":"Content violates usage guidelines."}"#,
            Class::ContentPolicy,
            "Content",
        ),
        (
            "tgi",
            422,
            r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000","error_type":"validation"}"#,
            Class::ContextLength,
            "Input",
        ),
        ("tgi", 429, r#"{"error":"Model is overloaded","error_type":"overloaded"}"#, Class::Overloaded, "Model"),
        (
            "ollama",
            404,
            r#"{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#,
            Class::NotFound,
            "model",
        ),
        (
            "llama.cpp",
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            Class::ContextLength,
            "the request",
        ),
        (
            "llama.cpp",
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            Class::Overloaded,
            "Loading",
        ),
        (
            "fireworks",
            412,
            r#"{"error":{"object":"error","type":"invalid_request_error","code":"invalid_request_error","message":"Account x is suspended, possibly due to reaching the monthly spending limit."}}"#,
            Class::QuotaExhausted,
            "Account",
        ),
        (
            "cerebras",
            400,
            r#"{"message":"Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}"#,
            Class::ContextLength,
            "Please",
        ),
        ("cohere", 429, r#"{"message":"trial token rate limit exceeded"}"#, Class::RateLimited, "trial"),
        (
            "cloudflare",
            401,
            r#"{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"result":null}"#,
            Class::Authentication,
            "Authentication",
        ),
        (
            "fastapi",
            422,
            r#"{"detail":[{"loc":["body","messages",0,"role"],"msg":"field required","type":"value_error.missing"}]}"#,
            Class::BadRequest,
            "field",
        ),
        (
            "a proxy",
            502,
            "<html>\r\n<head><title>502 Bad Gateway</title><style>p{color:red}</style></head>\r\n<body><h1>502 Bad Gateway</h1></body></html>",
            Class::Server,
            "502 Bad Gateway 502",
        ),
        ("a proxy", 503, "no healthy upstream", Class::Overloaded, "no healthy"),
        ("a proxy", 504, "upstream request timeout", Class::Timeout, "upstream"),
        ("nginx", 413, "<html><title>413 Request Entity Too Large</title></html>", Class::TooLarge, "413"),
        ("nobody", 500, "", Class::Server, "the provider answered with status 500"),
        ("nobody", 418, "{}", Class::BadRequest, "the provider answered with status 418"),
        ("nobody", 200, "{}", Class::Unknown, "the provider reported an error"),
    ];

    #[test]
    fn recorded_reports_are_classified() {
        for (who, status, body, class, message) in RECORDED {
            let error = classify(*status, body.as_bytes());
            assert_eq!(error.class, *class, "{who} {status} {body}");
            assert!(error.message.starts_with(message), "{who} {status}: {}", error.message);
            assert_eq!(&*error.raw, *body);
        }
    }

    #[test]
    fn code_type_and_param_are_kept() {
        let error = classify(400, RECORDED[0].2.as_bytes());
        assert_eq!(error.code.as_deref(), Some("context_length_exceeded"));
        assert_eq!(error.kind.as_deref(), Some("invalid_request_error"));
        assert_eq!(error.param.as_deref(), Some("messages"));
        assert_eq!(error.status, Some(400));
        let listed = classify(422, br#"{"detail":[{"loc":["body","messages",0,"role"],"msg":"field required"}]}"#);
        assert_eq!(listed.param.as_deref(), Some("messages.0.role"));
        assert_eq!(classify(200, br#"{"error":{"message":"x","code":503}}"#).status, Some(503));
    }

    #[test]
    fn any_bytes_make_a_report_of_bounded_size() {
        let long = "é".repeat(100_000);
        for body in [long.as_bytes(), format!("\"{long}").as_bytes(), &[0xff; 9000], b"<<<<", b"<script", b"<style>x"] {
            let error = classify(500, body);
            assert!(error.message.chars().count() <= 300);
            assert!(error.raw.len() <= 4096 && error.raw.len() + 8 >= body.len().min(4096));
        }
        let wrapped = [r#"{"error":"#.repeat(100), "1".to_owned(), "}".repeat(100)].concat();
        assert_eq!(classify(500, wrapped.as_bytes()).class, Class::Server);
    }

    #[test]
    fn openais_own_shape_is_known() {
        assert!(is_error_object(br#"{"error":{"message":"x"}}"#));
        for other in [r#"{"error":"x"}"#, r#"{"error":{"message":null}}"#, r#"[{"error":{"message":"x"}}]"#, "x", ""] {
            assert!(!is_error_object(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn errors_are_written_in_openais_shape() {
        let own = crate::error::Error::bad_field("model_missing", "model", "Name a \"model\".");
        assert_eq!(
            render(&own),
            r#"{"error":{"message":"Name a \"model\".","type":"invalid_request_error","param":"model","code":"model_missing"}}"#
        );
        let foreign = render_provider(&classify(401, br#"{"detail":"Unauthorized"}"#));
        assert_eq!(
            foreign,
            r#"{"error":{"message":"Unauthorized","type":"authentication_error","param":null,"code":null,"metadata":{"raw":"{\"detail\":\"Unauthorized\"}"}}}"#
        );
        assert!(is_error_object(&foreign));
        assert_eq!(
            render_event("cut\n", "api_error", "stream_interrupted"),
            "data: {\"error\":{\"message\":\"cut\\n\",\"type\":\"api_error\",\"param\":null,\"code\":\"stream_interrupted\"}}\n\n"
        );
    }
}
