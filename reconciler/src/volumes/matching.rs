//! Which existing volumes a claim may take.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaimSpec, PersistentVolumeSpec};
use schemas::{Object, quantity::Quantity, selector::Selector, storage};

use super::claim::holder;
use crate::scheduler::{filter, node::Facts};

/// How much is asked for or there.
fn amount(value: Option<&str>) -> Option<Quantity> {
    value?.parse().ok()
}

/// The smallest volume that a claim may take, one that was made for it before all others. `node` is
/// where its first pod is, if that matters.
pub(super) fn best(claim: &Object, volumes: &[Arc<Object>], node: Option<&Facts>) -> Option<Arc<Object>> {
    let asked = claim.spec::<PersistentVolumeClaimSpec>().ok()?;
    let mut fitting: Vec<(bool, Quantity, &Arc<Object>)> = volumes
        .iter()
        .filter_map(|volume| {
            let spec = volume.spec::<PersistentVolumeSpec>().ok()?;
            let kept = storage::claim_of(volume);
            let other = kept.as_ref().is_some_and(|kept| *kept != claim.key());
            if other || holder(volume).is_some_and(|holder| *holder != *claim.uid().0) {
                return None;
            }
            fits(&asked, volume, &spec, node).then_some((kept.is_none(), size(&spec)?, volume))
        })
        .collect();
    fitting.sort_by(|a, b| (a.0, a.1, a.2.name()).cmp(&(b.0, b.1, b.2.name())));
    fitting.first().map(|(.., volume)| Arc::clone(volume))
}

fn size(spec: &PersistentVolumeSpec) -> Option<Quantity> {
    amount(spec.capacity.as_ref()?.get("storage").map(|size| size.0.as_str()))
}

/// Whether a volume is of the claim's class, large enough, of the modes and labels asked for, and to
/// be reached from the node.
pub(super) fn fits(
    asked: &PersistentVolumeClaimSpec,
    volume: &Object,
    spec: &PersistentVolumeSpec,
    node: Option<&Facts>,
) -> bool {
    let class = |name: &Option<String>| name.as_deref().unwrap_or("").to_owned();
    let wanted = asked
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    let wanted = amount(wanted.and_then(|all| all.get("storage")).map(|size| size.0.as_str()));
    let large = match (wanted, size(spec)) {
        (Some(wanted), Some(size)) => size >= wanted,
        (None, _) => true,
        (Some(_), None) => false,
    };
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let all_modes = asked.access_modes.iter().flatten().all(|mode| modes.contains(mode));
    let labelled = match &asked.selector {
        None => true,
        Some(selector) => Selector::from_label_selector(selector).is_ok_and(|it| it.matches_object(volume)),
    };
    let required = spec
        .node_affinity
        .as_ref()
        .and_then(|affinity| affinity.required.as_ref());
    let reached = match (required, node) {
        (Some(required), Some(node)) => required
            .node_selector_terms
            .iter()
            .any(|term| filter::term_holds(term, node)),
        _ => true,
    };
    let mode = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem").to_owned();
    !volume.is_deleting()
        && class(&asked.storage_class_name) == class(&spec.storage_class_name)
        && mode(&asked.volume_mode) == mode(&spec.volume_mode)
        && large
        && all_modes
        && labelled
        && reached
}
