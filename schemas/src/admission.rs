//! What the rules of a namespace make of a new object: its service account and its ranges of limits.
//! Pure; the store asks it for every pod and claim that is made.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>
//! <https://kubernetes.io/docs/concepts/policy/limit-range/>

mod account;
mod range;

use std::sync::Arc;

use serde_json::Value;

use crate::{Body, Key, Kind, Object, Part};

pub use account::ROOT_CA;

/// The account of pods that name none; every namespace has one.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The rules of one namespace, as far as one object is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The account that a pod runs as, if it is there.
    pub account: Option<&'a Object>,
    /// All LimitRanges.
    pub ranges: &'a [Arc<Object>],
}

/// The account that a pod runs as.
#[must_use]
pub fn account_of(pod: &Object) -> Key {
    let name = pod.body.at("spec/serviceAccountName").and_then(Part::text);
    let name = name.filter(|name| !name.is_empty());
    let name = name.as_deref().unwrap_or(DEFAULT_ACCOUNT);
    Key::namespaced(Kind::ServiceAccount, pod.namespace(), name)
}

/// Whether new objects of a kind are held to the rules of their namespace.
#[must_use]
pub fn concerns(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::PersistentVolumeClaim)
}

/// The body of a new object as it is to be: with the defaults of its namespace and of its account.
/// None: as it is.
///
/// # Errors
/// Why it may not be, in the words that people know.
pub fn admit(object: &Object, rules: Rules<'_>) -> Result<Option<Arc<Body>>, String> {
    if object.kind == Kind::PersistentVolumeClaim {
        range::check_claim(object, rules.ranges)?;
        return Ok(None);
    }
    let mut body = object.body.value();
    if let Some(Value::Object(spec)) = body.get_mut("spec") {
        let account = account_of(object);
        let Some(found) = rules.account else {
            return Err(format!(
                "error looking up service account {}/{}: serviceaccount {:?} not found",
                account.ns(),
                account.name,
                account.name
            ));
        };
        account::apply(spec, found);
        range::set_defaults(spec, rules.ranges);
    }
    let body = Body::new(body);
    if !rules.ranges.is_empty() {
        let spec = body
            .typed()
            .map_err(|error| format!("its spec is not valid: {error}"))?;
        range::check_pod(&spec, rules.ranges)?;
    }
    Ok((body.hash() != object.body.hash()).then_some(body))
}

#[cfg(test)]
mod tests;
