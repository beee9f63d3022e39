//! Child processes of the run.

use std::process::{Command, Output};

/// Runs a command; its output when it succeeded, all it said when it did not.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    // The variable, where somebody has set it, would win over a clone's own setting.
    let Output { status, stdout, stderr } = command.env_remove("GIT_SSL_CAINFO").output()?;
    anyhow::ensure!(
        status.success(),
        "{command:?}: {status}\n{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}
