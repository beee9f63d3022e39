//! The scheduler alone: decisions a second over a copy of a cluster in memory, without a store.
//!
//! The four cases are those of Kubernetes' own scheduler measurements: plain pods, pods with a required
//! topology spread, pods that keep away from each other, and pods that make room for themselves. What
//! is timed is what the server does for each pod: taking it in, deciding, and taking in what the store
//! confirms.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use reconciler::{
    plan::{Plan, Step},
    scheduler::{self, cluster::Cluster, node::Facts},
};
use schemas::{Now, Object};
use serde_json::{Value, json};
use store::Op;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Numbers of nodes to measure at
    #[arg(long, value_delimiter = ',', default_values_t = [500, 1_500, 5_000, 10_000])]
    nodes: Vec<usize>,
    /// Pods to place in each case
    #[arg(long, default_value_t = 5_000)]
    pods: usize,
    /// Rounds per figure; the median is shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    Basic,
    Spread,
    Away,
    Preemption,
}

/// The cases, and what each is to reach at 5,000 nodes.
const CASES: [(Case, &str, usize); 4] = [
    (Case::Basic, "basic", 5_000),
    (Case::Spread, "topology spread", 2_000),
    (Case::Away, "anti-affinity", 1_000),
    (Case::Preemption, "preemption", 2_000),
];

/// So many less important pods fill a node up before preemption is measured.
const FILLING: usize = 4;

/// Measures all cases at all sizes and prints a table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    println!("| nodes | case | pods | decisions/s | µs a pod | to reach at 5,000 |");
    println!("|---|---|---|---|---|---|");
    for nodes in &arguments.nodes {
        for (case, name, target) in CASES {
            // Only one of a kind fits on a node, or makes room for itself there.
            let pods = match case {
                Case::Basic | Case::Spread => arguments.pods,
                Case::Away | Case::Preemption => arguments.pods.min(*nodes),
            };
            let mut times = Vec::new();
            for _ in 0..arguments.rounds.max(1) {
                times.push(measure(case, *nodes, pods)?);
            }
            times.sort_unstable();
            let median = times[times.len() / 2];
            let each = median.as_secs_f64() / pods.max(1) as f64;
            println!(
                "| {nodes} | {name} | {pods} | {:.0} | {:.1} | {target} |",
                1.0 / each.max(f64::MIN_POSITIVE),
                each * 1e6
            );
        }
    }
    Ok(())
}

/// The server's part of a cluster: the copy, the objects, and the time of day.
struct Yard {
    cluster: Cluster,
    objects: HashMap<String, Arc<Object>>,
    now: Now,
    version: u64,
}

fn measure(case: Case, nodes: usize, pods: usize) -> anyhow::Result<Duration> {
    let mut yard = Yard {
        cluster: Cluster::seeded(1),
        objects: HashMap::new(),
        now: Now {
            wall: "2026-01-01T00:00:00Z".parse()?,
            monotonic: Duration::from_secs(1_000),
        },
        version: 0,
    };
    for at in 0..nodes {
        let node = Object::from_value(node(at))?;
        yard.cluster.put_node(node.name(), Some(Arc::new(Facts::of(&node))));
    }
    if case == Case::Preemption {
        for at in 0..nodes * FILLING {
            let mut low = pod(&format!("low-{at}"), "900m", "500Mi", 0);
            low["spec"]["nodeName"] = name_of(at % nodes).into();
            low["status"] = json!({"phase": "Running", "startTime": "2026-01-01T00:00:00Z"});
            yard.put(low)?;
        }
    }
    let template = template(case);
    let new: Vec<Object> = (0..pods)
        .map(|at| {
            let mut pod = template.clone();
            pod["metadata"]["name"] = format!("pod-{at}").into();
            pod["metadata"]["uid"] = format!("uid-pod-{at}").into();
            Object::from_value(pod)
        })
        .collect::<Result<_, _>>()?;
    let new = share(new);

    let began = Instant::now();
    for pod in new {
        yard.tell(pod);
    }
    for _ in 0..1_000 {
        if !yard.cluster.has_work(yard.now.monotonic) {
            break;
        }
        let plan = scheduler::plan(&mut yard.cluster, yard.now);
        yard.confirm(&plan);
        yard.now = yard.now.after(Duration::from_secs(1));
    }
    let took = began.elapsed();
    let waiting = yard.cluster.waiting();
    anyhow::ensure!(
        waiting == 0,
        "{case:?} at {nodes} nodes: {waiting} of {pods} pods found no node"
    );
    Ok(took)
}

/// Lets pods of one template share their body, as the store does.
fn share(pods: Vec<Object>) -> Vec<Arc<Object>> {
    let body = pods.first().map(|pod| pod.body.clone());
    let shared = pods.into_iter().map(|mut pod| {
        if let Some(body) = &body {
            pod.body = body.clone();
        }
        Arc::new(pod)
    });
    shared.collect()
}

impl Yard {
    fn put(&mut self, value: Value) -> anyhow::Result<()> {
        let object = Object::from_value(value)?;
        self.tell(Arc::new(object));
        Ok(())
    }

    fn tell(&mut self, pod: Arc<Object>) {
        self.cluster.put_pod(&pod.uid(), Some(&pod));
        self.objects.insert(pod.name().to_owned(), pod);
    }

    /// Does what the store and the nodes would: pods are bound, and those that have to go are gone.
    fn confirm(&mut self, plan: &Plan) {
        let writes = plan.steps.iter().flat_map(|step| match step {
            Step::Write { writes, .. } => writes.as_slice(),
            _ => &[],
        });
        for write in writes {
            let (name, change): (&str, Option<(Option<Arc<str>>, _)>) = match &write.op {
                Op::Bind { key, node, status } => (&key.name, Some((Some(node.clone()), status.clone()))),
                Op::Status { key, status } => (&key.name, Some((None, Some(status.clone())))),
                Op::Retire { object, .. } => (object.name(), None),
                Op::Remove { key } => (&key.name, None),
                Op::Create(_) | Op::Replace(_) => continue,
            };
            let Some(old) = self.objects.get(name).cloned() else {
                continue;
            };
            match change {
                Some((node, status)) => {
                    self.version += 1;
                    let mut new = Object::clone(&old);
                    new.version = self.version;
                    new.node = node.or(new.node);
                    new.status = status.or(new.status);
                    self.tell(Arc::new(new));
                }
                None => {
                    self.cluster.put_pod(&old.uid(), None);
                    self.objects.remove(old.name());
                }
            }
        }
    }
}

fn name_of(node: usize) -> String {
    format!("node-{node:05}")
}

fn node(at: usize) -> Value {
    let name = name_of(at);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "uid": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": format!("zone-{}", at % 3),
        }},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "4", "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn pod(name: &str, cpu: &str, memory: &str, priority: i64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "bench", "uid": format!("uid-{name}"),
            "labels": {"app": "bench"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "containers": [{"name": "c", "image": "registry/web:1", "resources": {"requests": {"cpu": cpu, "memory": memory}}}],
            "priority": priority,
        },
        "status": {"phase": "Pending"},
    })
}

fn template(case: Case) -> Value {
    let selector = json!({"matchLabels": {"app": "bench"}});
    match case {
        Case::Basic => pod("p", "100m", "500Mi", 0),
        Case::Spread => {
            let mut pod = pod("p", "100m", "500Mi", 0);
            pod["spec"]["topologySpreadConstraints"] = json!([{
                "maxSkew": 5, "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
            pod
        }
        Case::Away => {
            let mut pod = pod("p", "100m", "500Mi", 0);
            pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]}});
            pod
        }
        Case::Preemption => pod("p", "3", "500Mi", 10),
    }
}
