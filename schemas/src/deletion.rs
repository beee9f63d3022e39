//! What deleting an object does: mark it, remove it, or refuse.
//!
//! <https://kubernetes.io/docs/concepts/architecture/garbage-collection/>

use jiff::SignedDuration;
use k8s_openapi::{
    api::core::v1::PodSpec,
    apimachinery::pkg::apis::meta::v1::{DeleteOptions as ApiDeleteOptions, Time},
};
use serde_json::{Value, json};

use crate::{Body, Kind, Now, Object, Part, labels};

/// How an object is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds that a pod has to stop; none for what its spec says.
    pub grace_period_seconds: Option<i64>,
    /// None for the kind's default, which is [`Propagation::Background`].
    pub propagation: Option<Propagation>,
    /// The object must have this uid.
    pub uid: Option<String>,
    /// The object must have this version.
    pub version: Option<u64>,
}

/// What happens to the objects that a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after their owner.
    Background,
    /// They are deleted before their owner.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// What to do about a deletion.
#[derive(Clone, Debug)]
pub enum Deletion {
    /// Store the object as given: it has a deletion timestamp and waits for finalizers or its node.
    Mark(Object),
    /// Remove the object.
    Remove,
    /// The deletion is already under way as asked.
    Nothing,
    /// The object is not the one that was meant.
    Refused(Refusal),
}

/// Why a deletion, or the reading of its options, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}")]
    Uid { wanted: String, found: String },
    #[error("Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {found}")]
    Version { wanted: u64, found: u64 },
    #[error("invalid delete options: {0}")]
    Invalid(String),
}

impl TryFrom<&ApiDeleteOptions> for DeleteOptions {
    type Error = Refusal;

    /// Reads the body of a DELETE request.
    fn try_from(options: &ApiDeleteOptions) -> Result<Self, Self::Error> {
        let propagation = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
            (Some(_), Some(_)) => {
                return Err(Refusal::Invalid(
                    "orphanDependents and propagationPolicy cannot both be set".to_owned(),
                ));
            }
            (Some(policy), None) => Some(policy.parse()?),
            (None, Some(true)) => Some(Propagation::Orphan),
            (None, Some(false)) => Some(Propagation::Background),
            (None, None) => None,
        };
        let preconditions = options.preconditions.as_ref();
        let version = match preconditions.and_then(|wanted| wanted.resource_version.as_deref()) {
            None | Some("") => None,
            Some(text) => Some(
                text.parse()
                    .map_err(|_| Refusal::Invalid(format!("resourceVersion {text:?} is not a version")))?,
            ),
        };
        Ok(Self {
            grace_period_seconds: options.grace_period_seconds,
            propagation,
            uid: preconditions.and_then(|wanted| wanted.uid.clone()),
            version,
        })
    }
}

impl std::str::FromStr for Propagation {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            _ => Err(Refusal::Invalid(format!(
                "propagationPolicy {text:?} must be Background, Foreground or Orphan"
            ))),
        }
    }
}

/// Plans the deletion of `object`.
///
/// A pod on a node is marked and waits for its containers to stop, for at most its grace period. A
/// Namespace is marked, turns `Terminating` and waits for its contents to go. An object with
/// finalizers is marked and waits for them. Everything else is removed.
#[must_use]
pub fn plan(object: &Object, options: &DeleteOptions, now: Now) -> Deletion {
    if let Some(refusal) = check(object, options) {
        return Deletion::Refused(refusal);
    }
    let grace = grace_period(object, options);
    let finalizers = finalizers_after(object, options.propagation);
    let waits =
        grace > 0 || !finalizers.is_empty() || (object.kind == Kind::Namespace && has_contents_finalizer(object));
    if !waits {
        return Deletion::Remove;
    }
    let mut marked = object.clone();
    marked.meta.finalizers = (!finalizers.is_empty()).then(|| finalizers.into());
    let deadline = Time(
        now.wall
            .saturating_add(SignedDuration::from_secs(grace))
            .unwrap_or(now.wall),
    );
    match (
        &object.meta.deletion_timestamp,
        object.meta.deletion_grace_period_seconds,
    ) {
        (None, _) => {
            marked.meta.deletion_timestamp = Some(deadline);
            marked.meta.deletion_grace_period_seconds = Some(grace);
            if let Some(generation) = marked.meta.generation.filter(|generation| *generation > 0) {
                marked.meta.generation = Some(generation + 1);
            }
        }
        // A second deletion can shorten the grace period, never lengthen it.
        (Some(old), Some(before)) if grace < before => {
            let shorter = std::cmp::min(old.0, deadline.0);
            marked.meta.deletion_timestamp = Some(Time(shorter));
            marked.meta.deletion_grace_period_seconds = Some(grace);
        }
        (Some(_), _) => {}
    }
    if object.kind == Kind::Namespace {
        marked.status = Some(terminating(object.status_value()).into());
    }
    let unchanged = marked.meta == object.meta && marked.status == object.status;
    if unchanged {
        Deletion::Nothing
    } else {
        Deletion::Mark(marked)
    }
}

/// Whether an object that is being deleted waits for nothing any more: its last finalizer is gone and
/// its grace period is zero. The write that brings it here removes it.
#[must_use]
pub fn is_finalized(object: &Object) -> bool {
    object.is_deleting()
        && object.meta.finalizers.as_ref().is_none_or(|names| names.is_empty())
        && object.meta.deletion_grace_period_seconds.unwrap_or(0) == 0
        && !(object.kind == Kind::Namespace && has_contents_finalizer(object))
}

/// A Namespace whose contents are gone: it waits for other finalizers only.
#[must_use]
pub fn finalize_namespace(namespace: &Object) -> Object {
    let mut body = namespace.body.value();
    let spec = body.entry("spec").or_insert_with(|| json!({}));
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("finalizers".to_owned(), json!([]));
    }
    Object {
        body: Body::new(body),
        ..namespace.clone()
    }
}

fn check(object: &Object, options: &DeleteOptions) -> Option<Refusal> {
    let found = object.uid();
    if let Some(wanted) = &options.uid
        && **wanted != *found.0
    {
        return Some(Refusal::Uid {
            wanted: wanted.clone(),
            found: found.to_string(),
        });
    }
    match options.version {
        Some(wanted) if wanted != object.version => Some(Refusal::Version {
            wanted,
            found: object.version,
        }),
        _ => None,
    }
}

/// Seconds that the object has to stop: none unless it is a pod that runs on a node.
fn grace_period(object: &Object, options: &DeleteOptions) -> i64 {
    if object.kind != Kind::Pod || object.node.is_none() {
        return 0;
    }
    let phase = object.status.as_ref().and_then(|status| status.word("phase"));
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return 0;
    }
    let own = || {
        let spec = object.spec::<PodSpec>().ok()?;
        spec.termination_grace_period_seconds
    };
    // A negative period stands for one second.
    match options.grace_period_seconds.or_else(own).unwrap_or(30) {
        seconds if seconds < 0 => 1,
        seconds => seconds,
    }
}

/// The finalizers with those that the propagation asks for.
fn finalizers_after(object: &Object, propagation: Option<Propagation>) -> Vec<String> {
    let mut finalizers = object.meta.finalizers.as_deref().cloned().unwrap_or_default();
    let Some(propagation) = propagation else {
        return finalizers;
    };
    finalizers.retain(|name| name != labels::FOREGROUND_DELETION && name != labels::ORPHAN);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(labels::FOREGROUND_DELETION.to_owned()),
        Propagation::Orphan => finalizers.push(labels::ORPHAN.to_owned()),
    }
    finalizers
}

/// Whether a Namespace still waits for its contents to go.
fn has_contents_finalizer(namespace: &Object) -> bool {
    // One that was never defaulted has contents to look after all the same.
    match namespace.body.at("spec/finalizers").map(Part::value) {
        Some(Value::Array(names)) => !names.is_empty(),
        _ => true,
    }
}

fn terminating(status: Option<Value>) -> Value {
    let mut status = status.unwrap_or_else(|| json!({}));
    if let Some(status) = status.as_object_mut() {
        status.insert("phase".to_owned(), "Terminating".into());
    }
    status
}

#[cfg(test)]
mod tests;
