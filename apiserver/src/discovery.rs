//! What is served: groups, versions, kinds and verbs, in the old form and in the aggregated one.

use http::StatusCode;
use schemas::{KindInfo, kind::KINDS};
use serde_json::{Value, json};

use crate::{
    accept::Form,
    exchange::{self, Response},
    metrics,
    path::Sub,
    status::ApiError,
};

const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Kinds that are posted and answered, never stored.
const REVIEWS: [(&str, &str, &str, bool); 4] = [
    (
        "authentication.k8s.io",
        "selfsubjectreviews",
        "SelfSubjectReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        false,
    ),
    (
        "authorization.k8s.io",
        "subjectaccessreviews",
        "SubjectAccessReview",
        false,
    ),
];

/// One resource or sub-resource of a group.
struct Entry {
    name: String,
    singular: String,
    namespaced: bool,
    /// Group, version and kind of what is sent and answered.
    kind: (&'static str, &'static str, &'static str),
    verbs: Vec<&'static str>,
    short_names: &'static [&'static str],
    in_all: bool,
}

/// `/version`
#[must_use]
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": concat!("v1.33.0+towline.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// Groups and their versions, the core group first, the others by name. Each group has one version.
fn all_groups() -> Vec<(&'static str, &'static str)> {
    let mut groups: Vec<(&str, &str)> = KINDS.iter().map(|info| (info.group, info.version)).collect();
    groups.extend(REVIEWS.iter().map(|(group, ..)| (*group, "v1")));
    groups.push((metrics::GROUP, metrics::VERSION));
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// What a sub-resource sends and answers, and its verbs.
fn sub_entry(info: &'static KindInfo, sub: Sub) -> Option<Entry> {
    let own = (info.group, info.version, info.name);
    let (kind, verbs) = match sub {
        Sub::Status => (own, vec!["get", "patch", "update"]),
        Sub::Scale => (("autoscaling", "v1", "Scale"), vec!["get", "patch", "update"]),
        Sub::Log => (own, vec!["get"]),
        Sub::Binding => (("", "v1", "Binding"), vec!["create"]),
        Sub::Eviction => (("policy", "v1", "Eviction"), vec!["create"]),
        Sub::Finalize => (own, vec!["update"]),
        // Not served yet.
        Sub::EphemeralContainers | Sub::Exec | Sub::Attach | Sub::PortForward | Sub::Token => return None,
    };
    Some(Entry {
        name: sub.word().to_owned(),
        singular: String::new(),
        namespaced: info.namespaced,
        kind,
        verbs,
        short_names: &[],
        in_all: false,
    })
}

fn subs(info: &'static KindInfo) -> Vec<Entry> {
    [
        Sub::Binding,
        Sub::Eviction,
        Sub::Finalize,
        Sub::Log,
        Sub::Scale,
        Sub::Status,
    ]
    .into_iter()
    .filter(|sub| Sub::of(info.kind, sub.word()).is_some())
    .filter_map(|sub| sub_entry(info, sub))
    .collect()
}

/// The resources of a group, each with its sub-resources.
fn entries(group: &str, version: &str) -> Vec<(Entry, Vec<Entry>)> {
    let kinds = KINDS
        .iter()
        .filter(|info| info.group == group && info.version == version)
        .map(|info| {
            let entry = Entry {
                name: info.plural.to_owned(),
                singular: info.singular(),
                namespaced: info.namespaced,
                kind: (info.group, info.version, info.name),
                verbs: VERBS.to_vec(),
                short_names: info.short_names,
                in_all: info.in_all,
            };
            (entry, subs(info))
        });
    let reviews =
        REVIEWS
            .iter()
            .filter(|(of, ..)| *of == group && version == "v1")
            .map(|(group, plural, kind, namespaced)| {
                let entry = Entry {
                    name: (*plural).to_owned(),
                    singular: kind.to_lowercase(),
                    namespaced: *namespaced,
                    kind: (group, "v1", kind),
                    verbs: vec!["create"],
                    short_names: &[],
                    in_all: false,
                };
                (entry, Vec::new())
            });
    let measured = metrics::RESOURCES
        .iter()
        .filter(|_| (group, version) == (metrics::GROUP, metrics::VERSION))
        .map(|(plural, kind, about)| {
            let entry = Entry {
                name: (*plural).to_owned(),
                singular: String::new(),
                namespaced: about.info().namespaced,
                kind: (metrics::GROUP, metrics::VERSION, kind),
                verbs: vec!["get", "list"],
                short_names: &[],
                in_all: false,
            };
            (entry, Vec::new())
        });
    let mut all: Vec<_> = kinds.chain(reviews).chain(measured).collect();
    all.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    all
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

fn group_value(group: &str, version: &str) -> Value {
    let version = json!({"groupVersion": group_version(group, version), "version": version});
    json!({"name": group, "versions": [version], "preferredVersion": version})
}

fn aggregated(version: &str, groups: &[(&str, &str)]) -> Value {
    let kind_of = |entry: &Entry| {
        let (group, version, kind) = entry.kind;
        json!({"group": group, "version": version, "kind": kind})
    };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, group_version)| {
            let resources: Vec<Value> = entries(group, group_version)
                .iter()
                .map(|(entry, subs)| {
                    let mut value = json!({
                        "resource": entry.name,
                        "responseKind": kind_of(entry),
                        "scope": if entry.namespaced { "Namespaced" } else { "Cluster" },
                        "singularResource": entry.singular,
                        "verbs": entry.verbs,
                    });
                    if !entry.short_names.is_empty() {
                        value["shortNames"] = entry.short_names.into();
                    }
                    if entry.in_all {
                        value["categories"] = json!(["all"]);
                    }
                    if !subs.is_empty() {
                        value["subresources"] = subs
                            .iter()
                            .map(|sub| json!({"subresource": sub.name, "responseKind": kind_of(sub), "verbs": sub.verbs}))
                            .collect();
                    }
                    value
                })
                .collect();
            let mut meta = json!({"creationTimestamp": null});
            if !group.is_empty() {
                meta["name"] = (*group).into();
            }
            json!({
                "metadata": meta,
                "versions": [{"version": group_version, "resources": resources, "freshness": "Current"}],
            })
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_answer(version: &'static str, groups: &[(&str, &str)]) -> Response {
    let media_type = match version {
        "v2beta1" => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    };
    let body = aggregated(version, groups).to_string();
    exchange::respond(StatusCode::OK, media_type, body)
}

/// `/api`
pub(crate) fn core(form: Form) -> Result<Response, ApiError> {
    match form {
        Form::Discovery { version } => Ok(aggregated_answer(version, &[("", "v1")])),
        Form::Plain => Ok(exchange::json(
            StatusCode::OK,
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        )),
        _ => Err(ApiError::not_acceptable()),
    }
}

/// `/apis`
pub(crate) fn groups(form: Form) -> Result<Response, ApiError> {
    let groups: Vec<_> = all_groups()
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .collect();
    match form {
        Form::Discovery { version } => Ok(aggregated_answer(version, &groups)),
        Form::Plain => {
            let values: Vec<Value> = groups
                .iter()
                .map(|(group, version)| group_value(group, version))
                .collect();
            Ok(exchange::json(
                StatusCode::OK,
                &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": values}),
            ))
        }
        _ => Err(ApiError::not_acceptable()),
    }
}

/// `/apis/GROUP`
pub(crate) fn group(name: &str) -> Result<Response, ApiError> {
    let (group, version) = all_groups()
        .into_iter()
        .find(|(group, _)| *group == name && !name.is_empty())
        .ok_or_else(ApiError::no_such_path)?;
    let mut value = group_value(group, version);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Ok(exchange::json(StatusCode::OK, &value))
}

/// `/api/v1`, `/apis/GROUP/VERSION`
pub(crate) fn resources(group: &str, version: &str) -> Result<Response, ApiError> {
    let entries = entries(group, version);
    if entries.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let mut values = Vec::new();
    for (entry, subs) in &entries {
        let mut value = json!({
            "name": entry.name,
            "singularName": entry.singular,
            "namespaced": entry.namespaced,
            "kind": entry.kind.2,
            "verbs": entry.verbs,
        });
        if !entry.short_names.is_empty() {
            value["shortNames"] = entry.short_names.into();
        }
        if entry.in_all {
            value["categories"] = json!(["all"]);
        }
        values.push(value);
        for sub in subs {
            let (sub_group, sub_version, sub_kind) = sub.kind;
            let mut value = json!({
                "name": format!("{}/{}", entry.name, sub.name),
                "singularName": "",
                "namespaced": sub.namespaced,
                "kind": sub_kind,
                "verbs": sub.verbs,
            });
            if (sub_group, sub_version) != (group, version) {
                value["group"] = sub_group.into();
                value["version"] = sub_version.into();
            }
            values.push(value);
        }
    }
    Ok(exchange::json(
        StatusCode::OK,
        &json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": group_version(group, version), "resources": values,
        }),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::Target;

    #[test]
    fn every_kind_is_found_once_and_its_paths_are_served() {
        let mut found = 0;
        for (group, version) in all_groups() {
            let root = if group.is_empty() {
                format!("/api/{version}")
            } else {
                format!("/apis/{group}/{version}")
            };
            for (entry, subs) in entries(group, version) {
                let stored = !["Review", "Metrics"].iter().any(|end| entry.kind.2.ends_with(end));
                found += usize::from(stored);
                let space = if entry.namespaced { "/namespaces/a" } else { "" };
                let path = format!("{root}{space}/{}", entry.name);
                assert!(Target::parse(&path).is_some(), "{path}");
                for sub in subs {
                    let path = format!("{path}/x/{}", sub.name);
                    assert!(Target::parse(&path).is_some(), "{path}");
                }
            }
        }
        assert_eq!(found, KINDS.len());
    }

    #[test]
    fn the_aggregated_form_names_groups_and_kinds() {
        let value = aggregated("v2", &[("apps", "v1")]);
        let resources = value
            .pointer("/items/0/versions/0/resources")
            .and_then(Value::as_array)
            .expect("resources");
        let deployments = resources
            .iter()
            .find(|resource| resource["resource"] == "deployments")
            .expect("deployments");
        assert_eq!(deployments["responseKind"]["kind"], "Deployment");
        assert_eq!(deployments["scope"], "Namespaced");
        assert_eq!(deployments["subresources"][0]["responseKind"]["kind"], "Scale");
        assert_eq!(value["items"][0]["metadata"]["name"], "apps");
    }

    #[test]
    fn unknown_groups_are_not_there() {
        assert!(group("nothing").is_err());
        assert!(group("").is_err());
        assert!(resources("apps", "v2").is_err());
    }
}
