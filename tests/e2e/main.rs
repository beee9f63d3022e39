//! End-to-end: the real binary on real Postgres, git, Docker and kubectl.

mod apart;
mod autoscaling;
mod bad_input;
mod command_line;
mod editor;
mod explain;
mod first_push;
mod gates;
mod git_faults;
mod hostile;
mod images;
mod jobs;
mod kubectl;
mod kubectl_old;
mod metrics;
mod pods;
mod push;
mod revert;
mod rollback;
mod webhooks;
