//! Which containers a changed manifest replaces, and which of its fields are the cause.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Kind, defaulting, diff, validate};

/// Containers that are replaced, and the fields that are the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub containers: Vec<String>,
    pub because: Vec<String>,
}

/// Which containers a change replaces: all of a pod when its template changed, and those of a bare pod
/// whose image changed. Both sides are compared with their defaults, as the controllers do.
#[must_use]
pub fn replaced(kind: Kind, old: &Value, new: &Value) -> Option<Replaced> {
    let (mut old, mut new) = (old.clone(), new.clone());
    defaulting::default_object(kind, &mut old);
    defaulting::default_object(kind, &mut new);
    if kind == Kind::Job {
        return replaced_job(&old, &new);
    }
    let (path, template) = match kind {
        Kind::Deployment | Kind::DaemonSet | Kind::StatefulSet => ("spec.template", "/spec/template"),
        Kind::Pod => ("spec", "/spec"),
        _ => return None,
    };
    let (before, after) = (old.pointer(template)?, new.pointer(template)?);
    let changes = diff::fields(before, after);
    if changes.is_empty() {
        return None;
    }
    let spec = if kind == Kind::Pod { after } else { after.get("spec")? };
    let names = ["initContainers", "containers"]
        .iter()
        .filter_map(|list| spec.get(list)?.as_array())
        .flatten();
    let names = names.filter_map(|container| container.get("name")?.as_str());
    let because: Vec<String> = changes.iter().map(|change| format!("{path}.{}", change.path)).collect();
    let containers: Vec<String> = match kind {
        Kind::Pod => names
            .filter(|name| {
                because
                    .iter()
                    .any(|path| path.contains(&format!("ontainers[{name}].image")))
            })
            .map(str::to_owned)
            .collect(),
        _ => names.map(str::to_owned).collect(),
    };
    (!containers.is_empty()).then_some(Replaced { containers, because })
}

/// A Job that cannot take a change over is replaced as a whole.
fn replaced_job(old: &Value, new: &Value) -> Option<Replaced> {
    let frozen: Vec<String> = validate::changes(Kind::Job, old, new)
        .iter()
        .map(|finding| finding.path.to_string())
        .collect();
    let changes = diff::fields(old, new).into_iter().map(|change| change.path);
    let because: Vec<String> = changes
        .filter(|path| frozen.iter().any(|frozen| path.starts_with(frozen)))
        .collect();
    let names = ["initContainers", "containers"]
        .iter()
        .filter_map(|list| new.pointer(&format!("/spec/template/spec/{list}"))?.as_array())
        .flatten();
    let names = names.filter_map(|container| container.get("name")?.as_str());
    (!because.is_empty()).then(|| Replaced {
        containers: names.map(str::to_owned).collect(),
        because,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(image: &str, replicas: u32, strategy: Option<&str>) -> Value {
        let mut value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "image": image}, {"name": "log", "image": "log:1"}]}}},
        });
        if let Some(policy) = strategy {
            value["spec"]["template"]["spec"]["restartPolicy"] = policy.into();
        }
        value
    }

    #[test]
    fn a_changed_template_replaces_its_containers_and_says_why() {
        let found = replaced(
            Kind::Deployment,
            &deployment("web:1", 1, None),
            &deployment("web:2", 1, None),
        );
        assert_eq!(
            found,
            Some(Replaced {
                containers: vec!["web".into(), "log".into()],
                because: vec!["spec.template.spec.containers[web].image".into()],
            })
        );
    }

    #[test]
    fn scaling_and_spelled_out_defaults_replace_nothing() {
        let old = deployment("web:1", 1, None);
        assert_eq!(replaced(Kind::Deployment, &old, &deployment("web:1", 3, None)), None);
        assert_eq!(
            replaced(Kind::Deployment, &old, &deployment("web:1", 1, Some("Always"))),
            None
        );
    }

    #[test]
    fn a_job_is_replaced_only_for_what_it_cannot_take_over() {
        let job = |image: &str, parallelism: u32| {
            json!({"metadata": {"name": "load"}, "spec": {"parallelism": parallelism, "completions": 1,
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": image}]}}}})
        };
        assert_eq!(replaced(Kind::Job, &job("a:1", 1), &job("a:1", 3)), None);
        assert_eq!(
            replaced(Kind::Job, &job("a:1", 1), &job("a:2", 3)),
            Some(Replaced {
                containers: vec!["a".into()],
                because: vec!["spec.template.spec.containers[a].image".into()],
            })
        );
    }

    #[test]
    fn a_bare_pod_replaces_the_container_with_the_new_image() {
        let pod = |image: &str| json!({"spec": {"containers": [{"name": "a", "image": image}, {"name": "b", "image": "b:1"}]}});
        let found = replaced(Kind::Pod, &pod("a:1"), &pod("a:2"));
        assert_eq!(found.map(|replaced| replaced.containers), Some(vec!["a".into()]));
    }
}
