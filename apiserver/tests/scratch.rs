mod cluster;
#[tokio::test(flavor = "multi_thread")]
#[ignore = "serves for a person"]
async fn hold() {
    let cluster = cluster::Cluster::start().await;
    std::fs::copy(cluster.kubeconfig(), "/tmp/h6.kubeconfig").unwrap();
    while !std::path::Path::new("/tmp/h6.stop").exists() { tokio::time::sleep(std::time::Duration::from_millis(300)).await; }
}
