//! `switchboard check`: everything that is wrong with a configuration, without starting anything.

use super::{ConfigFile, Failed, say};
use crate::{
    app,
    config::{self, Environment},
};

/// Check a configuration file.
///
/// Says everything that is wrong with it, each with file, line, column and the nearest valid name. Exit code 0: it can
/// be used; 2: it cannot.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let env = Environment::process();
    let loaded = config::load(args.config.config.as_deref(), &env).map_err(Failed::misconfigured)?;
    app::check(&loaded).map_err(Failed::misconfigured)?;
    if !loaded.warnings.0.is_empty() {
        say(&loaded.warnings)?;
    }
    say(format_args!("{} is valid: {}.", loaded.source, loaded.summary()))
}
