//! Priorities of pods: a pod names a class, and gets the number that the class stands for.
//!
//! <https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/>

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use crate::Object;

/// The default policy: a pod that fits nowhere takes the place of less important ones.
pub const PREEMPT: &str = "PreemptLowerPriority";
/// The policy of pods that wait until there is room.
pub const NEVER: &str = "Never";

/// Classes that are there without being declared.
pub const BUILT_IN: [(&str, i32); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// How important a pod is, and what it may do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    pub value: i32,
    /// [`PREEMPT`] or [`NEVER`].
    pub policy: &'static str,
}

impl Default for Priority {
    fn default() -> Self {
        Self {
            value: 0,
            policy: PREEMPT,
        }
    }
}

/// Why a pod is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriorityError {
    #[error("no PriorityClass with name {0} was found")]
    NoClass(String),
    #[error(
        "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
         computed {computed} from the given PriorityClass name"
    )]
    Value { given: i64, computed: i32 },
    #[error(
        "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
         controller computed {computed} from the given PriorityClass name"
    )]
    Policy { given: String, computed: &'static str },
}

/// All classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priorities {
    classes: BTreeMap<Arc<str>, Class>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class {
    priority: Priority,
    is_default: bool,
}

impl Priorities {
    /// The classes among `objects`.
    pub fn of_objects<'a>(objects: impl Iterator<Item = &'a Arc<Object>>) -> Self {
        let mut all = Self::default();
        objects.for_each(|object| all.put(object.name(), Some(object)));
        all
    }

    /// Takes in a class; none when it is gone.
    pub fn put(&mut self, name: &str, class: Option<&Object>) {
        let Some(class) = class else {
            self.classes.remove(name);
            return;
        };
        let body = class.body.value();
        let value = body.get("value").and_then(Value::as_i64).unwrap_or(0);
        let class = Class {
            priority: Priority {
                value: i32::try_from(value).unwrap_or(0),
                policy: policy(body.get("preemptionPolicy")).unwrap_or(PREEMPT),
            },
            is_default: body.get("globalDefault") == Some(&Value::Bool(true)),
        };
        self.classes.insert(name.into(), class);
    }

    fn class(&self, name: &str) -> Option<Priority> {
        if let Some(class) = self.classes.get(name) {
            return Some(class.priority);
        }
        let (_, value) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
        Some(Priority {
            value: *value,
            policy: PREEMPT,
        })
    }

    /// The class of pods that name none. Of several the one with the lowest value.
    fn default_class(&self) -> Option<(&Arc<str>, Priority)> {
        let defaults = self.classes.iter().filter(|(_, class)| class.is_default);
        defaults
            .min_by_key(|(_, class)| class.priority.value)
            .map(|(name, class)| (name, class.priority))
    }

    /// The priority of a pod that was let in, by its spec.
    #[must_use]
    pub fn of(&self, spec: &Value) -> Priority {
        let class = class_name(spec.as_object()).and_then(|name| self.class(name));
        let fallback = class.unwrap_or_default();
        let value = spec.get("priority").and_then(Value::as_i64);
        Priority {
            value: value
                .and_then(|value| i32::try_from(value).ok())
                .unwrap_or(fallback.value),
            policy: policy(spec.get("preemptionPolicy")).unwrap_or(fallback.policy),
        }
    }

    /// Fills in what a new pod's class stands for.
    ///
    /// # Errors
    /// When there is no such class, or when the spec itself says something else.
    pub fn admit(&self, spec: &mut Map<String, Value>) -> Result<(), PriorityError> {
        let named = class_name(Some(spec)).map(str::to_owned);
        let (name, priority) = match named {
            Some(name) => {
                let found = self.class(&name).ok_or_else(|| PriorityError::NoClass(name.clone()))?;
                (Some(name), found)
            }
            None => match self.default_class() {
                Some((name, priority)) => (Some(name.to_string()), priority),
                None => (None, Priority::default()),
            },
        };
        // Defaulting writes a zero where no class is named.
        let given = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != 0);
        if let Some(given) = given.filter(|given| *given != i64::from(priority.value)) {
            return Err(PriorityError::Value {
                given,
                computed: priority.value,
            });
        }
        let given = spec.get("preemptionPolicy").and_then(Value::as_str);
        if let Some(given) = given.filter(|given| *given != PREEMPT && *given != priority.policy) {
            return Err(PriorityError::Policy {
                given: given.to_owned(),
                computed: priority.policy,
            });
        }
        if let Some(name) = name {
            spec.insert("priorityClassName".to_owned(), name.into());
        }
        spec.insert("priority".to_owned(), priority.value.into());
        spec.insert("preemptionPolicy".to_owned(), priority.policy.into());
        Ok(())
    }
}

fn class_name(spec: Option<&Map<String, Value>>) -> Option<&str> {
    let name = spec?.get("priorityClassName")?.as_str()?;
    (!name.is_empty()).then_some(name)
}

fn policy(value: Option<&Value>) -> Option<&'static str> {
    match value?.as_str()? {
        NEVER => Some(NEVER),
        PREEMPT => Some(PREEMPT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn classes(all: &[(&str, i64, bool, &str)]) -> Priorities {
        let object = |(name, value, default, policy): &(&str, i64, bool, &str)| {
            let value = json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                "value": value, "globalDefault": default, "preemptionPolicy": policy,
            });
            Arc::new(Object::from_value(value).expect("it is valid"))
        };
        let objects: Vec<_> = all.iter().map(object).collect();
        Priorities::of_objects(objects.iter())
    }

    #[test]
    fn a_pod_gets_what_its_class_stands_for() {
        let none = classes(&[]);
        let some = classes(&[("high", 1000, false, PREEMPT), ("quiet", 500, false, NEVER)]);
        let defaults = classes(&[("usual", 10, true, PREEMPT), ("other", 20, true, PREEMPT)]);
        let table = [
            (&none, json!({}), Ok((0, PREEMPT, None))),
            (&none, json!({"priority": 0}), Ok((0, PREEMPT, None))),
            (
                &some,
                json!({"priorityClassName": "high"}),
                Ok((1000, PREEMPT, Some("high"))),
            ),
            (
                &some,
                json!({"priorityClassName": "quiet"}),
                Ok((500, NEVER, Some("quiet"))),
            ),
            (
                &some,
                json!({"priorityClassName": "high", "priority": 1000}),
                Ok((1000, PREEMPT, Some("high"))),
            ),
            (
                &some,
                json!({"priorityClassName": "low"}),
                Err(PriorityError::NoClass("low".to_owned())),
            ),
            (
                &some,
                json!({"priorityClassName": "high", "priority": 7}),
                Err(PriorityError::Value {
                    given: 7,
                    computed: 1000,
                }),
            ),
            (
                &some,
                json!({"priority": 7}),
                Err(PriorityError::Value { given: 7, computed: 0 }),
            ),
            (
                &some,
                json!({"priorityClassName": "high", "preemptionPolicy": "Never"}),
                Err(PriorityError::Policy {
                    given: NEVER.to_owned(),
                    computed: PREEMPT,
                }),
            ),
            (&defaults, json!({"priority": 0}), Ok((10, PREEMPT, Some("usual")))),
            (
                &none,
                json!({"priorityClassName": "system-node-critical"}),
                Ok((2_000_001_000, PREEMPT, Some("system-node-critical"))),
            ),
        ];
        for (priorities, spec, expected) in table {
            let mut admitted = spec.as_object().cloned().expect("a map");
            let result = priorities.admit(&mut admitted).map(|()| {
                let admitted = Value::Object(admitted.clone());
                let priority = priorities.of(&admitted);
                let name = admitted["priorityClassName"].as_str().map(str::to_owned);
                (priority.value, priority.policy, name)
            });
            let expected = expected.map(|(value, policy, name)| (value, policy, name.map(str::to_owned)));
            assert_eq!(result, expected, "{spec}");
        }
    }

    #[test]
    fn a_class_that_is_gone_leaves_what_pods_have() {
        let mut some = classes(&[("high", 1000, false, PREEMPT)]);
        assert_eq!(some.of(&json!({"priorityClassName": "high"})).value, 1000);
        some.put("high", None);
        assert_eq!(
            some.of(&json!({"priorityClassName": "high", "priority": 1000})).value,
            1000
        );
        assert_eq!(some.of(&json!({"priorityClassName": "high"})).value, 0);
    }
}
