//! Questions about oneself: `kubectl auth can-i` and `whoami`.

use http::StatusCode;
use schemas::Kind;
use serde_json::{Value, json};
use store::Store;

use crate::{
    admit, authorize,
    exchange::{self, Call, Response},
    identity::Identity,
    path::{Resource, Review, Sub, Verb},
    query::Query,
    status::ApiError,
};

/// Answers a review.
pub(crate) async fn answer(
    store: &Store,
    identity: &Identity,
    review: Review,
    mut call: Call,
) -> Result<Response, ApiError> {
    let asked = admit::read_body(&mut call).await?;
    let spec = asked.get("spec").cloned().unwrap_or_else(|| json!({}));
    let (kind, status) = match review {
        Review::SelfSubject => (
            "SelfSubjectReview",
            json!({"userInfo": {"username": identity.user, "groups": identity.groups}}),
        ),
        Review::SelfSubjectAccess => ("SelfSubjectAccessReview", access(store, identity, &spec)),
        Review::SubjectAccess => {
            if !identity.is_administrator() {
                return Err(ApiError::forbidden(format!(
                    "subjectaccessreviews.authorization.k8s.io is forbidden: User {:?} cannot create resource \
                     \"subjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope",
                    identity.user
                )));
            }
            let groups: Vec<String> = spec
                .get("groups")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|group| group.as_str().map(str::to_owned))
                .collect();
            let user = spec.get("user").and_then(Value::as_str).unwrap_or("");
            (
                "SubjectAccessReview",
                access(store, &Identity::new(user, groups), &spec),
            )
        }
        Review::SelfSubjectRules => ("SelfSubjectRulesReview", rules(identity)),
    };
    let group = match review {
        Review::SelfSubject => "authentication.k8s.io/v1",
        _ => "authorization.k8s.io/v1",
    };
    Ok(exchange::json(
        StatusCode::CREATED,
        &json!({
            "kind": kind, "apiVersion": group, "metadata": {"creationTimestamp": null},
            "spec": spec, "status": status,
        }),
    ))
}

fn access(store: &Store, identity: &Identity, spec: &Value) -> Value {
    let denied = |reason: String| json!({"allowed": false, "reason": reason});
    if identity.is_administrator() {
        return json!({"allowed": true, "reason": "administrators may do everything"});
    }
    if let Some(path) = spec.pointer("/nonResourceAttributes/path").and_then(Value::as_str) {
        let verb = spec.pointer("/nonResourceAttributes/verb").and_then(Value::as_str);
        let open = path.starts_with("/api") || path.starts_with("/openapi") || path == "/version";
        return json!({"allowed": open && verb == Some("get")});
    }
    let text = |field: &str| {
        spec.pointer(&format!("/resourceAttributes/{field}"))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let verb = match text("verb") {
        Some("get") => Verb::Get,
        Some("list") => Verb::List,
        Some("watch") => Verb::Watch,
        Some("create") => Verb::Create,
        Some("update") => Verb::Update,
        Some("patch") => Verb::Patch,
        Some("delete") => Verb::Delete,
        Some("deletecollection") => Verb::DeleteCollection,
        other => return denied(format!("there is no verb {:?}", other.unwrap_or(""))),
    };
    let (group, plural) = (text("group").unwrap_or(""), text("resource").unwrap_or(""));
    let kind = schemas::kind::KINDS
        .iter()
        .find(|info| info.group == group && info.plural == plural)
        .map(|info| info.kind);
    let Some(kind) = kind else {
        return denied(format!("there is no resource {plural:?} in the group {group:?}"));
    };
    let resource = Resource {
        kind,
        namespace: text("namespace").filter(|_| kind.info().namespaced).map(str::to_owned),
        name: text("name").map(str::to_owned),
        sub: text("subresource").and_then(|word| Sub::of(kind, word)),
        watch: false,
        older: false,
    };
    match authorize::check(store, identity, verb, &resource, &Query::default()) {
        Ok(()) => json!({"allowed": true}),
        Err(error) => denied(error.message),
    }
}

fn rules(identity: &Identity) -> Value {
    let everything = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let discovery = json!([{
        "verbs": ["get"], "nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi/*", "/version"],
    }]);
    match identity.node() {
        _ if identity.is_administrator() => json!({
            "resourceRules": everything,
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
        Some(node) => json!({
            "resourceRules": [{
                "verbs": ["get", "list", "watch"], "apiGroups": [""],
                "resources": [Kind::Node.info().plural], "resourceNames": [node],
            }],
            "nonResourceRules": discovery,
            "incomplete": true,
            "evaluationError": "what else a node may read depends on the pods that are bound to it",
        }),
        None => json!({"resourceRules": [], "nonResourceRules": discovery, "incomplete": false}),
    }
}
