//! Measures Towline: `bench peers` side by side with bare Docker, compose and Swarm, in one run on one
//! machine; `bench scale` with simulated nodes, `bench scheduler` the scheduler
//! alone, at the sizes that are asked for.
//!
//! Each figure beside peers is the median of several rounds; the rounds of all peers take turns, so that a
//! machine that drifts drifts for all.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the tables are the product")]

mod bare;
mod compose;
mod plain;
mod process;
mod push;
mod scale;
mod scheduler;
mod swarm;
mod table;
mod towline;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    measure: Measure,
}

#[derive(Debug, Subcommand)]
enum Measure {
    /// Beside bare Docker, compose and Swarm
    Peers(Arguments),
    /// With simulated nodes
    Scale(scale::Arguments),
    /// The scheduler alone, in decisions a second
    Scheduler(scheduler::Arguments),
}

/// What to measure and how often.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Rounds per figure
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The Docker socket that bare Docker, compose and Towline share
    #[arg(long, default_value = "/var/run/docker.sock", env = "TOWLINE_DOCKER")]
    docker: PathBuf,
    /// The towline binary
    #[arg(long)]
    towline: PathBuf,
    /// Manifests in the large repository
    #[arg(long, default_value_t = 10_000)]
    manifests: usize,
    /// Leave Swarm out
    #[arg(long)]
    no_swarm: bool,
    /// Measure nothing but the cost of a push
    #[arg(long)]
    only_push: bool,
    /// Measure nothing but Towline's rolling updates
    #[arg(long, conflicts_with = "only_push")]
    only_rolling: bool,
}

/// The image that every peer starts.
pub(crate) const IMAGE: &str = "towline.local/web:1";
/// Its next version, for rolling updates.
pub(crate) const IMAGE_2: &str = "towline.local/web:2";

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // What runs cleans up when it is dropped, also when someone has seen enough.
    runtime.block_on(async {
        let mut ending = process::on_signal()?;
        tokio::select! {
            done = measure(cli.measure) => done,
            _ = ending.changed() => anyhow::bail!("interrupted"),
        }
    })
}

async fn measure(what: Measure) -> anyhow::Result<()> {
    match what {
        Measure::Peers(arguments) => run(arguments).await,
        Measure::Scale(arguments) => scale::run(&arguments).await,
        Measure::Scheduler(arguments) => scheduler::run(&arguments),
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if arguments.only_push {
        return pushes(&arguments).await;
    }
    let mut table = table::Table::default();
    if arguments.only_rolling {
        let mut towline = towline::Towline::start(&arguments.towline, &arguments.docker, false, &[]).await?;
        for _ in 0..arguments.rounds {
            table.add("Towline, from ref update", 10, "rolled", towline.roll(10).await?);
        }
        towline.stop()?;
        table.print(&machine());
        return Ok(());
    }
    let bare = bare::Bare::new(&arguments.docker).await?;
    let compose = compose::Compose::new(&arguments.docker)?;
    let swarm = if arguments.no_swarm {
        None
    } else {
        swarm::Swarm::start()?
    };
    let mut towline = towline::Towline::start(&arguments.towline, &arguments.docker, false, &[]).await?;

    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        for replicas in [1, 10] {
            table.add(&bare.name(), replicas, "running", bare.run(replicas).await?);
            if let Some(compose) = &compose {
                table.add(&compose.name(), replicas, "running", compose.run(replicas)?);
            }
            if let Some(swarm) = &swarm {
                table.add(&swarm.name(), replicas, "running", swarm.run(replicas)?);
            }
            let (running, ready) = towline.run(replicas).await?;
            table.add("Towline, from ref update", replicas, "running", running);
            table.add("Towline, from ref update", replicas, "Ready", ready);
        }
        if let Some(compose) = &compose {
            table.add(&compose.name(), 10, "rolled", compose.roll(10)?);
        }
        if let Some(swarm) = &swarm {
            table.add(&swarm.name(), 10, "rolled", swarm.roll(10)?);
        }
        table.add("Towline, from ref update", 10, "rolled", towline.roll(10).await?);
    }
    towline.stop()?;

    let mut pushed = towline::Towline::start(&arguments.towline, &arguments.docker, true, &[]).await?;
    for _ in 0..arguments.rounds {
        for replicas in [1, 10] {
            let (running, ready) = pushed.run(replicas).await?;
            table.add("Towline, from git push", replicas, "running", running);
            table.add("Towline, from git push", replicas, "Ready", ready);
        }
    }
    pushed.stop()?;

    table.print(&machine());

    let desired = towline::notice_to_desired(&arguments).await?;
    println!(
        "\nNotice to desired state, one file of {} manifests: median {} of {} rounds (min {}, max {})",
        arguments.manifests,
        table::milliseconds(table::median(&desired)),
        desired.len(),
        table::milliseconds(desired.iter().min().copied().unwrap_or_default()),
        table::milliseconds(desired.iter().max().copied().unwrap_or_default()),
    );
    pushes(&arguments).await
}

/// The cost of a push, in a small repository and in the large one.
async fn pushes(arguments: &Arguments) -> anyhow::Result<()> {
    for manifests in [10, arguments.manifests] {
        push::overhead(arguments, manifests).await?;
    }
    Ok(())
}

/// How long any single wait may take before the run is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let kib: u64 = text.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
            Some(kib / 1024 / 1024)
        })
        .unwrap_or(0);
    let system = std::fs::read_to_string("/etc/os-release")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| {
                line.strip_prefix("PRETTY_NAME=")
                    .map(|name| name.trim_matches('"').to_owned())
            })
        })
        .unwrap_or_default();
    format!("{}, {cores} cores, {memory} GiB, {system}", jiff::Zoned::now().date())
}
