//! From a request to its handler: who asks, what for, and whether they may.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Method, StatusCode, header};
use schemas::now::Clock;
use serde_json::json;
use store::{Store, write::AuditLine};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    accept::Form,
    authorize, discovery,
    exchange::{self, Call, Mount, Response},
    identity::{Authenticator, Identity},
    logs::{self, LogSource},
    metrics, older, openapi,
    path::{Resource, Sub, Target, Verb},
    read, reviews, scale,
    status::ApiError,
    watch,
    wire::Encodings,
    write,
};

/// How many encoded objects are kept for watchers of the same changes.
const ENCODINGS: usize = 1024;
/// Audit lines that may wait; with the store away longer than this lasts, lines go to the log alone.
const AUDIT_QUEUE: usize = 4096;

/// What the API server works with.
pub struct Parts {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub authenticator: Arc<dyn Authenticator>,
    pub logs: Arc<dyn LogSource>,
    /// Parts of the server beside the Kubernetes API.
    pub mounts: Vec<Arc<dyn Mount>>,
}

/// The API, above any transport.
pub struct Api {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) encodings: Arc<Encodings>,
    /// Ends watches when the server stops.
    pub(crate) shutdown: CancellationToken,
    authenticator: Arc<dyn Authenticator>,
    logs: Arc<dyn LogSource>,
    mounts: Vec<Arc<dyn Mount>>,
    audit: mpsc::Sender<AuditLine>,
}

impl Api {
    /// Starts what runs beside the requests. Must be called inside a Tokio runtime.
    #[must_use]
    pub fn start(parts: Parts, shutdown: CancellationToken) -> Arc<Self> {
        let (audit, lines) = mpsc::channel(AUDIT_QUEUE);
        tokio::spawn(keep_audit(parts.store.clone(), lines));
        Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            encodings: Arc::new(Encodings::new(ENCODINGS)),
            shutdown,
            authenticator: parts.authenticator,
            logs: parts.logs,
            mounts: parts.mounts,
            audit,
        })
    }

    /// Answers one request.
    pub async fn answer(&self, mut call: Call) -> Response {
        let (method, path) = (call.method.clone(), call.path.clone());
        call.identity = self.identify(&call);
        let user = call
            .identity
            .as_ref()
            .map_or("", |identity| identity.user.as_str())
            .to_owned();
        let response = match self.mount(&path) {
            Some(mount) if call.identity.is_some() || mount.open() => mount.handle(call).await,
            Some(_) => ApiError::unauthorized().response(),
            None => self.kubernetes(call).await.unwrap_or_else(|error| error.response()),
        };
        tracing::debug!(%method, path, user, code = response.status().as_u16(), "answered");
        response
    }

    fn mount(&self, path: &str) -> Option<&Arc<dyn Mount>> {
        let first = path.trim_start_matches('/').split('/').next()?;
        self.mounts.iter().find(|mount| mount.prefix() == first)
    }

    /// Who asks: the client certificate that the connection showed, or the token of the request. A
    /// token may also come as the password of HTTP's basic scheme, as git sends it.
    fn identify(&self, call: &Call) -> Option<Identity> {
        if call.identity.is_some() {
            return call.identity.clone();
        }
        let (scheme, credentials) = call.header(header::AUTHORIZATION)?.trim().split_once(' ')?;
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.authenticator.bearer(credentials);
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let decoded = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
            return self.authenticator.bearer(decoded.split_once(':')?.1);
        }
        None
    }

    async fn kubernetes(&self, call: Call) -> Result<Response, ApiError> {
        let target = Target::parse(&call.path);
        if target == Some(Target::Health) {
            return self.health(&call);
        }
        // Only who is known learns which paths there are.
        let identity = call.identity.clone().ok_or_else(ApiError::unauthorized)?;
        let reads = call.method == Method::GET || call.method == Method::HEAD;
        match target.ok_or_else(ApiError::no_such_path)? {
            Target::Resource(resource) => self.resource(identity, resource, call).await,
            Target::Review(review) if call.method == Method::POST => {
                reviews::answer(&self.store, &identity, review, call).await
            }
            Target::Metrics(resource) => {
                let verb = resource.verb(&call.method, &call.query);
                match verb.filter(|verb| matches!(verb, Verb::Get | Verb::List)) {
                    Some(verb) => {
                        authorize::check_metrics(&identity, verb, &resource)?;
                        metrics::answer(self, &resource, &call)
                    }
                    None => Err(ApiError::method_not_allowed()),
                }
            }
            _ if !reads => Err(ApiError::method_not_allowed()),
            Target::Health => self.health(&call),
            Target::Version => Ok(exchange::json(StatusCode::OK, &discovery::version())),
            Target::CoreVersions => discovery::core(Form::of(call.header(header::ACCEPT))?),
            Target::Groups => discovery::groups(Form::of(call.header(header::ACCEPT))?),
            Target::Group(group) => discovery::group(&group),
            Target::Resources { group, version } => discovery::resources(&group, &version),
            Target::OpenApiV2 => Ok(openapi::v2(&call)),
            Target::OpenApiV3 => Ok(openapi::v3_index(&call)),
            Target::OpenApiV3Part(part) => openapi::v3(&call, &part),
            Target::Review(_) => Err(ApiError::method_not_allowed()),
        }
    }

    fn health(&self, call: &Call) -> Result<Response, ApiError> {
        if call.method != Method::GET && call.method != Method::HEAD {
            return Err(ApiError::method_not_allowed());
        }
        // Reads go on without the log, so a server whose log is away is alive but not ready.
        let ready = !call.path.starts_with("/readyz") || self.store.is_writable();
        let mark = if ready {
            "[+]store ok"
        } else {
            "[-]store failed: it cannot write now"
        };
        let verbose = call.query.get("verbose").is_some();
        Ok(match (ready, verbose) {
            (true, false) => exchange::text(StatusCode::OK, "ok"),
            (true, true) => exchange::text(
                StatusCode::OK,
                format!("[+]ping ok\n{mark}\n{} check passed\n", &call.path[1..]),
            ),
            (false, _) => exchange::text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("[+]ping ok\n{mark}\n{} check failed\n", &call.path[1..]),
            ),
        })
    }

    async fn resource(&self, identity: Identity, resource: Resource, call: Call) -> Result<Response, ApiError> {
        let verb = resource
            .verb(&call.method, &call.query)
            .ok_or_else(ApiError::method_not_allowed)?;
        let done = match authorize::check(&self.store, &identity, verb, &resource, &call.query) {
            Ok(()) => self.allowed(&identity, verb, &resource, call).await,
            Err(error) => Err(error),
        };
        if !verb.reads() {
            self.note(&identity, verb, &resource, &done);
        }
        match done {
            Ok(response) if resource.older => older::outgoing(resource.kind, response).await,
            done => done,
        }
    }

    async fn allowed(
        &self,
        identity: &Identity,
        verb: Verb,
        resource: &Resource,
        call: Call,
    ) -> Result<Response, ApiError> {
        match (verb, resource.sub) {
            (Verb::Get, Some(Sub::Log)) => {
                logs::answer(self.logs.as_ref(), &*read::find(&self.store, resource)?, &call.query).await
            }
            (Verb::Get, Some(Sub::Scale)) => scale::get(&self.store, resource),
            (Verb::Get, None | Some(Sub::Status)) => read::get(self, resource, &call),
            (Verb::List, None) => read::list(self, resource, &call),
            (Verb::Watch, None) => watch::watch(self, resource, &call),
            (_, Some(sub @ (Sub::Exec | Sub::Attach | Sub::PortForward | Sub::EphemeralContainers | Sub::Token))) => {
                Err(ApiError::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "NotImplemented",
                    format!("this server does not serve {} yet", sub.word()),
                ))
            }
            (Verb::Get | Verb::List | Verb::Watch, _) => Err(ApiError::method_not_allowed()),
            _ => write::write(self, identity, verb, resource, call).await,
        }
    }

    /// Writes an audit line. It never holds an answer up.
    fn note(&self, identity: &Identity, verb: Verb, resource: &Resource, done: &Result<Response, ApiError>) {
        let (code, detail) = match done {
            Ok(response) => (response.status().as_u16(), String::new()),
            Err(error) => (error.code.as_u16(), error.message.clone()),
        };
        let line = AuditLine {
            at: self.clock.now().wall,
            user: identity.user.clone(),
            verb: verb.word().to_owned(),
            resource: resource.to_string(),
            code,
            detail,
        };
        tracing::info!(
            user = line.user,
            verb = line.verb,
            resource = line.resource,
            code,
            "audit"
        );
        if self.audit.try_send(line).is_err() {
            tracing::warn!("the audit queue is full; the line above is in this log alone");
        }
    }
}

/// Keeps audit lines in the store, as many at a time as wait.
async fn keep_audit(store: Store, mut lines: mpsc::Receiver<AuditLine>) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, 256).await > 0 {
        if let Err(error) = store.audit(std::mem::take(&mut batch)).await {
            tracing::warn!(%error, "audit lines could not be kept; they are in this log alone");
        }
    }
}

/// An answer with `Warning` headers, as kubectl prints them.
pub(crate) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        // Header values hold no control characters and no quotes that are not escaped.
        let clean: String = warning
            .chars()
            .filter(|letter| !letter.is_control())
            .flat_map(|letter| match letter {
                '"' | '\\' => vec!['\\', letter],
                letter => vec![letter],
            })
            .collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{clean}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

/// The answer to a deletion that left nothing behind.
pub(crate) fn deleted(resource: &Resource, uid: &str) -> Response {
    let info = resource.kind.info();
    exchange::json(
        StatusCode::OK,
        &json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": resource.name, "group": info.group, "kind": info.plural, "uid": uid,
            },
        }),
    )
}
