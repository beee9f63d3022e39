//! Writes: create, update and patch; who may, with which outcome.

use std::sync::Arc;

use http::{StatusCode, header};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemas::{Key, Kind, Object, apply, defaulting, patch::PatchType, priority::Priorities};
use serde_json::{Value, json};
use store::{Class, Op, Write, WriteError};

use crate::{
    accept::Form,
    admit::{self, WriteOptions},
    api::{Api, with_warnings},
    delete, eviction,
    exchange::{Call, MAX_BODY, Response},
    identity::Identity,
    path::{Resource, Sub, Verb},
    pods, policy, protobuf, read, scale,
    status::{ApiError, Cause},
};

/// How often a patch without a version is tried again when the object changed meanwhile.
const TRIES: usize = 8;

/// Answers a write that the caller may do.
pub(crate) async fn write(
    api: &Api,
    identity: &Identity,
    verb: Verb,
    resource: &Resource,
    call: Call,
) -> Result<Response, ApiError> {
    match (verb, resource.sub) {
        (Verb::Create, None) => create(api, resource, call).await,
        (Verb::Create, Some(Sub::Binding)) => pods::bind(api, resource, call).await,
        (Verb::Create, Some(Sub::Eviction)) => eviction::evict(api, resource, call).await,
        (Verb::Update, None | Some(Sub::Status | Sub::Scale | Sub::Finalize))
        | (Verb::Patch, None | Some(Sub::Status | Sub::Scale)) => change(api, identity, verb, resource, call).await,
        (Verb::Delete, None) => delete::one(api, resource, call).await,
        (Verb::DeleteCollection, None) => delete::many(api, resource, call).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// A written object as the client wants it, with warnings.
fn answer(
    api: &Api,
    call: &Call,
    form: Form,
    code: StatusCode,
    object: Arc<Object>,
    warnings: &[String],
) -> Result<Response, ApiError> {
    let mut response = read::one(api, form, object, &call.query)?;
    *response.status_mut() = code;
    Ok(with_warnings(response, warnings))
}

/// Whether the owners of an object's fields are kept: never for pods, and for what programs write
/// often only once somebody applied it.
fn keeps_owners(kind: Kind, is_apply: bool, live: Option<&Object>) -> bool {
    match kind {
        Kind::Pod => false,
        Kind::Event | Kind::Lease | Kind::Node | Kind::EndpointSlice => {
            is_apply || live.is_some_and(|live| live.meta.managed_fields.is_some())
        }
        _ => true,
    }
}

fn attempt(verb: Verb, key: &Key) -> policy::Attempt<'_> {
    policy::Attempt {
        verb,
        key,
        sub: None,
        live: None,
        new: None,
    }
}

/// The warning of a dry run that a real write would be refused.
pub(crate) fn refused_for_real(error: &ApiError) -> String {
    format!("this is a dry run only; without it {}", error.message)
}

async fn create(api: &Api, resource: &Resource, mut call: Call) -> Result<Response, ApiError> {
    let options = WriteOptions::of(&call)?;
    let form = Form::of(call.header(header::ACCEPT))?;
    let body = call.take_body(MAX_BODY).await?;
    let mut value = match admit::parse_body(&call, &body) {
        Ok(value) => value,
        // Some clients send whole objects as protobuf. What only git makes is refused with the
        // reason that helps.
        Err(error) if error.code == StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            let key = Key {
                name: protobuf::name(&body).unwrap_or_default().into(),
                ..resource.key()
            };
            policy::check(&api.store, attempt(Verb::Create, &key))?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    admit::address(resource, &mut value)?;
    let (object, warnings) = create_object(api, resource, &options, value, false).await?;
    answer(api, &call, form, StatusCode::CREATED, object, &warnings)
}

/// Makes a new object of a body whose address was checked.
async fn create_object(
    api: &Api,
    resource: &Resource,
    options: &WriteOptions,
    mut value: Value,
    is_apply: bool,
) -> Result<(Arc<Object>, Vec<String>), ApiError> {
    let kind = resource.kind;
    let owners = value.pointer("/metadata/managedFields").cloned();
    let mut warnings = admit::unknown_fields(kind, &value, options.fields)?;
    name(kind, &mut value)?;
    let finalizers = value.pointer("/metadata/finalizers").cloned();
    warnings.extend(admit::complete(kind, &mut value)?);
    let key = Key {
        name: value["metadata"]["name"].as_str().unwrap_or("").into(),
        ..resource.key()
    };
    in_namespace(api, &key)?;
    if kind == Kind::Pod {
        prioritize(api, &key, &mut value)?;
    }

    let now = api.clock.now().wall;
    let uid = uuid::Uuid::new_v4().to_string();
    if kind == Kind::Job {
        defaulting::identify_job(&mut value, &uid);
    }
    if let Some(finalizers) = finalizers {
        value["metadata"]["finalizers"] = finalizers;
    }
    match owners {
        _ if !keeps_owners(kind, is_apply, None) => {}
        Some(owners) if is_apply => value["metadata"]["managedFields"] = owners,
        _ => apply::update_managed_fields(None, &mut value, &options.manager, None, kind, now),
    }
    let status = defaulting::initial_status(kind, &value);
    let mut object = Object::from_value(value).map_err(|error| ApiError::bad_request(error.to_string()))?;
    object.meta.uid = Some(uid.into());
    object.meta.creation_timestamp = Some(Time(now));
    object.status = status.map(Into::into);

    if let Err(error) = policy::check(
        &api.store,
        policy::Attempt {
            new: Some(&object),
            ..attempt(Verb::Create, &key)
        },
    ) {
        if !options.dry_run {
            return Err(error);
        }
        warnings.push(refused_for_real(&error));
    }
    if options.dry_run {
        if api.store.get(&key).is_some() {
            return Err(ApiError::already_exists(kind, &key.name));
        }
        object.meta.generation = kind.info().generation.then_some(1);
        return Ok((Arc::new(object), warnings));
    }
    let object = api.store.write_one(Class::User, Write::new(Op::Create(object))).await?;
    Ok((object, warnings))
}

/// Gives a new pod what its class of priority stands for.
fn prioritize(api: &Api, key: &Key, value: &mut Value) -> Result<(), ApiError> {
    let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    let priorities = Priorities::of_objects(api.store.view().list(Kind::PriorityClass, None));
    priorities.admit(spec).map_err(|error| {
        ApiError::forbidden(format!("pods {:?} is forbidden: {error}", &*key.name)).about(key.kind, &key.name)
    })
}

/// Makes a name from `generateName` where there is none.
fn name(kind: Kind, value: &mut Value) -> Result<(), ApiError> {
    let text = |value: &Value, field: &str| value["metadata"][field].as_str().unwrap_or("").to_owned();
    if !text(value, "name").is_empty() {
        return Ok(());
    }
    let prefix = text(value, "generateName");
    if prefix.is_empty() {
        let cause = Cause {
            reason: "FieldValueRequired",
            field: "metadata.name".into(),
            message: "Required value: name or generateName is required".into(),
        };
        return Err(ApiError::invalid(kind, "", vec![cause]));
    }
    // Without vowels and what looks like them, so that no words come out.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let suffix: String = (0..5)
        .map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())]))
        .collect();
    let prefix: String = prefix.chars().take(58).collect();
    value["metadata"]["name"] = format!("{prefix}{suffix}").into();
    Ok(())
}

/// Nothing is made in a namespace that is not there or that is going.
fn in_namespace(api: &Api, key: &Key) -> Result<(), ApiError> {
    let Some(namespace) = &key.namespace else {
        return Ok(());
    };
    let found = api
        .store
        .get(&Key::cluster(Kind::Namespace, namespace))
        .ok_or_else(|| ApiError::not_found(Kind::Namespace, namespace))?;
    if found.is_deleting() {
        return Err(ApiError::forbidden(format!(
            "{} {:?} is forbidden: unable to create new content in namespace {namespace} because it is being terminated",
            key.kind.info().plural, &*key.name
        ))
        .about(key.kind, &key.name));
    }
    Ok(())
}

/// How an object is to be changed.
enum Edit {
    /// The whole new object.
    Whole(Value),
    Patch(PatchType, Value),
}

/// Update and patch, of an object or of one of its sub-resources.
async fn change(
    api: &Api,
    identity: &Identity,
    verb: Verb,
    resource: &Resource,
    mut call: Call,
) -> Result<Response, ApiError> {
    let options = WriteOptions::of(&call)?;
    let form = Form::of(call.header(header::ACCEPT))?;
    let edit = if verb == Verb::Patch {
        let content_type = call.header(header::CONTENT_TYPE).unwrap_or("").to_owned();
        let by = PatchType::from_content_type(&content_type).ok_or_else(|| {
            ApiError::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml",
            )
        })?;
        if by == PatchType::Apply && !options.manager_given {
            return Err(ApiError::bad_request("fieldManager is required for apply patch"));
        }
        Edit::Patch(by, admit::read_body(&mut call).await?)
    } else {
        Edit::Whole(admit::read_body(&mut call).await?)
    };
    let key = resource.key();
    for attempt in 1.. {
        let Some(live) = api.store.get(&key) else {
            return match edit {
                Edit::Patch(PatchType::Apply, mut declared) if resource.sub.is_none() => {
                    admit::address(resource, &mut declared)?;
                    let applied = applied(resource, None, &declared, &options, api)?;
                    let (object, warnings) = create_object(api, resource, &options, applied, true).await?;
                    answer(api, &call, form, StatusCode::CREATED, object, &warnings)
                }
                _ => Err(ApiError::not_found(key.kind, &key.name)),
            };
        };
        if identity.node().is_some() && identity.node() != Some(live.name()) {
            return Err(ApiError::forbidden("a node changes its own status only"));
        }
        match attempt_change(api, verb, resource, &options, &live, &edit).await {
            Ok((object, warnings)) if resource.sub == Some(Sub::Scale) => {
                let response = crate::exchange::json(StatusCode::OK, &scale::of(&object));
                return Ok(with_warnings(response, &warnings));
            }
            Ok((object, warnings)) => return answer(api, &call, form, StatusCode::OK, object, &warnings),
            Err(Attempt::Changed(_)) if attempt < TRIES => {}
            Err(Attempt::Changed(error) | Attempt::Failed(error)) => return Err(error),
        }
    }
    Err(ApiError::internal("a change was tried without end"))
}

/// Why an attempt did not succeed.
enum Attempt {
    /// Somebody else was faster; the client did not say which version it had seen, so try again.
    Changed(ApiError),
    Failed(ApiError),
}

impl From<ApiError> for Attempt {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// The result of a server-side apply.
fn applied(
    resource: &Resource,
    live: Option<&Value>,
    declared: &Value,
    options: &WriteOptions,
    api: &Api,
) -> Result<Value, ApiError> {
    let now = api.clock.now().wall;
    match apply::apply(live, declared, &options.manager, resource.kind, now, options.force) {
        Ok(applied) => Ok(applied.object),
        Err(apply::ApplyError::Conflicts(conflicts)) => {
            let causes = conflicts.0.iter().map(|conflict| Cause {
                reason: "FieldManagerConflict",
                field: conflict.field.clone(),
                message: format!("conflict with {:?}", conflict.manager),
            });
            Err(ApiError::new(StatusCode::CONFLICT, "Conflict", conflicts.to_string())
                .about(resource.kind, resource.name.as_deref().unwrap_or(""))
                .causes(causes))
        }
        Err(error) => Err(ApiError::bad_request(error.to_string())),
    }
}

async fn attempt_change(
    api: &Api,
    verb: Verb,
    resource: &Resource,
    options: &WriteOptions,
    live: &Arc<Object>,
    edit: &Edit,
) -> Result<(Arc<Object>, Vec<String>), Attempt> {
    let kind = resource.kind;
    let before = live.to_value();
    let base = if resource.sub == Some(Sub::Scale) {
        scale::of(live)
    } else {
        before.clone()
    };
    let mut is_apply = false;
    let mut after = match edit {
        Edit::Whole(value) => value.clone(),
        Edit::Patch(PatchType::Apply, declared) if resource.sub.is_none() => {
            is_apply = true;
            let mut declared = declared.clone();
            admit::address(resource, &mut declared)?;
            admit::unknown_fields(kind, &declared, options.fields)?;
            applied(resource, Some(&base), &declared, options, api)?
        }
        Edit::Patch(by, patch) => schemas::patch::patch(kind, &base, patch, *by)
            .map_err(|error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", error.to_string()))?,
    };
    if resource.sub == Some(Sub::Scale) {
        let mut scaled = before.clone();
        scaled["spec"]["replicas"] = after.pointer("/spec/replicas").cloned().unwrap_or(json!(0));
        scaled["metadata"]["resourceVersion"] = after["metadata"]["resourceVersion"].clone();
        after = scaled;
    }
    if resource.sub == Some(Sub::Finalize) {
        // Its finalizers alone: the rest is git's.
        let mut finalized = before.clone();
        let finalizers = after.pointer("/spec/finalizers").cloned();
        finalized["spec"]["finalizers"] = finalizers.unwrap_or_else(|| json!([]));
        finalized["metadata"]["resourceVersion"] = after["metadata"]["resourceVersion"].clone();
        after = finalized;
    }
    admit::address(resource, &mut after)?;
    let stated = stated_version(resource, live, edit, &after)?;
    let changed = |error: WriteError| match (&error, stated) {
        (WriteError::Conflict { .. }, false) => Attempt::Changed(error.into()),
        _ => Attempt::Failed(error.into()),
    };

    if resource.sub == Some(Sub::Status) {
        let status = after.get("status").cloned().unwrap_or_else(|| json!({}));
        if options.dry_run {
            let mut object = Object::clone(live);
            object.status = Some(status.into());
            return Ok((Arc::new(object), Vec::new()));
        }
        let op = Op::Status {
            key: live.key(),
            status: status.into(),
        };
        let write = Write::new(op).uid(live.uid()).version(live.version);
        let written = api.store.write_one(Class::User, write).await.map_err(changed)?;
        return Ok((written, Vec::new()));
    }

    let mut warnings = if is_apply {
        Vec::new()
    } else {
        admit::unknown_fields(kind, &after, options.fields)?
    };
    let object = replaced(api, live, &before, after, options, is_apply, &mut warnings)?;
    if let Err(error) = policy::check(
        &api.store,
        policy::Attempt {
            sub: resource.sub,
            live: Some(live),
            new: Some(&object),
            ..attempt(verb, &live.key())
        },
    ) {
        if !options.dry_run {
            return Err(error.into());
        }
        warnings.push(refused_for_real(&error));
    }
    if options.dry_run {
        return Ok((Arc::new(object), warnings));
    }
    let write = Write::new(Op::Replace(object)).uid(live.uid()).version(live.version);
    let written = api.store.write_one(Class::User, write).await.map_err(changed)?;
    Ok((written, warnings))
}

/// Whether the client said which version it had seen.
///
/// # Errors
/// A 409 where the object is not, or no longer, the one that the client saw.
fn stated_version(resource: &Resource, live: &Object, edit: &Edit, after: &Value) -> Result<bool, ApiError> {
    let text = |value: &Value, path: &str| {
        value
            .pointer(path)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let name = resource.name.as_deref().unwrap_or("");
    // A patched object carries the live version unless the patch names another.
    let version = text(after, "/metadata/resourceVersion");
    if version
        .as_deref()
        .is_some_and(|version| version != live.version.to_string())
    {
        return Err(ApiError::conflict(
            resource.kind,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    if let Some(uid) = text(after, "/metadata/uid")
        && *uid != *live.uid().0
    {
        return Err(ApiError::conflict(
            resource.kind,
            name,
            &format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                live.uid()
            ),
        ));
    }
    Ok(match edit {
        Edit::Whole(_) => version.is_some(),
        Edit::Patch(_, patch) => text(patch, "/metadata/resourceVersion").is_some(),
    })
}

/// The object as it is to be stored: completed, checked against the live one, and with what only the
/// server sets taken from there.
fn replaced(
    api: &Api,
    live: &Object,
    before: &Value,
    mut after: Value,
    options: &WriteOptions,
    is_apply: bool,
    warnings: &mut Vec<String>,
) -> Result<Object, ApiError> {
    let kind = live.kind;
    let owners = after.pointer("/metadata/managedFields").cloned();
    warnings.extend(admit::complete(kind, &mut after)?);
    if kind == Kind::Job {
        defaulting::identify_job(&mut after, &live.uid().0);
    }
    admit::check_changes(kind, live.name(), before, &after)?;
    match owners {
        _ if !keeps_owners(kind, is_apply, Some(live)) => {}
        Some(owners) if is_apply => after["metadata"]["managedFields"] = owners,
        _ => {
            let now = api.clock.now().wall;
            apply::update_managed_fields(Some(before), &mut after, &options.manager, None, kind, now);
        }
    }
    let mut object = Object::from_value(after).map_err(|error| ApiError::bad_request(error.to_string()))?;
    object.meta.uid.clone_from(&live.meta.uid);
    object.meta.creation_timestamp.clone_from(&live.meta.creation_timestamp);
    object.meta.deletion_timestamp.clone_from(&live.meta.deletion_timestamp);
    object.meta.deletion_grace_period_seconds = live.meta.deletion_grace_period_seconds;
    object.meta.generate_name.clone_from(&live.meta.generate_name);
    let raised = object.body.hash() != live.body.hash() && kind.info().generation;
    object.meta.generation = live.meta.generation.map(|generation| generation + i64::from(raised));
    object.node.clone_from(&live.node);
    object.status.clone_from(&live.status);
    object.version = live.version;
    Ok(object)
}
