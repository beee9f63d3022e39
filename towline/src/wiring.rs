//! `up`, `server` and `agent`: which tasks run, what they are made of, and in which order they end.

mod agent;
mod files;
mod server;
mod source;

use std::{ffi::OsStr, io::IsTerminal as _, process::ExitCode};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

use crate::cli::{AgentArgs, ServerArgs, UpArgs};

/// Everything on this machine: the sum of `server` and `agent`.
pub(crate) async fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    agent::check(&args.node)?;
    let shutdown = on_signal()?;
    let server = server::start(&args.server, &shutdown).await?;
    let agent = match agent::beside(&server, &args.node, &shutdown).await {
        Ok(agent) => agent,
        Err(error) => {
            server.stop().await?;
            return Err(error);
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = server.failed() => {
            tracing::error!(%error, "the server cannot go on");
        }
    }
    // Agents first: their last words still reach the server.
    agent.stop().await;
    server.stop().await
}

pub(crate) async fn server(args: ServerArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let shutdown = on_signal()?;
    let server = server::start(&args, &shutdown).await?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = server.failed() => {
            tracing::error!(%error, "the server cannot go on");
        }
    }
    server.stop().await
}

pub(crate) async fn agent(args: AgentArgs) -> anyhow::Result<ExitCode> {
    log_to_stderr();
    let shutdown = on_signal()?;
    let agent = agent::join(&args, &shutdown).await?;
    shutdown.cancelled().await;
    agent.stop().await;
    Ok(ExitCode::SUCCESS)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours(
            std::io::stderr().is_terminal(),
            std::env::var_os("NO_COLOR").as_deref(),
        ))
        .with_target(false)
        .init();
}

/// Colours are for terminals, and not for those who ask for none (<https://no-color.org>).
fn colours(terminal: bool, no_color: Option<&OsStr>) -> bool {
    terminal && no_color.is_none_or(OsStr::is_empty)
}

/// A token that SIGTERM and SIGINT cancel; a second signal ends the process at once.
fn on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let cancel = token.clone();
    tokio::spawn(async move {
        for count in 0.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if count > 0 {
                tracing::warn!(signal = name, "ending at once");
                std::process::exit(130);
            }
            tracing::info!(signal = name, "ending; containers stay as they are");
            cancel.cancel();
        }
    });
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_in_a_file_has_no_colours() {
        assert!(colours(true, None) && colours(true, Some(OsStr::new(""))));
        assert!(!colours(false, None) && !colours(true, Some(OsStr::new("1"))));
    }
}
