//! Where status commits are written: a mirror in the data folder, and from there to their branch.

use std::{collections::HashSet, fs, path::PathBuf, sync::Arc};

use git2::{ErrorCode, Oid, Repository, Signature, Time};
use jiff::Timestamp;
use schemas::{
    Key, Unit,
    report::{ObjectReport, Objects, Report},
    shared::{Difference, SharedMap},
};
use store::Desired;

use super::{folder::Folder, render, transfer};
use crate::{
    Shared,
    options::Source,
    remote::{self, Connection, RemoteError},
    source::trailer,
};

/// Why the status is not where it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    #[error("the status repository {path} cannot be used: {reason}")]
    Open { path: String, reason: String },
    #[error(
        "the branch {branch} holds the status of another cluster ({theirs}); this one ({ours}) does not write there: \
         choose another with --status-branch"
    )]
    OtherCluster {
        branch: String,
        theirs: String,
        ours: String,
    },
    #[error(
        "the branch {branch} holds commits that are not Towline's; choose another with --status-branch, or delete it"
    )]
    Foreign { branch: String },
    #[error("the branch {branch} moved while the status was written; it is tried again")]
    Moved { branch: String },
    #[error("the status mirror {}: {reason}", path.display())]
    Mirror { path: PathBuf, reason: String },
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// What came of a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Nothing worth telling.
    Nothing,
    Commit(Oid),
}

/// Writes reports to the status branch.
pub(crate) struct Desk {
    target: Source,
    connection: Option<Connection>,
    branch: String,
    reference: String,
    cluster: Arc<str>,
    path: PathBuf,
    mirror: Option<Mirror>,
}

/// The mirror, open, and what its newest commit holds.
struct Mirror {
    repo: Repository,
    tip: Option<Oid>,
    folder: Folder,
    /// What the folder was last rendered from.
    shown: Option<(Arc<Report>, Arc<Desired>)>,
    commits: u32,
}

const LOCAL: &str = "refs/heads/status";
const REMOTE: &str = "refs/towline/target";

/// How far back a commit's cluster is looked for: a person may have committed on top.
const LOOK_BACK: usize = 20;

/// A mirror of a local branch starts afresh after so many commits, so that it does not grow.
const FRESH: u32 = 2_000;

impl Desk {
    pub(crate) fn new(shared: &Shared, target: Source) -> Self {
        let connection = match &target {
            Source::Remote(url) => Some(Connection::new(url, &shared.options)),
            Source::Local(_) => None,
        };
        Self {
            connection,
            branch: shared.options.status.branch.clone(),
            reference: format!("refs/heads/{}", shared.options.status.branch),
            cluster: shared.store.cluster(),
            path: shared.options.data_dir.join("status.git"),
            mirror: None,
            target,
        }
    }

    fn git(&self, error: &git2::Error) -> StatusError {
        StatusError::Mirror {
            path: self.path.clone(),
            reason: error.message().to_owned(),
        }
    }

    /// Commits a report, if it says anything new, and carries what waits to the branch. Blocks.
    pub(crate) fn publish(
        &mut self,
        report: &Arc<Report>,
        desired: &Arc<Desired>,
        at: Timestamp,
    ) -> Result<Published, StatusError> {
        if report.commit.is_none() && report.source_error.is_none() {
            return Ok(Published::Nothing);
        }
        let there = self.target_tip()?;
        self.settle(there)?;
        let published = self.commit(report, desired, at)?;
        self.deliver(there)?;
        Ok(published)
    }

    fn open_target(&self) -> Result<Option<Repository>, StatusError> {
        let Source::Local(path) = &self.target else {
            return Ok(None);
        };
        let flags = git2::RepositoryOpenFlags::NO_SEARCH;
        Repository::open_ext(path, flags, std::iter::empty::<&std::path::Path>())
            .map(Some)
            .map_err(|error| StatusError::Open {
                path: self.target.to_string(),
                reason: error.message().to_owned(),
            })
    }

    /// The mirror, opened or made.
    fn mirror(&mut self) -> Result<&mut Mirror, StatusError> {
        if self.mirror.is_none() {
            let open = || -> Result<Mirror, git2::Error> {
                let repo = remote::mirror(&self.path)?;
                let tip = repo.refname_to_id(LOCAL).ok();
                let folder = match tip {
                    Some(tip) => Folder::read(&repo, repo.find_commit(tip)?.tree_id())?,
                    None => Folder::default(),
                };
                Ok(Mirror {
                    repo,
                    tip,
                    folder,
                    shown: None,
                    commits: 0,
                })
            };
            let opened = open().or_else(|_| {
                // What it holds was a copy: a mirror that cannot be read is made anew.
                let _ = fs::remove_dir_all(&self.path);
                open()
            });
            self.mirror = Some(opened.map_err(|error| self.git(&error))?);
        }
        match &mut self.mirror {
            Some(mirror) => Ok(mirror),
            None => Err(StatusError::Mirror {
                path: self.path.clone(),
                reason: "it is not open".into(),
            }),
        }
    }

    /// The commit that the branch is at, brought into the mirror.
    fn target_tip(&mut self) -> Result<Option<Oid>, StatusError> {
        if let Some(target) = self.open_target()? {
            return match target.refname_to_id(&self.reference) {
                Ok(id) => Ok(Some(id)),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                Err(error) => Err(self.git(&error)),
            };
        }
        let Some(connection) = self.connection.clone() else {
            return Ok(None);
        };
        let reference = self.reference.clone();
        let mirror = self.mirror()?;
        // After a push of our own the branch is where we left it; asking is a round trip, not a fetch.
        let there = connection.tip(&mirror.repo, &reference)?;
        if let Some(id) = there
            && !mirror.repo.odb().is_ok_and(|odb| odb.exists(id))
        {
            connection.fetch(&mirror.repo, &[format!("+{reference}:{REMOTE}")])?;
        }
        Ok(there)
    }

    /// Makes the mirror stand on the branch: on top of it with what waits, or at it.
    fn settle(&mut self, there: Option<Oid>) -> Result<(), StatusError> {
        let target = self.open_target()?;
        let fresh = {
            let mirror = self.mirror()?;
            let stands = match (mirror.tip, there) {
                (Some(tip), Some(there)) => transfer::between(&mirror.repo, tip, Some(there)).is_some(),
                (None, None) => true,
                _ => false,
            };
            let old = target.is_some() && mirror.tip == there && mirror.commits >= FRESH;
            if stands && !old {
                return Ok(());
            }
            old
        };
        if let Some(there) = there {
            let from = match &target {
                Some(target) => target,
                None => &self.mirror()?.repo,
            };
            let owner = owner(from, there);
            self.admit(owner)?;
        }
        if fresh {
            self.mirror = None;
            let _ = fs::remove_dir_all(&self.path);
        }
        let moved = {
            let mirror = self.mirror()?;
            mirror.turn_to(target.as_ref(), there)
        };
        moved.map_err(|error| {
            self.mirror = None;
            self.git(&error)
        })
    }

    /// Refuses a branch that is not this cluster's.
    fn admit(&self, owner: Option<String>) -> Result<(), StatusError> {
        let branch = self.branch.clone();
        match owner {
            Some(theirs) if theirs == *self.cluster => Ok(()),
            Some(theirs) => Err(StatusError::OtherCluster {
                branch,
                theirs,
                ours: self.cluster.to_string(),
            }),
            None => Err(StatusError::Foreign { branch }),
        }
    }

    fn commit(
        &mut self,
        report: &Arc<Report>,
        desired: &Arc<Desired>,
        at: Timestamp,
    ) -> Result<Published, StatusError> {
        let cluster = self.cluster.clone();
        let done = self.mirror()?.commit(report, desired, &cluster, at);
        done.map_err(|error| {
            // Half-written: read it anew next time.
            self.mirror = None;
            self.git(&error)
        })
    }

    /// Carries the mirror's commits to the branch, if it is still at `there`.
    fn deliver(&mut self, there: Option<Oid>) -> Result<(), StatusError> {
        let target = self.open_target()?;
        let (connection, reference, branch) = (self.connection.clone(), self.reference.clone(), self.branch.clone());
        let shown = self.target.to_string();
        let mirror = self.mirror()?;
        let Some(tip) = mirror.tip else { return Ok(()) };
        if Some(tip) == there {
            return Ok(());
        }
        if let Some(connection) = connection {
            connection.push(&mirror.repo, LOCAL, &reference)?;
            return Ok(());
        }
        let Some(target) = target else { return Ok(()) };
        let way = transfer::between(&mirror.repo, tip, there).ok_or(StatusError::Moved { branch: branch.clone() })?;
        let carry = || {
            for id in way {
                transfer::commit(&mirror.repo, &target, id)?;
            }
            // The old value is part of the update: whoever was faster is not overwritten.
            match there {
                Some(there) => target.reference_matching(&reference, tip, true, there, "towline: status"),
                None => target.reference(&reference, tip, false, "towline: status"),
            }
            .map(|_| ())
        };
        carry().map_err(|error: git2::Error| match error.code() {
            ErrorCode::Modified | ErrorCode::Exists => StatusError::Moved { branch },
            _ => StatusError::Open {
                path: shown,
                reason: error.message().to_owned(),
            },
        })
    }
}

/// The cluster that the newest commits of a branch name.
fn owner(repo: &Repository, tip: Oid) -> Option<String> {
    let mut at = repo.find_commit(tip).ok()?;
    for _ in 0..LOOK_BACK {
        let message = String::from_utf8_lossy(at.message_bytes()).into_owned();
        if let Some(cluster) = trailer(&message, "Cluster") {
            return Some(cluster);
        }
        at = at.parent(0).ok()?;
    }
    None
}

impl Mirror {
    fn turn_to(&mut self, target: Option<&Repository>, there: Option<Oid>) -> Result<(), git2::Error> {
        match there {
            Some(there) => {
                if let Some(target) = target {
                    transfer::commit(target, &self.repo, there)?;
                }
                self.folder = Folder::read(&self.repo, self.repo.find_commit(there)?.tree_id())?;
                self.repo.reference(LOCAL, there, true, "follow the branch")?;
            }
            None => {
                self.folder = Folder::default();
                if let Ok(mut reference) = self.repo.find_reference(LOCAL) {
                    reference.delete()?;
                }
            }
        }
        self.tip = there;
        self.shown = None;
        Ok(())
    }

    fn commit(
        &mut self,
        report: &Arc<Report>,
        desired: &Arc<Desired>,
        cluster: &str,
        at: Timestamp,
    ) -> Result<Published, git2::Error> {
        if !self.render(report, desired)? {
            return Ok(Published::Nothing);
        }
        let tree = self.folder.write(&self.repo)?;
        let parent = self.tip.map(|tip| self.repo.find_commit(tip)).transpose()?;
        if parent.as_ref().is_some_and(|parent| parent.tree_id() == tree) {
            return Ok(Published::Nothing);
        }
        let who = signature(at)?;
        let parents: Vec<_> = parent.iter().collect();
        let tree = self.repo.find_tree(tree)?;
        let id = self
            .repo
            .commit(None, &who, &who, &render::message(report, cluster), &tree, &parents)?;
        self.repo.reference(LOCAL, id, true, "status")?;
        self.tip = Some(id);
        self.commits += 1;
        Ok(Published::Commit(id))
    }

    /// Brings the folder up to date, at the cost of what changed since it was last shown; true if a file
    /// changed.
    fn render(&mut self, report: &Arc<Report>, desired: &Arc<Desired>) -> Result<bool, git2::Error> {
        let before = self.shown.take();
        let is_first = before.is_none();
        let (old_report, old_desired) = match &before {
            Some((report, desired)) => (Some(&**report), &**desired),
            None => (None, &Desired::default()),
        };
        let mut page = Page {
            repo: &self.repo,
            folder: &mut self.folder,
            changed: false,
            paths: is_first.then(HashSet::new),
        };
        let nothing = Objects::default();
        let old_units = old_report.map(|report| &report.units);
        for (name, unit) in &report.units {
            let old = old_units
                .and_then(|units| units.get(name))
                .map_or(&nothing, |old| &old.objects);
            for difference in old.differences(&unit.objects) {
                match difference {
                    Difference::Added(key, object) | Difference::Changed(key, _, object) => {
                        page.object(key, object, desired)?;
                    }
                    Difference::Removed(key, _) => page.remove(&render::object_path(key)),
                }
            }
        }
        let gone = old_units
            .into_iter()
            .flatten()
            .filter(|(name, _)| !report.units.contains_key(*name));
        for (key, _) in gone.flat_map(|(_, unit)| unit.objects.iter()) {
            page.remove(&render::object_path(key));
        }
        if !is_first {
            for difference in old_desired.rows.differences(&desired.rows) {
                match difference {
                    Difference::Added(key, _) | Difference::Changed(key, _, _) => {
                        let unit = report.units.get(&Unit::of(key));
                        if let Some(object) = unit.and_then(|unit| unit.objects.get(key)) {
                            page.object(key, object, desired)?;
                        }
                    }
                    Difference::Removed(key, _) => page.remove(&render::object_path(key)),
                }
            }
        }
        let no_nodes = SharedMap::new();
        let old_nodes = old_report.map_or(&no_nodes, |report| &report.nodes);
        for difference in old_nodes.differences(&report.nodes) {
            match difference {
                Difference::Added(name, node) | Difference::Changed(name, _, node) => {
                    page.put(render::node_path(name), &render::node_file(name, node))?;
                }
                Difference::Removed(name, _) => page.remove(&render::node_path(name)),
            }
        }
        page.put("STATUS.md".to_owned(), &render::summary(report))?;
        let changed = page.finish();
        self.shown = Some((report.clone(), desired.clone()));
        Ok(changed)
    }
}

/// The folder while it is brought up to date.
struct Page<'a> {
    repo: &'a Repository,
    folder: &'a mut Folder,
    changed: bool,
    /// Every file that there shall be, when it is not known what the folder was last rendered from.
    paths: Option<HashSet<String>>,
}

impl Page<'_> {
    fn object(&mut self, key: &Key, object: &ObjectReport, desired: &Desired) -> Result<(), git2::Error> {
        match desired.rows.get(key) {
            Some(row) => self.put(render::object_path(key), &render::object_file(key, object, row)),
            None => {
                self.remove(&render::object_path(key));
                Ok(())
            }
        }
    }

    fn put(&mut self, path: String, text: &str) -> Result<(), git2::Error> {
        self.changed |= self.folder.put(&path, self.repo.blob(text.as_bytes())?);
        if let Some(paths) = &mut self.paths {
            paths.insert(path);
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        self.changed |= self.folder.remove(path);
    }

    fn finish(mut self) -> bool {
        if let Some(paths) = self.paths.take() {
            for path in self.folder.paths() {
                if !paths.contains(&path) {
                    self.remove(&path);
                }
            }
        }
        self.changed
    }
}

/// Towline, at a time that the caller read.
pub(crate) fn signature(at: Timestamp) -> Result<Signature<'static>, git2::Error> {
    Signature::new("Towline", "towline@localhost", &Time::new(at.as_second(), 0))
}
