//! Answers in an older version of a kind.

use http::{HeaderValue, header};
use http_body_util::BodyExt;
use schemas::{Kind, older};
use serde_json::Value;

use crate::{exchange::Response, status::ApiError};

/// An answer in the version that is kept, made one in the older version. What is not such an object or a
/// list of them (a table, a status) stays as it is.
pub(crate) async fn outgoing(kind: Kind, response: Response) -> Result<Response, ApiError> {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|it| it.as_bytes().starts_with(b"application/json"));
    if !is_json {
        return Ok(response);
    }
    let failed = |error: &dyn std::fmt::Display| ApiError::internal(format!("an answer could not be encoded: {error}"));
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| failed(&error))?.to_bytes();
    let mut answer: Value = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    older::make_older(kind, &mut answer);
    let body = serde_json::to_vec(&answer).map_err(|error| failed(&error))?;
    parts
        .headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok(Response::from_parts(parts, body.into()))
}
