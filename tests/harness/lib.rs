//! One harness: a whole Towline on real parts (the real binary, Postgres, git, Docker, kubectl).
//!
//! Each [`Cluster`] has its own data directory, port, node name and pod range, so that tests can run
//! beside each other on one Docker Engine; it cleans up after itself. Tests wait on conditions and
//! show the last state when they give up.
#![allow(clippy::print_stderr, reason = "a skip must be seen in the test's output")]

mod agent;
mod cluster;
mod docker;
mod engine;
mod kubectl;
pub mod manifests;
mod postgres;
mod repository;
pub mod scene;

use std::{
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

pub use agent::Agent;
pub use cluster::{Cluster, Options, PATIENCE};
pub use docker::Container;
pub use engine::{Engine, have_engine};
pub use kubectl::{have_kubectl, old_kubectl};
pub use postgres::Postgres;
pub use repository::Repository;

/// What ran and what it said, when it failed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = command.output()?;
    let out = String::from_utf8_lossy(&stdout).into_owned();
    anyhow::ensure!(
        status.success(),
        "{command:?} ended with {status}\n{out}{}",
        String::from_utf8_lossy(&stderr)
    );
    Ok(out)
}

/// What ran said, standard output and error together, and its exit code.
pub fn run_any(command: &mut Command) -> anyhow::Result<(i32, String)> {
    let Output { status, stdout, stderr } = command.output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    Ok((status.code().unwrap_or(-1), text))
}

/// Waits until `look` returns a value; `Err` is the state to show when `within` is over.
pub fn wait<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match look() {
            Ok(value) => return value,
            Err(state) if start.elapsed() > within => {
                panic!("waited {within:?} for {what}; the last state was:\n{state}")
            }
            Err(_) => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(200));
            }
        }
    }
}

/// The folder of the built binaries: the one that this test was built into.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let built = test.ancestors().nth(2).map(|dir| dir.join(name)).unwrap_or_default();
    assert!(
        built.exists(),
        "{} is not built: run `cargo build --workspace` first",
        built.display()
    );
    built
}

/// The root of the sources.
pub fn sources() -> PathBuf {
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir
}

/// Says that a test is skipped for want of a program; under CI that is a failure.
pub fn have(program: &str, arguments: &[&str]) -> bool {
    let there = Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        skipped(&format!(
            "this test needs {program}, which is not there or does not answer"
        ));
    }
    there
}

/// Says that a test is skipped; under CI that is a failure.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI skips no test: {why}");
    eprintln!("SKIPPED: {why}");
}

/// Where `scripts/test-tools` puts what only tests use.
pub fn tools() -> PathBuf {
    let named = std::env::var_os("TOWLINE_TEST_TOOLS").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let test = std::env::current_exe().unwrap_or_default();
        test.ancestors().nth(3).map(|dir| dir.join("tools")).unwrap_or_default()
    })
}

/// True where Docker answers on the socket of the tests.
pub fn have_docker() -> bool {
    have("docker", &["-H", &docker::host(), "info"])
}
