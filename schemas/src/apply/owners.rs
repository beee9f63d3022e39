//! `metadata.managedFields`: who owns which fields of an object.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Conflict, FieldSet, merge};
use crate::{Kind, structure::Shape};

/// All managers of an object, in the order of its `managedFields`.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(Vec<Owner>);

#[derive(Clone, Debug)]
struct Owner {
    manager: String,
    applied: bool,
    subresource: Option<String>,
    api_version: String,
    time: Value,
    fields: FieldSet,
}

impl Owners {
    /// Reads an object's `managedFields`. Entries in another form than `fieldsV1` are left out.
    pub(super) fn read(object: &Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let owners = entries.into_iter().flatten().filter_map(|entry| {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).map(str::to_owned);
            let mut fields = FieldSet::from_value(entry.get("fieldsV1")?);
            // An empty set of an object's fields owns nothing, not the object as a whole.
            fields.member &= !fields.children.is_empty();
            Some(Owner {
                manager: text("manager").unwrap_or_default(),
                applied: text("operation").as_deref() == Some("Apply"),
                subresource: text("subresource").filter(|name| !name.is_empty()),
                api_version: text("apiVersion").unwrap_or_default(),
                time: entry.get("time").cloned().unwrap_or_default(),
                fields,
            })
        });
        Self(owners.collect())
    }

    /// Writes them into `object`.
    pub(super) fn write(&self, object: &mut Value) {
        let entries: Vec<Value> = self
            .0
            .iter()
            // An applier that declares an identity alone (a bare Namespace) still declares the object.
            .filter(|owner| owner.applied || !owner.fields.is_empty())
            .map(Owner::to_value)
            .collect();
        let Value::Object(object) = object else { return };
        let meta = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut();
        if let Some(meta) = meta {
            if entries.is_empty() {
                meta.remove("managedFields");
            } else {
                meta.insert("managedFields".to_owned(), entries.into());
            }
        }
    }

    /// What `manager` owns by applying.
    pub(super) fn applied(&self, manager: &str) -> Option<&FieldSet> {
        self.0
            .iter()
            .find(|owner| owner.is_applier(manager))
            .map(|owner| &owner.fields)
    }

    /// What anyone but `manager`, applying, owns.
    pub(super) fn of_others(&self, manager: &str) -> FieldSet {
        let mut all = FieldSet::default();
        for owner in self.0.iter().filter(|owner| !owner.is_applier(manager)) {
            all.add(&owner.fields);
        }
        all
    }

    /// Takes `fields` from everyone but `manager`, applying, and says what was taken from whom.
    pub(super) fn take(&mut self, manager: &str, fields: &FieldSet) -> Vec<Conflict> {
        let mut taken = Vec::new();
        for owner in self.0.iter_mut().filter(|owner| !owner.is_applier(manager)) {
            let common = owner.fields.intersection(fields);
            taken.extend(common.paths().into_iter().map(|field| Conflict {
                manager: owner.manager.clone(),
                field,
            }));
            owner.fields.subtract(&common);
        }
        taken
    }

    /// Takes `fields` from everyone but the updates of `manager`.
    pub(super) fn take_all(&mut self, manager: &str, subresource: Option<&str>, fields: &FieldSet) {
        for owner in self
            .0
            .iter_mut()
            .filter(|owner| !owner.is_updater(manager, subresource))
        {
            owner.fields.subtract(fields);
        }
    }

    /// Makes `fields` all that `manager` owns by applying.
    pub(super) fn put_applied(&mut self, manager: &str, kind: Kind, fields: FieldSet, at: Timestamp) {
        let new = Owner {
            manager: manager.to_owned(),
            applied: true,
            subresource: None,
            api_version: kind.info().api_version(),
            time: time(at),
            fields,
        };
        match self.0.iter_mut().find(|owner| owner.is_applier(manager)) {
            // The time tells when this set of fields was last written.
            Some(owner) => *owner = new,
            None => self.0.push(new),
        }
    }

    /// Adds `fields` to what `manager` owns by updating.
    pub(super) fn add_updated(
        &mut self,
        manager: &str,
        subresource: Option<&str>,
        kind: Kind,
        fields: FieldSet,
        at: Timestamp,
    ) {
        if fields.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|owner| owner.is_updater(manager, subresource)) {
            Some(owner) => {
                owner.fields.add(&fields);
                owner.time = time(at);
            }
            None => self.0.push(Owner {
                manager: manager.to_owned(),
                applied: false,
                subresource: subresource.map(str::to_owned),
                api_version: kind.info().api_version(),
                time: time(at),
                fields,
            }),
        }
    }

    /// Forgets fields that `object` no longer has, and owners without any.
    pub(super) fn keep_existing(&mut self, object: &Value, shape: Shape) {
        for owner in &mut self.0 {
            owner.fields = merge::existing(&owner.fields, object, shape);
        }
        self.0.retain(|owner| !owner.fields.is_empty());
    }
}

impl Owner {
    fn is_applier(&self, manager: &str) -> bool {
        self.applied && self.subresource.is_none() && self.manager == manager
    }

    fn is_updater(&self, manager: &str, subresource: Option<&str>) -> bool {
        !self.applied && self.subresource.as_deref() == subresource && self.manager == manager
    }

    fn to_value(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": if self.applied { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_value(),
        });
        if let Some(subresource) = &self.subresource {
            entry["subresource"] = subresource.as_str().into();
        }
        entry
    }
}

fn time(at: Timestamp) -> Value {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
}
