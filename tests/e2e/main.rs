//! End-to-end: the real binary on real Postgres, git, Docker and kubectl.

mod bad_input;
mod first_push;
mod git_faults;
