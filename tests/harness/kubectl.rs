//! Which kubectl there is.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{skipped, tools};

/// The oldest kubectl that is supported in full; older ones read.
const FULL: u32 = 30;

/// The minor version of a kubectl, if it is one.
fn minor(program: impl AsRef<OsStr>) -> Option<u32> {
    let output = Command::new(program)
        .args(["version", "--client", "-o", "json"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let version: Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = version["clientVersion"]["minor"].as_str()?;
    minor
        .trim_end_matches(|letter: char| !letter.is_ascii_digit())
        .parse()
        .ok()
}

/// True where a kubectl is installed that is supported in full.
pub fn have_kubectl() -> bool {
    match minor("kubectl") {
        None => {
            skipped("there is no kubectl on this machine; install Debian's kubernetes-client, or a newer one");
            false
        }
        Some(minor) if minor < FULL => {
            // Not a failure for CI: this is what a plain Debian has, and `old_kubectl` tests it.
            eprintln!("SKIPPED: not supported by kubectl 1.{minor}; this needs 1.{FULL} or newer");
            false
        }
        Some(_) => true,
    }
}

/// A kubectl that is older than what is supported in full, with its minor version: Debian's, fetched
/// by `scripts/test-tools` beside a newer one, or the machine's own.
pub fn old_kubectl() -> Option<(PathBuf, u32)> {
    let found = [tools().join("kubectl-debian"), Path::new("kubectl").to_owned()]
        .into_iter()
        .filter_map(|program| minor(&program).map(|minor| (program, minor)))
        .find(|(_, minor)| *minor < FULL);
    if found.is_none() {
        skipped("there is no kubectl older than 1.30: Debian's package kubernetes-client could not be fetched");
    }
    found
}
