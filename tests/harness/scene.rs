//! Where many tests begin.

use crate::{
    Cluster, Container, Options,
    manifests::{WEB_1, deployment},
};

/// A cluster that runs the Deployment `web` in the namespace `shop`, and its containers.
pub fn with_web(replicas: u32) -> anyhow::Result<(Cluster, Vec<Container>)> {
    with_web_and(replicas, Options::default())
}

/// The same with options of one's own.
pub fn with_web_and(replicas: u32, options: Options) -> anyhow::Result<(Cluster, Vec<Container>)> {
    let cluster = Cluster::start_with(options)?;
    declare_web(&cluster, replicas, "Add web")?;
    cluster.sync(0);
    let running = cluster.wait_running(replicas as usize);
    Ok((cluster, running))
}

/// Commits that `web` has this many replicas; the commit.
pub fn declare_web(cluster: &Cluster, replicas: u32, message: &str) -> anyhow::Result<String> {
    let manifest = deployment("web", replicas, WEB_1);
    cluster.repository.write("namespaces/shop/web.yaml", &manifest)?;
    cluster.repository.commit(message)
}
