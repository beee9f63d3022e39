//! Image references, pull policies, who may pull, and which images the node is known to have.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::Container as ContainerSpec;
use parking_lot::Mutex;
use schemas::Kind;
use serde_json::Value;

use crate::{
    environment::{Objects, data},
    pod::Pod,
    runtime::{Credentials, Image, Runtime, RuntimeError},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// The pull policy of a container: what it says, else `Always` for `:latest` or no tag.
#[must_use]
pub(crate) fn policy(container: &ContainerSpec) -> PullPolicy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ => {
            let image = container.image.as_deref().unwrap_or("");
            let last = image.rsplit('/').next().unwrap_or("");
            let tag = last.split_once(':').map_or("latest", |(_, tag)| tag);
            if !image.contains('@') && tag == "latest" {
                PullPolicy::Always
            } else {
                PullPolicy::IfNotPresent
            }
        }
    }
}

/// Whether `reference` can name an image: `[registry[:port]/]path[:tag][@digest]`.
#[must_use]
pub(crate) fn is_valid(reference: &str) -> bool {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    if let Some(digest) = digest {
        let valid = digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if !valid {
            return false;
        }
    }
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    if let Some(tag) = tag {
        let mut chars = tag.chars();
        let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        if !first || tag.len() > 128 || !chars.all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
            return false;
        }
    }
    if path.is_empty() || path.len() > 255 {
        return false;
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost") {
        let host = parts.remove(0);
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || ".:-[]".contains(c)) {
            return false;
        }
    }
    parts.iter().all(|part| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        edge(part.chars().next())
            && edge(part.chars().last())
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    })
}

/// The registry of a reference, as credentials name it.
#[must_use]
pub(crate) fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// The credentials for an image among the pod's pull secrets; the longest matching entry wins.
#[must_use]
pub(crate) fn credentials(pod: &Pod, objects: &Objects, reference: &str) -> Option<Credentials> {
    let registry = registry(reference);
    let mut best: Option<(usize, Credentials)> = None;
    for secret in pod.spec.image_pull_secrets.iter().flatten() {
        let Ok(mut data) = data(objects, Kind::Secret, pod.key.ns(), &secret.name) else {
            continue;
        };
        let (config, wrapped) = match (data.remove(".dockerconfigjson"), data.remove(".dockercfg")) {
            (Some(config), _) => (config, true),
            (None, Some(config)) => (config, false),
            (None, None) => continue,
        };
        let Ok(config) = serde_json::from_slice::<Value>(&config) else {
            continue;
        };
        let auths = if wrapped { config.get("auths") } else { Some(&config) };
        for (server, entry) in auths.and_then(Value::as_object).into_iter().flatten() {
            let host = server.trim_start_matches("https://").trim_start_matches("http://");
            let (host, path) = host.split_once('/').unwrap_or((host, ""));
            let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") {
                "docker.io"
            } else {
                host
            };
            let path = path.trim_end_matches('/');
            let deeper = !matches!(path, "" | "v1" | "v2");
            if host != registry || (deeper && !reference.starts_with(&format!("{host}/{path}/"))) {
                continue;
            }
            let length = if deeper { path.len() + 1 } else { 0 };
            if best.as_ref().is_none_or(|(known, _)| length > *known) {
                best = Some((length, login(server, entry)));
            }
        }
    }
    best.map(|(_, credentials)| credentials)
}

fn login(server: &str, entry: &Value) -> Credentials {
    let text = |field: &str| {
        entry
            .get(field)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let decoded = text("auth")
        .and_then(|auth| STANDARD.decode(auth).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = match decoded.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((user, password)) => (Some(user.to_owned()), Some(password.to_owned())),
        None => (None, None),
    };
    Credentials {
        username: text("username").or(user),
        password: text("password").or(password),
        identity_token: text("identitytoken"),
        server: server.to_owned(),
    }
}

/// Images that the node is known to have, so that a start asks its runtime for nothing. All are
/// looked at anew when any image comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Images {
    known: Mutex<HashMap<Arc<str>, Known>>,
    /// Counts what made earlier knowledge doubtful.
    age: AtomicU64,
    /// The digests of images by id. These never change, so they outlive what is forgotten.
    digests: Mutex<HashMap<Arc<str>, String>>,
}

#[derive(Debug)]
struct Known {
    image: Arc<Image>,
    age: u64,
}

impl Images {
    /// Makes what is known doubtful: the next start looks again.
    pub(crate) fn forget(&self) {
        self.age.fetch_add(1, Ordering::SeqCst);
    }

    /// # Errors
    /// When the runtime cannot be asked.
    pub(crate) async fn find(
        &self,
        runtime: &dyn Runtime,
        reference: &str,
    ) -> Result<Option<Arc<Image>>, RuntimeError> {
        // Read before the look, so that a change during it makes its result doubtful too.
        let age = self.age.load(Ordering::SeqCst);
        if let Some(known) = self.known.lock().get(reference)
            && known.age == age
        {
            return Ok(Some(known.image.clone()));
        }
        let found = runtime.image(reference).await?.map(Arc::new);
        if let Some(image) = &found {
            if let Some(digest) = image.digests.first() {
                self.digests.lock().insert(image.id.clone(), digest.clone());
            }
            let known = Known {
                image: image.clone(),
                age,
            };
            self.known.lock().insert(reference.into(), known);
        } else {
            self.known.lock().remove(reference);
        }
        Ok(found)
    }

    /// The id of an image that was found before, the one that a container was just made of.
    #[must_use]
    pub(crate) fn id(&self, reference: &str) -> Arc<str> {
        self.known
            .lock()
            .get(reference)
            .map(|known| known.image.id.clone())
            .unwrap_or_else(|| "".into())
    }

    /// The `imageID` of a container status: the digest in a registry, where there is one.
    #[must_use]
    pub(crate) fn display(&self, id: &str) -> String {
        match self.digests.lock().get(id) {
            Some(digest) => format!("docker-pullable://{digest}"),
            None if id.is_empty() => String::new(),
            None => format!("docker://{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let valid = [
            "busybox",
            "busybox:1.36",
            "library/busybox",
            "localhost:5000/a/b:c",
            "registry.example.org/team/app@sha256:4995c5343381f162abd983b07f594e36d049b314c6a943ed6094e767d29ad648",
            "a__b/c-d.e:T_1",
        ];
        for reference in valid {
            assert!(is_valid(reference), "{reference}");
        }
        for reference in [
            "",
            "Busybox",
            "a b",
            "a:",
            "a//b",
            "-a",
            "a@sha256:1",
            "a/b:c/d:e",
            "a:.t",
        ] {
            assert!(!is_valid(reference), "{reference}");
        }
        assert_eq!(registry("busybox"), "docker.io");
        assert_eq!(registry("team/app:1"), "docker.io");
        assert_eq!(registry("localhost:5000/app"), "localhost:5000");
    }

    #[test]
    fn policies() {
        let cases = [
            ("a", None, PullPolicy::Always),
            ("a:latest", None, PullPolicy::Always),
            ("a:1", None, PullPolicy::IfNotPresent),
            ("r:5000/a", None, PullPolicy::Always),
            ("a@sha256:00", None, PullPolicy::IfNotPresent),
            ("a", Some("Never"), PullPolicy::Never),
            ("a:1", Some("Always"), PullPolicy::Always),
        ];
        for (image, policy, expected) in cases {
            let container = ContainerSpec {
                image: Some(image.to_owned()),
                image_pull_policy: policy.map(str::to_owned),
                ..ContainerSpec::default()
            };
            assert_eq!(super::policy(&container), expected, "{image} {policy:?}");
        }
    }
}
