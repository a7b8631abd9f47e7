//! Switchboard: a self-hosted, OpenAI-compatible LLM gateway. The modules, in reading order.

pub mod error;
pub mod types;

pub mod wire;

pub mod catalog;
pub mod shared;
pub mod store;
pub mod telemetry;
pub mod upstream;

pub mod accounting;
pub mod auth;
pub mod providers;
pub mod quotas;
pub mod routing;

pub mod gateway;

pub mod http;

pub mod config;

pub mod mock;

pub mod refresh;

pub mod app;

pub mod cli;
