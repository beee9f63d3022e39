//! The Kubernetes-compatible front: REST and watches, node streams, webhooks, the git endpoint and
//! what the command line talks to, all on one TLS port.

mod accept;
mod admit;
mod age;
pub mod api;
#[cfg(test)]
mod api_tests;
pub mod authority;
mod authorize;
mod columns;
mod confirm;
mod continuation;
pub mod control;
#[cfg(test)]
mod control_harness;
mod delete;
mod discovery;
mod eviction;
pub mod exchange;
pub mod explain;
mod git_http;
pub mod identity;
mod leases;
pub mod logs;
mod metrics;
mod nodes;
mod nodes_history;
mod nodes_interest;
mod nodes_mirror;
mod nodes_missing;
mod nodes_registration;
mod nodes_status;
mod nodes_stream;
mod older;
mod openapi;
mod path;
mod pods;
mod policy;
mod protobuf;
pub mod push;
mod push_follow;
pub mod query;
mod read;
mod reviews;
mod rollback;
mod scale;
mod select;
pub mod server;
pub mod sessions;
pub mod status;
mod table;
mod unclaimed;
mod watch;
pub mod webhooks;
mod wire;
mod write;

pub use api::{Api, Parts};
pub use authority::Authority;
pub use server::{Config, ServeError, serve};
