//! What can be typed: one file per command. Commands return what they have to say; `main` turns it into an exit code.

pub mod audit;
mod check;
mod config;
mod healthcheck;
pub mod keys;
mod migrate;
mod mock;
mod openapi;
mod prices;
pub mod projects;
pub mod quotas;
pub mod reconcile;
pub mod requests;
mod screen;
mod serve;
pub mod store;
mod table;
pub mod usage;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::types::Clock;

/// A self-hosted, OpenAI-compatible LLM gateway in one binary.
///
/// Point any OpenAI SDK at it by changing `base_url`. It finds a provider for each call, retries and falls back,
/// streams without buffering, and keeps provider keys away from applications.
#[derive(Debug, Parser)]
#[command(name = "switchboard", version, after_long_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  switchboard serve
      Answers at once: providers are found by their usual environment variables
      (OPENAI_API_KEY, GROQ_API_KEY, …). Without any, a built-in mock answers.
  switchboard config defaults > switchboard.yaml
      Every setting with its default and a comment, to start a file from.
  switchboard check
      What is wrong with the file, with line, column and the nearest name.
  switchboard keys create --name my-app --models '*'
      A key for an application.
  switchboard usage --by key,model
      What was used this month and what it cost.
  switchboard mock --help
      A provider that fails on demand, to test applications against.";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Check(check::Args),
    Config(config::Args),
    Keys(keys::KeysArgs),
    Projects(projects::ProjectsArgs),
    Quotas(Box<quotas::QuotasArgs>),
    Audit(audit::AuditArgs),
    Usage(usage::UsageArgs),
    Request(requests::RequestArgs),
    Reconcile(Box<reconcile::ReconcileArgs>),
    Openapi(openapi::Args),
    Migrate(migrate::Args),
    Prices(prices::Args),
    Mock(Box<mock::Args>),
    Healthcheck(healthcheck::Args),
}

/// Which configuration a command works on.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigFile {
    /// The configuration file. Unset: $SWITCHBOARD_CONFIG, ./switchboard.yaml, /etc/switchboard/switchboard.yaml, or
    /// none at all.
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs a command that asks the store.
fn finish(work: impl Future<Output = anyhow::Result<()>>) -> Result<(), Failed> {
    serve::runtime()?.block_on(work).map_err(|error| Failed::wrong(format!("{error:#}")))
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub struct Failed {
    /// For people, on standard error.
    pub message: String,
    /// 1: it went wrong; 2: what was typed or configured is wrong.
    pub code: u8,
}

impl Failed {
    fn wrong(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }

    fn misconfigured(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), code: 2 }
    }
}

/// Prints the answer of a command. A reader that has seen enough (`| head`) is no failure.
///
/// # Errors
/// When standard output cannot be written, say because a disk is full.
fn say(text: impl std::fmt::Display) -> Result<(), Failed> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failed::wrong(format!("the answer cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    /// [`Failed`], with what to print and the exit code.
    pub fn run(self) -> Result<(), Failed> {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Check(args) => check::run(&args),
            Command::Config(args) => config::run(&args),
            Command::Keys(args) => {
                let (place, mut out) = (args.store.place()?, std::io::stdout());
                finish(keys::run(args.command, &place, &Clock::Real, &mut out))
            }
            Command::Projects(args) => {
                let (place, mut out) = (args.store.place()?, std::io::stdout());
                finish(projects::run(args.command, &place, &Clock::Real, &mut out))
            }
            Command::Quotas(args) => {
                let (place, mut out) = (args.store.place()?, std::io::stdout());
                finish(quotas::run(args.command, &place, &Clock::Real, &mut out))
            }
            Command::Audit(args) => {
                let (place, mut out) = (args.store.place()?, std::io::stdout());
                finish(audit::run(args.command, &place, &Clock::Real, &mut out))
            }
            Command::Usage(args) => {
                let (place, mut out) = (args.store.clone().place()?, std::io::stdout());
                finish(usage::run(args, &place, &Clock::Real, &mut out))
            }
            Command::Request(args) => {
                let (place, mut out) = (args.store.clone().place()?, std::io::stdout());
                finish(requests::run(args, &place, &mut out))
            }
            Command::Reconcile(args) => {
                let (place, mut out) = (args.store.clone().place()?, std::io::stdout());
                let work = reconcile::run(*args, &place, &mut out);
                match serve::runtime()?.block_on(work) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Failed::wrong("the provider and the ledger differ by more than --tolerance")),
                    Err(error) => Err(Failed::misconfigured(format!("{error:#}"))),
                }
            }
            Command::Openapi(args) => openapi::run(&args),
            Command::Migrate(args) => migrate::run(args),
            Command::Prices(args) => prices::run(&args),
            Command::Mock(args) => mock::run(&args),
            Command::Healthcheck(args) => healthcheck::run(args),
        }
    }
}

#[cfg(test)]
mod tests;
