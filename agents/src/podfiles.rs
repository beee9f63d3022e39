//! The files that a pod finds in `/etc`: `hosts`, `hostname` and `resolv.conf`. Towline writes them, so
//! that they are the same under every runtime and network.

use std::{fmt::Write as _, net::IpAddr};

use crate::pod::Pod;

/// The content of the three files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodFiles {
    pub hosts: String,
    pub hostname: String,
    pub resolv_conf: String,
}

/// What names mean to a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameService {
    /// The cluster's DNS server, once there is one.
    pub cluster_dns: Option<IpAddr>,
    pub cluster_domain: String,
    /// The text of the host's own `resolv.conf`.
    pub host_resolv_conf: String,
}

/// Docker's resolver on the agent's network: it forwards to whatever the host uses, also when that is
/// a stub on a loopback address that no pod can reach.
const EMBEDDED: &str = "127.0.0.11";

/// Renders the files of a pod.
#[must_use]
pub(crate) fn render(pod: &Pod, address: Option<IpAddr>, names: &NameService) -> PodFiles {
    let hostname = pod.hostname();
    let mut hosts = String::from(
        "# Written by Towline; changes are lost with the pod.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    if let Some(address) = address {
        let domain = &names.cluster_domain;
        let _ = match pod.spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
            Some(subdomain) => {
                writeln!(
                    hosts,
                    "{address}\t{hostname}.{subdomain}.{}.svc.{domain} {hostname}",
                    pod.key.ns()
                )
            }
            None => writeln!(hosts, "{address}\t{hostname}"),
        };
    }
    for alias in pod.spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.as_deref().unwrap_or(&[]).join(" ");
        let _ = writeln!(hosts, "{}\t{names}", alias.ip);
    }
    PodFiles {
        hosts,
        hostname: format!("{hostname}\n"),
        resolv_conf: resolv_conf(pod, names),
    }
}

fn resolv_conf(pod: &Pod, names: &NameService) -> String {
    let mut servers = Vec::new();
    let mut searches = Vec::new();
    let mut options = Vec::new();
    for line in names.host_resolv_conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.map(str::to_owned)),
            Some("search" | "domain") => searches = words.map(str::to_owned).collect(),
            Some("options") => options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    let loops = |server: &String| server.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if !pod.host_network() && (servers.is_empty() || servers.iter().any(loops)) {
        servers = vec![EMBEDDED.to_owned()];
    }
    let policy = pod.spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let clusters = match policy {
        "ClusterFirst" => !pod.host_network(),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    if let Some(dns) = names.cluster_dns.filter(|_| clusters) {
        servers = vec![dns.to_string()];
        let (ns, domain) = (pod.key.ns(), &names.cluster_domain);
        let mut own = vec![format!("{ns}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        own.append(&mut searches);
        searches = own;
        options = vec!["ndots:5".to_owned()];
    } else if policy == "None" {
        servers.clear();
        searches.clear();
        options.clear();
    }
    if let Some(config) = &pod.spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|known| known.split(':').next() != Some(name));
            options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    servers.retain(|server| seen.insert(server.clone()));
    let mut text = String::new();
    if !searches.is_empty() {
        let _ = writeln!(text, "search {}", searches.join(" "));
    }
    // The resolver libraries read three servers and no more.
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use schemas::Object;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec});
        Pod::read(Object::from_value(object).expect("it is an object")).expect("it is a pod")
    }

    fn names(cluster_dns: Option<&str>, host: &str) -> NameService {
        NameService {
            cluster_dns: cluster_dns.map(|dns| dns.parse().expect("it is an address")),
            cluster_domain: "cluster.local".to_owned(),
            host_resolv_conf: host.to_owned(),
        }
    }

    #[test]
    fn resolver_configuration() {
        let host = "search corp\nnameserver 192.0.2.53\noptions timeout:1\n";
        let cases = [
            (
                json!({}),
                None,
                host,
                "search corp\nnameserver 192.0.2.53\noptions timeout:1\n",
            ),
            (json!({}), None, "nameserver 127.0.0.53\n", "nameserver 127.0.0.11\n"),
            (
                json!({"hostNetwork": true}),
                Some("10.96.0.10"),
                "nameserver 127.0.0.53\n",
                "nameserver 127.0.0.53\n",
            ),
            (
                json!({}),
                Some("10.96.0.10"),
                host,
                "search shop.svc.cluster.local svc.cluster.local cluster.local corp\nnameserver 10.96.0.10\noptions ndots:5\n",
            ),
            (
                json!({"dnsPolicy": "Default"}),
                Some("10.96.0.10"),
                host,
                "search corp\nnameserver 192.0.2.53\noptions timeout:1\n",
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["9.9.9.9"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
                None,
                host,
                "search a\nnameserver 9.9.9.9\noptions ndots:2 edns0\n",
            ),
            (
                json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}),
                Some("10.96.0.10"),
                "",
                "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:1\n",
            ),
        ];
        for (spec, dns, host, expected) in cases {
            assert_eq!(
                render(&pod(spec.clone()), None, &names(dns, host)).resolv_conf,
                expected,
                "{spec}"
            );
        }
    }

    #[test]
    fn hosts_and_host_name() {
        let address = Some("10.88.0.5".parse().expect("it is an address"));
        let files = render(
            &pod(
                json!({"hostname": "h", "subdomain": "sub", "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]}),
            ),
            address,
            &names(None, ""),
        );
        assert_eq!(files.hostname, "h\n");
        assert!(
            files.hosts.contains("10.88.0.5\th.sub.shop.svc.cluster.local h\n"),
            "{}",
            files.hosts
        );
        assert!(files.hosts.contains("192.0.2.9\ta b\n"), "{}", files.hosts);
    }
}
