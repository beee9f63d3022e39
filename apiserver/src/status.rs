//! Errors as `Status` objects.
//!
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use http::{HeaderValue, StatusCode, header};
use schemas::{Key, Kind};
use serde_json::{Map, Value, json};
use store::WriteError;

use crate::exchange::{self, Response};

/// Why a request was not done, as clients read it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: StatusCode,
    /// One of Kubernetes' machine-readable words, `NotFound`.
    pub reason: &'static str,
    pub message: String,
    details: Map<String, Value>,
}

/// One thing that is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    /// `spec.containers[0].image`.
    pub field: String,
    pub message: String,
}

impl ApiError {
    #[must_use]
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Map::new(),
        }
    }

    /// Names the object that the error is about.
    #[must_use]
    pub fn about(mut self, kind: Kind, name: &str) -> Self {
        let info = kind.info();
        if !name.is_empty() {
            self.details.insert("name".into(), name.into());
        }
        if !info.group.is_empty() {
            self.details.insert("group".into(), info.group.into());
        }
        // Clients expect the plural here for everything but invalid bodies.
        let word = if self.reason == "Invalid" {
            info.name
        } else {
            info.plural
        };
        self.details.insert("kind".into(), word.into());
        self
    }

    #[must_use]
    pub fn causes(mut self, causes: impl IntoIterator<Item = Cause>) -> Self {
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|cause| json!({"reason": cause.reason, "message": cause.message, "field": cause.field}))
            .collect();
        self.details.insert("causes".into(), causes.into());
        self
    }

    /// How many seconds a client should wait before it tries again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.insert("retryAfterSeconds".into(), seconds.into());
        self
    }

    #[must_use]
    pub fn not_found(kind: Kind, name: &str) -> Self {
        let message = format!("{} {name:?} not found", kind.info().resource());
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(kind, name)
    }

    /// The path itself names nothing.
    #[must_use]
    pub fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    #[must_use]
    pub fn already_exists(kind: Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", kind.info().resource());
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(kind, name)
    }

    #[must_use]
    pub fn conflict(kind: Kind, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            kind.info().resource()
        );
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(kind, name)
    }

    #[must_use]
    pub fn invalid(kind: Kind, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let list = match list.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let info = kind.info();
        let full = if info.group.is_empty() {
            info.name.to_owned()
        } else {
            format!("{}.{}", info.name, info.group)
        };
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "Invalid",
            format!("{full} {name:?} is invalid: {list}"),
        )
        .about(kind, name)
        .causes(causes)
    }

    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    #[must_use]
    pub fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only the following media types are served: application/json, application/json;stream=watch",
        )
    }

    #[must_use]
    pub fn unsupported_media_type(known: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {known}"),
        )
    }

    /// The version is too old: list again.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            format!("the body is larger than {limit} bytes"),
        )
    }

    #[must_use]
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).retry_after(1)
    }

    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message)
    }

    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The `Status` object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code.as_u16(),
        });
        if !self.details.is_empty() {
            value["details"] = Value::Object(self.details.clone());
        }
        value
    }

    #[must_use]
    pub fn response(&self) -> Response {
        let mut response = exchange::json(self.code, &self.to_value());
        if let Some(seconds) = self.details.get("retryAfterSeconds").and_then(Value::as_u64) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let named = |key: &Key| (key.kind, key.name.to_string());
        match &error {
            WriteError::AlreadyExists(key) => Self::already_exists(key.kind, &key.name),
            WriteError::NotFound(key) => Self::not_found(key.kind, &key.name),
            WriteError::Conflict { key, reason } => {
                let (kind, name) = named(key);
                Self::conflict(kind, &name, reason)
            }
            WriteError::Invalid { key, reason } => {
                let cause = Cause {
                    reason: "FieldValueInvalid",
                    field: "metadata".into(),
                    message: reason.clone(),
                };
                Self::invalid(key.kind, &key.name, vec![cause])
            }
            WriteError::Forbidden { key, .. } => Self::forbidden(error.to_string()).about(key.kind, &key.name),
            WriteError::Unavailable(unavailable) => Self::unavailable(unavailable.to_string()),
        }
    }
}

impl From<store::Unavailable> for ApiError {
    fn from(error: store::Unavailable) -> Self {
        Self::unavailable(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_code_reason_and_object() {
        let cause = || Cause {
            reason: "FieldValueRequired",
            field: "spec.image".into(),
            message: "Required value".into(),
        };
        for (error, code, reason, message, kind) in [
            (
                ApiError::not_found(Kind::Deployment, "web"),
                404,
                "NotFound",
                r#"deployments.apps "web" not found"#,
                Some("deployments"),
            ),
            (
                ApiError::already_exists(Kind::Pod, "a"),
                409,
                "AlreadyExists",
                r#"pods "a" already exists"#,
                Some("pods"),
            ),
            (
                ApiError::invalid(Kind::Pod, "a", vec![cause()]),
                422,
                "Invalid",
                r#"Pod "a" is invalid: spec.image: Required value"#,
                Some("Pod"),
            ),
            (ApiError::unauthorized(), 401, "Unauthorized", "Unauthorized", None),
            (ApiError::expired("old"), 410, "Expired", "old", None),
        ] {
            let value = error.to_value();
            assert_eq!(value["code"], code, "{value}");
            assert_eq!(value["reason"], reason, "{value}");
            assert_eq!(value["message"], message, "{value}");
            assert_eq!(value["details"]["kind"].as_str(), kind, "{value}");
            assert_eq!(error.response().status().as_u16(), code);
        }
    }
}
