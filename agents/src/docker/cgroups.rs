//! What the kernel counts of each container, read from its control group: a few small files, and no
//! question to the engine.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>,
//! <https://docs.kernel.org/admin-guide/cgroup-v1/memory.html>

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::runtime::{ContainerId, Usage};

/// The folders of one container's control groups.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// One folder has it all.
    Two(PathBuf),
    /// A folder for each controller.
    One { cpu: PathBuf, memory: PathBuf },
}

/// Control groups below one mount point.
pub(super) struct Cgroups {
    root: PathBuf,
    /// Where each container was found, or that it was not: then it is not looked for again.
    places: Mutex<HashMap<ContainerId, Option<Arc<Place>>>>,
}

impl Cgroups {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            places: Mutex::default(),
        }
    }

    /// Forgets every container but these.
    pub(super) fn keep(&self, ids: &[ContainerId]) {
        let ids: HashSet<&ContainerId> = ids.iter().collect();
        self.places.lock().retain(|id, _| ids.contains(id));
    }

    /// What a container used; none where the kernel's figures cannot be read here.
    pub(super) fn usage(&self, id: &ContainerId) -> Option<Usage> {
        let known = self.places.lock().get(id).cloned();
        let place = known.unwrap_or_else(|| {
            let found = self.find(id).map(Arc::new);
            self.places.lock().insert(id.clone(), found.clone());
            found
        });
        read(&*place?)
    }

    /// The folders of a container, by the two ways in which Docker names them: below `docker`, or as a
    /// scope of systemd.
    fn find(&self, id: &str) -> Option<Place> {
        let names = [format!("docker/{id}"), format!("system.slice/docker-{id}.scope")];
        let under = |controllers: &[&str], file: &str| {
            let mut folders = controllers
                .iter()
                .flat_map(|controller| names.iter().map(move |name| self.root.join(controller).join(name)));
            folders.find(|folder| folder.join(file).exists())
        };
        if let Some(whole) = under(&[""], "memory.current") {
            return Some(Place::Two(whole));
        }
        Some(Place::One {
            cpu: under(&["cpuacct", "cpu,cpuacct"], "cpuacct.usage")?,
            memory: under(&["memory"], "memory.usage_in_bytes")?,
        })
    }
}

fn read(place: &Place) -> Option<Usage> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let field = |path: PathBuf, name: &str| field(&fs::read_to_string(path).ok()?, name);
    let (cpu, used, inactive) = match place {
        Place::Two(folder) => (
            field(folder.join("cpu.stat"), "usage_usec")?.saturating_mul(1000),
            number(folder.join("memory.current"))?,
            field(folder.join("memory.stat"), "inactive_file"),
        ),
        Place::One { cpu, memory } => (
            number(cpu.join("cpuacct.usage"))?,
            number(memory.join("memory.usage_in_bytes"))?,
            field(memory.join("memory.stat"), "total_inactive_file"),
        ),
    };
    Some(Usage {
        cpu,
        memory: used.saturating_sub(inactive.unwrap_or(0)),
    })
}

/// A number of a file of lines `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once([' ', '\t'])?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_and_both_namings_are_read() {
        let one: &[(&str, &str)] = &[
            ("cpuacct/docker/a/cpuacct.usage", "1500\n"),
            ("memory/docker/a/memory.usage_in_bytes", "1000\n"),
            (
                "memory/docker/a/memory.stat",
                "inactive_file 1\ntotal_inactive_file 300\n",
            ),
        ];
        let one_scope: &[(&str, &str)] = &[
            ("cpu,cpuacct/system.slice/docker-a.scope/cpuacct.usage", "1500\n"),
            ("memory/system.slice/docker-a.scope/memory.usage_in_bytes", "1000\n"),
            (
                "memory/system.slice/docker-a.scope/memory.stat",
                "total_inactive_file 300\n",
            ),
        ];
        let two: &[(&str, &str)] = &[
            ("docker/a/cpu.stat", "usage_usec 2\nuser_usec 1\n"),
            ("docker/a/memory.current", "1000\n"),
            ("docker/a/memory.stat", "file 5\ninactive_file 1300\n"),
        ];
        let broken: &[(&str, &str)] = &[("docker/a/memory.current", "many\n")];
        for (files, usage) in [
            (one, Some((1500, 700))),
            (one_scope, Some((1500, 700))),
            // The inactive part is read a moment later than the whole.
            (two, Some((2000, 0))),
            (broken, None),
            (&[][..], None),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
                fs::write(path, text).expect("it can be written");
            }
            let groups = Cgroups::new(root.path());
            let found = groups.usage(&"a".into()).map(|usage| (usage.cpu, usage.memory));
            assert_eq!(found, usage, "{files:?}");
            assert_eq!(groups.usage(&"b".into()), None);
            groups.keep(&["a".into()]);
            assert_eq!(groups.places.lock().len(), 1);
        }
    }
}
