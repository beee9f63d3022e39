//! The pod network in Docker's words.

use std::{collections::HashMap, net::Ipv4Addr};

use bollard::{
    Docker as Client,
    errors::Error,
    models::{
        EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, Network, NetworkConnectRequest, NetworkCreateRequest,
        NetworkDisconnectRequest,
    },
    query_parameters::InspectContainerOptions,
};

use crate::runtime::{NetworkFound, NetworkSpec};

/// Where a container gets its address.
pub(super) fn endpoint(address: Ipv4Addr) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(super) async fn connect(client: &Client, network: &str, id: &str, address: Ipv4Addr) -> Result<(), Error> {
    let found = client.inspect_container(id, None::<InspectContainerOptions>).await?;
    let networks = found.network_settings.and_then(|settings| settings.networks);
    if let Some(there) = networks.unwrap_or_default().get(network) {
        if there.ip_address.as_deref() == Some(&address.to_string()) {
            return Ok(());
        }
        let request = NetworkDisconnectRequest {
            container: id.to_owned(),
            force: None,
        };
        client.disconnect_network(network, request).await?;
    }
    let request = NetworkConnectRequest {
        container: id.to_owned(),
        endpoint_config: Some(endpoint(address)),
    };
    client.connect_network(network, request).await
}

pub(super) fn found(network: Network) -> NetworkFound {
    NetworkFound {
        name: network.name.unwrap_or_default(),
        id: network.id.unwrap_or_default(),
        subnets: network
            .ipam
            .and_then(|ipam| ipam.config)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|config| config.subnet)
            .collect(),
        labels: network.labels.unwrap_or_default().into_iter().collect(),
    }
}

pub(super) fn request(spec: &NetworkSpec) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            driver: Some("default".to_owned()),
            config: Some(vec![IpamConfig {
                subnet: Some(spec.subnet.clone()),
                ip_range: Some(spec.dynamic.clone()),
                gateway: Some(spec.gateway.to_string()),
                auxiliary_addresses: None,
            }]),
            options: None,
        }),
        options: Some(HashMap::from([(
            "com.docker.network.bridge.name".to_owned(),
            spec.bridge.clone(),
        )])),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..Default::default()
    }
}
