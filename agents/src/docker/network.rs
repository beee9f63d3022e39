//! The pod network in Docker's words.

use std::collections::HashMap;

use bollard::models::{Ipam, IpamConfig, Network, NetworkCreateRequest};

use crate::runtime::{NetworkFound, NetworkSpec};

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
