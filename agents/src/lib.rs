//! What runs on a Docker host: the node agent.
//!
//! An agent learns from the server which pods its node has, compares them with the containers that
//! carry its labels, plans, and executes each pod on its own task. Above the two seams, [`Runtime`]
//! and [`ControlPlane`], real Docker and simulation are the same code.

mod agent;
mod backoff;
pub mod chance;
mod claims;
mod connection;
mod docker;
mod ending;
mod entry;
mod environment;
mod execute;
pub mod fake;
mod frames;
mod hook;
mod host;
mod http;
mod identity;
mod image;
mod inspecting;
mod making;
mod meddling;
mod memory;
pub mod memory_control;
mod mending;
mod node_status;
mod observed;
mod observing;
mod options;
mod pause;
mod persistent;
mod plan;
mod pod;
mod podfiles;
mod pressure;
mod probe;
mod range;
mod reporter;
mod reporting;
mod resources;
pub mod runtime;
mod sampling;
mod sessions;
mod start;
mod state;
mod status;
mod subpath;
mod translate;
mod volumes;
mod watch;

pub mod control;

pub use control::ControlPlane;
pub use docker::Docker;
pub use http::{HttpControl, HttpOptions};
pub use options::{Options, machine_id};
pub use pressure::{Amount, ThresholdError, Thresholds};
pub use range::{Range, RangeError};
pub use runtime::Runtime;
pub use start::{Running, StartError, start, start_on};
pub use state::StateError;
pub use watch::NetworkError;
