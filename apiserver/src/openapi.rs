//! OpenAPI, as `kubectl explain` and client-side validation read it.

use http::{HeaderValue, StatusCode, header};
use schemas::openapi::{self, Document};

use crate::{
    exchange::{Call, Response},
    status::ApiError,
};

/// `/openapi/v2`: JSON, or the binary form for clients that name it before JSON.
pub(crate) fn v2(call: &Call) -> Response {
    let accept = call.header(header::ACCEPT).unwrap_or("");
    let first = accept
        .split(',')
        .map(|part| part.split(';').next().unwrap_or("").trim())
        .find(|part| is_binary(part) || matches!(*part, "application/json" | "application/*" | "*/*"));
    match first {
        Some(part) if is_binary(part) => send(call, openapi::v2_protobuf()),
        _ => send(call, openapi::v2()),
    }
}

fn is_binary(media_type: &str) -> bool {
    openapi::PROTOBUF_ACCEPTED.contains(&media_type)
}

/// `/openapi/v3`
pub(crate) fn v3_index(call: &Call) -> Response {
    send(call, openapi::v3_index())
}

/// `/openapi/v3/apis/GROUP/VERSION`
pub(crate) fn v3(call: &Call, part: &str) -> Result<Response, ApiError> {
    Ok(send(call, openapi::v3(part).ok_or_else(ApiError::no_such_path)?))
}

/// A document, or a word that the client has it already.
fn send(call: &Call, document: &'static Document) -> Response {
    let tag = format!("\"{}\"", document.etag);
    let known = call
        .header(header::IF_NONE_MATCH)
        .is_some_and(|tags| tags.split(',').any(|known| known.trim() == tag));
    let mut response = Response::new(
        if known {
            b"".as_slice()
        } else {
            document.bytes.as_slice()
        }
        .into(),
    );
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    // A hash in the query names the content for good.
    let life = if call.query.get("hash") == Some(document.etag.as_str()) {
        "public, immutable"
    } else {
        "no-cache, private"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(life));
    response
}
