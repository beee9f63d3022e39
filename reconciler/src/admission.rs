//! What a new pod must pass, whoever makes it: it gets the priority that its class stands for.
//!
//! Every plan goes through here before it is carried out, as every request to the API does at its
//! front.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use schemas::{
    Body, ContentHash, Kind, Object,
    priority::{Priorities, PriorityError},
};
use serde_json::Value;
use store::{Op, WriteError};

use crate::{
    execute::Failure,
    plan::{Plan, Step},
};

/// Fills in what new pods of a plan get. A pod that is not let in ends the plan where it stands, as a
/// write that the store refuses would.
pub(crate) fn admit(plan: &mut Plan, priorities: &Priorities) -> Option<Failure> {
    let with_new = with_new_classes(plan, priorities);
    let priorities = with_new.as_ref().unwrap_or(priorities);
    // Pods of one template share a body before and after.
    let mut known: FxHashMap<ContentHash, Arc<Body>> = FxHashMap::default();
    for at in 0..plan.steps.len() {
        let Step::Write { writes, why, .. } = &mut plan.steps[at] else {
            continue;
        };
        let mut refused: Option<Failure> = None;
        writes.retain_mut(|write| {
            let Op::Create(pod) = &mut write.op else { return true };
            if pod.kind != Kind::Pod {
                return true;
            }
            match body(pod, priorities, &mut known) {
                Ok(body) => {
                    pod.body = body;
                    true
                }
                Err(error) => {
                    let key = pod.key();
                    let reason = format!("pods {:?} is forbidden: {error}", pod.name());
                    let refused = refused.get_or_insert_with(|| Failure {
                        why: why.clone(),
                        failed: Vec::new(),
                        error: WriteError::Invalid {
                            key: key.clone(),
                            reason,
                        },
                    });
                    refused.failed.push(key);
                    false
                }
            }
        });
        if refused.is_some() {
            // What stands beside it in the step is written; what comes after the step is not.
            plan.steps.truncate(at + 1);
            return refused;
        }
    }
    None
}

/// All classes, where the plan itself makes some: a class may be declared beside its first pods.
fn with_new_classes(plan: &Plan, priorities: &Priorities) -> Option<Priorities> {
    let mut all: Option<Priorities> = None;
    for step in &plan.steps {
        let Step::Write { writes, .. } = step else { continue };
        for write in writes {
            if let Op::Create(class) = &write.op
                && class.kind == Kind::PriorityClass
            {
                let all = all.get_or_insert_with(|| priorities.clone());
                all.put(class.name(), Some(class));
            }
        }
    }
    all
}

fn body(
    pod: &Object,
    priorities: &Priorities,
    known: &mut FxHashMap<ContentHash, Arc<Body>>,
) -> Result<Arc<Body>, PriorityError> {
    if let Some(body) = known.get(&pod.body.hash()) {
        return Ok(body.clone());
    }
    let before = pod.body.value();
    let mut value = before.clone();
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
        priorities.admit(spec)?;
    }
    let body = if value == before {
        pod.body.clone()
    } else {
        Body::new(value)
    };
    known.insert(pod.body.hash(), body.clone());
    Ok(body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use store::{Class, Write};

    use super::*;

    fn pod(name: &str, class: &str) -> Write {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {"containers": [], "priorityClassName": class},
        });
        Write::new(Op::Create(Object::from_value(value).expect("it is valid")))
    }

    fn priorities() -> Priorities {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 7,
        });
        let class = Arc::new(Object::from_value(class).expect("it is valid"));
        Priorities::of_objects([class].iter())
    }

    fn written(plan: &Plan) -> Vec<(String, i64)> {
        let writes = plan.steps.iter().flat_map(|step| match step {
            Step::Write { writes, .. } => writes.as_slice(),
            _ => &[],
        });
        let created = writes.filter_map(|write| match &write.op {
            Op::Create(pod) => Some((
                pod.name().to_owned(),
                pod.body.at("spec/priority").and_then(schemas::Part::int).unwrap_or(-1),
            )),
            _ => None,
        });
        created.collect()
    }

    #[test]
    fn new_pods_get_the_number_of_their_class_and_share_their_body() {
        let mut plan = Plan::default();
        plan.writes(
            Class::Controller,
            "making pods",
            vec![pod("a", "high"), pod("b", "high"), pod("c", "")],
        );
        assert!(admit(&mut plan, &priorities()).is_none());
        assert_eq!(
            written(&plan),
            [("a".to_owned(), 7), ("b".to_owned(), 7), ("c".to_owned(), 0)]
        );
        let Step::Write { writes, .. } = &plan.steps[0] else {
            panic!("it writes")
        };
        let (Op::Create(a), Op::Create(b)) = (&writes[0].op, &writes[1].op) else {
            panic!("they are made")
        };
        assert!(Arc::ptr_eq(&a.body, &b.body));
    }

    #[test]
    fn a_class_that_comes_with_the_plan_counts() {
        let class = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "new"}, "value": 9,
        });
        let class = Object::from_value(class).expect("it is valid");
        let mut plan = Plan::default();
        plan.writes(
            Class::Git,
            "releasing",
            vec![Write::new(Op::Create(class)), pod("a", "new")],
        );
        assert!(admit(&mut plan, &priorities()).is_none());
        assert_eq!(written(&plan)[1], ("a".to_owned(), 9));
    }

    #[test]
    fn a_pod_of_an_unknown_class_ends_the_plan() {
        let mut plan = Plan::default();
        plan.writes(
            Class::Controller,
            "making pods",
            vec![pod("a", "high"), pod("b", "none")],
        );
        plan.writes(Class::Controller, "making more", vec![pod("c", "high")]);
        let failure = admit(&mut plan, &priorities()).expect("it is refused");
        assert!(
            failure
                .error
                .to_string()
                .contains("pods \"b\" is forbidden: no PriorityClass with name none was found"),
            "{failure}"
        );
        assert_eq!(failure.failed.len(), 1);
        assert_eq!(written(&plan), [("a".to_owned(), 7)], "what comes after it is not made");
    }
}
