//! How much a pod asks for, in exact amounts, as quotas and ranges of limits count it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, PodSpec},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};

use super::Measure;
use crate::{Object, Part, quantity::Quantity};

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Requests and limits of a pod as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodAmounts {
    pub requests: Amounts,
    pub limits: Amounts,
}

/// It has ended and will not run again.
#[must_use]
pub fn is_finished(pod: &Object) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.word("phase"));
    matches!(phase, Some("Succeeded" | "Failed"))
}

impl PodAmounts {
    #[must_use]
    pub fn of(pod: &Object) -> Self {
        pod.spec::<PodSpec>()
            .map(|spec| Self::of_spec(&spec))
            .unwrap_or_default()
    }

    /// The larger of the sum of the containers and of what each init container needs beside the
    /// sidecars before it.
    #[must_use]
    pub fn of_spec(spec: &PodSpec) -> Self {
        let mut all = Self {
            requests: total(spec, requests),
            limits: total(spec, limits),
        };
        let overhead = read(spec.overhead.as_ref());
        // Overhead is no limit where there is none.
        for (name, amount) in &overhead {
            if let Some(limit) = all.limits.get_mut(name) {
                *limit = *limit + *amount;
            }
        }
        add(&mut all.requests, &overhead);
        all
    }
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::new();
    spec.containers
        .iter()
        .for_each(|container| add(&mut running, &of(container)));
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for init in spec.init_containers.iter().flatten() {
        let own = of(init);
        let mut beside = sidecars.clone();
        add(&mut beside, &own);
        if init.restart_policy.as_deref() == Some("Always") {
            add(&mut running, &own);
            sidecars.clone_from(&beside);
        }
        most(&mut peak, &beside);
    }
    most(&mut running, &peak);
    running
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.entry(name.clone()).or_default();
        *sum = *sum + *amount;
    }
}

fn most(of: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let own = of.entry(name.clone()).or_insert(*amount);
        *own = (*own).max(*amount);
    }
}

/// Amounts of a list; what is no quantity was refused before.
#[must_use]
pub fn read(list: Option<&BTreeMap<String, ApiQuantity>>) -> Amounts {
    let entries = list.into_iter().flatten();
    entries
        .map(|(name, amount)| (name.clone(), amount.0.parse().unwrap_or_default()))
        .collect()
}

/// Requests of a container; a limit without a request counts as one.
#[must_use]
pub fn requests(container: &Container) -> Amounts {
    let mut all = limits(container);
    all.extend(read(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    ));
    all
}

#[must_use]
pub fn limits(container: &Container) -> Amounts {
    read(
        container
            .resources
            .as_ref()
            .and_then(|resources| resources.limits.as_ref()),
    )
}

/// Containers that say nothing of a measure for which each must: CPU and memory.
pub(super) fn silent(pod: &Object, measure: &Measure) -> Vec<String> {
    let (name, of): (_, fn(&Container) -> Amounts) = match measure {
        Measure::Requests(name) => (name, requests),
        Measure::Limits(name) => (name, limits),
        _ => return Vec::new(),
    };
    if !matches!(name.as_str(), "cpu" | "memory") {
        return Vec::new();
    }
    let Ok(spec) = pod.spec::<PodSpec>() else {
        return Vec::new();
    };
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut silent: Vec<String> = all
        .filter(|container| !of(container).contains_key(name))
        .map(|container| container.name.clone())
        .collect();
    silent.sort();
    silent
}

/// None of its containers asks for CPU or memory, or limits them.
#[must_use]
pub fn is_best_effort(pod: &Object) -> bool {
    let lists = ["spec/containers", "spec/initContainers"];
    let containers = lists
        .into_iter()
        .filter_map(|list| pod.body.at(list))
        .flat_map(Part::items);
    let mut parts = containers.filter_map(|container| container.get("resources"));
    !parts.any(|resources| {
        ["requests", "limits"].into_iter().any(|list| {
            let amounts = resources.get(list);
            ["cpu", "memory"].into_iter().any(|name| {
                let amount = amounts.and_then(|amounts| amounts.get(name)).and_then(Part::text);
                amount.is_some_and(|amount| amount.parse::<Quantity>().is_ok_and(|amount| !amount.is_zero()))
            })
        })
    })
}
