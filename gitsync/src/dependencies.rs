//! What manifests depend on: targets that nobody declares, and circles that could never begin.
//!
//! Pure. It is looked at anew only when a manifest that says what it depends on, or one that others
//! depend on, comes, changes or goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use schemas::{
    Key,
    report::{Position, Problem, Severity},
    rollout, validate,
};

use crate::parsed::Manifest;

/// Declarations that depend on others, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dependencies {
    /// By dependent.
    of: BTreeMap<Key, Dependent>,
    /// By target.
    needed: BTreeMap<Key, BTreeSet<Key>>,
    dirty: bool,
    problems: BTreeMap<Key, Problem>,
}

#[derive(Clone, Debug)]
struct Dependent {
    targets: Vec<Key>,
    wave: i64,
    position: Position,
}

/// What is asked of everything that is declared.
pub(crate) trait Declarations {
    /// A manifest declares it, or may: one that cannot be read names it.
    fn may_declare(&self, key: &Key) -> bool;

    fn wave(&self, key: &Key) -> Option<i64>;

    /// Names of the same kind and namespace, for a suggestion.
    fn neighbours(&self, key: &Key) -> Vec<Arc<str>>;
}

impl Dependencies {
    pub(crate) fn put(&mut self, file: &Arc<str>, manifest: &Manifest) {
        self.remove(&manifest.key);
        if manifest.depends_on.is_empty() {
            return;
        }
        self.dirty = true;
        for target in &manifest.depends_on {
            self.needed
                .entry(target.clone())
                .or_default()
                .insert(manifest.key.clone());
        }
        let (line, column) = manifest.depends_at;
        let dependent = Dependent {
            targets: manifest.depends_on.clone(),
            wave: rollout::wave(&manifest.content),
            position: Position {
                file: file.clone(),
                line,
                column,
            },
        };
        self.of.insert(manifest.key.clone(), dependent);
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.dirty |= self.needed.contains_key(key);
        let Some(dependent) = self.of.remove(key) else { return };
        self.dirty = true;
        for target in &dependent.targets {
            if let Some(dependents) = self.needed.get_mut(target) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.needed.remove(target);
                }
            }
        }
    }

    /// A file that cannot be read came or went: what it names may be declared in it.
    pub(crate) fn unsettle(&mut self) {
        self.dirty |= !self.of.is_empty() || !self.problems.is_empty();
    }

    /// Whether something has changed since this was last settled.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Looks at all of it.
    pub(crate) fn settled(&self, declared: &dyn Declarations) -> BTreeMap<Key, Problem> {
        let mut problems = BTreeMap::new();
        let circles = self.circles();
        for (key, dependent) in &self.of {
            let fault = dependent
                .targets
                .iter()
                .find_map(|target| fault(key, dependent, target, declared))
                .or_else(|| circles.get(key).cloned());
            if let Some(message) = fault {
                let problem = Problem {
                    severity: Severity::Error,
                    position: Some(dependent.position.clone()),
                    object: Some(key.clone()),
                    message,
                };
                problems.insert(key.clone(), problem);
            }
        }
        problems
    }

    pub(crate) fn settle(&mut self, problems: BTreeMap<Key, Problem>) {
        self.problems = problems;
        self.dirty = false;
    }

    /// What is wrong, by the object that depends on something.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (&Key, &Problem)> {
        self.problems.iter()
    }

    /// Everyone on a circle, with words that show the whole of it.
    fn circles(&self) -> BTreeMap<Key, String> {
        let mut found = BTreeMap::new();
        let mut done: BTreeSet<&Key> = BTreeSet::new();
        for start in self.of.keys() {
            // Depth first, with the way there at hand; a way that meets itself is a circle.
            let mut way: Vec<&Key> = Vec::new();
            let mut open: Vec<(&Key, usize)> = vec![(start, 0)];
            while let Some((key, depth)) = open.pop() {
                way.truncate(depth);
                if let Some(at) = way.iter().position(|on| *on == key) {
                    let names: Vec<String> = way[at..].iter().chain([&key]).map(ToString::to_string).collect();
                    for on in &way[at..] {
                        let message = format!(
                            "these depend on each other in a circle, and none could ever be first: {}",
                            names.join(" → ")
                        );
                        found.entry((*on).clone()).or_insert(message);
                    }
                    continue;
                }
                if !done.insert(key) {
                    continue;
                }
                way.push(key);
                let targets = self.of.get(key).map_or(&[][..], |dependent| &dependent.targets);
                open.extend(targets.iter().map(|target| (target, depth + 1)));
            }
        }
        found
    }
}

/// What is wrong with one dependency.
fn fault(key: &Key, dependent: &Dependent, target: &Key, declared: &dyn Declarations) -> Option<String> {
    if !declared.may_declare(target) {
        let names = declared.neighbours(target);
        let near = validate::suggestion(&target.name, names.iter().map(|name| &**name));
        let hint = near.map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        return Some(format!(
            "{key} depends on {target}, which no manifest declares: declare it, or correct the annotation{hint}"
        ));
    }
    let wave = declared.wave(target)?;
    (wave > dependent.wave).then(|| {
        format!(
            "{key} of wave {} depends on {target} of the later wave {wave}, and each would wait for the other: move one",
            dependent.wave
        )
    })
}

#[cfg(test)]
mod tests {
    use schemas::{ContentHash, Kind, labels};
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> Key {
        Key::namespaced(Kind::ConfigMap, "a", name)
    }

    fn manifest(name: &str, targets: &[&str], wave: i64) -> Manifest {
        let content = json!({"metadata": {"annotations": {labels::WAVE: wave.to_string()}}});
        Manifest {
            key: key(name),
            hash: ContentHash([0; 32]),
            content: Arc::new(content),
            line: 1,
            column: 1,
            depends_on: targets.iter().map(|name| key(name)).collect(),
            depends_at: (7, 5),
        }
    }

    /// Names with their waves.
    struct All(BTreeMap<Key, i64>);

    impl Declarations for All {
        fn may_declare(&self, key: &Key) -> bool {
            self.0.contains_key(key)
        }

        fn wave(&self, key: &Key) -> Option<i64> {
            self.0.get(key).copied()
        }

        fn neighbours(&self, _: &Key) -> Vec<Arc<str>> {
            self.0.keys().map(|key| key.name.clone()).collect()
        }
    }

    fn problems(manifests: &[(&str, &[&str], i64)]) -> Vec<(String, String)> {
        let mut dependencies = Dependencies::default();
        let mut all = All(BTreeMap::new());
        for (name, targets, wave) in manifests {
            all.0.insert(key(name), *wave);
            dependencies.put(&"f.yaml".into(), &manifest(name, targets, *wave));
        }
        let settled = dependencies.settled(&all);
        dependencies.settle(settled);
        let told = dependencies.problems();
        told.map(|(key, problem)| {
            let at = problem.position.as_ref().expect("it has a place");
            assert_eq!((&*at.file, at.line, at.column), ("f.yaml", 7, 5));
            (key.name.to_string(), problem.message.clone())
        })
        .collect()
    }

    #[test]
    fn unknown_targets_circles_and_later_waves_are_told_at_their_place() {
        let sound: &[(&str, &[&str], i64)] = &[("a", &["b", "c"], 0), ("b", &["c"], 0), ("c", &[], -1)];
        assert_eq!(problems(sound), []);
        type Case = (
            Vec<(&'static str, &'static [&'static str], i64)>,
            Vec<(&'static str, &'static str)>,
        );
        let cases: [Case; 4] = [
            (
                vec![("web", &["database"], 0), ("databse", &[], 0)],
                vec![("web", "did you mean \"databse\"?")],
            ),
            (
                vec![("a", &["b"], 0), ("b", &["c"], 0), ("c", &["a"], 0), ("d", &["a"], 0)],
                vec![
                    ("a", "ConfigMap a/a → ConfigMap a/b → ConfigMap a/c → ConfigMap a/a"),
                    ("b", "in a circle"),
                    ("c", "in a circle"),
                ],
            ),
            (vec![("a", &["a"], 0)], vec![("a", "ConfigMap a/a → ConfigMap a/a")]),
            (vec![("a", &["b"], 0), ("b", &[], 1)], vec![("a", "the later wave 1")]),
        ];
        for (manifests, expected) in cases {
            let found = problems(&manifests);
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(
                names,
                expected.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
                "{found:?}"
            );
            for ((_, message), (_, part)) in found.iter().zip(&expected) {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn only_what_concerns_dependencies_makes_them_be_looked_at_again() {
        let mut dependencies = Dependencies::default();
        let file: Arc<str> = "f.yaml".into();
        dependencies.put(&file, &manifest("other", &[], 0));
        assert!(!dependencies.is_dirty());
        dependencies.put(&file, &manifest("a", &["b"], 0));
        assert!(dependencies.is_dirty());
        dependencies.settle(BTreeMap::new());
        dependencies.put(&file, &manifest("other", &[], 0));
        assert!(!dependencies.is_dirty());
        dependencies.put(&file, &manifest("b", &[], 0));
        assert!(dependencies.is_dirty(), "others depend on it");
        dependencies.settle(BTreeMap::new());
        dependencies.remove(&key("a"));
        assert!(dependencies.is_dirty() && dependencies.needed.is_empty());
    }
}
