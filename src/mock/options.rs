//! The command line of `switchboard mock`.

use std::{fmt::Write, net::SocketAddr};

use clap::Args;

use super::{
    behaviour::{Behaviour, Encoding, Rate, UsageMode},
    shorthand::SHORTHANDS,
};
use crate::types::Period;

/// What `switchboard mock` is told on its command line.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = examples())]
pub struct Options {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9099")]
    pub listen: SocketAddr,

    /// Default script as JSON; the flags below add to it. See the examples for its fields.
    #[arg(long, value_name = "JSON", value_parser = Behaviour::from_json)]
    pub script: Option<Behaviour>,

    /// Text of every answer. Unset: an echo of the last user message.
    #[arg(long)]
    pub text: Option<String>,

    /// Number of content chunks in a stream.
    #[arg(long, value_name = "N")]
    pub chunks: Option<u32>,

    /// Time before the response head, for example 500ms.
    #[arg(long, value_name = "TIME")]
    pub delay: Option<Period>,

    /// Time between the chunks of a stream, for example 20ms.
    #[arg(long, value_name = "TIME")]
    pub chunk_delay: Option<Period>,

    /// When streams report usage.
    #[arg(long, value_enum, value_name = "WHEN")]
    pub usage: Option<UsageMode>,

    /// Compress every answer, whatever the client accepts.
    #[arg(long, value_enum)]
    pub encoding: Option<Encoding>,

    /// Answer with this status; with --fail-every or --probability only then.
    #[arg(long)]
    pub status: Option<u16>,

    /// Let every n-th request fail: with --status, or 500.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub fail_every: Option<u64>,

    /// Let requests fail at random with this probability (0 to 1): with --status, or 500.
    #[arg(long, value_name = "P")]
    pub probability: Option<f64>,

    /// Accept only this API key; may be given several times. Others get 401.
    #[arg(long, value_name = "KEY")]
    pub require_key: Vec<String>,

    /// Do not keep requests for GET /_mock/requests; saves time and memory under load.
    #[arg(long)]
    pub no_record: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9099)),
            script: None,
            text: None,
            chunks: None,
            delay: None,
            chunk_delay: None,
            usage: None,
            encoding: None,
            status: None,
            fail_every: None,
            probability: None,
            require_key: Vec::new(),
            no_record: false,
        }
    }
}

impl Options {
    /// The default behaviour that the flags describe.
    ///
    /// # Errors
    /// A sentence that says which value cannot be.
    pub fn behaviour(&self) -> Result<Behaviour, String> {
        let script = self.script.clone().unwrap_or_default();
        let behaviour = Behaviour {
            text: self.text.clone().or(script.text),
            chunks: self.chunks.or(script.chunks),
            delay: self.delay.or(script.delay),
            chunk_delay: self.chunk_delay.or(script.chunk_delay),
            usage_mode: self.usage.unwrap_or(script.usage_mode),
            encoding: self.encoding.or(script.encoding),
            status: self.status.or(script.status),
            rate: self.fail_every.map(|every| Rate { every }).or(script.rate),
            probability: self.probability.or(script.probability),
            require_key: [script.require_key, self.require_key.clone()].concat(),
            record: if self.no_record { Some(false) } else { script.record },
            ..script
        };
        behaviour.check()?;
        Ok(behaviour)
    }
}

/// The examples and the reference that `--help` ends with.
fn examples() -> String {
    let mut text = EXAMPLES.to_owned();
    text.push_str("\nModel names that are scripts (a prefix such as openai/ does no harm):\n");
    let _ = writeln!(text, "  {:<21} an error with that status", "mock-status-NNN");
    for shorthand in SHORTHANDS {
        let _ = writeln!(text, "  {:<21} {}", shorthand.name, shorthand.meaning);
    }
    text.push_str(FIELDS);
    text
}

const EXAMPLES: &str = r#"Examples:
  A first answer, and the same streamed:
    curl http://127.0.0.1:9099/v1/chat/completions -d '{"model":"mock","messages":[{"role":"user","content":"Hi"}]}'
    curl -N http://127.0.0.1:9099/v1/chat/completions \
      -d '{"model":"mock","stream":true,"messages":[{"role":"user","content":"Hi"}]}'

  The same in Anthropic's format:
    curl http://127.0.0.1:9099/v1/messages -H 'anthropic-version: 2023-06-01' \
      -d '{"model":"mock","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}'

  Trouble, named by the model, or scripted in the request (works through any gateway that forwards unknown members):
    curl -i http://127.0.0.1:9099/v1/chat/completions -d '{"model":"mock-status-503","messages":[]}'
    curl -N http://127.0.0.1:9099/v1/chat/completions -d '{"model":"m","stream":true,"messages":[],
      "mock":{"chunks":10,"chunk_delay":"100ms","reset":{"after_chunk":5}}}'

  The same in a header:
    curl -i http://127.0.0.1:9099/v1/chat/completions -H 'x-mock: {"status":429,"retry_after":2}' \
      -d '{"model":"m","messages":[]}'

  The next two requests, then the next for one model; the default for all others:
    curl -X PUT http://127.0.0.1:9099/_mock/script -d '[{"status":500},{"delay":"2s","text":"late"}]'
    curl -X PUT 'http://127.0.0.1:9099/_mock/script?model=gpt-5.5' -d '{"hang":true}'
    curl -X PUT http://127.0.0.1:9099/_mock/default -d '{"rate":{"every":10},"status":503}'

  What it was sent, what became of each answer, and starting afresh:
    curl http://127.0.0.1:9099/_mock/requests
    curl http://127.0.0.1:9099/_mock
    curl -X DELETE http://127.0.0.1:9099/_mock        (or only /_mock/requests, /_mock/script)

  An SDK:
    OPENAI_BASE_URL=http://127.0.0.1:9099/v1 OPENAI_API_KEY=any python your_app.py
    ANTHROPIC_BASE_URL=http://127.0.0.1:9099 ANTHROPIC_API_KEY=any python your_app.py

  A load test: 100 chunks, one each 20 ms, nothing kept:
    switchboard mock --chunks 100 --chunk-delay 20ms --no-record

Which script a request gets: the first of queue, member "mock", model name, header x-mock, default. It decides alone;
scripts are not merged.
"#;

const FIELDS: &str = r#"
Fields of a script (all optional, all can be combined):
  content    text, chunks, chunk_text, reasoning, signature, redacted_reasoning, refusal,
             tool_calls [{name, arguments, id}], finish_reason,
             usage {prompt_tokens, completion_tokens, cached_tokens, cache_creation_tokens, reasoning_tokens},
             usage_mode asked|always|never|every_chunk|with_finish, embedding_count, embedding_dimensions,
             headers {name: value}, answer_id, created
  errors     status, error_type, error_code, message, retry_after (seconds), retry_after_date, retry_after_ms,
             body, content_type, html, error_in_200, error_first, error_after_chunks
  wrong      empty, empty_body, invalid_json, ignore_stream, stream_always, omit_done, trailing_garbage
  time       delay, first_chunk_delay, chunk_delay ("250ms"), hang, hang_after_chunks
  transport  reset "before_head"|"after_head"|{"at_byte":N}|{"after_chunk":N}, cut_at_byte, end_after_chunk,
             split (bytes per write), split_random (seed), coalesce, content_length right|long|short|absent
  encoding   encoding gzip|br|zstd|deflate, line_ending lf|crlf|cr, bom, comments, preamble, frame_bytes
  condition  fail_first N, rate {"every":N}, probability; name (counts equal scripts apart)
  whole mock require_key [..], record (in the default script only)
"#;

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        mock: Options,
    }

    #[test]
    fn flags_add_to_the_script() {
        let args = [
            "mock",
            "--script",
            r#"{"text":"a","chunks":3}"#,
            "--chunks",
            "5",
            "--delay",
            "1s",
            "--usage",
            "every_chunk",
            "--no-record",
        ];
        let behaviour = Cli::try_parse_from(args).unwrap().mock.behaviour().unwrap();
        assert_eq!((behaviour.text.as_deref(), behaviour.chunks), (Some("a"), Some(5)));
        assert_eq!((behaviour.usage_mode, behaviour.record), (UsageMode::EveryChunk, Some(false)));
        assert_eq!(behaviour.delay, Some(Period::from_secs(1)));
    }

    #[test]
    fn the_defaults_of_the_flags_are_the_default() {
        let parsed = Cli::try_parse_from(["mock"]).unwrap().mock;
        assert_eq!((parsed.listen, parsed.behaviour()), (Options::default().listen, Ok(Behaviour::default())));
    }

    #[test]
    fn the_help_names_every_field_of_a_script() {
        let help = Cli::command().render_long_help().to_string();
        let script = serde_json::to_value(Behaviour::default()).unwrap();
        for field in script.as_object().unwrap().keys() {
            assert!(help.contains(field.as_str()), "{field}");
        }
    }
}
