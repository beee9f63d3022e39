//! One server with its Postgres under many simulated nodes, on this one machine.
//!
//! Each size is a run of its own: an empty server, the nodes, Deployments from git that fill them, a full
//! list, a rolling update, a rest, a crash. All CPU is counted: the server's, Postgres', and that of the
//! nodes, which share the machine with them.

mod api;
mod cluster;
mod nodes;
mod probes;
mod sheet;
mod usage;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use serde::Deserialize;

use self::{
    cluster::Cluster,
    nodes::Nodes,
    probes::Probes,
    sheet::Sheet,
    usage::{Cpu, Peak},
};
use crate::{IMAGE, IMAGE_2};

/// Deployments in a namespace.
const DEPLOYMENTS: usize = 4;

/// How large, and how long.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The towline binary
    #[arg(long)]
    towline: PathBuf,
    /// The sizes, in nodes
    #[arg(long, value_delimiter = ',', default_value = "500,1500,5000")]
    nodes: Vec<usize>,
    /// Pods of each node
    #[arg(long, default_value_t = 30)]
    pods_per_node: usize,
    /// Pods of a Deployment
    #[arg(long, default_value_t = 50)]
    replicas: usize,
    /// Pods that the rolling update replaces, at most; never more than a third of all
    #[arg(long, default_value_t = 10_000)]
    rolled: usize,
    /// How long the cluster rests while its rest is measured, in seconds
    #[arg(long, default_value_t = 60)]
    rest: u64,
}

/// Measures each size and prints one table.
pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut sheets = Vec::new();
    for nodes in &arguments.nodes {
        let load = usage::load();
        let mut sheet = Sheet::new(format!("{nodes} nodes"));
        let measured = size(arguments, *nodes, &mut sheet).await;
        sheet.put(
            "load of the machine before and after",
            format!("{load}, {}", usage::load()),
        );
        sheets.push(sheet);
        if let Err(error) = measured {
            // What was measured is worth having all the same.
            print(&sheets);
            return Err(error.context(format!("the run with {nodes} nodes broke off")));
        }
    }
    print(&sheets);
    Ok(())
}

fn print(sheets: &[Sheet]) {
    let command: Vec<String> = std::env::args().skip(1).collect();
    println!("`bench {}`. {}.\n", command.join(" "), crate::machine());
    sheet::print(sheets);
}

async fn size(arguments: &Arguments, count: usize, sheet: &mut Sheet) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&arguments.towline).await?;
    let measured = measure(arguments, count, &mut cluster, sheet).await;
    measured.with_context(|| format!("the end of the server's log:\n{}", cluster.log()))
}

async fn measure(arguments: &Arguments, count: usize, cluster: &mut Cluster, sheet: &mut Sheet) -> anyhow::Result<()> {
    let deployments = (count * arguments.pods_per_node).div_ceil(arguments.replicas);
    let plan = Workload {
        deployments,
        replicas: arguments.replicas,
    };
    sheet.put("pods in Deployments", format!("{} in {deployments}", plan.pods()));
    let own = usage::resident(std::process::id());
    let peak = Peak::start(cluster.pids()?);
    let nodes = join(cluster, count, sheet).await?;
    sheet.put("server and Postgres with all streams open", memory(&peak.take()));
    fill(cluster, &nodes, plan, sheet).await?;
    sheet.put("server and Postgres while filled, at most", memory(&peak.take()));
    let grown = usage::resident(std::process::id()).saturating_sub(own);
    sheet.put(
        "a simulated node with its pods",
        format!("{} KiB", grown / count as u64),
    );
    list(cluster, sheet).await?;
    sheet.put("server and Postgres during a full list, at most", memory(&peak.take()));
    roll(cluster, &nodes, plan, arguments.rolled, sheet).await?;
    sheet.put("server and Postgres while rolling, at most", memory(&peak.take()));
    rest(cluster, Duration::from_secs(arguments.rest), sheet).await?;
    drop(peak);
    crash(cluster, &nodes, count, sheet).await?;
    nodes.stop().await;
    Ok(())
}

/// The Deployments of a run.
#[derive(Clone, Copy)]
struct Workload {
    deployments: usize,
    replicas: usize,
}

impl Workload {
    fn pods(self) -> usize {
        self.deployments * self.replicas
    }

    fn namespace(number: usize) -> String {
        format!("team-{}", number / DEPLOYMENTS)
    }

    fn write(self, cluster: &Cluster, numbers: impl Iterator<Item = usize>, image: &str) -> anyhow::Result<()> {
        for number in numbers {
            let file = format!("namespaces/{}/web-{number}.yaml", Self::namespace(number));
            let Self { replicas, .. } = self;
            let text = format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web-{number}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: web-{number}}}}}\n  template:\n    metadata: {{labels: {{app: web-{number}}}}}\n    spec:\n      containers:\n        - name: web\n          image: {image}\n          resources: {{requests: {{cpu: 100m, memory: 128Mi}}}}\n"
            );
            cluster.write(&file, &text)?;
        }
        Ok(())
    }
}

async fn join(cluster: &Cluster, count: usize, sheet: &mut Sheet) -> anyhow::Result<Nodes> {
    let before = Cpu::now(cluster.pids()?)?;
    let begin = Instant::now();
    let nodes = Nodes::start(cluster, count).await?;
    let took = begin.elapsed();
    let used = Cpu::now(cluster.pids()?)?.since(before);
    sheet.put(
        "nodes joined: time; CPU of server, Postgres, node",
        format!("{}; {}", seconds(took), each(used, count)),
    );
    Ok(nodes)
}

async fn fill(cluster: &Cluster, nodes: &Nodes, plan: Workload, sheet: &mut Sheet) -> anyhow::Result<()> {
    plan.write(cluster, 0..plan.deployments, IMAGE)?;
    let before = Cpu::now(cluster.pids()?)?;
    let wall = jiff::Timestamp::now();
    let begin = cluster.publish("Fill")?;
    let durable = reached(nodes, plan.pods(), false, begin).await?;
    let used = Cpu::now(cluster.pids()?)?.since(before);
    settled(cluster, plan).await?;
    let settled = begin.elapsed();
    let times = times(cluster, plan).await?;
    let after = |at: Option<&jiff::Timestamp>| at.map_or(0, |at| at.duration_since(wall).as_secs().max(0));
    let last = |times: &[jiff::Timestamp]| format!("{} s", after(times.iter().max()));
    sheet.put(
        "from the commit to all pods created (whole seconds)",
        last(&times.created),
    );
    sheet.put("… all bound (whole seconds)", last(&times.bound));
    sheet.put("… all reported running, and durable", seconds(durable));
    sheet.put("… all Deployments say so", seconds(settled));
    let loads = times.nodes.values();
    sheet.put("pods on the emptiest and the fullest node", {
        let bound = [loads.clone().min(), loads.max()];
        let [least, most] = bound.map(|count| count.copied().unwrap_or(0));
        format!("{least}, {most}")
    });
    sheet.put("pods a second, commit to durable", rate(plan.pods(), durable));
    sheet.put("CPU of server, Postgres, node for a pod", each(used, plan.pods()));
    sheet.put(
        "CPU that others used meanwhile, of all cores",
        percent(used.others(), durable * cores()),
    );
    Ok(())
}

/// Waits until so many pods with an image are ready; how long that took.
async fn reached(nodes: &Nodes, pods: usize, second: bool, begin: Instant) -> anyhow::Result<Duration> {
    // As long as it goes on, it is waited for.
    let (mut highest, mut since) = (0, Instant::now());
    loop {
        let ready = nodes.seen.ready(second);
        if ready >= pods {
            let at = nodes.seen.last(second).unwrap_or_else(Instant::now);
            return Ok(at.duration_since(begin));
        }
        if ready > highest {
            (highest, since) = (ready, Instant::now());
        }
        anyhow::ensure!(
            since.elapsed() < crate::PATIENCE,
            "{ready} of {pods} pods are ready, and no more come"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until every Deployment's status has caught up.
async fn settled(cluster: &Cluster, plan: Workload) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Deployment>,
    }
    #[derive(Deserialize)]
    struct Deployment {
        metadata: Metadata,
        #[serde(default)]
        status: Status,
    }
    #[derive(Deserialize)]
    struct Metadata {
        generation: Option<u64>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Status {
        observed_generation: u64,
        replicas: usize,
        updated_replicas: usize,
        available_replicas: usize,
    }
    let api = cluster.api()?;
    let begin = Instant::now();
    loop {
        let text = api.ask("GET", "/apis/apps/v1/deployments", Vec::new()).await?;
        let list: List = serde_json::from_slice(&text)?;
        let done = |one: &&Deployment| {
            let status = &one.status;
            let full = [status.replicas, status.updated_replicas, status.available_replicas]
                .iter()
                .all(|count| *count == plan.replicas);
            full && one.metadata.generation == Some(status.observed_generation)
        };
        let settled = list.items.iter().filter(done).count();
        if settled == plan.deployments {
            return Ok(());
        }
        anyhow::ensure!(
            begin.elapsed() < crate::PATIENCE,
            "{settled} of {} Deployments are done",
            plan.deployments
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// When pods were created and bound, as their own fields say.
#[derive(Default)]
struct Times {
    created: Vec<jiff::Timestamp>,
    bound: Vec<jiff::Timestamp>,
    /// Pods by node.
    nodes: BTreeMap<String, usize>,
}

async fn times(cluster: &Cluster, plan: Workload) -> anyhow::Result<Times> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Pod>,
    }
    #[derive(Deserialize)]
    struct Pod {
        metadata: Metadata,
        spec: Spec,
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        creation_timestamp: jiff::Timestamp,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Spec {
        node_name: Option<String>,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        conditions: Vec<Condition>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Condition {
        r#type: String,
        last_transition_time: jiff::Timestamp,
    }
    let api = cluster.api()?;
    let mut times = Times::default();
    for number in 0..plan.deployments.div_ceil(DEPLOYMENTS) {
        let path = format!("/api/v1/namespaces/team-{number}/pods");
        let list: List = serde_json::from_slice(&api.ask("GET", &path, Vec::new()).await?)?;
        for pod in list.items {
            times.created.push(pod.metadata.creation_timestamp);
            let scheduled = pod
                .status
                .conditions
                .into_iter()
                .find(|one| one.r#type == "PodScheduled");
            times.bound.extend(scheduled.map(|one| one.last_transition_time));
            *times.nodes.entry(pod.spec.node_name.unwrap_or_default()).or_default() += 1;
        }
    }
    anyhow::ensure!(
        times.created.len() == plan.pods() && times.bound.len() == plan.pods(),
        "{} of {} pods are there, {} are bound",
        times.created.len(),
        plan.pods(),
        times.bound.len()
    );
    Ok(times)
}

async fn list(cluster: &Cluster, sheet: &mut Sheet) -> anyhow::Result<()> {
    let api = cluster.api()?;
    let before = Cpu::now(cluster.pids()?)?;
    let begin = Instant::now();
    let bytes = api.weigh("/api/v1/pods").await?;
    let took = begin.elapsed();
    let used = Cpu::now(cluster.pids()?)?.since(before);
    sheet.put(
        "full list of pods",
        format!(
            "{} MB in {}, {} of CPU",
            bytes / 1_000_000,
            seconds(took),
            seconds(used.server)
        ),
    );
    Ok(())
}

async fn roll(cluster: &Cluster, nodes: &Nodes, plan: Workload, most: usize, sheet: &mut Sheet) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct List {
        items: Vec<Named>,
    }
    #[derive(Deserialize)]
    struct Named {
        metadata: Name,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
    }
    let rolled = (most.min(plan.pods() / 3) / plan.replicas).max(1);
    let pods = rolled * plan.replicas;
    // The first Deployment stays unless it is the only one: one of its pods is read over and over.
    let numbers = plan.deployments - rolled..plan.deployments;
    let page = cluster
        .api()?
        .ask("GET", "/api/v1/namespaces/team-0/pods?limit=1", Vec::new())
        .await?;
    let page: List = serde_json::from_slice(&page)?;
    let pod = page.items.into_iter().next().context("team-0 has a pod")?.metadata.name;
    plan.write(cluster, numbers, IMAGE_2)?;
    probes::prepare(cluster).await?;
    let probes = Probes::start(cluster, &pod, &Workload::namespace(plan.deployments - 1))?;
    let before = Cpu::now(cluster.pids()?)?;
    let begin = cluster.publish("Roll")?;
    let took = reached(nodes, pods, true, begin).await?;
    let used = Cpu::now(cluster.pids()?)?.since(before);
    settled(cluster, plan).await?;
    let settled = begin.elapsed();
    sheet.put(
        "rolling update: all new pods ready, all Deployments done",
        format!("{pods} pods in {}, {}", seconds(took), seconds(settled)),
    );
    sheet.put("… pods a second", rate(pods, took));
    sheet.put("… CPU of server, Postgres, node for a pod", each(used, pods));
    for (what, latencies) in probes.stop().await {
        sheet.put(format!("… meanwhile, {what}, p50 / p99"), latencies.show());
    }
    Ok(())
}

async fn rest(cluster: &Cluster, long: Duration, sheet: &mut Sheet) -> anyhow::Result<()> {
    // What the update left to be told is told by then: reports wait a second, status commits a few.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (before, rows) = (Cpu::now(cluster.pids()?)?, cluster.rows()?);
    let begin = Instant::now();
    tokio::time::sleep(long).await;
    let used = Cpu::now(cluster.pids()?)?.since(before);
    let written = cluster.rows()?.saturating_sub(rows);
    let took = begin.elapsed();
    sheet.put("at rest: server, Postgres, nodes, in % of a core", {
        let share = |used| percent(used, took);
        format!(
            "{}, {}, {}",
            share(used.server),
            share(used.postgres),
            share(used.nodes)
        )
    });
    let minutes = took.as_secs_f64() / 60.0;
    #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
    let a_minute = written as f64 / minutes;
    sheet.put("… rows written a minute", format!("{a_minute:.0}"));
    Ok(())
}

async fn crash(cluster: &mut Cluster, nodes: &Nodes, count: usize, sheet: &mut Sheet) -> anyhow::Result<()> {
    let starts = nodes.starts();
    nodes.seen.forget_streams();
    let killed = cluster.crash()?;
    let first = loop {
        let (method, path, body) = probes::write(0);
        // A client that begins anew each time, as the old connection is gone.
        if let Ok(api) = cluster.api()
            && api.ask(method, &path, body).await.is_ok()
        {
            break killed.elapsed();
        }
        anyhow::ensure!(killed.elapsed() < crate::PATIENCE, "no write succeeds after the crash");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    sheet.put("kill -9 of the server: first write after", seconds(first));
    let opened = nodes.opened(count, crate::PATIENCE).await?;
    let (_, snapshots) = nodes.seen.streams();
    sheet.put("… all streams open after", seconds(opened.duration_since(killed)));
    sheet.put("… of them with everything anew", snapshots.to_string());
    // Long enough for a container that would be restarted to be.
    tokio::time::sleep(Duration::from_secs(5)).await;
    sheet.put("… containers started since", (nodes.starts() - starts).to_string());
    Ok(())
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn rate(count: usize, took: Duration) -> String {
    format!("{:.0}", count as f64 / took.as_secs_f64())
}

fn percent(used: Duration, of: Duration) -> String {
    format!("{:.1} %", used.as_secs_f64() * 100.0 / of.as_secs_f64())
}

fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cores).unwrap_or(1)
}

/// CPU for each of `count`.
#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn each(used: Cpu, count: usize) -> String {
    let ms = |used: Duration| format!("{:.2}", used.as_secs_f64() * 1000.0 / count as f64);
    format!("{} + {} + {} ms", ms(used.server), ms(used.postgres), ms(used.nodes))
}

fn memory(memory: &usage::Memory) -> String {
    format!("{} + {} MiB", memory.server / 1024, memory.postgres / 1024)
}
