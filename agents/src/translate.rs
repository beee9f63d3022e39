//! From a container's spec to what its runtime is asked to make. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use k8s_openapi::api::core::v1::{Container as ContainerSpec, PodSecurityContext, SecurityContext};
use schemas::labels::docker as label;

use crate::{
    environment::{ConfigError, Objects, Place, environment, expand},
    observed::{INFRA, Owner},
    pod::Pod,
    resources,
    runtime::{Bind, CreateRequest, HostPort, Network},
    volumes::Location,
};

/// What a translation needs beyond the pod itself.
#[derive(Clone, Debug)]
pub(crate) struct Inputs<'a> {
    pub pod: &'a Pod,
    pub attempt: u32,
    pub owner: &'a Owner,
    pub objects: &'a Objects,
    pub place: &'a Place,
    pub network: Network,
    /// The pod's address, for the container that holds it.
    pub address: Option<Ipv4Addr>,
    /// `hosts`, `hostname`, `resolv.conf` and the termination message, ready to mount.
    pub files: Vec<Bind>,
    /// Where each of the pod's volumes is.
    pub volumes: &'a BTreeMap<String, Location>,
    /// The user that the image runs as.
    pub image_user: &'a str,
    /// The container whose process namespace is shared, for `shareProcessNamespace`.
    pub infra: Option<&'a str>,
}

fn labels(inputs: &Inputs<'_>, container: &str, spec_hash: &str) -> BTreeMap<String, String> {
    let pod = inputs.pod;
    let mut labels = inputs.owner.labels();
    let mut set = |name: &str, value: String| labels.insert(name.to_owned(), value);
    set(label::POD_UID, pod.uid.to_string());
    set(label::POD_NAMESPACE, pod.key.ns().to_owned());
    set(label::POD_NAME, pod.key.name.to_string());
    set(label::CONTAINER, container.to_owned());
    set(label::ATTEMPT, inputs.attempt.to_string());
    set(label::ROLE, pod.role(container).as_str().to_owned());
    set(label::SPEC_HASH, spec_hash.to_owned());
    if let Some(address) = inputs.address {
        set(label::ADDRESS, address.to_string());
    }
    labels
}

/// The container that holds the network of a pod of several.
#[must_use]
pub(crate) fn infra(inputs: &Inputs<'_>, image: &str) -> CreateRequest {
    let pod = inputs.pod;
    CreateRequest {
        name: pod.docker_name(INFRA, inputs.attempt),
        image: image.to_owned(),
        hostname: Some(pod.hostname()),
        labels: labels(inputs, INFRA, ""),
        network: Some(inputs.network.clone()),
        ports: pod
            .spec
            .containers
            .iter()
            .chain(pod.init())
            .flat_map(host_ports)
            .collect(),
        binds: inputs.files.clone(),
        cpu_shares: Some(2),
        oom_score_adj: Some(inputs.place.least_oom_score.max(-997)),
        read_only_root: true,
        cap_drop: vec!["ALL".to_owned()],
        no_new_privileges: true,
        sysctls: sysctls(pod),
        host_ipc: pod.spec.host_ipc == Some(true),
        // It has no handler for any other signal, and nothing to save.
        stop_signal: Some("SIGKILL".to_owned()),
        ..CreateRequest::default()
    }
}

/// One container of the pod.
///
/// # Errors
/// When something that the spec refers to is not there, or a value is not valid.
pub(crate) fn container(inputs: &Inputs<'_>, spec: &ContainerSpec) -> Result<CreateRequest, ConfigError> {
    let pod = inputs.pod;
    let env = environment(pod, spec, inputs.objects, inputs.place)?;
    let value = |name: &str| {
        env.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let expanded = |words: &Option<Vec<String>>| {
        words
            .as_ref()
            .filter(|words| !words.is_empty())
            .map(|words| words.iter().map(|word| expand(word, &value)).collect::<Vec<_>>())
    };
    let none = SecurityContext::default();
    let security = spec.security_context.as_ref().unwrap_or(&none);
    let pod_none = PodSecurityContext::default();
    let pod_security = pod.spec.security_context.as_ref().unwrap_or(&pod_none);
    let shared_network = matches!(inputs.network, Network::Join(_));
    let own = mounts(inputs, spec, &value)?;
    // A mount of the pod's own over one of the pod files takes its place.
    let mut binds: Vec<Bind> = inputs
        .files
        .iter()
        .filter(|file| !own.iter().any(|bind| bind.target == file.target))
        .cloned()
        .collect();
    binds.extend(own);
    let capabilities = security.capabilities.clone().unwrap_or_default();
    let seccomp = security
        .seccomp_profile
        .as_ref()
        .or(pod_security.seccomp_profile.as_ref());
    if let Some(profile) = seccomp.filter(|profile| profile.type_ == "Localhost") {
        return Err(ConfigError::Invalid(format!(
            "seccomp profiles of type {:?} are not supported; use RuntimeDefault or Unconfined",
            profile.type_
        )));
    }
    Ok(CreateRequest {
        name: pod.docker_name(&spec.name, inputs.attempt),
        image: spec.image.clone().unwrap_or_default(),
        entrypoint: expanded(&spec.command),
        command: expanded(&spec.args),
        env: env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        working_dir: spec.working_dir.clone().filter(|dir| !dir.is_empty()),
        user: user(security, pod_security, inputs.image_user)?,
        groups: groups(pod_security),
        // A shared network brings its host name with it, and the host's network the host's.
        hostname: (!shared_network && inputs.network != Network::Host).then(|| pod.hostname()),
        labels: labels(inputs, &spec.name, &pod.spec_hash(&spec.name)),
        ports: if matches!(inputs.network, Network::Bridge { .. }) {
            host_ports(spec)
        } else {
            Vec::new()
        },
        network: Some(inputs.network.clone()),
        binds,
        cpu_shares: Some(resources::cpu_shares(spec)),
        cpu_quota: resources::cpu_quota(spec),
        memory: resources::limit(spec, "memory").map(schemas::quantity::Quantity::value),
        oom_score_adj: Some(
            resources::oom_score_adj(resources::qos(&pod.spec), spec, inputs.place.allocatable_memory)
                .max(inputs.place.least_oom_score),
        ),
        privileged: security.privileged == Some(true),
        read_only_root: security.read_only_root_filesystem == Some(true),
        no_new_privileges: security.allow_privilege_escalation == Some(false),
        seccomp_unconfined: seccomp.is_some_and(|profile| profile.type_ == "Unconfined"),
        cap_add: capabilities.add.unwrap_or_default(),
        cap_drop: capabilities.drop.unwrap_or_default(),
        sysctls: if shared_network { BTreeMap::new() } else { sysctls(pod) },
        tty: spec.tty == Some(true),
        stdin: spec.stdin == Some(true),
        stdin_once: spec.stdin_once == Some(true),
        host_pid: pod.spec.host_pid == Some(true),
        pid_of: inputs
            .infra
            .filter(|_| pod.spec.share_process_namespace == Some(true))
            .map(Into::into),
        host_ipc: pod.spec.host_ipc == Some(true),
        stop_signal: None,
    })
}

fn sysctls(pod: &Pod) -> BTreeMap<String, String> {
    let context = pod.spec.security_context.as_ref();
    context
        .and_then(|context| context.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
        .collect()
}

fn user(security: &SecurityContext, pod: &PodSecurityContext, image_user: &str) -> Result<Option<String>, ConfigError> {
    let user = security.run_as_user.or(pod.run_as_user);
    let group = security.run_as_group.or(pod.run_as_group);
    if security.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        let image_is_root = matches!(image_user.split(':').next().unwrap_or(""), "" | "0" | "root");
        match user {
            Some(0) => {
                return Err(ConfigError::Invalid(
                    "container's runAsUser breaks non-root policy: runAsNonRoot is true and runAsUser is 0".to_owned(),
                ));
            }
            None if image_is_root => {
                return Err(ConfigError::Invalid(
                    "container has runAsNonRoot and image will run as root: set runAsUser".to_owned(),
                ));
            }
            _ => {}
        }
    }
    Ok(match (user, group) {
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (Some(user), None) => Some(user.to_string()),
        (None, Some(group)) => {
            let user = image_user
                .split(':')
                .next()
                .filter(|user| !user.is_empty())
                .unwrap_or("0");
            Some(format!("{user}:{group}"))
        }
        (None, None) => None,
    })
}

fn groups(pod: &PodSecurityContext) -> Vec<String> {
    let all: BTreeSet<i64> = pod
        .supplemental_groups
        .iter()
        .flatten()
        .copied()
        .chain(pod.fs_group)
        .collect();
    all.into_iter().map(|group| group.to_string()).collect()
}

fn host_ports(spec: &ContainerSpec) -> Vec<HostPort> {
    spec.ports
        .iter()
        .flatten()
        .filter_map(|port| {
            Some(HostPort {
                container_port: u16::try_from(port.container_port).ok()?,
                protocol: port.protocol.as_deref().unwrap_or("TCP").to_lowercase(),
                host_ip: port.host_ip.clone().filter(|ip| !ip.is_empty()),
                host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
            })
        })
        .collect()
}

fn mounts(
    inputs: &Inputs<'_>,
    spec: &ContainerSpec,
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Bind>, ConfigError> {
    let mut binds = Vec::new();
    for mount in spec.volume_mounts.iter().flatten() {
        let source = inputs
            .volumes
            .get(&mount.name)
            .ok_or_else(|| ConfigError::Invalid(format!("volume mount {:?} names no volume of the pod", mount.name)))?;
        let sub = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(text), _) if !text.is_empty() => expand(text, value),
            (_, Some(path)) => path.clone(),
            _ => String::new(),
        };
        if sub.starts_with('/') || sub.split('/').any(|part| part == "..") {
            return Err(ConfigError::Invalid(format!(
                "subPath {sub:?} of volume mount {:?} must be relative and stay inside the volume",
                mount.name
            )));
        }
        let source = source.at(&sub);
        let propagation = match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Some("rslave"),
            Some("Bidirectional") => Some("rshared"),
            _ => None,
        };
        binds.push(Bind {
            source,
            target: mount.mount_path.clone(),
            read_only: mount.read_only == Some(true) || is_read_only(inputs.pod, &mount.name),
            propagation,
        });
    }
    Ok(binds)
}

/// Whether the pod may only read a volume, whatever a mount of it says.
fn is_read_only(pod: &Pod, volume: &str) -> bool {
    let mut volumes = pod.spec.volumes.iter().flatten();
    let claim = volumes
        .find(|known| known.name == *volume)
        .and_then(|known| known.persistent_volume_claim.as_ref());
    claim.is_some_and(|claim| claim.read_only == Some(true))
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
