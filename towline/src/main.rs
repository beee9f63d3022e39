//! The one binary: command line, configuration and the wiring of tasks; no logic of its own.

mod cli;
mod client;
mod commands;
mod output;
mod paths;
mod wiring;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use cli::{Cli, Command};

/// How long a connection to a git server may take.
const GIT_CONNECT: Duration = Duration::from_secs(10);
/// How long a git server may be silent.
const GIT_SILENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Up(cli::UpArgs { server, .. }) | Command::Server(server) = &cli.command {
        // Process-wide options of libgit2: set before any other thread starts.
        if let Err(error) = gitsync::limits::set(GIT_CONNECT, GIT_SILENCE, server.git.git_ca_file.as_deref()) {
            output::error(&anyhow::anyhow!("the options of git are not valid: {error}"));
            return ExitCode::from(commands::REFUSED);
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::error(&anyhow::anyhow!("the asynchronous runtime cannot start: {error}"));
            return ExitCode::from(commands::REFUSED);
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    // Blocking threads (a git fetch that hangs) must not keep the process from ending.
    runtime.shutdown_background();
    match outcome.and_then(|code| output::finish().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            output::error(&error);
            if error.downcast_ref::<client::Unreachable>().is_some() {
                ExitCode::from(commands::UNREACHABLE)
            } else {
                ExitCode::from(commands::REFUSED)
            }
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(args) => wiring::up(args).await,
        Command::Server(args) => wiring::server(args).await,
        Command::Agent(args) => wiring::agent(args).await,
        Command::Kubeconfig(args) => commands::kubeconfig(&args),
        Command::Validate(args) => commands::validate::run(&args),
        Command::Plan(args) => commands::plan::run(&args).await,
        Command::Explain(args) => commands::explain::run(&args).await,
        Command::Status(args) => commands::status::run(&args).await,
        Command::Sync(args) => commands::sync::run(&args).await,
        Command::Rollback(args) => commands::rollback::run(&args).await,
        Command::History(args) => commands::history::run(&args).await,
        Command::Unclaimed(args) => commands::unclaimed::run(&args).await,
        Command::Schema(args) => commands::schema(&args),
        Command::Completions { shell } => commands::completions(shell),
        Command::Hook(args) => commands::hook::run(&args).await,
        Command::Pause => commands::pause().await,
    }
}
