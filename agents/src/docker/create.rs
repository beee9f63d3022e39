//! A create request in Docker's words.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, MountVolumeOptions, NetworkingConfig, PortBinding, RestartPolicy,
    RestartPolicyNameEnum,
};

use crate::runtime::{Bind, CreateRequest, Network};

const CPU_PERIOD: i64 = 100_000;

pub(super) fn body(request: &CreateRequest) -> ContainerCreateBody {
    let mut body = ContainerCreateBody {
        image: Some(request.image.clone()),
        entrypoint: request.entrypoint.clone(),
        cmd: request.command.clone(),
        env: Some(request.env.clone()),
        working_dir: request.working_dir.clone(),
        user: request.user.clone(),
        hostname: request.hostname.clone(),
        labels: Some(request.labels.clone().into_iter().collect()),
        stop_signal: request.stop_signal.clone(),
        tty: Some(request.tty),
        open_stdin: Some(request.stdin),
        stdin_once: Some(request.stdin_once),
        ..Default::default()
    };
    let mut host = HostConfig {
        // A restart is a new container, made by the agent.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        mounts: Some(request.binds.iter().map(mount).collect()),
        cpu_shares: request.cpu_shares,
        cpu_period: request.cpu_quota.map(|_| CPU_PERIOD),
        cpu_quota: request.cpu_quota,
        memory: request.memory,
        memory_swap: request.memory,
        oom_score_adj: request.oom_score_adj,
        privileged: Some(request.privileged),
        readonly_rootfs: Some(request.read_only_root),
        group_add: (!request.groups.is_empty()).then(|| request.groups.clone()),
        cap_add: (!request.cap_add.is_empty()).then(|| request.cap_add.clone()),
        cap_drop: (!request.cap_drop.is_empty()).then(|| request.cap_drop.clone()),
        sysctls: (!request.sysctls.is_empty()).then(|| request.sysctls.clone().into_iter().collect()),
        pid_mode: match (&request.pid_of, request.host_pid) {
            (_, true) => Some("host".to_owned()),
            (Some(id), _) => Some(format!("container:{id}")),
            (None, false) => None,
        },
        ipc_mode: request.host_ipc.then(|| "host".to_owned()),
        ..Default::default()
    };
    let mut security = Vec::new();
    if request.no_new_privileges {
        security.push("no-new-privileges".to_owned());
    }
    if request.seccomp_unconfined {
        security.push("seccomp=unconfined".to_owned());
    }
    host.security_opt = (!security.is_empty()).then_some(security);

    if !request.ports.is_empty() {
        let mut bindings: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
        for port in &request.ports {
            let key = format!("{}/{}", port.container_port, port.protocol.to_lowercase());
            bindings
                .entry(key)
                .or_default()
                .get_or_insert_default()
                .push(PortBinding {
                    host_ip: port.host_ip.clone(),
                    host_port: Some(port.host_port.to_string()),
                });
        }
        body.exposed_ports = Some(bindings.keys().cloned().collect());
        host.port_bindings = Some(bindings);
    }

    match &request.network {
        Some(Network::Bridge { network, address }) => {
            host.network_mode = Some(network.clone());
            let endpoint = EndpointSettings {
                ipam_config: Some(EndpointIpamConfig {
                    ipv4_address: Some(address.to_string()),
                    ..Default::default()
                }),
                ..Default::default()
            };
            body.networking_config = Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.clone(), endpoint)])),
            });
        }
        Some(Network::Join(id)) => host.network_mode = Some(format!("container:{id}")),
        Some(Network::Host) => host.network_mode = Some("host".to_owned()),
        Some(Network::None) | None => host.network_mode = Some("none".to_owned()),
    }
    body.host_config = Some(host);
    body
}

fn mount(bind: &Bind) -> Mount {
    if !bind.source.starts_with('/') {
        return Mount {
            typ: Some(MountType::VOLUME),
            source: Some(bind.source.clone()),
            target: Some(bind.target.clone()),
            read_only: Some(bind.read_only),
            // What the image has at this place stays out of the volume.
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        };
    }
    Mount {
        typ: Some(MountType::BIND),
        source: Some(bind.source.clone()),
        target: Some(bind.target.clone()),
        read_only: Some(bind.read_only),
        bind_options: bind.propagation.map(|propagation| MountBindOptions {
            propagation: Some(match propagation {
                "rshared" => MountBindOptionsPropagationEnum::RSHARED,
                "rslave" => MountBindOptionsPropagationEnum::RSLAVE,
                _ => MountBindOptionsPropagationEnum::RPRIVATE,
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}
