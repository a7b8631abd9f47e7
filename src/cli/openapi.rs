//! `switchboard openapi`: the admin API, described for programs.

use super::{Failed, say};
use crate::http::openapi;

/// Print the OpenAPI document of the admin API.
///
/// A running gateway serves the same at /admin/v1/openapi.json.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Result<(), Failed> {
    say(format_args!("{:#}", openapi()))
}
