//! Pulling an image: as long as it takes, as long as it moves.

use std::time::Duration;

use bollard::{Docker as Client, auth::DockerCredentials, errors::Error, query_parameters::CreateImageOptionsBuilder};
use futures::StreamExt;

use crate::runtime::{Credentials, Progress};

pub(super) enum Failure {
    Idle,
    Client(Error),
}

pub(super) async fn pull(
    client: &Client,
    reference: &str,
    credentials: Option<Credentials>,
    idle: Duration,
    progress: &(dyn Fn(Progress) + Send + Sync),
) -> Result<(), Failure> {
    // Without a tag, Docker would pull every tag of the repository.
    let named = reference.contains('@') || reference.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let from = if named {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    };
    let options = CreateImageOptionsBuilder::default().from_image(&from).build();
    let credentials = credentials.map(|credentials| DockerCredentials {
        username: credentials.username,
        password: credentials.password,
        identitytoken: credentials.identity_token,
        serveraddress: Some(credentials.server),
        ..Default::default()
    });
    let mut steps = client.create_image(Some(options), None, credentials);
    loop {
        match tokio::time::timeout(idle, steps.next()).await {
            Err(_) => return Err(Failure::Idle),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(Failure::Client(error)),
            Ok(Some(Ok(step))) => progress(Progress {
                status: step.status.unwrap_or_default(),
                layer: step.id,
                current: step.progress_detail.as_ref().and_then(|detail| detail.current),
                total: step.progress_detail.as_ref().and_then(|detail| detail.total),
            }),
        }
    }
}
