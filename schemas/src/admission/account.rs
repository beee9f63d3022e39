//! What a pod gets from its service account.

use serde_json::{Map, Value};

use crate::{Object, Part};

/// The ConfigMap of every namespace that holds the authority's certificate.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// Fills in the account's name and its pull secrets.
pub(super) fn apply(spec: &mut Map<String, Value>, account: &Object) {
    for field in ["serviceAccountName", "serviceAccount"] {
        spec.insert(field.to_owned(), account.name().into());
    }
    let secrets = account.body.at("imagePullSecrets").map(Part::value);
    let has_own = spec
        .get("imagePullSecrets")
        .and_then(Value::as_array)
        .is_some_and(|own| !own.is_empty());
    if let Some(secrets) = secrets.filter(|secrets| !has_own && secrets.as_array().is_some_and(|list| !list.is_empty()))
    {
        spec.insert("imagePullSecrets".to_owned(), secrets);
    }
}
