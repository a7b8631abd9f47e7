//! Events: what the gateway says about itself, through `tracing`.
//!
//! Everything goes to standard error: events and call lines alike, so that their order holds and one redirection
//! catches them. Standard output belongs to the screen that `serve` prints at its start and to what commands answer.

use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use prometheus::IntCounter;
use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, fmt::MakeWriter, layer::SubscriberExt};

use super::{
    lines::Lines,
    settings::{Format, Settings},
};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "log.level `{level}` is not a level or a filter: {cause}; write for example `info` or `info,switchboard::routing=debug`"
    )]
    Level { level: String, cause: ParseError },
    #[error("no thread for the log writer: {0}")]
    Thread(#[from] io::Error),
}

/// Starts logging for this process and returns where the text goes. The first call decides; a later one (a second
/// gateway in the same test process) checks its level and gets the first one's sink.
///
/// The process should [`Lines::flush`] before it exits.
///
/// # Errors
/// A level that cannot be read, or no thread for the writer.
pub fn init(settings: &Settings, dropped: &IntCounter) -> Result<Lines, InitError> {
    static SINK: OnceLock<Lines> = OnceLock::new();
    let filter = filter(&settings.level)?;
    if let Some(sink) = SINK.get() {
        return Ok(sink.clone());
    }
    let lines = Lines::new(io::stderr(), dropped.clone())?;
    let sink = SINK.get_or_init(|| lines).clone();
    // It fails when the process already has a subscriber, which is then whoever embeds us's own choice.
    let _ = match is_json(settings.format) {
        true => tracing::subscriber::set_global_default(json_subscriber(filter, sink.clone())),
        false => tracing::subscriber::set_global_default(text_subscriber(filter, sink.clone())),
    };
    Ok(sink)
}

/// Whether log text is JSON: as set, or by whether a person is watching.
pub(super) fn is_json(format: Format) -> bool {
    match format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !io::stderr().is_terminal(),
    }
}

fn filter(level: &str) -> Result<EnvFilter, InitError> {
    EnvFilter::builder().parse(level).map_err(|cause| InitError::Level { level: level.to_owned(), cause })
}

/// Internal errors of the formatter are not logged: it would print them with `eprintln!`, which panics when standard
/// error is gone.
fn json_subscriber(filter: EnvFilter, sink: Lines) -> impl tracing::Subscriber + Send + Sync {
    let layer = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    tracing_subscriber::registry().with(filter).with(layer.log_internal_errors(false).with_writer(sink))
}

fn text_subscriber(filter: EnvFilter, sink: Lines) -> impl tracing::Subscriber + Send + Sync {
    let layer = fmt::layer().with_ansi(io::stderr().is_terminal()).log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(layer.with_writer(sink))
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// The formatter hands over each event in one write, line feed included.
impl Write for &Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.append(|out| {
            out.extend_from_slice(text);
            Ok(())
        });
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::lines::tests::{Page, counter},
        *,
    };

    fn logged(subscriber: impl FnOnce(EnvFilter, Lines) -> Box<dyn tracing::Subscriber + Send + Sync>) -> String {
        let page = Page::default();
        let lines = Lines::new(page.clone(), counter()).unwrap();
        let subscriber = subscriber(filter("info").unwrap(), lines.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "switchboard::test", port = 8080, "listening");
            tracing::debug!("not said");
        });
        lines.flush(Duration::from_secs(5));
        page.text()
    }

    #[test]
    fn an_event_is_one_json_object_per_line() {
        let text = logged(|filter, sink| Box::new(json_subscriber(filter, sink)));
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "listening");
        assert_eq!(line["port"], 8080);
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn an_event_is_one_readable_line() {
        let text = logged(|filter, sink| Box::new(text_subscriber(filter, sink)));
        assert!(text.contains("INFO switchboard::test: listening port=8080") && text.ends_with('\n'), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn a_second_start_is_harmless_and_a_wrong_level_is_named() {
        let settings = Settings::default();
        assert!(init(&settings, &counter()).is_ok());
        assert!(init(&settings, &counter()).is_ok());
        let wrong = Settings { level: "info,switchboard=loud".into(), ..settings };
        let error = init(&wrong, &counter()).unwrap_err().to_string();
        assert!(error.contains("log.level `info,switchboard=loud`"), "{error}");
    }
}
