//! What a node says of itself.

use serde_json::{Value, json};

use crate::{
    host::Host,
    pressure::{self, Pressures},
    runtime::{Image, RuntimeInfo},
};

/// Pods that a node takes.
pub(crate) const PODS: i64 = 100;
/// Images named in the status.
const IMAGES: usize = 50;

/// CPU in thousandths and memory in bytes that are left for pods: a twentieth of the memory, at most
/// 512 MiB, stays for the engine and the system.
#[must_use]
pub(crate) fn allocatable(info: &RuntimeInfo) -> (i64, i64) {
    let reserved = (info.memory / 20).min(512 << 20);
    (info.cpus * 1000, info.memory - reserved)
}

/// The node's `status`.
#[must_use]
pub(crate) fn status(host: &Host, info: Option<&RuntimeInfo>, runtime_there: bool, images: &[Image]) -> Value {
    let info = info.cloned().unwrap_or_default();
    let (_, memory) = allocatable(&info);
    let resources = |memory: i64| {
        json!({
            "cpu": info.cpus.to_string(),
            "memory": format!("{}Ki", memory / 1024),
            "pods": PODS.to_string(),
        })
    };
    let mut addresses = Vec::new();
    if let Some(ip) = host.host_ip {
        addresses.push(json!({"type": "InternalIP", "address": ip.to_string()}));
    }
    addresses.push(json!({"type": "Hostname", "address": &*host.node_name}));
    let ready = if runtime_there {
        condition(
            "Ready",
            "True",
            "AgentReady",
            "the node agent and its container runtime are there",
        )
    } else {
        condition(
            "Ready",
            "False",
            "RuntimeAway",
            "the container runtime cannot be reached",
        )
    };
    let mut conditions: Vec<Value> = pressure::Kind::ALL
        .into_iter()
        .map(|kind| pressure_condition(&host.pressures.read(), kind))
        .collect();
    conditions.push(ready);
    let version = env!("CARGO_PKG_VERSION");
    let mut images: Vec<&Image> = images.iter().collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let images: Vec<Value> = images
        .into_iter()
        .map(|image| {
            let names: Vec<&String> = image.digests.iter().chain(&image.tags).take(5).collect();
            json!({"names": names, "sizeBytes": image.size})
        })
        .filter(|image| image["names"].as_array().is_some_and(|names| !names.is_empty()))
        .take(IMAGES)
        .collect();
    json!({
        "capacity": resources(info.memory),
        "allocatable": resources(memory),
        "addresses": addresses,
        "conditions": conditions,
        "nodeInfo": {
            "machineID": host.machine_id,
            "systemUUID": host.machine_id,
            "bootID": host.boot_id,
            "kernelVersion": info.kernel,
            "osImage": info.os_image,
            "containerRuntimeVersion": format!("docker://{}", info.version),
            "kubeletVersion": format!("v1.33.0+towline-{version}"),
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": info.architecture,
        },
        "images": images,
    })
}

/// The server knows when a condition last changed.
fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

fn pressure_condition(pressures: &Pressures, kind: pressure::Kind) -> Value {
    let (name, short, enough, left) = match kind {
        pressure::Kind::Memory => (
            "MemoryPressure",
            "AgentHasInsufficientMemory",
            "AgentHasSufficientMemory",
            "there is memory left",
        ),
        pressure::Kind::Disk => (
            "DiskPressure",
            "AgentHasDiskPressure",
            "AgentHasNoDiskPressure",
            "there is disk space left",
        ),
        pressure::Kind::Pid => (
            "PIDPressure",
            "AgentHasInsufficientPID",
            "AgentHasSufficientPID",
            "there are process ids left",
        ),
    };
    match pressures.cause(kind) {
        Some(cause) => condition(name, "True", short, cause),
        None => condition(name, "False", enough, left),
    }
}
