//! The whole gateway, from the outside: a real one on a real socket, over scripted providers. Tests speak HTTP and read
//! `/metrics`, so that they outlive a rewrite of the inside. `harness` says how a test is written.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot set its scene has failed, and says so at the place"
)]

mod admin;
mod bad_input;
mod betas;
mod content;
mod database;
mod dialects;
mod failover;
mod fetch;
mod formats;
mod harness;
mod http2;
mod ledger;
mod messages;
mod pass_lane;
mod quotas;
mod receipts;
mod replicas;
mod schemas;
mod settlement;
mod thinking;
