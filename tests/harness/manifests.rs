//! Small manifests that tests write.

/// A Deployment whose pods end quickly.
#[must_use]
pub fn deployment(name: &str, replicas: u32, image: &str) -> String {
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
spec:
  replicas: {replicas}
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: {name}
          image: {image}
"
    )
}

/// A ConfigMap with one entry.
#[must_use]
pub fn config_map(name: &str, key: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  {key}: \"{value}\"\n")
}

/// The image that serves a page.
pub const WEB_1: &str = "towline.local/web:1";
/// Its next version.
pub const WEB_2: &str = "towline.local/web:2";
