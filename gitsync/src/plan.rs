//! What a commit would change: a pure difference from desired state to desired state.

use std::{collections::BTreeMap, fmt};

use schemas::{Commit, Key, Kind, Unit, defaulting, report::Problem, validate};
use serde::Serialize;
use serde_json::Value;
use store::{Desired, DesiredRow};

use crate::{
    diff::{self, FieldChange},
    revise::Revised,
};

/// What a commit would change. Values of Secrets are told as changed or unchanged, never shown.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    pub commit: Commit,
    /// The commit of the newest revision.
    pub base: Option<Commit>,
    pub created: Vec<Declaration>,
    pub updated: Vec<Updated>,
    pub deleted: Vec<Declaration>,
    /// Namespaces that are declared no longer and stay, without what their manifests said of them,
    /// because manifests declare objects in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<Declaration>,
    /// Units that would not move on, and why.
    pub held: BTreeMap<Unit, String>,
    pub problems: Vec<Problem>,
    /// Why nothing would be deleted, if so.
    pub source_error: Option<String>,
}

/// An object and where it is declared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Declaration {
    pub object: Key,
    pub file: String,
    pub line: u32,
}

/// An object whose content changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Updated {
    #[serde(flatten)]
    pub declaration: Declaration,
    pub changes: Vec<FieldChange>,
    /// The containers that the change replaces, in every pod of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// Containers that are replaced, and the fields that are the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replaced {
    pub containers: Vec<String>,
    pub because: Vec<String>,
}

impl Plan {
    pub(crate) fn between(commit: Commit, desired: &Desired, revised: Revised) -> Self {
        let write = revised.write;
        let mut created = Vec::new();
        let mut updated = Vec::new();
        for row in &write.put {
            match desired.rows.get(&row.key) {
                None => created.push(Declaration::of(row)),
                Some(old) if old.hash != row.hash => updated.push(Updated::between(old, row)),
                Some(_) => {}
            }
        }
        let dropped = write.drop.iter().filter_map(|key| desired.rows.get(key));
        let stays = |key: &Key| key.kind == Kind::Namespace && write.units.contains_key(&Unit::of(key));
        let (released, deleted) = dropped
            .map(|row| Declaration::of(row))
            .partition(|declaration| stays(&declaration.object));
        Self {
            commit,
            base: desired.commit.clone(),
            created,
            updated,
            deleted,
            released,
            held: write
                .units
                .into_iter()
                .filter_map(|(unit, at)| Some((unit, at.held?)))
                .collect(),
            problems: write.problems,
            source_error: write.source_error,
        }
    }

    /// Nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.updated.is_empty() && self.deleted.is_empty() && self.released.is_empty()
    }
}

impl Declaration {
    fn of(row: &DesiredRow) -> Self {
        Self {
            object: row.key.clone(),
            file: row.file.to_string(),
            line: row.line,
        }
    }
}

impl Updated {
    fn between(old: &DesiredRow, new: &DesiredRow) -> Self {
        let kind = new.key.kind;
        let (before, after) = validate::redact_pair(kind, &old.content, &new.content);
        Self {
            declaration: Declaration::of(new),
            changes: diff::fields(&before, &after),
            replaced: replaced(kind, &old.content, &new.content),
        }
    }
}

/// Which containers a change replaces: all of a pod when its template changed, and those of a bare pod
/// whose image changed. Both sides are compared with their defaults, as the controllers do.
fn replaced(kind: Kind, old: &Value, new: &Value) -> Option<Replaced> {
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

impl fmt::Display for Plan {
    /// For people: a line for each object, indented lines for its fields, a sum at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.base.as_ref().map_or("nothing", |base| base.short());
        writeln!(f, "Plan for {} against {base}\n", self.commit.short())?;
        for created in &self.created {
            writeln!(f, "+ {created}")?;
        }
        for updated in &self.updated {
            writeln!(f, "~ {}", updated.declaration)?;
            for change in &updated.changes {
                writeln!(f, "    {change}")?;
            }
            if let Some(replaced) = &updated.replaced {
                writeln!(
                    f,
                    "    replaces {} because of {}",
                    replaced.containers.join(", "),
                    replaced.because.join(", ")
                )?;
            }
        }
        for deleted in &self.deleted {
            writeln!(f, "- {deleted}")?;
        }
        for released in &self.released {
            writeln!(
                f,
                "~ {released}\n    stays, without its labels and annotations: manifests declare objects in it"
            )?;
        }
        // What the source as a whole holds is told once, below.
        let own = |reason: &str| self.source_error.as_deref() != Some(reason);
        for (unit, reason) in self.held.iter().filter(|(_, reason)| own(reason)) {
            writeln!(f, "held: {unit} stays as it is: {reason}")?;
        }
        if let Some(error) = &self.source_error {
            writeln!(f, "nothing is deleted: {error}")?;
        }
        let (created, updated, deleted) = (self.created.len(), self.updated.len(), self.deleted.len());
        write!(f, "{created} to create, {updated} to update, {deleted} to delete")
    }
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.object, self.file, self.line)
    }
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
