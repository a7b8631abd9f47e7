//! Parse the command, run it, turn the outcome into an exit code.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use switchboard::cli::Cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            // A closed standard error leaves only the exit code to say it.
            let _ = writeln!(std::io::stderr(), "switchboard: {}", failed.message.trim_end());
            ExitCode::from(failed.code)
        }
    }
}
