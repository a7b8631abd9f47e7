//! What a row of the vendor table says. A vendor that speaks a known format differs from its maker in few ways, and
//! each way that matters to a gateway is one field here. Rows are plain data: no field computes anything, so a row can
//! be read, printed, documented and compared.

use crate::wire::openai_chat::convert::ReasoningField;

/// One vendor: where it is, how it is signed in to, and where it departs from OpenAI.
#[derive(Clone, Copy, Debug)]
pub struct Vendor {
    /// The word in `kind:`. Lower case, digits and underscores.
    pub name: &'static str,
    /// Other spellings that mean the same row, mostly the names other gateways use.
    pub also: &'static [&'static str],
    /// The vendor's name for people.
    pub title: &'static str,
    /// Where its API starts, with the version and without a slash at the end. Empty: the operator must give one. With
    /// `{words}` in braces: the operator must give it with the words filled in.
    pub base_url: &'static str,
    /// The environment variables that usually hold the key, the most usual first. Rows of one vendor's regions share
    /// them; a key found in the environment then belongs to the first such row of the table.
    pub key_env: &'static [&'static str],
    /// A server the operator runs: a key is optional, the address is only its default one, and it is never taken into
    /// use because of what the environment holds.
    pub local: bool,
    /// The header that carries the key.
    pub auth: Auth,
    /// How a stream is made to report its token counts.
    pub stream_usage: StreamUsage,
    /// Which field limits the length of a chat answer.
    pub max_tokens: MaxTokensField,
    /// Whether it speaks OpenAI's formats, below `base_url`.
    pub openai: bool,
    /// The path on the same host below which it speaks Anthropic's messages format: `/anthropic/v1`. `None`: it does
    /// not, as far as its documentation shows.
    pub messages: Option<&'static str>,
    /// Which of Anthropic's betas it takes, without their dates; `None` takes all.
    pub betas: Option<&'static [&'static str]>,
    /// How it takes the reasoning of earlier turns back, in OpenAI's chat format.
    pub reasoning: ReasoningField,
    /// Whether it takes `cache_control` on content parts, in OpenAI's chat format.
    pub cache_control: bool,
    /// Whether it takes `top_k`, in OpenAI's chat format.
    pub top_k: bool,
    /// Whether it fetches by itself what is named by URL: images, and documents in Anthropic's format.
    pub takes_urls: bool,
    /// The response headers that tell how much of a rate limit is left, where the vendor sends any.
    pub limits: Option<&'static LimitHeaders>,
    /// The usual shape of an error body.
    pub errors: ErrorShape,
    /// The endpoints the vendor's documentation or a recorded call shows. One that is missing was not found, which is a
    /// reason to warn and not to refuse: vendors add endpoints.
    pub serves: &'static [Endpoint],
    /// What an operator should know before using it; a sentence or nothing.
    pub note: &'static str,
    /// The page this row rests on first.
    pub docs: &'static str,
}

/// A vendor whose API is gone. Kept so that its name in a configuration is answered with what happened rather than
/// with "unknown kind".
#[derive(Clone, Copy, Debug)]
pub struct Retired {
    pub name: &'static str,
    /// Other spellings that mean the same vendor.
    pub also: &'static [&'static str],
    /// The vendor's name for people.
    pub title: &'static str,
    /// What happened and what to use, a full sentence.
    pub why: &'static str,
    /// The page this rests on.
    pub docs: &'static str,
}

/// The request header that carries the key, and what stands before the key in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Lower case.
    pub header: &'static str,
    /// For example `Bearer ` with its space; empty where the key stands alone.
    pub prefix: &'static str,
}

/// `Authorization: Bearer <key>`.
pub const BEARER: Auth = Auth { header: "authorization", prefix: "Bearer " };

/// How a streamed answer is made to report its token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// Send `stream_options: {"include_usage": true}`; without it the stream reports nothing.
    Ask,
    /// Every stream reports usage by itself. Asking is useless or refused: send no `stream_options`, not even the
    /// client's.
    Unasked,
    /// The field is refused and usage is not known to come without it: send no `stream_options`, take usage when it
    /// comes, and estimate when it does not.
    Refused,
}

/// The field of a chat request that limits the length of the answer. Wanted when the gateway itself sets or lowers the
/// limit, and when a client's field has to be renamed. It speaks of `/chat/completions` only: `/completions` knows
/// `max_tokens` alone, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxTokensField {
    /// Either name works. Never send both: some vendors refuse the pair.
    Either,
    /// `max_tokens` is the one to send: the newer name is refused, ignored, or not documented.
    MaxTokens,
    /// `max_completion_tokens` is the one to send: the older name is refused by some models or is going away.
    MaxCompletionTokens,
}

/// The shape of an error body. This is the usual one of the vendor; a proxy in front of it, or a model server behind
/// it, may answer in another, so a reader tries the rest when this one does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// `{"error": {"message", "type", "param", "code"}}`; `code` may be a number, any but `message` may be missing.
    OpenAi,
    /// `{"error": "text"}`, sometimes with `code` beside it.
    Text,
    /// `{"message", "type", "code", …}` with nothing around it.
    Flat,
    /// `{"detail": "text"}` or `{"detail": [{"loc", "msg"}, …]}`, as FastAPI servers answer.
    Detail,
    /// `[{"error": {…}}]`: OpenAI's shape inside an array.
    List,
}

/// An endpoint of OpenAI's API, below the base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /chat/completions`
    Chat,
    /// `POST /completions`
    Completions,
    /// `POST /embeddings`
    Embeddings,
    /// `GET /models`
    Models,
    /// `POST /messages`, Anthropic's
    Messages,
}

/// The response headers that speak of rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitHeaders {
    /// The limit that counts requests.
    pub requests: LimitNames,
    /// The limit that counts tokens.
    pub tokens: LimitNames,
}

/// The header names of one limit, lower case; empty where the vendor sends none.
///
/// The value of `reset` differs by vendor and is told apart by its form: a duration with units (`6m0s`, `12ms`), a
/// plain number of seconds from now, a Unix time in seconds or, from 10¹² on, in milliseconds, or an RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitNames {
    /// How much the window allows.
    pub limit: &'static str,
    /// How much of it is left.
    pub remaining: &'static str,
    /// When it is full again.
    pub reset: &'static str,
}

/// A limit that no header speaks of.
pub const UNTOLD: LimitNames = LimitNames { limit: "", remaining: "", reset: "" };

/// Anthropic's names. It limits input and output tokens apart as well, under names of their own.
pub const ANTHROPIC_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames {
        limit: "anthropic-ratelimit-requests-limit",
        remaining: "anthropic-ratelimit-requests-remaining",
        reset: "anthropic-ratelimit-requests-reset",
    },
    tokens: LimitNames {
        limit: "anthropic-ratelimit-tokens-limit",
        remaining: "anthropic-ratelimit-tokens-remaining",
        reset: "anthropic-ratelimit-tokens-reset",
    },
};

/// OpenAI's names, which most vendors that send any have copied.
pub const OPENAI_LIMITS: LimitHeaders = LimitHeaders {
    requests: LimitNames {
        limit: "x-ratelimit-limit-requests",
        remaining: "x-ratelimit-remaining-requests",
        reset: "x-ratelimit-reset-requests",
    },
    tokens: LimitNames {
        limit: "x-ratelimit-limit-tokens",
        remaining: "x-ratelimit-remaining-tokens",
        reset: "x-ratelimit-reset-tokens",
    },
};
