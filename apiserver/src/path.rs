//! Paths of the Kubernetes API, read into what they name.

use std::fmt;

use http::Method;
use schemas::{Key, Kind, older};

use crate::{
    metrics,
    query::{Query, decode},
};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/readyz`, `/livez`, `/healthz`, with or without a check's name behind.
    Health,
    /// `/version`
    Version,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/GROUP`
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`
    Resources { group: String, version: String },
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiV3,
    /// `/openapi/v3/apis/apps/v1`: what is behind `v3/`
    OpenApiV3Part(String),
    /// An object, a list or a sub-resource.
    Resource(Resource),
    /// What a node or a pod uses, or those of a list.
    Metrics(Resource),
    /// A question that is posted and answered, never stored.
    Review(Review),
}

/// An object (with a name), a list (without one) or a sub-resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub kind: Kind,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub sub: Option<Sub>,
    /// The path has `/watch/` in front, as old clients write it.
    pub watch: bool,
    /// The path names an older version of the kind: bodies and answers are in it.
    pub older: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sub {
    Status,
    Scale,
    Log,
    Binding,
    Eviction,
    Finalize,
    EphemeralContainers,
    Exec,
    Attach,
    PortForward,
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Review {
    /// `kubectl auth can-i`
    SelfSubjectAccess,
    /// `kubectl auth can-i --list`
    SelfSubjectRules,
    /// `kubectl auth whoami`
    SelfSubject,
    /// The same question about somebody else.
    SubjectAccess,
}

/// What a request wants to do, in the words of authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Sub {
    /// The word in the path.
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Log => "log",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Token => "token",
        }
    }

    /// The sub-resource of a kind that a word names.
    #[must_use]
    pub(crate) fn of(kind: Kind, word: &str) -> Option<Self> {
        let sub = match (kind, word) {
            (_, "status") if kind.info().status => Self::Status,
            (Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::ReplicationController, "scale") => {
                Self::Scale
            }
            (Kind::Pod, "log") => Self::Log,
            (Kind::Pod, "binding") => Self::Binding,
            (Kind::Pod, "eviction") => Self::Eviction,
            (Kind::Pod, "ephemeralcontainers") => Self::EphemeralContainers,
            (Kind::Pod, "exec") => Self::Exec,
            (Kind::Pod, "attach") => Self::Attach,
            (Kind::Pod, "portforward") => Self::PortForward,
            (Kind::Namespace, "finalize") => Self::Finalize,
            (Kind::ServiceAccount, "token") => Self::Token,
            _ => return None,
        };
        Some(sub)
    }
}

impl Verb {
    #[must_use]
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    #[must_use]
    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl Resource {
    /// What a method on this resource means; None: the method is not allowed here.
    #[must_use]
    pub(crate) fn verb(&self, method: &Method, query: &Query) -> Option<Verb> {
        let verb = self.verb_of(method, query)?;
        // A watch and a patch are of the kept version alone.
        (!self.older || !matches!(verb, Verb::Watch | Verb::Patch)).then_some(verb)
    }

    fn verb_of(&self, method: &Method, query: &Query) -> Option<Verb> {
        let named = self.name.is_some();
        // Objects are made, and many deleted, in one namespace at a time.
        let placed = self.namespace.is_some() || !self.kind.info().namespaced;
        let watched = self.watch || query.flag("watch").unwrap_or(false);
        let verb = match *method {
            Method::GET | Method::HEAD if self.sub.is_none() && watched => Verb::Watch,
            Method::GET | Method::HEAD if named => Verb::Get,
            Method::GET | Method::HEAD => Verb::List,
            Method::POST if placed && (!named || self.sub.is_some()) => Verb::Create,
            Method::PUT if named => Verb::Update,
            Method::PATCH if named => Verb::Patch,
            Method::DELETE if named => Verb::Delete,
            Method::DELETE if placed => Verb::DeleteCollection,
            _ => return None,
        };
        Some(verb)
    }
}

impl Resource {
    /// The key of the object that is named; its name is empty for a list.
    #[must_use]
    pub(crate) fn key(&self) -> Key {
        Key {
            kind: self.kind,
            namespace: self.namespace.as_deref().map(Into::into),
            name: self.name.as_deref().unwrap_or("").into(),
        }
    }
}

impl fmt::Display for Resource {
    /// `deployments.apps shop/web status`, as the audit shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind.info().resource())?;
        match (&self.namespace, &self.name) {
            (Some(namespace), name) => write!(f, " {namespace}/{}", name.as_deref().unwrap_or(""))?,
            (None, Some(name)) => write!(f, " {name}")?,
            (None, None) => {}
        }
        match self.sub {
            Some(sub) => write!(f, " {}", sub.word()),
            None => Ok(()),
        }
    }
}

impl Target {
    /// Reads a path. None: it names nothing that is served.
    #[must_use]
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let segments: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let words: Vec<&str> = segments.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["readyz" | "livez" | "healthz", ..] => Some(Self::Health),
            ["version"] => Some(Self::Version),
            ["api"] => Some(Self::CoreVersions),
            ["apis"] => Some(Self::Groups),
            ["apis", group] => Some(Self::Group((*group).to_owned())),
            ["openapi", "v2"] => Some(Self::OpenApiV2),
            ["openapi", "v3"] => Some(Self::OpenApiV3),
            ["openapi", "v3", rest @ ..] => Some(Self::OpenApiV3Part(rest.join("/"))),
            ["api", version] => Some(Self::Resources {
                group: String::new(),
                version: (*version).to_owned(),
            }),
            ["apis", group, version] => Some(Self::Resources {
                group: (*group).to_owned(),
                version: (*version).to_owned(),
            }),
            ["api", version, rest @ ..] => parse_resource("", version, rest),
            ["apis", group, version, rest @ ..] => parse_resource(group, version, rest),
            _ => None,
        }
    }
}

fn parse_resource(group: &str, version: &str, rest: &[&str]) -> Option<Target> {
    let review = match (group, version, rest) {
        ("authorization.k8s.io", "v1", ["selfsubjectaccessreviews"]) => Some(Review::SelfSubjectAccess),
        ("authorization.k8s.io", "v1", ["selfsubjectrulesreviews"]) => Some(Review::SelfSubjectRules),
        ("authorization.k8s.io", "v1", ["subjectaccessreviews"]) => Some(Review::SubjectAccess),
        ("authentication.k8s.io", "v1", ["selfsubjectreviews"]) => Some(Review::SelfSubject),
        _ => None,
    };
    if let Some(review) = review {
        return Some(Target::Review(review));
    }
    let (watch, rest) = match rest {
        ["watch", rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let (namespace, rest) = match rest {
        // `/namespaces/NAME/status` is a sub-resource of the namespace; anything else behind a
        // namespace's name is a resource in it.
        ["namespaces", name, word] if group.is_empty() && Sub::of(Kind::Namespace, word).is_some() => {
            return Some(Target::Resource(Resource {
                kind: Kind::Namespace,
                namespace: None,
                name: Some((*name).to_owned()),
                sub: Sub::of(Kind::Namespace, word),
                watch,
                older: false,
            }));
        }
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
        rest => (None, rest),
    };
    let (plural, name, sub) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(*name), None),
        [plural, name, sub] => (plural, Some(*name), Some(*sub)),
        _ => return None,
    };
    let measured = (group, version) == (metrics::GROUP, metrics::VERSION);
    let older = older::of_resource(group, version, plural);
    let kind = if measured {
        metrics::RESOURCES.iter().find(|(name, ..)| name == plural)?.2
    } else {
        Kind::of_resource(group, version, plural).or(older)?
    };
    if name == Some("") || namespace.as_deref() == Some("") {
        return None;
    }
    // A namespaced object is named with its namespace; a cluster-scoped one is in none.
    let namespaced = kind.info().namespaced;
    if (namespaced && name.is_some() && namespace.is_none()) || (!namespaced && namespace.is_some()) {
        return None;
    }
    let sub = match sub {
        Some(_) if measured => return None,
        Some(word) => Some(Sub::of(kind, word)?),
        None => None,
    };
    let resource = Resource {
        kind,
        namespace,
        name: name.map(str::to_owned),
        sub,
        watch,
        older: older.is_some(),
    };
    Some(if measured {
        Target::Metrics(resource)
    } else {
        Target::Resource(resource)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(kind: Kind, namespace: Option<&str>, name: Option<&str>, sub: Option<Sub>) -> Option<Target> {
        Some(Target::Resource(Resource {
            kind,
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
            sub,
            watch: false,
            older: false,
        }))
    }

    #[test]
    fn paths_name_what_they_should() {
        for (path, target) in [
            ("/readyz", Some(Target::Health)),
            ("/livez/ping", Some(Target::Health)),
            ("/version/", Some(Target::Version)),
            ("/api", Some(Target::CoreVersions)),
            ("/apis", Some(Target::Groups)),
            ("/apis/apps", Some(Target::Group("apps".into()))),
            (
                "/api/v1",
                Some(Target::Resources {
                    group: String::new(),
                    version: "v1".into(),
                }),
            ),
            (
                "/openapi/v3/apis/apps/v1",
                Some(Target::OpenApiV3Part("apis/apps/v1".into())),
            ),
            ("/api/v1/pods", resource(Kind::Pod, None, None, None)),
            ("/api/v1/namespaces", resource(Kind::Namespace, None, None, None)),
            ("/api/v1/namespaces/a", resource(Kind::Namespace, None, Some("a"), None)),
            (
                "/api/v1/namespaces/a/status",
                resource(Kind::Namespace, None, Some("a"), Some(Sub::Status)),
            ),
            ("/api/v1/namespaces/a/pods", resource(Kind::Pod, Some("a"), None, None)),
            (
                "/api/v1/namespaces/a/pods/b",
                resource(Kind::Pod, Some("a"), Some("b"), None),
            ),
            (
                "/api/v1/namespaces/a/pods/b/log",
                resource(Kind::Pod, Some("a"), Some("b"), Some(Sub::Log)),
            ),
            (
                "/apis/apps/v1/namespaces/a/deployments/b/scale",
                resource(Kind::Deployment, Some("a"), Some("b"), Some(Sub::Scale)),
            ),
            ("/api/v1/nodes/n", resource(Kind::Node, None, Some("n"), None)),
            (
                "/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/b",
                Some(Target::Metrics(Resource {
                    kind: Kind::Pod,
                    namespace: Some("a".into()),
                    name: Some("b".into()),
                    sub: None,
                    watch: false,
                    older: false,
                })),
            ),
            (
                "/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers/h",
                Some(Target::Resource(Resource {
                    kind: Kind::HorizontalPodAutoscaler,
                    namespace: Some("a".into()),
                    name: Some("h".into()),
                    sub: None,
                    watch: false,
                    older: true,
                })),
            ),
            ("/apis/metrics.k8s.io/v1beta1/pods/b", None),
            ("/apis/metrics.k8s.io/v1beta1/deployments", None),
            ("/apis/metrics.k8s.io/v1beta1/namespaces/a/pods/b/log", None),
            (
                "/apis/authentication.k8s.io/v1/selfsubjectreviews",
                Some(Target::Review(Review::SelfSubject)),
            ),
            // Nothing of the kind.
            ("/api/v1/pods/b", None),
            ("/api/v1/namespaces/a/nodes", None),
            ("/api/v1/namespaces//pods", None),
            ("/api/v1/namespaces/a/pods/b/nothing", None),
            ("/api/v1/namespaces/a/pods/b/log/more", None),
            ("/apis/apps/v1/namespaces/a/pods", None),
            ("/api/v2/pods", None),
            ("/apis/apps/v1/nothing", None),
            ("/", None),
        ] {
            assert_eq!(Target::parse(path), target, "{path}");
        }
    }

    #[test]
    fn an_escaped_slash_stays_in_its_segment() {
        assert_eq!(
            Target::parse("/api/v1/namespaces/a/events/x%2Fy"),
            resource(Kind::Event, Some("a"), Some("x/y"), None)
        );
    }

    #[test]
    fn methods_become_verbs() {
        let list = Resource {
            kind: Kind::Pod,
            namespace: None,
            name: None,
            sub: None,
            watch: false,
            older: false,
        };
        let space = Resource {
            namespace: Some("b".into()),
            ..list.clone()
        };
        let one = Resource {
            name: Some("a".into()),
            ..space.clone()
        };
        let binding = Resource {
            sub: Some(Sub::Binding),
            ..one.clone()
        };
        let none = Query::default();
        let watch = Query::parse("watch=true");
        for (resource, method, query, verb) in [
            (&list, Method::GET, &none, Some(Verb::List)),
            (&list, Method::GET, &watch, Some(Verb::Watch)),
            (&list, Method::POST, &none, None),
            (&space, Method::POST, &none, Some(Verb::Create)),
            (&list, Method::PUT, &none, None),
            (&list, Method::DELETE, &none, None),
            (&space, Method::DELETE, &none, Some(Verb::DeleteCollection)),
            (&one, Method::GET, &none, Some(Verb::Get)),
            (&one, Method::GET, &watch, Some(Verb::Watch)),
            (&one, Method::POST, &none, None),
            (&one, Method::PATCH, &none, Some(Verb::Patch)),
            (&one, Method::OPTIONS, &none, None),
            (&binding, Method::POST, &none, Some(Verb::Create)),
        ] {
            assert_eq!(resource.verb(&method, query), verb, "{method} {resource:?}");
        }
    }
}
