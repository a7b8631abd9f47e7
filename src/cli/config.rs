//! `switchboard config`: the schema for editors, and every setting with its default.

use super::{Failed, say};
use crate::config;

/// Print the configuration's schema or defaults.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The JSON Schema of the configuration file.
    ///
    /// Editors complete and check with it; for the YAML language server, put this on the file's first line:
    ///   # yaml-language-server: $schema=switchboard.schema.json
    #[command(verbatim_doc_comment)]
    Schema,
    /// Every setting with its default and a comment: a file to start from.
    Defaults,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    match args.what {
        What::Schema => say(format_args!("{:#}", config::schema())),
        What::Defaults => say(config::DEFAULTS.trim_end()),
    }
}
