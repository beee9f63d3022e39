//! The deletion budget: how much one sync may delete before it asks.
//!
//! Counted for a whole sync, contents of a deleted Namespace included: more than 5 objects that are
//! over 30 % of any unit or 10 % of everything, or any PersistentVolumeClaim, are held. A source
//! that cannot be read, or that declares nothing at all, is never an order to delete.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemas::{ContentHash, Key, Kind, Now, Object, Unit, report::HeldDeletions};
use store::{Desired, desired::Confirmation};

use crate::namespace;

/// So many objects may always go.
const FREE: usize = 5;
const UNIT_PERCENT: usize = 30;
const ALL_PERCENT: usize = 10;

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Live objects that git declared once and does not any more, none of them in deletion.
    pub undeclared: Vec<Arc<Object>>,
    /// For each Namespace among them: what else is in it and would go with it.
    pub contents: BTreeMap<Arc<str>, Vec<Key>>,
    /// Namespaces among them that manifests still use.
    pub used: BTreeSet<Arc<str>>,
    /// How many live objects of each unit git declares or did, those of `undeclared` included.
    pub totals: BTreeMap<Unit, usize>,
    pub confirmations: Vec<Confirmation>,
}

/// What may be deleted and what may not.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub delete: Vec<Arc<Object>>,
    pub held: Option<Arc<HeldDeletions>>,
    /// Stay for another reason than the budget.
    pub kept: Vec<(Key, String)>,
    /// How many confirmations were taken into account.
    pub confirmations: usize,
    /// To be kept before anything is deleted: the commit itself confirmed.
    pub confirm: Option<Confirmation>,
}

/// Names a set of deletions: what `towline sync --confirm-deletes` and the commit trailer
/// `Confirm-Deletes` take. Twelve hexadecimal digits.
#[must_use]
pub fn digest<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    let sorted: BTreeSet<&Key> = keys.into_iter().collect();
    let lines: Vec<String> = sorted.into_iter().map(ToString::to_string).collect();
    let hash = ContentHash::of_bytes(lines.join("\n").as_bytes()).to_string();
    hash[..12].to_owned()
}

/// Decides what goes.
#[must_use]
pub fn judge(desired: &Desired, world: &World, now: Now) -> Verdict {
    let mut verdict = Verdict {
        confirmations: world.confirmations.len(),
        ..Verdict::default()
    };
    let mut asked: Vec<&Arc<Object>> = Vec::new();
    for object in &world.undeclared {
        match keeps(desired, world, object) {
            Some(why) => verdict.kept.push((object.key(), why)),
            None => asked.push(object),
        }
    }
    if asked.is_empty() {
        return verdict;
    }
    // Everything that would go: an object of a deleted Namespace goes once, whatever asks for it.
    let mut going: BTreeMap<Key, Unit> = BTreeMap::new();
    let mut riders = BTreeMap::new();
    for object in &asked {
        let key = object.key();
        if key.kind == Kind::Namespace {
            for content in world.contents.get(&key.name).into_iter().flatten() {
                riders.insert(content.clone(), key.clone());
                going.insert(content.clone(), Unit::of(content));
            }
        }
        going.insert(key.clone(), Unit::of(&key));
    }
    let commit = desired.commit.clone();
    if let Some(commit) = &commit
        && trailer_confirms(desired, going.keys())
    {
        let unknown = going
            .keys()
            .any(|key| !world.confirmations.iter().any(|one| one.keys.contains(key)));
        verdict.confirm = unknown.then(|| Confirmation {
            commit: commit.clone(),
            keys: going.keys().cloned().collect(),
            who: format!("the trailer Confirm-Deletes of {commit}"),
            at: now.wall,
        });
        verdict.delete = asked.into_iter().cloned().collect();
        return verdict;
    }
    // What a person confirmed goes, and does not count any more.
    let made: BTreeMap<Key, Option<jiff::Timestamp>> = asked
        .iter()
        .map(|object| (object.key(), object.meta.creation_timestamp.as_ref().map(|time| time.0)))
        .collect();
    let covered = |key: &Key| {
        let since = made.get(key).copied().flatten();
        // A word given before the object was made was not about this object.
        world
            .confirmations
            .iter()
            .any(|one| since.is_none_or(|since| since <= one.at) && one.keys.contains(key))
    };
    let mut open: BTreeMap<Key, Unit> = going.into_iter().filter(|(key, _)| !covered(key)).collect();
    // A Namespace goes only with all that is in it.
    let pulled: Vec<Key> = riders
        .iter()
        .filter(|(rider, _)| open.contains_key(*rider))
        .map(|(_, space)| space.clone())
        .collect();
    for key in pulled {
        open.insert(key.clone(), Unit::of(&key));
    }
    match over(desired, world, &open, &riders) {
        None => verdict.delete = asked.into_iter().cloned().collect(),
        Some(why) => {
            verdict.delete = asked
                .into_iter()
                .filter(|object| !open.contains_key(&object.key()))
                .cloned()
                .collect();
            let objects: Vec<Key> = open.into_keys().collect();
            let digest = digest(&objects);
            verdict.held = commit.map(|commit| {
                let reason = format!(
                    "{why}; if that is meant, confirm with: towline sync --confirm-deletes {} (or the trailer Confirm-Deletes: {digest})",
                    commit.short()
                );
                Arc::new(HeldDeletions {
                    reason,
                    commit,
                    objects,
                    since: now.wall,
                })
            });
        }
    }
    verdict
}

/// Why an object stays although it is no longer declared.
fn keeps(desired: &Desired, world: &World, object: &Object) -> Option<String> {
    let key = object.key();
    if desired.revision == 0 || desired.commit.is_none() {
        return Some("nothing was ever declared".to_owned());
    }
    if let Some(error) = &desired.source_error {
        return Some(format!("nothing is deleted while this stands: {error}"));
    }
    let unit = Unit::of(&key);
    let may = match desired.units.get(&unit) {
        Some(unit) => unit.may_delete,
        // A unit that is no more: unless everything is held, it may go.
        None => desired.units.is_empty() || desired.units.values().any(|unit| unit.may_delete),
    };
    if !may {
        return Some(format!(
            "a part of the source of {unit} cannot be read, and nothing of it is deleted meanwhile"
        ));
    }
    if key.kind == Kind::Namespace {
        if &*key.name == namespace::DEFAULT {
            return Some("the namespace default is always there".to_owned());
        }
        if world.used.contains(&key.name) {
            return Some("manifests still declare objects in this namespace".to_owned());
        }
    }
    None
}

/// Why deleting these needs a person's word.
fn over(desired: &Desired, world: &World, going: &BTreeMap<Key, Unit>, riders: &BTreeMap<Key, Key>) -> Option<String> {
    let count = going.len();
    if count == 0 {
        return None;
    }
    if desired.rows.is_empty() {
        return Some(format!(
            "nothing at all is declared any more, which would delete {count} objects"
        ));
    }
    let claims = going
        .keys()
        .filter(|key| key.kind == Kind::PersistentVolumeClaim)
        .count();
    if claims > 0 {
        return Some(format!(
            "{claims} PersistentVolumeClaims and their data would be deleted"
        ));
    }
    if count <= FREE {
        return None;
    }
    // What git never declared is not in the totals, and goes all the same.
    let mut more: BTreeMap<Unit, usize> = BTreeMap::new();
    for rider in riders.keys() {
        *more.entry(Unit::of(rider)).or_insert(0) += 1;
    }
    let all: usize = world.totals.values().sum::<usize>() + riders.len();
    let mut by_unit: BTreeMap<&Unit, usize> = BTreeMap::new();
    for unit in going.values() {
        *by_unit.entry(unit).or_insert(0) += 1;
    }
    let of = |counts: &BTreeMap<Unit, usize>, unit: &Unit| counts.get(unit).copied().unwrap_or(0);
    let over = by_unit.into_iter().filter_map(|(unit, part)| {
        let whole = (of(&world.totals, unit) + of(&more, unit)).max(part);
        (part * 100 > whole * UNIT_PERCENT).then_some((part, whole, unit))
    });
    // The one that loses most says most.
    if let Some((part, whole, unit)) = over.max_by_key(|(part, ..)| *part) {
        return Some(format!(
            "{count} objects would be deleted, {part} of them of the {whole} in {unit}"
        ));
    }
    (count * 100 > all * ALL_PERCENT).then(|| format!("{count} of {all} objects would be deleted"))
}

fn trailer_confirms<'a>(desired: &Desired, keys: impl Iterator<Item = &'a Key>) -> bool {
    let Some(trailer) = &desired.confirm_trailer else {
        return false;
    };
    let digest = digest(keys);
    trailer
        .split([',', ' ', '\t', '\n'])
        .map(str::trim)
        .any(|word| word.eq_ignore_ascii_case("all") || word.eq_ignore_ascii_case(&digest))
}

#[cfg(test)]
mod tests;
