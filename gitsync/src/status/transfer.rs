//! Carrying commits between two repositories of one machine, object by object. It works for bare and
//! other repositories alike and needs no history but the commits that are carried.

use git2::{ObjectType, Oid, Repository};

/// Copies a commit with its tree, but not its parents.
pub(crate) fn commit(from: &Repository, to: &Repository, id: Oid) -> Result<(), git2::Error> {
    if to.odb()?.exists(id) {
        return Ok(());
    }
    tree(from, to, from.find_commit(id)?.tree_id())?;
    object(from, to, id)
}

/// Copies a tree, leaves first, so that what is there is always there whole.
fn tree(from: &Repository, to: &Repository, id: Oid) -> Result<(), git2::Error> {
    if to.odb()?.exists(id) {
        return Ok(());
    }
    for entry in &from.find_tree(id)? {
        match entry.kind() {
            Some(ObjectType::Tree) => tree(from, to, entry.id())?,
            Some(ObjectType::Blob) => object(from, to, entry.id())?,
            _ => {}
        }
    }
    object(from, to, id)
}

fn object(from: &Repository, to: &Repository, id: Oid) -> Result<(), git2::Error> {
    let target = to.odb()?;
    if target.exists(id) {
        return Ok(());
    }
    let source = from.odb()?;
    let object = source.read(id)?;
    target.write(object.kind(), object.data())?;
    Ok(())
}

/// The commits from `tip` back to `base`, without `base`, oldest first. `None` when `base` is not on
/// the way.
pub(crate) fn between(repo: &Repository, tip: Oid, base: Option<Oid>) -> Option<Vec<Oid>> {
    let mut way = Vec::new();
    let mut at = Some(tip);
    while at != base {
        let id = at?;
        way.push(id);
        let commit = repo.find_commit(id).ok()?;
        at = commit.parent_id(0).ok();
    }
    way.reverse();
    Some(way)
}
