//! Servers of the operator's own, at their default addresses, by name.

use super::{LOCAL, REASONING_CONTENT};
use crate::providers::vendor::{
    Endpoint::{Chat, Completions, Models},
    ErrorShape, MaxTokensField, OPENAI_LIMITS, Vendor,
};

pub(super) const OWN: &[Vendor] = &[
    // LiteLLM's table has port 22088 and leaves the version out; this is Docker's own page.
    Vendor {
        name: "docker_model_runner",
        also: &["docker"],
        title: "Docker Model Runner",
        base_url: "http://localhost:12434/engines/v1",
        note: "From a container the host is `model-runner.docker.internal`, without the port.",
        docs: "https://docs.docker.com/ai/model-runner/api-reference/",
        ..LOCAL
    },
    Vendor {
        name: "jan",
        title: "Jan",
        base_url: "http://127.0.0.1:1337/v1",
        serves: &[Chat, Models],
        docs: "https://jan.ai/docs",
        ..LOCAL
    },
    Vendor {
        name: "lemonade",
        title: "Lemonade Server",
        base_url: "http://localhost:8000/api/v1",
        docs: "https://lemonade-server.ai/",
        ..LOCAL
    },
    Vendor {
        name: "litellm",
        also: &["litellm_proxy"],
        title: "LiteLLM Proxy",
        base_url: "http://localhost:4000/v1",
        key_env: &["LITELLM_PROXY_API_KEY"],
        max_tokens: MaxTokensField::Either,
        limits: Some(&OPENAI_LIMITS),
        messages: Some("/v1"),
        // It has a table of its own.
        betas: None,
        reasoning: REASONING_CONTENT,
        cache_control: true,
        docs: "https://docs.litellm.ai/docs/simple_proxy",
        ..LOCAL
    },
    Vendor {
        name: "llama_cpp",
        also: &["llamacpp"],
        title: "llama.cpp server",
        base_url: "http://127.0.0.1:8080/v1",
        docs: "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        ..LOCAL
    },
    Vendor {
        name: "llamafile",
        title: "llamafile",
        base_url: "http://127.0.0.1:8080/v1",
        docs: "https://github.com/Mozilla-Ocho/llamafile",
        ..LOCAL
    },
    Vendor {
        name: "lm_studio",
        also: &["lmstudio"],
        title: "LM Studio",
        base_url: "http://127.0.0.1:1234/v1",
        key_env: &["LM_STUDIO_API_KEY"],
        note: "Reports streamed usage since version 0.3.18.",
        docs: "https://lmstudio.ai/docs/developer/openai-compat",
        ..LOCAL
    },
    Vendor {
        name: "localai",
        also: &["local_ai"],
        title: "LocalAI",
        base_url: "http://localhost:8080/v1",
        docs: "https://localai.io/",
        ..LOCAL
    },
    Vendor {
        name: "ollama",
        title: "Ollama",
        base_url: "http://localhost:11434/v1",
        note: "The context length is the server's setting: no request can raise it on this endpoint.",
        docs: "https://docs.ollama.com/api/openai-compatibility",
        // Its documentation of either format: images in base64, no URLs. Newer versions speak Anthropic's messages as well,
        // without a choice of tools, PDFs and counting; that is for `formats` to say.
        takes_urls: false,
        ..LOCAL
    },
    Vendor {
        name: "openai_compatible",
        also: &["openai_like", "custom_openai"],
        title: "Anything else that is OpenAI-compatible",
        base_url: "",
        // Nothing is known of it: what the client wrote is passed on.
        max_tokens: MaxTokensField::Either,
        note: "Give `base_url`, with the version, and `api_key` where the server wants one.",
        docs: "https://platform.openai.com/docs/api-reference",
        ..LOCAL
    },
    Vendor {
        name: "sglang",
        title: "SGLang",
        base_url: "http://localhost:30000/v1",
        max_tokens: MaxTokensField::Either,
        errors: ErrorShape::Flat,
        reasoning: REASONING_CONTENT,
        docs: "https://docs.sglang.ai/",
        ..LOCAL
    },
    // The launcher's own port; the container examples often publish 8080 instead.
    Vendor {
        name: "tgi",
        also: &["text_generation_inference"],
        title: "Text Generation Inference",
        base_url: "http://localhost:3000/v1",
        errors: ErrorShape::Text,
        serves: &[Chat, Completions, Models],
        docs: "https://huggingface.co/docs/text-generation-inference/reference/api_reference",
        ..LOCAL
    },
    Vendor {
        name: "vllm",
        also: &["hosted_vllm"],
        title: "vLLM",
        base_url: "http://localhost:8000/v1",
        max_tokens: MaxTokensField::Either,
        note: "Refuses `stream_options` in a call that is not streamed, and an empty list of tools.",
        messages: Some("/v1"),
        reasoning: REASONING_CONTENT,
        docs: "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        ..LOCAL
    },
    Vendor {
        name: "xinference",
        title: "Xinference",
        base_url: "http://127.0.0.1:9997/v1",
        docs: "https://inference.readthedocs.io/en/latest/index.html",
        ..LOCAL
    },
];
