//! The release: desired rows become API objects, by server-side apply of the manager `towline`.
//!
//! It sets and removes only the fields that manifests declare or declared before. Creates and updates
//! come first, wave by wave; deletions last, and within the [`budget`].

pub(crate) mod autoscaling;
pub mod budget;
mod change;
pub mod waves;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashMap;
use schemas::{Key, Kind, Now, Object, rollout, writable};
use store::{Class, Desired, DesiredRow, Write};

pub use crate::released::Behind;
use crate::{
    distrust,
    finished::{self, Finished},
    ids::Ids,
    namespace, owners,
    plan::{Plan, Step},
};
use change::Change;

/// What is looked at for one batch of rows.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub desired: Arc<Desired>,
    /// The rows to release now.
    pub rows: Vec<Arc<DesiredRow>>,
    /// The live objects of these rows.
    pub live: FxHashMap<Key, Arc<Object>>,
    /// The live Namespaces that these rows are in.
    pub namespaces: BTreeMap<Arc<str>, Arc<Object>>,
    /// What is remembered of objects that ended and were removed, of these rows and of keys that are
    /// declared no longer.
    pub finished: BTreeMap<Key, Finished>,
    /// Rows whose replicas an autoscaler sets.
    pub scaled: BTreeSet<Key>,
    /// Rows of contents with which a rollout failed, and why these are not released again.
    pub bad: BTreeMap<Key, String>,
    /// Later waves than this wait, and for what.
    pub gate: Option<waves::Gate>,
    /// Rows that wait for an object that they depend on.
    pub blockers: BTreeMap<Key, Key>,
    /// Rows beside those of this batch whose newest content is not released: deletions come later.
    pub behind: Option<Behind>,
    /// What of the undeclared may go.
    pub deletions: Arc<budget::Verdict>,
}

const SOURCE: &str = "release-controller";

#[must_use]
pub fn plan(world: &World, now: Now, ids: &mut Ids) -> Plan {
    let mut plan = Plan::default();
    let mut rows: Vec<&Arc<DesiredRow>> = world.rows.iter().collect();
    rows.sort_by_cached_key(|row| (rollout::wave(&row.content), order(row.key.kind), row.key.clone()));
    let mut writes = Vec::new();
    // Namespaces that are there or come with this plan.
    let declared: BTreeSet<Arc<str>> = world
        .rows
        .iter()
        .filter(|row| row.key.kind == Kind::Namespace)
        .map(|row| row.key.name.clone())
        .collect();
    let mut made = BTreeSet::new();
    let mut forget: Vec<&Key> = world
        .finished
        .keys()
        .filter(|key| !world.desired.rows.contains_key(*key))
        .collect();
    for row in rows {
        if world
            .finished
            .get(&row.key)
            .is_some_and(|done| done.content == row.hash)
        {
            // It has run, and its manifest has not changed since.
            continue;
        }
        let wave = rollout::wave(&row.content);
        let changes = || change::change(row, world.live.get(&row.key), world.scaled.contains(&row.key), now);
        if let Some(why) = world.bad.get(&row.key) {
            // It may be live already: what was reverted is what comes next.
            if !matches!(changes(), Change::None) {
                plan.wait(row.key.clone(), distrust::BAD, why.clone());
            }
            continue;
        }
        let gate = world.gate.as_ref().filter(|gate| wave > gate.wave);
        let gate = gate.map(|gate| (waves::WAVE, gate.to_string()));
        let blocker = world.blockers.get(&row.key);
        let blocker = blocker.map(|key| {
            (
                waves::DEPENDS_ON,
                format!("waits for {key}, which has not been healthy yet"),
            )
        });
        if let Some((word, message)) = gate.or(blocker) {
            // What is as declared already, by a revert, has nothing to wait for.
            if !matches!(changes(), Change::None) {
                plan.wait(row.key.clone(), word, message);
            }
            continue;
        }
        if let Some(space) = &row.key.namespace {
            match world.namespaces.get(space) {
                Some(live) if live.is_deleting() => {
                    let message = format!("the namespace {space} is being deleted; it is released again after that");
                    plan.wait(row.key.clone(), "NamespaceTerminating", message);
                    continue;
                }
                Some(_) => {}
                None if declared.contains(space) || made.contains(space) => {}
                None => {
                    let namespace = namespace::implicit(space, now, ids);
                    let message = format!("made because manifests use the namespace {space} and none declares it");
                    plan.note(SOURCE, &namespace, "NamespaceCreated", message);
                    writes.push(Write::new(store::Op::Create(namespace)));
                    made.insert(space.clone());
                }
            }
        }
        match changes() {
            Change::None => {}
            Change::Create(object) => match change::made(row, object, now, ids) {
                Ok(write) => {
                    if let Some((key, _)) = world.finished.get_key_value(&row.key) {
                        forget.push(key);
                    }
                    writes.push(write);
                }
                Err(reason) => plan.waiting.push((row.key.clone(), reason)),
            },
            Change::Write(write) => {
                if let Some((key, _)) = world.finished.get_key_value(&row.key) {
                    forget.push(key);
                }
                writes.push(write);
            }
            Change::Recreate(delete, why) => {
                if let Some(live) = world.live.get(&row.key).filter(|_| delete.is_some()) {
                    plan.note(SOURCE, live, "Replaced", why.clone());
                }
                writes.extend(delete);
                plan.wait(row.key.clone(), "Replaced", why);
            }
            Change::Wait(reason) => plan.waiting.push((row.key.clone(), reason)),
        }
    }
    for key in forget {
        plan.steps.push(Step::Remember(finished::Note {
            key: key.clone(),
            finished: None,
        }));
    }
    plan.writes(Class::Git, "releasing what is declared", writes);
    // Creates come before deletes, across units and waves.
    if world.behind.is_none() && plan.waiting.is_empty() {
        delete(&mut plan, &world.deletions, now);
    }
    plan
}

/// Deletions, as far as the budget allows.
fn delete(plan: &mut Plan, verdict: &budget::Verdict, now: Now) {
    if let Some(confirmation) = &verdict.confirm {
        plan.steps.push(Step::Confirm(confirmation.clone()));
    }
    let mut writes = Vec::new();
    for object in &verdict.delete {
        writes.extend(owners::delete(object, None, now));
    }
    plan.writes(Class::Git, "deleting what is no longer declared", writes);
}

/// Within a wave, kinds come in this order: what others need first, namespaces, then what pods read,
/// then what makes pods.
pub(crate) fn order(kind: Kind) -> u8 {
    match kind {
        Kind::Namespace => 0,
        Kind::PriorityClass | Kind::StorageClass | Kind::ResourceQuota | Kind::LimitRange => 1,
        Kind::ServiceAccount
        | Kind::Role
        | Kind::ClusterRole
        | Kind::RoleBinding
        | Kind::ClusterRoleBinding
        | Kind::NetworkPolicy => 2,
        Kind::ConfigMap | Kind::Secret | Kind::PersistentVolume | Kind::PersistentVolumeClaim => 3,
        Kind::Service | Kind::Endpoints | Kind::EndpointSlice => 4,
        Kind::HorizontalPodAutoscaler | Kind::PodDisruptionBudget | Kind::Ingress => 6,
        _ => 5,
    }
}

/// Whether git declares this object, or did: the manager `towline` has applied fields of it.
#[must_use]
pub fn is_managed(object: &Object) -> bool {
    writable::was_declared(object)
}

#[cfg(test)]
mod tests;
