//! Which objects a list, a watch or a deletion of many is about.

use std::sync::Arc;

use schemas::{
    Key, Kind, Object,
    selector::{FieldSelector, Selector},
};
use store::{Scope, View};

use crate::{path::Resource, query::Query, status::ApiError};

/// The objects that a request selects.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub kind: Kind,
    pub namespace: Option<String>,
    name: Option<String>,
    labels: Selector,
    fields: FieldSelector,
}

/// A part of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub items: Vec<Arc<Object>>,
    /// There is more behind the last item.
    pub more: bool,
}

impl Selection {
    /// Reads the selectors of a request.
    ///
    /// # Errors
    /// A 400 for a selector that cannot be read.
    pub(crate) fn of(resource: &Resource, query: &Query) -> Result<Self, ApiError> {
        let labels = match query.text("labelSelector") {
            None => Selector::everything(),
            Some(text) => text
                .parse()
                .map_err(|error: schemas::selector::SelectorError| ApiError::bad_request(error.to_string()))?,
        };
        let fields = match query.text("fieldSelector") {
            None => FieldSelector::default(),
            Some(text) => {
                FieldSelector::parse(text, resource.kind).map_err(|error| ApiError::bad_request(error.to_string()))?
            }
        };
        let name = resource
            .name
            .clone()
            .or_else(|| fields.required("metadata.name").map(str::to_owned));
        let namespace = resource.namespace.clone().or_else(|| {
            let required = fields.required("metadata.namespace");
            required.filter(|_| resource.kind.info().namespaced).map(str::to_owned)
        });
        Ok(Self {
            kind: resource.kind,
            namespace,
            name,
            labels,
            fields,
        })
    }

    #[must_use]
    pub(crate) fn matches(&self, object: &Object) -> bool {
        object.kind == self.kind
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| namespace == object.namespace())
            && self.name.as_deref().is_none_or(|name| name == object.name())
            && self.labels.matches_object(object)
            && self.fields.matches(object)
    }

    /// Whether every object of the kind is selected.
    #[must_use]
    pub(crate) fn is_everything(&self) -> bool {
        self.namespace.is_none() && self.name.is_none() && self.labels.is_everything() && self.fields.is_everything()
    }

    fn node(&self) -> Option<&str> {
        (self.kind == Kind::Pod)
            .then(|| self.fields.required("spec.nodeName"))
            .flatten()
            .filter(|node| !node.is_empty())
    }

    /// What a watch must see for this selection.
    #[must_use]
    pub(crate) fn scope(&self) -> Scope {
        let scope = match self.node() {
            Some(node) => Scope::node(node),
            None => Scope::kinds(&[self.kind]),
        };
        match &self.namespace {
            Some(namespace) => scope.in_namespace(namespace),
            None => scope,
        }
    }

    /// The selected objects behind `after`, at most `limit`, in the order of their keys. An index is
    /// used where there is one.
    #[must_use]
    pub(crate) fn page(&self, view: &View<'_>, after: Option<&Key>, limit: Option<usize>) -> Page {
        let namespace = self.namespace.as_deref();
        if let (Some(name), Some(namespace)) = (&self.name, self.exact_namespace()) {
            let key = Key {
                kind: self.kind,
                namespace: namespace.map(Into::into),
                name: name.as_str().into(),
            };
            let found = view.get(&key).filter(|_| after.is_none_or(|after| key > *after));
            return self.cut(found.into_iter(), limit);
        }
        if let Some(node) = self.node() {
            let mut items: Vec<&Arc<Object>> = view
                .on_node(node)
                .filter(|pod| after.is_none_or(|after| pod.key() > *after))
                .collect();
            items.sort_by_key(|pod| pod.key());
            return self.cut(items.into_iter(), limit);
        }
        match after {
            Some(after) => self.cut(view.list_after(self.kind, namespace, after), limit),
            None => self.cut(view.list(self.kind, namespace), limit),
        }
    }

    /// The namespace that a name must be in; the outer None: any.
    fn exact_namespace(&self) -> Option<Option<&str>> {
        if self.kind.info().namespaced {
            self.namespace.as_deref().map(Some)
        } else {
            Some(None)
        }
    }

    fn cut<'a>(&self, objects: impl Iterator<Item = &'a Arc<Object>>, limit: Option<usize>) -> Page {
        let mut selected = objects.filter(|object| self.matches(object));
        let items: Vec<Arc<Object>> = match limit {
            Some(limit) => selected.by_ref().take(limit).cloned().collect(),
            None => selected.by_ref().cloned().collect(),
        };
        let more = limit.is_some() && selected.next().is_some();
        Page { items, more }
    }
}
