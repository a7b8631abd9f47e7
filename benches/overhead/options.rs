//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::contestants::{Contestant, Kind};
use crate::scenarios::Scenario;

/// What a gateway costs: the switchboard binary beside a direct call and nginx, interleaved, on one core.
#[derive(Parser)]
#[command(name = "overhead")]
pub struct Options {
    /// Fewer and shorter rounds: under a minute
    #[arg(long)]
    pub quick: bool,
    /// Only these scenarios (repeatable, or separated by commas)
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Scenario>,
    /// A switchboard binary to measure instead of the one just built; several, as NAME=PATH, are compared
    #[arg(long, value_name = "[NAME=]PATH")]
    gateway: Vec<String>,
    /// Leave switchboard out
    #[arg(long, conflicts_with = "gateway")]
    no_gateway: bool,
    /// Leave nginx out
    #[arg(long)]
    no_nginx: bool,
    /// A gateway that runs already, as NAME=http://HOST:PORT; its model `bench` must lead to --upstream-port
    #[arg(long, value_name = "NAME=URL")]
    peer: Vec<String>,
    /// Process of a peer, as NAME=PID: it is pinned and its CPU and memory are measured
    #[arg(long, value_name = "NAME=PID")]
    peer_pid: Vec<String>,
    /// A header that a peer needs, as NAME=HEADER: VALUE (repeatable)
    #[arg(long, value_name = "NAME=HEADER")]
    peer_header: Vec<String>,
    /// Port of the upstream (default: a free one)
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub upstream_port: u16,
    /// Write all figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Rounds of each scenario (default 5, quick 3; of the slow scenarios fewer)
    #[arg(long)]
    rounds: Option<usize>,
    /// The core of the contestants and the core of the load, as A,B (default: the first two)
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Given by `cargo bench`; without it nothing is measured
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// The contestants in the order of the tables.
    pub fn contestants(&self) -> Result<Vec<Contestant>> {
        let mut all = vec![Contestant { name: String::from("direct"), kind: Kind::Direct }];
        if !self.no_nginx {
            all.push(Contestant { name: String::from("nginx"), kind: Kind::Nginx });
        }
        for gateway in &self.gateway {
            let (name, program) = gateway.split_once('=').unwrap_or(("switchboard", gateway));
            all.push(Contestant { name: name.to_owned(), kind: Kind::Gateway { program: program.into() } });
        }
        if self.gateway.is_empty() && !self.no_gateway {
            let program =
                option_env!("CARGO_BIN_EXE_switchboard").context("no binary was built: give one with --gateway")?;
            all.push(Contestant { name: String::from("switchboard"), kind: Kind::Gateway { program: program.into() } });
        }
        for peer in &self.peer {
            let (name, url) = peer.split_once('=').context("--peer takes NAME=URL")?;
            let pid =
                values_of(name, &self.peer_pid).next().map(|pid| pid.parse().context("--peer-pid takes NAME=PID"));
            let headers = values_of(name, &self.peer_header).map(str::to_owned).collect();
            let kind = Kind::Peer { url: url.to_owned(), pid: pid.transpose()?, headers };
            all.push(Contestant { name: name.to_owned(), kind });
        }
        for (index, contestant) in all.iter().enumerate() {
            if all[..index].iter().any(|other| other.name == contestant.name) {
                bail!("two contestants are called {}", contestant.name);
            }
        }
        Ok(all)
    }

    /// Rounds of `scenario`; those that take long or vary little get fewer.
    pub fn rounds(&self, scenario: Scenario) -> usize {
        let rounds = self.rounds.unwrap_or(if self.quick { 3 } else { 5 });
        let is_long = matches!(
            scenario,
            Scenario::Paced
                | Scenario::TranslatedPaced
                | Scenario::Images
                | Scenario::TranslatedImages
                | Scenario::OpenStreams
        );
        match (is_long, self.quick) {
            (true, true) => 1,
            (true, false) => rounds.min(3),
            (false, _) => rounds,
        }
    }

    /// The scenarios to run, those that look at memory first, idle before busy: peers are not started afresh for them.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter().copied();
        let mut chosen: Vec<_> = all.filter(|one| self.only.is_empty() || self.only.contains(one)).collect();
        chosen.sort_by_key(|scenario| (!scenario.is_of_processes(), *scenario != Scenario::Start));
        chosen
    }

    /// `quick` or `long`, whichever mode was chosen, in milliseconds.
    pub fn time(&self, quick: u64, long: u64) -> Duration {
        Duration::from_millis(if self.quick { quick } else { long })
    }
}

fn values_of<'a>(name: &'a str, pairs: &'a [String]) -> impl Iterator<Item = &'a str> {
    pairs.iter().filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix('='))
}
