//! Holds new pods and claims to the rules of their namespace, as the batch before them left these.
//!
//! Pods of one template are looked at once, for as long as the rules stay as they are.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use schemas::{
    Body, ContentHash, Kind, Object, Packed, Part,
    admission::{self, Rules},
    defaulting,
};
use serde_json::{Value, json};

/// So many bodies are remembered before all are forgotten.
const REMEMBERED: usize = 4096;

/// What the rules of namespaces have made of bodies.
#[derive(Debug, Default)]
pub(crate) struct Admission(FxHashMap<(Arc<str>, ContentHash), Known>);

#[derive(Clone, Debug)]
struct Known {
    /// The versions of the rules: an account's, then those of ranges of limits.
    rules: Vec<u64>,
    /// None: as it is.
    body: Option<Arc<Body>>,
    /// The status of a new pod of the body that was sent, and of the one that it becomes.
    status: Option<(Packed, Packed)>,
}

impl Admission {
    /// Makes of an object what the rules say.
    ///
    /// # Errors
    /// Why it may not be.
    pub(crate) fn admit(
        &mut self,
        space: &Arc<str>,
        object: &mut Object,
        account: Option<&Arc<Object>>,
        ranges: &[Arc<Object>],
    ) -> Result<(), String> {
        let versions = account.into_iter().chain(ranges).map(|rule| rule.version);
        // An account that is not there is no rule of version 0.
        let versions: Vec<u64> = std::iter::once(u64::from(account.is_some())).chain(versions).collect();
        let place = (space.clone(), object.body.hash());
        let known = match self.0.get(&place).filter(|known| known.rules == versions) {
            Some(known) => known.clone(),
            None => {
                let account = account.map(|account| &**account);
                let body = admission::admit(object, Rules { account, ranges })?;
                let status = body
                    .as_ref()
                    .and_then(|body| Some((fresh(object.kind, &object.body)?, fresh(object.kind, body)?)));
                let known = Known {
                    rules: versions,
                    body,
                    status,
                };
                if self.0.len() >= REMEMBERED {
                    self.0.clear();
                }
                self.0.insert(place, known.clone());
                known
            }
        };
        if let Some(body) = known.body {
            object.body = body;
        }
        if let Some((before, after)) = known.status
            && object.status.as_ref() == Some(&before)
        {
            object.status = Some(after);
        }
        Ok(())
    }
}

/// The status that a new object with this body has: it tells a pod's quality of service.
fn fresh(kind: Kind, body: &Body) -> Option<Packed> {
    let spec = body.at("spec").map_or(Value::Null, Part::value);
    defaulting::initial_status(kind, &json!({"spec": spec})).map(Into::into)
}
