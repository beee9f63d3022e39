//! Server-side tables: lists as people read them.
//!
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>

use std::sync::Arc;

use jiff::Timestamp;
use schemas::{Kind, Object};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    columns::{self, Column},
    exchange::Response,
    query::Query,
    status::ApiError,
    wire::{self, ListMeta, Partial, Wire},
};

/// What stands in a row beside its cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    Nothing,
    #[default]
    Metadata,
    Object,
}

impl Include {
    /// Reads `includeObject`.
    pub(crate) fn of(query: &Query) -> Result<Self, ApiError> {
        match query.text("includeObject") {
            None | Some("Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::Nothing),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(ApiError::bad_request(format!(
                "includeObject must be None, Metadata or Object, not {other:?}"
            ))),
        }
    }
}

/// How tables of one request are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub kind: Kind,
    pub include: Include,
    /// The version of `meta.k8s.io`.
    pub version: &'static str,
    /// The time that ages are counted to.
    pub now: Timestamp,
}

#[derive(Serialize)]
struct Row<'a> {
    cells: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<RowObject<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum RowObject<'a> {
    Partial(Partial<'a>),
    Whole(Wire<'a>),
}

fn definitions(columns: &[Column]) -> Value {
    columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.holds.word(),
                "format": if column.name == "Name" { "name" } else { "" },
                "description": column.description,
                "priority": u8::from(column.wide),
            })
        })
        .collect()
}

fn head(style: Style, meta: &ListMeta, with_columns: bool) -> Value {
    let columns = if with_columns {
        definitions(columns::of(style.kind))
    } else {
        json!([])
    };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", style.version),
        "metadata": meta.to_value(),
        "columnDefinitions": columns,
    })
}

fn row(style: Style, object: &Object) -> Row<'_> {
    Row {
        cells: columns::cells(object, style.now),
        object: match style.include {
            Include::Nothing => None,
            Include::Metadata => Some(RowObject::Partial(Partial {
                object,
                version: style.version,
            })),
            Include::Object => Some(RowObject::Whole(Wire(object))),
        },
    }
}

/// A table of objects.
#[must_use]
pub(crate) fn table(style: Style, meta: &ListMeta, items: Vec<Arc<Object>>) -> Response {
    wire::list(head(style, meta, true), "rows", items, move |object, out| {
        serde_json::to_writer(out, &row(style, object))
    })
}

/// A table of one object, as the events of a watch carry it. Only the first needs the columns.
pub(crate) fn of_one(style: Style, object: &Object, with_columns: bool) -> Result<Value, serde_json::Error> {
    let meta = ListMeta {
        version: object.version,
        ..ListMeta::default()
    };
    let mut value = head(style, &meta, with_columns);
    value["rows"] = serde_json::to_value([row(style, object)])?;
    Ok(value)
}
