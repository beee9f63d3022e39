//! Named volumes of Docker.

use std::collections::BTreeMap;

use bollard::{
    Docker as Client,
    errors::Error,
    models::{Volume, VolumeCreateRequest},
    query_parameters::RemoveVolumeOptions,
};

use crate::runtime::{VolumeFound, VolumeSpec};

pub(super) enum VolumeError {
    /// The name is another's.
    Foreign,
    Docker(Error),
}

async fn find(client: &Client, name: &str) -> Result<Option<Volume>, VolumeError> {
    match client.inspect_volume(name).await {
        Ok(volume) => Ok(Some(volume)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(VolumeError::Docker(error)),
    }
}

fn carries(volume: &Volume, labels: &BTreeMap<String, String>) -> bool {
    labels
        .iter()
        .all(|(name, value)| volume.labels.get(name) == Some(value))
}

pub(super) async fn ensure(client: &Client, spec: &VolumeSpec) -> Result<VolumeFound, VolumeError> {
    if let Some(volume) = find(client, &spec.name).await? {
        return if carries(&volume, &spec.labels) {
            Ok(VolumeFound {
                path: volume.mountpoint,
                fresh: false,
            })
        } else {
            Err(VolumeError::Foreign)
        };
    }
    let request = VolumeCreateRequest {
        name: Some(spec.name.clone()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    };
    let volume = client.create_volume(request).await.map_err(VolumeError::Docker)?;
    // Docker answers with a volume of the same name that came meanwhile.
    if !carries(&volume, &spec.labels) {
        return Err(VolumeError::Foreign);
    }
    Ok(VolumeFound {
        path: volume.mountpoint,
        fresh: true,
    })
}

pub(super) async fn remove(client: &Client, name: &str, labels: &BTreeMap<String, String>) -> Result<(), VolumeError> {
    match find(client, name).await? {
        None => return Ok(()),
        Some(volume) if !carries(&volume, labels) => return Err(VolumeError::Foreign),
        Some(_) => {}
    }
    match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(error) => Err(VolumeError::Docker(error)),
    }
}
