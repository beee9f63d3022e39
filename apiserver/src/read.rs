//! Get and list.

use std::sync::Arc;

use http::{StatusCode, header};
use schemas::{Key, Object};
use serde_json::{Value, json};
use store::Store;

use crate::{
    accept::Form,
    api::Api,
    continuation::Continuation,
    exchange::{self, Call, Response},
    leases,
    path::Resource,
    query::Query,
    select::Selection,
    status::ApiError,
    table::{self, Include, Style},
    wire::{self, ListMeta, Partial},
};

/// The object that a path names.
///
/// # Errors
/// A 404 where there is none.
pub(crate) fn find(store: &Store, resource: &Resource) -> Result<Arc<Object>, ApiError> {
    let key = resource.key();
    store.get(&key).ok_or_else(|| ApiError::not_found(key.kind, &key.name))
}

/// `GET` of one object.
pub(crate) fn get(api: &Api, resource: &Resource, call: &Call) -> Result<Response, ApiError> {
    let form = Form::of(call.header(header::ACCEPT))?;
    at_least(&api.store, &call.query)?;
    let object = match leases::of_node(api, &resource.key()) {
        Some(lease) => Arc::new(lease),
        None => find(&api.store, resource)?,
    };
    one(api, form, object, &call.query)
}

/// One object in the form that the client wants.
pub(crate) fn one(api: &Api, form: Form, object: Arc<Object>, query: &Query) -> Result<Response, ApiError> {
    let failed = |error: serde_json::Error| ApiError::internal(format!("{} cannot be encoded: {error}", object.key()));
    match form {
        Form::Plain => {
            let body = serde_json::to_vec(&wire::Wire(&object)).map_err(failed)?;
            Ok(exchange::respond(StatusCode::OK, "application/json", body))
        }
        Form::Table { version } => {
            let style = Style {
                kind: object.kind,
                include: Include::of(query)?,
                version,
                now: api.clock.now().wall,
            };
            let meta = ListMeta {
                version: object.version,
                ..ListMeta::default()
            };
            Ok(table::table(style, &meta, vec![object]))
        }
        Form::Metadata { version } => {
            let partial = Partial {
                object: &object,
                version,
            };
            Ok(exchange::json(StatusCode::OK, &partial))
        }
        Form::Discovery { .. } => Err(ApiError::not_acceptable()),
    }
}

/// What `resourceVersion` and its match ask of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Newest,
    NotOlderThan(u64),
    Exactly(u64),
}

impl Wanted {
    /// Reads both parameters.
    pub(crate) fn of(query: &Query) -> Result<Self, ApiError> {
        let version = match query.text("resourceVersion") {
            None => None,
            Some(text) => Some(text.parse::<u64>().map_err(|_| {
                ApiError::bad_request(format!("invalid resource version {text:?}: it is not a number"))
            })?),
        };
        match (query.text("resourceVersionMatch"), version) {
            (None, None | Some(0)) => Ok(Self::Newest),
            (None | Some("NotOlderThan"), Some(version)) => Ok(Self::NotOlderThan(version)),
            (Some("Exact"), Some(version)) if version > 0 => Ok(Self::Exactly(version)),
            (Some("Exact"), Some(_)) => Err(ApiError::bad_request(
                "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
            )),
            (Some(_), None) => Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )),
            (Some(other), Some(_)) => Err(ApiError::bad_request(format!(
                "resourceVersionMatch must be Exact or NotOlderThan, not {other:?}"
            ))),
        }
    }

    /// Whether the store at version `newest` can answer.
    pub(crate) fn check(self, newest: u64) -> Result<(), ApiError> {
        match self {
            Self::NotOlderThan(version) | Self::Exactly(version) if version > newest => {
                let cause = crate::status::Cause {
                    reason: "ResourceVersionTooLarge",
                    field: String::new(),
                    message: "Too large resource version".into(),
                };
                Err(
                    ApiError::timeout(format!("Too large resource version: {version}, current: {newest}"))
                        .causes([cause])
                        .retry_after(1),
                )
            }
            Self::Exactly(version) if version < newest => Err(ApiError::expired(format!(
                "The resourceVersion for the provided list is too old: {version} was asked for exactly, and only {newest} is kept"
            ))),
            _ => Ok(()),
        }
    }
}

fn at_least(store: &Store, query: &Query) -> Result<(), ApiError> {
    match Wanted::of(query)? {
        Wanted::Exactly(_) => Err(ApiError::bad_request(
            "resourceVersionMatch is forbidden for a single object",
        )),
        wanted => wanted.check(store.version()),
    }
}

/// `GET` of a list.
pub(crate) fn list(api: &Api, resource: &Resource, call: &Call) -> Result<Response, ApiError> {
    let form = Form::of(call.header(header::ACCEPT))?;
    let selection = Selection::of(resource, &call.query)?;
    let (meta, items) = page(&api.store, &selection, &call.query)?;
    match form {
        Form::Plain => Ok(wire::plain_list(selection.kind, &meta, items)),
        Form::Table { version } => {
            let style = Style {
                kind: selection.kind,
                include: Include::of(&call.query)?,
                version,
                now: api.clock.now().wall,
            };
            Ok(table::table(style, &meta, items))
        }
        Form::Metadata { version } => Ok(wire::partial_list(version, &meta, items)),
        Form::Discovery { .. } => Err(ApiError::not_acceptable()),
    }
}

/// One page of a list, with where the next begins.
fn page(store: &Store, selection: &Selection, query: &Query) -> Result<(ListMeta, Vec<Arc<Object>>), ApiError> {
    let limit = match query.parsed::<i64>("limit")? {
        None | Some(0) => None,
        Some(limit) => Some(
            usize::try_from(limit)
                .map_err(|_| ApiError::bad_request("the query parameter limit must not be negative"))?,
        ),
    };
    let incarnation = store.incarnation();
    let continued = match query.text("continue") {
        None => None,
        Some(_) if query.text("resourceVersionMatch").is_some() => {
            return Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
        Some(token) => Some(Continuation::read(token, &incarnation)?),
    };
    let wanted = match &continued {
        Some(_) => Wanted::Newest,
        None => Wanted::of(query)?,
    };
    let after = continued.as_ref().map(|continuation| continuation.key(selection.kind));
    let (newest, page, total) = {
        let view = store.view();
        let page = selection.page(&view, after.as_ref(), limit);
        (view.version(), page, view.count(selection.kind))
    };
    wanted.check(newest)?;
    let version = continued.as_ref().map_or(newest, |continuation| continuation.version);
    let last: Option<Key> = page.items.last().filter(|_| page.more).map(|last| last.key());
    let remaining = (page.more && continued.is_none() && selection.is_everything())
        .then(|| (total - page.items.len().min(total)) as u64);
    let meta = ListMeta {
        version,
        continue_token: last.map(|last| Continuation::after(&last, version, incarnation).token()),
        remaining,
    };
    Ok((meta, page.items))
}

/// A list's JSON value for few objects, where a handler needs one.
#[must_use]
pub(crate) fn list_value(selection: &Selection, version: u64, items: &[Arc<Object>]) -> Value {
    let info = selection.kind.info();
    json!({
        "kind": format!("{}List", info.name),
        "apiVersion": info.api_version(),
        "metadata": {"resourceVersion": version.to_string()},
        "items": items.iter().map(|item| item.to_value()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_wanted_as_the_parameters_say() {
        for (query, wanted) in [
            ("", Some(Wanted::Newest)),
            ("resourceVersion=0", Some(Wanted::Newest)),
            ("resourceVersion=5", Some(Wanted::NotOlderThan(5))),
            (
                "resourceVersion=5&resourceVersionMatch=NotOlderThan",
                Some(Wanted::NotOlderThan(5)),
            ),
            ("resourceVersion=5&resourceVersionMatch=Exact", Some(Wanted::Exactly(5))),
            ("resourceVersion=0&resourceVersionMatch=Exact", None),
            ("resourceVersionMatch=Exact", None),
            ("resourceVersion=5&resourceVersionMatch=Sometimes", None),
            ("resourceVersion=x", None),
        ] {
            assert_eq!(Wanted::of(&Query::parse(query)).ok(), wanted, "{query}");
        }
    }

    #[test]
    fn a_version_that_is_not_there_is_an_error_of_its_own() {
        for (wanted, code) in [
            (Wanted::Newest, None),
            (Wanted::NotOlderThan(7), None),
            (Wanted::NotOlderThan(8), Some(504)),
            (Wanted::Exactly(7), None),
            (Wanted::Exactly(6), Some(410)),
            (Wanted::Exactly(8), Some(504)),
        ] {
            let found = wanted.check(7).err().map(|error| error.code.as_u16());
            assert_eq!(found, code, "{wanted:?}");
        }
    }
}
