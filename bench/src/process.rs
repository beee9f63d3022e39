//! Child processes of the run, and how it ends when somebody has seen enough.

use std::{
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Set by a signal. Whatever is under way ends with an error then, and everything that was started is
/// taken away as it is dropped.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Wakes at SIGINT or SIGTERM; a second one ends the process at once. Must be called inside a Tokio
/// runtime.
pub(crate) fn on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let (ending, told) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if ENDING.swap(true, Ordering::SeqCst) {
                eprintln!("ended at once: containers and networks may stay behind");
                std::process::exit(130);
            }
            eprintln!("ending: what was started is taken away");
            ending.send_replace(true);
        }
    });
    Ok(told)
}

/// Whether the run goes on.
///
/// # Errors
/// A signal has ended it.
pub(crate) fn goes_on() -> anyhow::Result<()> {
    anyhow::ensure!(!ENDING.load(Ordering::SeqCst), "interrupted");
    Ok(())
}

/// Runs a command; its output when it succeeded, all it said when it did not.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    goes_on()?;
    clean(command)
}

/// As [`run`], also after a signal: for what takes things away.
pub(crate) fn clean(command: &mut Command) -> anyhow::Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_signal_nothing_new_runs_and_things_are_still_taken_away() {
        assert!(run(&mut Command::new("true")).is_ok());
        ENDING.store(true, Ordering::SeqCst);
        let error = run(&mut Command::new("true")).expect_err("it has ended");
        assert_eq!(error.to_string(), "interrupted");
        assert!(clean(&mut Command::new("true")).is_ok());
    }
}
