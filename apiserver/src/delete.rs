//! Deletions, of one object and of many.

use std::sync::Arc;

use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as Body;
use schemas::{
    Kind, Object,
    deletion::{self, DeleteOptions, Deletion, Refusal},
};
use store::{Class, Op, Write, WriteError};

use crate::{
    admit::{self, WriteOptions},
    api::{Api, deleted, with_warnings},
    exchange::{self, Call, MAX_BODY, Response},
    path::{Resource, Verb},
    policy, read,
    select::Selection,
    status::ApiError,
    write::refused_for_real,
};

/// How often a deletion is planned anew when the object changed meanwhile.
const TRIES: usize = 8;

/// Reads the options of a deletion from its body and its query; the body wins.
async fn options(call: &mut Call) -> Result<(DeleteOptions, bool), ApiError> {
    let mut dry_run = WriteOptions::of(call)?.dry_run;
    let bytes = call.take_body(MAX_BODY).await?;
    let mut body = if bytes.is_empty() {
        Body::default()
    } else {
        serde_json::from_value(admit::parse_body(call, &bytes)?)
            .map_err(|error| ApiError::bad_request(format!("the body is no DeleteOptions: {error}")))?
    };
    dry_run |= body.dry_run.iter().flatten().any(|word| word == "All");
    let query = &call.query;
    if body.grace_period_seconds.is_none() {
        body.grace_period_seconds = query.parsed("gracePeriodSeconds")?;
    }
    if body.propagation_policy.is_none() && body.orphan_dependents.is_none() {
        body.propagation_policy = query.text("propagationPolicy").map(str::to_owned);
        if query.get("orphanDependents").is_some() {
            body.orphan_dependents = Some(query.flag("orphanDependents")?);
        }
    }
    let options = DeleteOptions::try_from(&body).map_err(|refusal| ApiError::bad_request(refusal.to_string()))?;
    Ok((options, dry_run))
}

/// Whether a deletion may be done here; of a dry run, the warning that a real one would be refused.
fn check(api: &Api, verb: Verb, live: &Object, dry_run: bool) -> Result<Option<String>, ApiError> {
    let attempt = policy::Attempt {
        verb,
        key: &live.key(),
        sub: None,
        live: Some(live),
        new: None,
    };
    match policy::check(&api.store, attempt) {
        Ok(()) => Ok(None),
        Err(error) if dry_run => Ok(Some(refused_for_real(&error))),
        Err(error) => Err(error),
    }
}

/// What a deletion left.
enum Left {
    /// The object, which waits for its node or for finalizers.
    Marked(Arc<Object>),
    Removed(Arc<Object>),
}

/// `DELETE` of one object.
pub(crate) async fn one(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let (options, dry_run) = options(&mut call).await?;
    let live = read::find(&api.store, resource)?;
    let warnings = check(api, Verb::Delete, &live, dry_run)?;
    let left = delete(api, live, &options, dry_run).await?;
    let response = match left {
        Left::Marked(object) => exchange::json(StatusCode::OK, &*object),
        // A pod is answered with its last state, as clients of pods expect.
        Left::Removed(object) if object.kind == Kind::Pod => exchange::json(StatusCode::OK, &*object),
        Left::Removed(object) => deleted(resource, &object.uid().0),
    };
    Ok(with_warnings(response, warnings.as_slice()))
}

/// `DELETE` of a list. Either all of it may be deleted here, or nothing is.
pub(crate) async fn many(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let (options, dry_run) = options(&mut call).await?;
    let selection = Selection::of(resource, &call.query)?;
    let (version, items) = {
        let view = api.store.view();
        (view.version(), selection.page(&view, None, None).items)
    };
    for object in &items {
        check(api, Verb::DeleteCollection, object, dry_run)?;
    }
    let mut gone = Vec::with_capacity(items.len());
    for object in items {
        match delete(api, object, &options, dry_run).await {
            Ok(Left::Marked(object) | Left::Removed(object)) => gone.push(object),
            // Somebody else was faster.
            Err(error) if error.code == StatusCode::NOT_FOUND => {}
            Err(error) => return Err(error),
        }
    }
    Ok(exchange::json(
        StatusCode::OK,
        &read::list_value(&selection, version, &gone),
    ))
}

/// Deletes an object as its kind is deleted.
pub(crate) async fn delete_object(
    api: &Api,
    live: Arc<Object>,
    options: &DeleteOptions,
    dry_run: bool,
) -> Result<(), ApiError> {
    delete(api, live, options, dry_run).await.map(|_| ())
}

async fn delete(api: &Api, mut live: Arc<Object>, options: &DeleteOptions, dry_run: bool) -> Result<Left, ApiError> {
    for _ in 0..TRIES {
        let now = api.clock.now();
        let (write, status) = match deletion::plan(&live, options, now) {
            Deletion::Refused(refusal) => {
                return Err(match refusal {
                    Refusal::Invalid(_) => ApiError::bad_request(refusal.to_string()),
                    refusal => ApiError::conflict(live.kind, live.name(), &refusal.to_string()),
                });
            }
            Deletion::Nothing => return Ok(Left::Marked(live)),
            Deletion::Remove => (Op::Remove { key: live.key() }, None),
            Deletion::Mark(marked) => {
                let status = marked
                    .status
                    .clone()
                    .filter(|status| live.status.as_ref() != Some(status));
                (Op::Replace(marked), status)
            }
        };
        let removes = matches!(write, Op::Remove { .. });
        if dry_run {
            return Ok(match write {
                Op::Replace(marked) => Left::Marked(Arc::new(marked)),
                _ => Left::Removed(live),
            });
        }
        let write = Write::new(write).uid(live.uid()).version(live.version);
        match api.store.write_one(Class::User, write).await {
            Ok(object) if removes => return Ok(Left::Removed(object)),
            Ok(object) => {
                // The mark stands; the status beside it only says so.
                if let Some(status) = status {
                    let op = Op::Status {
                        key: object.key(),
                        status,
                    };
                    if let Err(error) = api.store.write_one(Class::User, Write::new(op).uid(object.uid())).await {
                        tracing::debug!(object = %object.key(), %error, "the status of a deletion was not written");
                    }
                }
                return Ok(Left::Marked(object));
            }
            Err(WriteError::Conflict { key, reason }) => {
                let again = api
                    .store
                    .get(&key)
                    .ok_or_else(|| ApiError::not_found(key.kind, &key.name))?;
                if again.uid() != live.uid() || options.version.is_some() {
                    return Err(ApiError::conflict(key.kind, &key.name, &reason));
                }
                live = again;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(
        live.kind,
        live.name(),
        "it changes too often; try again",
    ))
}
