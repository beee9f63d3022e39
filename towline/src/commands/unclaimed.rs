//! `towline unclaimed`: pods that keep running although the server does not have them.

use std::process::ExitCode;

use anyhow::{Context, bail};
use schemas::node::Unclaimed;
use serde::{Deserialize, Serialize};

use crate::{cli::UnclaimedArgs, client::Server, output};

/// One pod on its node.
#[derive(Debug, Serialize, Deserialize)]
struct Pod {
    node: String,
    namespace: String,
    name: String,
    uid: String,
    containers: Vec<String>,
    kept: bool,
}

/// What came of one order.
#[derive(Serialize)]
struct Done<'a> {
    order: &'a str,
    node: &'a str,
    pod: Unclaimed,
}

pub(crate) async fn run(args: &UnclaimedArgs) -> anyhow::Result<ExitCode> {
    let server = Server::find(&args.client)?;
    let pods: Vec<Pod> = server.json("GET", "/towline/v1/unclaimed", Vec::new()).await?;
    if args.remove.is_empty() && args.keep.is_empty() {
        output::print(args.output.output, &pods, |pods| list(pods))?;
        return Ok(ExitCode::SUCCESS);
    }
    // All of them are found before the first is carried out.
    let mut orders = Vec::new();
    for (order, targets) in [("remove", &args.remove), ("keep", &args.keep)] {
        for target in targets {
            orders.extend(meant(target, &pods)?.into_iter().map(|pod| (order, pod)));
        }
    }
    for (order, pod) in orders {
        let path = format!("/towline/v1/unclaimed?node={}&uid={}&order={order}", pod.node, pod.uid);
        let about = || format!("{} on node {}", pod.uid, pod.node);
        let taken: Unclaimed = server.json("POST", &path, Vec::new()).await.with_context(about)?;
        let done = Done {
            order,
            node: &pod.node,
            pod: taken,
        };
        output::print(args.output.output, &done, |done| {
            let what = match done.order {
                "keep" => "stays as it is",
                _ => "is being ended and removed",
            };
            output::line(format!(
                "{}/{} ({}) on node {} {what}",
                done.pod.key.ns(),
                done.pod.key.name,
                done.pod.uid,
                done.node
            ));
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The pods that `NODE/POD-UID` or `NODE/all` means.
fn meant<'a>(target: &str, pods: &'a [Pod]) -> anyhow::Result<Vec<&'a Pod>> {
    let Some((node, uid)) = target.split_once('/') else {
        bail!("{target:?} is not NODE/POD-UID or NODE/all; `towline unclaimed` lists them");
    };
    let all: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.node == node && (uid == "all" || pod.uid == uid))
        .collect();
    if all.is_empty() {
        let which = if uid == "all" {
            String::new()
        } else {
            format!(" {uid:?}")
        };
        bail!(
            "no unclaimed pod{which} is reported of a node {node:?}; `towline unclaimed` lists the pods, `kubectl get nodes` the nodes"
        );
    }
    Ok(all)
}

fn list(pods: &[Pod]) {
    if pods.is_empty() {
        output::line("Every container on every node that is heard of belongs to a pod.");
        return;
    }
    let rows = pods
        .iter()
        .map(|pod| {
            [
                pod.node.as_str().into(),
                pod.namespace.as_str().into(),
                pod.name.as_str().into(),
                pod.uid.as_str().into(),
                pod.containers.join(",").into(),
                if pod.kept { "yes" } else { "" }.into(),
            ]
        })
        .collect();
    output::table(["NODE", "NAMESPACE", "POD", "UID", "CONTAINERS", "KEPT"], rows);
}

/// What `towline status` says of them.
pub(crate) fn hint(unclaimed: &[serde_json::Value]) -> Option<String> {
    let open = unclaimed.iter().filter(|pod| pod["kept"] != true).count();
    (open > 0).then(|| {
        format!(
            "{} running that the server does not have and cannot say to be deleted: towline unclaimed",
            if open == 1 {
                "1 pod keeps".to_owned()
            } else {
                format!("{open} pods keep")
            }
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, uid: &str) -> Pod {
        Pod {
            node: node.to_owned(),
            namespace: "n".to_owned(),
            name: "p".to_owned(),
            uid: uid.to_owned(),
            containers: Vec::new(),
            kept: false,
        }
    }

    #[test]
    fn targets_name_one_pod_or_all_of_a_node() {
        let pods = [pod("a", "1"), pod("a", "2"), pod("b", "1")];
        for (target, found) in [("a/1", Some(1)), ("a/all", Some(2)), ("b/all", Some(1))] {
            assert_eq!(meant(target, &pods).ok().map(|pods| pods.len()), found, "{target}");
        }
        for wrong in ["a", "a/3", "c/all", ""] {
            assert!(meant(wrong, &pods).is_err(), "{wrong}");
        }
    }
}
