//! What releasing one row comes to.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Kind, Now, Object, Part, apply, defaulting, deletion::Propagation, labels, validate};
use serde_json::Value;
use store::{DesiredRow, Op, Write};

use crate::{
    ids::Ids,
    owners,
    plan::{Reason, replace_of},
    release::autoscaling,
};

pub(super) enum Change {
    /// The live object is as declared.
    None,
    /// It is not there: what is to be made.
    Create(Value),
    Write(Write),
    /// It cannot be changed in place: it goes, and comes again when it is gone.
    Recreate(Option<Write>, String),
    Wait(Reason),
}

pub(super) fn change(row: &DesiredRow, live: Option<&Arc<Object>>, scaled: bool, now: Now) -> Change {
    if live.is_some_and(|live| live.is_deleting()) {
        return Change::Wait(Reason::new(
            "Terminating",
            "it is being deleted; it is made again once it is gone",
        ));
    }
    let live_value = live.map(|live| live.to_value());
    let declared = if scaled {
        Cow::Owned(autoscaling::without_replicas(&row.content))
    } else {
        Cow::Borrowed(&*row.content)
    };
    let applied = apply::apply(
        live_value.as_ref(),
        &declared,
        labels::MANAGER,
        row.key.kind,
        now.wall,
        true,
    );
    let mut applied = match applied {
        Ok(applied) if !applied.changed => return Change::None,
        Ok(applied) => applied.object,
        Err(error) => return Change::Wait(Reason::new("Invalid", error.to_string())),
    };
    if scaled {
        autoscaling::keep_replicas(&mut applied, live_value.as_ref(), &row.content);
    }
    let Some(live) = live else {
        return Change::Create(applied);
    };
    // The object's identity is the live one's, whatever the manifest says.
    applied["metadata"]["uid"] = live.uid().to_string().into();
    let object = match Object::from_value(applied) {
        Ok(object) => object,
        Err(error) => return Change::Wait(Reason::new("Invalid", error.to_string())),
    };
    if live.kind == Kind::Job
        && let Some(field) = frozen(live, &object)
    {
        let why = format!(
            "{field} changed, which a Job cannot take over: this one is deleted with its pods, and the new one runs from the start"
        );
        let delete = owners::delete(live, Some(Propagation::Foreground), now);
        return Change::Recreate(delete, why);
    }
    if let Some(field) = immutable(live, &object) {
        let message = format!(
            "{field} cannot be changed; delete the object in one commit and declare it again in the next, or give it a new name"
        );
        return Change::Wait(Reason::new("Immutable", message));
    }
    if live.kind == Kind::Pod && pod_must_go(live, &object) {
        let why = "a pod's spec cannot be changed but for its images; it is made anew once the old one is gone";
        return Change::Recreate(owners::delete(live, None, now), why.to_owned());
    }
    Change::Write(replace_of(live, object))
}

/// The write that makes an object.
pub(super) fn made(row: &DesiredRow, mut value: Value, now: Now, ids: &mut Ids) -> Result<Write, Reason> {
    let uid = ids.uid();
    if row.key.kind == Kind::Job {
        defaulting::identify_job(&mut value, &uid.0);
    }
    let status = defaulting::initial_status(row.key.kind, &value);
    let mut object = Object::from_value(value).map_err(|error| Reason::new("Invalid", error.to_string()))?;
    object.meta.uid = Some(uid.0.clone());
    object.meta.creation_timestamp = Some(Time(now.wall));
    object.status = status.map(Into::into);
    object.version = 0;
    Ok(Write::new(Op::Create(object)))
}

/// A field that differs and that may not.
fn immutable(live: &Object, new: &Object) -> Option<&'static str> {
    let differs = |path: &str| live.body.at(path).map(Part::value) != new.body.at(path).map(Part::value);
    match live.kind {
        Kind::Deployment | Kind::ReplicaSet | Kind::DaemonSet => differs("spec/selector").then_some("spec.selector"),
        Kind::StatefulSet => [
            ("selector", "spec.selector"),
            ("serviceName", "spec.serviceName"),
            ("podManagementPolicy", "spec.podManagementPolicy"),
            ("volumeClaimTemplates", "spec.volumeClaimTemplates"),
        ]
        .into_iter()
        .find(|(field, _)| differs(&format!("spec/{field}")))
        .map(|(_, name)| name),
        Kind::ConfigMap | Kind::Secret if live.body.at("immutable").and_then(Part::bool) == Some(true) => {
            let fields = [
                ("data", "data"),
                ("binaryData", "binaryData"),
                ("immutable", "immutable"),
            ];
            fields
                .into_iter()
                .find(|(field, _)| differs(field))
                .map(|(_, name)| name)
        }
        Kind::Secret => differs("type").then_some("type"),
        Kind::RoleBinding | Kind::ClusterRoleBinding => differs("roleRef").then_some("roleRef"),
        _ => None,
    }
}

/// A field of a Job that differs and that no Job takes over. Two templates are the same when they are
/// equal after defaulting by the running version.
fn frozen(live: &Object, new: &Object) -> Option<String> {
    if live.body.hash() == new.body.hash() {
        return None;
    }
    let changes = validate::changes(Kind::Job, &live.to_value(), &new.to_value());
    changes.first().map(|finding| finding.path.to_string())
}

/// A pod's spec changed in more than images.
fn pod_must_go(live: &Object, new: &Object) -> bool {
    if live.body.hash() == new.body.hash() {
        return false;
    }
    let without_images = |pod: &Object| {
        let mut body = pod.body.value();
        for list in ["containers", "initContainers"] {
            let containers = body
                .get_mut("spec")
                .and_then(|spec| spec.get_mut(list))
                .and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
        if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("activeDeadlineSeconds");
        }
        body
    };
    without_images(live) != without_images(new)
}
