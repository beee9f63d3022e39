//! What both kinds ask for, read from either.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::ReplicaSetSpec,
    core::v1::{PodTemplateSpec, ReplicationControllerSpec},
};
use schemas::{Kind, Object, ObjectError};

/// The spec of a ReplicaSet or a ReplicationController.
pub(super) enum Spec {
    Set(Arc<ReplicaSetSpec>),
    Controller(Arc<ReplicationControllerSpec>),
}

impl Spec {
    pub(super) fn read(object: &Object) -> Result<Self, ObjectError> {
        Ok(match object.kind {
            Kind::ReplicationController => Self::Controller(object.spec()?),
            _ => Self::Set(object.spec()?),
        })
    }

    /// How many pods there shall be.
    pub(super) fn replicas(&self) -> usize {
        let replicas = match self {
            Self::Set(spec) => spec.replicas,
            Self::Controller(spec) => spec.replicas,
        };
        usize::try_from(replicas.unwrap_or(1)).unwrap_or(0)
    }

    /// How long a pod must be ready to count as available.
    pub(super) fn min_ready(&self) -> Duration {
        let seconds = match self {
            Self::Set(spec) => spec.min_ready_seconds,
            Self::Controller(spec) => spec.min_ready_seconds,
        };
        Duration::from_secs(u64::try_from(seconds.unwrap_or(0)).unwrap_or(0))
    }

    pub(super) fn template(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::Set(spec) => spec.template.as_ref(),
            Self::Controller(spec) => spec.template.as_ref(),
        }
    }
}
