//! The pods of a DaemonSet.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemas::{Body, Now, Object, Uid, labels, template};
use serde_json::{Map, Value, json};

use super::eligible;

/// What all pods of a template share.
pub(super) struct Shared<'a> {
    template: &'a PodTemplateSpec,
    body: Map<String, Value>,
}

impl<'a> Shared<'a> {
    pub(super) fn of(template: &'a PodTemplateSpec) -> Self {
        let mut own = template.clone();
        let tolerations = eligible::tolerations(template.spec.as_ref());
        if let Some(spec) = &mut own.spec {
            spec.tolerations = Some(tolerations);
        }
        Self {
            template,
            body: template::pod_body(&own).value().clone(),
        }
    }

    /// The pod for one node. It asks for that node alone: what the template says of nodes was heeded
    /// when the node was chosen.
    pub(super) fn pod(&self, set: &Object, node: &str, name: &str, mark: &str, uid: &Uid, now: Now) -> Object {
        let mut body = self.body.clone();
        if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
            let mut affinity = spec
                .remove("affinity")
                .filter(Value::is_object)
                .unwrap_or_else(|| json!({}));
            if !affinity["nodeAffinity"].is_object() {
                affinity["nodeAffinity"] = json!({});
            }
            affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!({
                "nodeSelectorTerms": [{
                    "matchFields": [{"key": eligible::NAME_FIELD, "operator": "In", "values": [node]}],
                }],
            });
            spec.insert("affinity".to_owned(), affinity);
        }
        let body: Arc<Body> = Body::new(body);
        let mut pod = template::pod_from_template(self.template, &body, set, name, uid, now);
        // The scheduler binds it, whoever the template names.
        pod.node = None;
        pod.meta
            .labels
            .get_or_insert_default()
            .insert(labels::CONTROLLER_REVISION_HASH.to_owned(), mark.to_owned());
        pod
    }
}
