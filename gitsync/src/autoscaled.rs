//! Replicas that a manifest declares although an autoscaler sets them: a warning.
//!
//! Pure. It is kept up change by change.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{
    Key, Kind,
    report::{Position, Problem, Severity},
    scale,
};
use serde_json::Value;

use crate::parsed::Manifest;

/// Which declared autoscalers aim at what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Autoscaled {
    /// Autoscalers by target.
    aims: BTreeMap<Key, BTreeSet<Key>>,
    /// Targets whose manifest declares replicas.
    contested: BTreeSet<Key>,
}

/// What a manifest aims at, if it is one of an autoscaler.
fn target(manifest: &Manifest) -> Option<Key> {
    if manifest.key.kind != Kind::HorizontalPodAutoscaler {
        return None;
    }
    let aim = manifest.content.get("spec")?.get("scaleTargetRef")?;
    let part = |field: &str| aim.get(field).and_then(Value::as_str);
    let kind = scale::scalable(part("apiVersion").unwrap_or_default(), part("kind")?)?;
    Some(Key::namespaced(kind, manifest.key.ns(), part("name")?))
}

fn declares_replicas(manifest: &Manifest) -> bool {
    manifest
        .content
        .get("spec")
        .is_some_and(|spec| spec.get("replicas").is_some())
}

impl Autoscaled {
    pub(crate) fn put(&mut self, manifest: &Manifest) {
        if let Some(target) = target(manifest) {
            self.aims.entry(target).or_default().insert(manifest.key.clone());
        }
    }

    pub(crate) fn remove(&mut self, manifest: &Manifest) {
        if let Some(target) = target(manifest)
            && let Some(autoscalers) = self.aims.get_mut(&target)
        {
            autoscalers.remove(&manifest.key);
            if autoscalers.is_empty() {
                self.aims.remove(&target);
            }
        }
    }

    /// Judges anew what a manifest that came or went may have changed. `declared` answers with the one
    /// sound declaration of an object.
    pub(crate) fn settle<'a>(&mut self, manifest: &Manifest, declared: impl Fn(&Key) -> Option<&'a Manifest>) {
        let target = target(manifest);
        for key in [Some(&manifest.key), target.as_ref()].into_iter().flatten() {
            if self.aims.contains_key(key) && declared(key).is_some_and(declares_replicas) {
                self.contested.insert(key.clone());
            } else {
                self.contested.remove(key);
            }
        }
    }

    /// The warnings; `place` answers where an object is declared.
    pub(crate) fn problems<'a>(
        &'a self,
        place: impl Fn(&Key) -> Option<Position> + 'a,
    ) -> impl Iterator<Item = Problem> + 'a {
        self.contested.iter().filter_map(move |key| {
            let autoscaler = self.aims.get(key)?.first()?;
            Some(Problem {
                severity: Severity::Warning,
                position: Some(place(key)?),
                object: Some(key.clone()),
                message: format!(
                    "spec.replicas belongs to {autoscaler}: the number here counts only when the object is made, and no \
                     sync puts it back; remove the line"
                ),
                untold: 0,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use schemas::ContentHash;
    use serde_json::json;

    use super::*;

    fn manifest(kind: Kind, name: &str, spec: Value) -> Manifest {
        Manifest {
            key: Key::namespaced(kind, "a", name),
            hash: ContentHash([0; 32]),
            content: Arc::new(json!({"spec": spec})),
            line: 3,
            column: 1,
            depends_on: Vec::new(),
            depends_at: (1, 1),
        }
    }

    #[derive(Default)]
    struct Repository {
        autoscaled: Autoscaled,
        all: BTreeMap<Key, Manifest>,
    }

    impl Repository {
        fn put(&mut self, manifest: &Manifest) {
            self.remove(&manifest.key.clone());
            self.all.insert(manifest.key.clone(), manifest.clone());
            self.autoscaled.put(manifest);
            self.autoscaled.settle(manifest, |key| self.all.get(key));
        }

        fn remove(&mut self, key: &Key) {
            if let Some(manifest) = self.all.remove(key) {
                self.autoscaled.remove(&manifest);
                self.autoscaled.settle(&manifest, |key| self.all.get(key));
            }
        }

        fn told(&self) -> usize {
            let place = |_: &Key| {
                Some(Position {
                    file: "f".into(),
                    line: 3,
                    column: 1,
                })
            };
            self.autoscaled.problems(place).count()
        }
    }

    #[test]
    fn declared_replicas_are_told_while_an_autoscaler_aims_at_them() {
        let web = manifest(Kind::Deployment, "web", json!({"replicas": 2}));
        let aim = |kind: &str, name: &str| {
            let version = if kind == "ReplicationController" {
                "v1"
            } else {
                "apps/v1"
            };
            let target = json!({"apiVersion": version, "kind": kind, "name": name});
            manifest(Kind::HorizontalPodAutoscaler, "h", json!({"scaleTargetRef": target}))
        };
        let hpa = aim("Deployment", "web");
        for order in [[&web, &hpa], [&hpa, &web]] {
            let mut repository = Repository::default();
            repository.put(order[0]);
            assert_eq!(repository.told(), 0);
            repository.put(order[1]);
            assert_eq!(repository.told(), 1);
            repository.put(&manifest(Kind::Deployment, "web", json!({})));
            assert_eq!(repository.told(), 0, "the line is gone");
            repository.put(&web);
            assert_eq!(repository.told(), 1);
            repository.put(&aim("StatefulSet", "web"));
            assert_eq!(repository.told(), 0, "it aims elsewhere");
            repository.put(&hpa);
            repository.remove(&hpa.key);
            assert_eq!(repository.told(), 0, "the autoscaler is gone");
        }
    }
}
