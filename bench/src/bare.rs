//! The limit: Docker's own API, create and start, on a bridge with fixed addresses.

use std::{
    collections::HashMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{
        ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Ipam, IpamConfig, NetworkCreateRequest,
        NetworkingConfig,
    },
    query_parameters::{CreateContainerOptions, RemoveContainerOptions, StartContainerOptions},
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{IMAGE, process::clean};

const NETWORK: &str = "towline-bench-bare";
/// As many starts at a time as Towline's agent allows itself.
const CONCURRENT: usize = 8;

pub(crate) struct Bare {
    docker: Docker,
    host: String,
    version: String,
}

impl Bare {
    pub(crate) async fn new(socket: &Path) -> anyhow::Result<Self> {
        let docker = Docker::connect_with_unix(&socket.display().to_string(), 120, API_DEFAULT_VERSION)?
            .negotiate_version()
            .await?;
        let version = docker.version().await?.version.unwrap_or_default();
        let host = format!("unix://{}", socket.display());
        // What a run that was killed has left.
        let _ = clear(&host);
        docker
            .create_network(NetworkCreateRequest {
                name: NETWORK.to_owned(),
                driver: Some("bridge".to_owned()),
                ipam: Some(Ipam {
                    config: Some(vec![IpamConfig {
                        subnet: Some("10.202.0.0/24".to_owned()),
                        ..IpamConfig::default()
                    }]),
                    ..Ipam::default()
                }),
                ..NetworkCreateRequest::default()
            })
            .await?;
        Ok(Self { docker, host, version })
    }

    pub(crate) fn name(&self) -> String {
        format!("bare Docker {}", self.version)
    }

    /// From the first create to the last start's answer.
    pub(crate) async fn run(&self, replicas: usize) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let names: Vec<String> = stream::iter(0..replicas)
            .map(|index| self.one(index))
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        let took = start.elapsed();
        for name in names {
            let options = RemoveContainerOptions {
                force: true,
                ..RemoveContainerOptions::default()
            };
            self.docker.remove_container(&name, Some(options)).await?;
        }
        Ok(took)
    }

    async fn one(&self, index: usize) -> anyhow::Result<String> {
        let name = format!("{NETWORK}-{index}");
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(format!("10.202.0.{}", 10 + index)),
                ..EndpointIpamConfig::default()
            }),
            ..EndpointSettings::default()
        };
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            host_config: Some(HostConfig {
                network_mode: Some(NETWORK.to_owned()),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(NETWORK.to_owned(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions {
            name: Some(name.clone()),
            ..CreateContainerOptions::default()
        };
        self.docker.create_container(Some(options), body).await?;
        self.docker
            .start_container(&name, None::<StartContainerOptions>)
            .await?;
        Ok(name)
    }
}

/// Takes away the network, and the containers of a run that broke off.
impl Drop for Bare {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.host) {
            eprintln!("the network {NETWORK} stays behind: {error}");
        }
    }
}

fn clear(host: &str) -> anyhow::Result<()> {
    let docker = |arguments: &[&str]| clean(Command::new("docker").args(["-H", host]).args(arguments));
    let left = docker(&["ps", "-aq", "--filter", &format!("name=^{NETWORK}-")])?;
    for container in left.split_whitespace() {
        let _ = docker(&["rm", "-f", container]);
    }
    docker(&["network", "rm", NETWORK]).map(drop)
}
