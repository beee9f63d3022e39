//! LimitRanges: defaults for containers, and the least and the most of what may be asked for.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, LimitRangeItem, LimitRangeSpec, PersistentVolumeClaimSpec, PodSpec},
    apimachinery::pkg::api::resource::Quantity as ApiQuantity,
};
use serde_json::{Map, Value};

use crate::{
    Object,
    quantity::Quantity,
    quota::pod::{self, Amounts, PodAmounts},
};

/// The items of all ranges that are about one type of thing.
fn items(ranges: &[Arc<Object>], of: &str) -> Vec<LimitRangeItem> {
    let specs = ranges.iter().filter_map(|range| range.spec::<LimitRangeSpec>().ok());
    let items = specs.flat_map(|spec| spec.limits.clone());
    items.filter(|item| item.type_ == of).collect()
}

/// Puts the defaults of a namespace into containers that say nothing themselves. The first range that
/// has one wins.
pub(super) fn set_defaults(spec: &mut Map<String, Value>, ranges: &[Arc<Object>]) {
    for item in items(ranges, "Container") {
        for containers in ["initContainers", "containers"] {
            let containers = spec.get_mut(containers).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
                for (list, defaults) in [("limits", &item.default), ("requests", &item.default_request)] {
                    fill(container, list, defaults.as_ref());
                }
            }
        }
    }
}

fn fill(container: &mut Map<String, Value>, list: &str, defaults: Option<&BTreeMap<String, ApiQuantity>>) {
    let Some(defaults) = defaults.filter(|defaults| !defaults.is_empty()) else {
        return;
    };
    let empty = || Value::Object(Map::new());
    let resources = container.entry("resources").or_insert_with(empty);
    let Some(amounts) = resources
        .as_object_mut()
        .and_then(|resources| resources.entry(list).or_insert_with(empty).as_object_mut())
    else {
        return;
    };
    for (name, amount) in defaults {
        amounts.entry(name).or_insert_with(|| amount.0.clone().into());
    }
}

/// Holds a pod to the ranges of its namespace.
///
/// # Errors
/// Everything that is too little or too much.
pub(super) fn check_pod(spec: &PodSpec, ranges: &[Arc<Object>]) -> Result<(), String> {
    let mut faults = Vec::new();
    let all: Vec<&Container> = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .collect();
    for item in items(ranges, "Container") {
        for container in &all {
            let asked = Asked {
                requests: pod::requests(container),
                limits: pod::limits(container),
            };
            asked.check(&item, &mut faults);
        }
    }
    for item in items(ranges, "Pod") {
        let PodAmounts { requests, limits } = PodAmounts::of_spec(spec);
        Asked { requests, limits }.check(&item, &mut faults);
    }
    told(faults)
}

/// Holds a claim to the ranges of its namespace.
///
/// # Errors
/// Everything that is too little or too much.
pub(super) fn check_claim(claim: &Object, ranges: &[Arc<Object>]) -> Result<(), String> {
    let Ok(spec) = claim.spec::<PersistentVolumeClaimSpec>() else {
        return Ok(());
    };
    let requests = pod::read(
        spec.resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    );
    let mut faults = Vec::new();
    for item in items(ranges, "PersistentVolumeClaim") {
        for (name, least) in pod::read(item.min.as_ref()) {
            least_of(&item, &name, least, &requests, None, &mut faults);
        }
        for (name, most) in pod::read(item.max.as_ref()) {
            match requests.get(&name) {
                None => faults.push(format!(
                    "maximum {name} usage per {} is {most}.  No request is specified",
                    item.type_
                )),
                Some(request) if *request > most => faults.push(above(&item, &name, most, "request", *request)),
                Some(_) => {}
            }
        }
    }
    told(faults)
}

fn told(mut faults: Vec<String>) -> Result<(), String> {
    faults.dedup();
    match faults.len() {
        0 => Ok(()),
        1 => Err(faults.remove(0)),
        _ => Err(format!("[{}]", faults.join(", "))),
    }
}

struct Asked {
    requests: Amounts,
    limits: Amounts,
}

impl Asked {
    fn check(&self, item: &LimitRangeItem, faults: &mut Vec<String>) {
        for (name, least) in pod::read(item.min.as_ref()) {
            least_of(item, &name, least, &self.requests, Some(&self.limits), faults);
        }
        for (name, most) in pod::read(item.max.as_ref()) {
            let (request, limit) = (self.requests.get(&name), self.limits.get(&name));
            match (limit, request) {
                (None, _) => faults.push(format!(
                    "maximum {name} usage per {} is {most}.  No limit is specified",
                    item.type_
                )),
                (Some(limit), _) if *limit > most => faults.push(above(item, &name, most, "limit", *limit)),
                (_, Some(request)) if *request > most => faults.push(above(item, &name, most, "request", *request)),
                _ => {}
            }
        }
        for (name, ratio) in pod::read(item.max_limit_request_ratio.as_ref()) {
            let there = |amounts: &Amounts| amounts.get(&name).copied().filter(|amount| !amount.is_zero());
            let kind = &item.type_;
            let fault = match (there(&self.requests), there(&self.limits)) {
                (None, _) => "no request is specified or request is 0".to_owned(),
                (_, None) => "no limit is specified or limit is 0".to_owned(),
                (Some(request), Some(limit)) => {
                    let (request, limit) = (request.nano() as f64, limit.nano() as f64);
                    let most = ratio.nano() as f64 / 1e9;
                    if limit / request <= most {
                        continue;
                    }
                    format!("provided ratio is {:.6}", limit / request)
                }
            };
            faults.push(format!(
                "{name} max limit to request ratio per {kind} is {ratio}, but {fault}"
            ));
        }
    }
}

fn least_of(
    item: &LimitRangeItem,
    name: &str,
    least: Quantity,
    requests: &Amounts,
    limits: Option<&Amounts>,
    faults: &mut Vec<String>,
) {
    let kind = &item.type_;
    let limit = limits.and_then(|limits| limits.get(name));
    match (requests.get(name), limit) {
        (None, _) => faults.push(format!(
            "minimum {name} usage per {kind} is {least}.  No request is specified"
        )),
        (Some(request), _) if *request < least => faults.push(below(item, name, least, "request", *request)),
        (_, Some(limit)) if *limit < least => faults.push(below(item, name, least, "limit", *limit)),
        _ => {}
    }
}

fn below(item: &LimitRangeItem, name: &str, least: Quantity, what: &str, found: Quantity) -> String {
    format!(
        "minimum {name} usage per {} is {least}, but {what} is {found}",
        item.type_
    )
}

fn above(item: &LimitRangeItem, name: &str, most: Quantity, what: &str, found: Quantity) -> String {
    format!(
        "maximum {name} usage per {} is {most}, but {what} is {found}",
        item.type_
    )
}
