//! What a manifest's annotations say of its release: its wave, what it depends on, and what a failed
//! rollout leads to.

use serde_json::Value;

use crate::{Key, Kind, labels};

/// What a failed rollout of an object leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Its document returns to its last healthy content, as a commit.
    Revert,
}

/// Every annotation of Towline's own that a manifest may carry.
pub const ANNOTATIONS: [&str; 3] = [labels::WAVE, labels::DEPENDS_ON, labels::ON_FAILURE];

/// Annotations that Towline itself writes to live objects of this kind: clients send them back with the rest.
#[must_use]
pub const fn written(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Node => &[labels::MACHINE, labels::AGENT],
        Kind::Namespace => &[labels::IMPLICIT],
        _ => &[],
    }
}

/// Everything of Towline's own begins so.
pub const PREFIX: &str = "towline.dev/";

/// The wave that a manifest is in: 0 unless its annotation says otherwise.
#[must_use]
pub fn wave(content: &Value) -> i64 {
    annotation(content, labels::WAVE)
        .and_then(|text| read_wave(text).ok())
        .unwrap_or(0)
}

/// What a failed rollout of this manifest leads to, if anything.
#[must_use]
pub fn on_failure(content: &Value) -> Option<OnFailure> {
    annotation(content, labels::ON_FAILURE).and_then(|text| read_on_failure(text).ok())
}

/// The objects that must have been healthy before this one is released. What cannot be read is left
/// out: validation refuses it.
#[must_use]
pub fn depends_on(key: &Key, content: &Value) -> Vec<Key> {
    let Some(text) = annotation(content, labels::DEPENDS_ON) else {
        return Vec::new();
    };
    let mut found: Vec<Key> = items(text)
        .filter_map(|item| read_dependency(key.ns(), item).ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn annotation<'a>(content: &'a Value, name: &str) -> Option<&'a str> {
    content.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Whether objects of this kind replace their pods in a rollout.
#[must_use]
pub fn rolls_out(kind: Kind) -> bool {
    matches!(kind, Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet)
}

/// What is wrong with the value of one of Towline's annotations on an object of `kind` in
/// `namespace`.
pub(crate) fn annotation_fault(namespace: &str, name: &str, text: &str) -> Option<String> {
    match name {
        labels::WAVE => read_wave(text).err(),
        labels::ON_FAILURE => read_on_failure(text).err(),
        labels::DEPENDS_ON => items(text).find_map(|item| read_dependency(namespace, item).err()),
        _ => None,
    }
}

fn read_wave(text: &str) -> Result<i64, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is no wave: write a whole number, such as \"1\" or \"-1\""))
}

fn read_on_failure(text: &str) -> Result<OnFailure, String> {
    match text.trim() {
        "revert" => Ok(OnFailure::Revert),
        _ => Err(format!("{text:?} is not known: the one value is \"revert\"")),
    }
}

/// `Kind/name`, of the same namespace where the kind has one, or `Kind/namespace/name`.
fn read_dependency(namespace: &str, item: &str) -> Result<Key, String> {
    let parts: Vec<&str> = item.split('/').map(str::trim).collect();
    let (word, space, name) = match parts.as_slice() {
        [word, name] => (*word, None, *name),
        [word, space, name] => (*word, Some(*space), *name),
        _ => {
            return Err(format!(
                "{item:?} names no object: write Kind/name or Kind/namespace/name"
            ));
        }
    };
    let Some(kind) = Kind::of_word(word) else {
        return Err(format!("{item:?} names no object: there is no kind {word:?}"));
    };
    if name.is_empty() || space == Some("") {
        return Err(format!(
            "{item:?} names no object: write Kind/name or Kind/namespace/name"
        ));
    }
    match (kind.info().namespaced, space) {
        (false, None) => Ok(Key::cluster(kind, name)),
        (false, Some(_)) => Err(format!(
            "{item:?} names no object: {} belongs to no namespace",
            kind.a()
        )),
        (true, Some(space)) => Ok(Key::namespaced(kind, space, name)),
        (true, None) if namespace.is_empty() => Err(format!(
            "{item:?} names no object: say in which namespace, {word}/namespace/{name}"
        )),
        (true, None) => Ok(Key::namespaced(kind, namespace, name)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dependencies_are_read_as_people_write_them() {
        let key = Key::namespaced(Kind::Deployment, "shop", "web");
        let read = |text: &str| {
            let content = json!({"metadata": {"annotations": {labels::DEPENDS_ON: text}}});
            let found = depends_on(&key, &content);
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        for (text, expected) in [
            ("", ""),
            ("Deployment/db", "Deployment shop/db"),
            (
                " Job/migrate , deploy/db,Job/migrate,",
                "Deployment shop/db; Job shop/migrate",
            ),
            ("ConfigMap/base/settings", "ConfigMap base/settings"),
            ("PriorityClass/high", "PriorityClass high"),
            ("Deployment", ""),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_fault_with_words() {
        for (name, text, fault) in [
            (labels::WAVE, " 2 ", None),
            (labels::WAVE, "two", Some("no wave")),
            (labels::ON_FAILURE, "revert", None),
            (labels::ON_FAILURE, "undo", Some("revert")),
            (labels::DEPENDS_ON, "Deployment/db", None),
            (
                labels::DEPENDS_ON,
                "Deployment/db, Deploment/web",
                Some("no kind \"Deploment\""),
            ),
            (labels::DEPENDS_ON, "Deployment", Some("Kind/name")),
            (labels::DEPENDS_ON, "Deployment//db", Some("Kind/name")),
            (labels::DEPENDS_ON, "PriorityClass/a/b", Some("no namespace")),
        ] {
            let found = annotation_fault("shop", name, text);
            assert_eq!(found.is_some(), fault.is_some(), "{name} {text}: {found:?}");
            assert!(
                found.unwrap_or_default().contains(fault.unwrap_or_default()),
                "{name} {text}"
            );
        }
        assert!(annotation_fault("", labels::DEPENDS_ON, "Deployment/db").is_some());
        assert_eq!(wave(&json!({"metadata": {"annotations": {labels::WAVE: "-3"}}})), -3);
    }
}
