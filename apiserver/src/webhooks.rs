//! Webhooks: "look again", said by a forge.
//!
//! | source | proof | delivery id |
//! |---|---|---|
//! | `github` | `X-Hub-Signature-256: sha256=HEX`, HMAC of the body | `X-GitHub-Delivery` |
//! | `gitlab` | `X-Gitlab-Token`, the secret itself | `X-Gitlab-Event-UUID` |
//! | `gitea` | `X-Gitea-Signature: HEX`, HMAC of the body | `X-Gitea-Delivery` |
//! | `generic` | `X-Signature-256: sha256=HEX`, or `Authorization: Bearer SECRET` | `X-Delivery-Id` |
//!
//! The proof is checked before anything is parsed. A delivery carries no data: what is true is read
//! from the repository.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use crate::{
    control::Front,
    exchange::{self, BODY_TIME, Call, Mount, Response},
    status::ApiError,
};

/// The largest body, as large as the largest that GitHub sends.
pub const MAX_BODY: usize = 25 * 1024 * 1024;

/// How many bodies are read at a time: they wait in memory until their signature is known.
const AT_A_TIME: usize = 4;

/// Who sends webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Github,
    Gitlab,
    Gitea,
    Generic,
}

/// The secret shared with each sender; a sender without one is refused. White space around a
/// secret is the file's, not the secret's, and must be trimmed by who reads it.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<Sender, Vec<u8>>);

/// How a sender proves that it knows the secret.
enum Proof {
    /// The secret itself.
    Token(Vec<u8>),
    /// An HMAC-SHA-256 of the body, in hexadecimal digits.
    Signature(Vec<u8>),
}

impl Sender {
    /// The name in URLs and options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Gitea => "gitea",
            Self::Generic => "generic",
        }
    }

    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Github, Self::Gitlab, Self::Gitea, Self::Generic]
            .into_iter()
            .find(|sender| sender.name() == name)
    }

    fn proof(self, call: &Call) -> Option<Proof> {
        let signature = |text: &str| hex::decode(text.trim()).ok().map(Proof::Signature);
        match self {
            Self::Github => signature(call.header("x-hub-signature-256")?.strip_prefix("sha256=")?),
            Self::Gitea => signature(call.header("x-gitea-signature")?),
            Self::Gitlab => {
                let token = call.headers.get("x-gitlab-token")?.as_bytes();
                Some(Proof::Token(token.to_vec()))
            }
            Self::Generic => match call.header("x-signature-256") {
                Some(text) => signature(text.strip_prefix("sha256=").unwrap_or(text)),
                None => {
                    let token = call.header(header::AUTHORIZATION)?.strip_prefix("Bearer ")?;
                    Some(Proof::Token(token.trim().as_bytes().to_vec()))
                }
            },
        }
    }

    fn delivery(self, call: &Call) -> Option<String> {
        let name = match self {
            Self::Github => "x-github-delivery",
            Self::Gitlab => "x-gitlab-event-uuid",
            Self::Gitea => "x-gitea-delivery",
            Self::Generic => "x-delivery-id",
        };
        let id = call.header(name)?.trim();
        // Longer than any real one: its digest names it as well.
        match id.len() {
            0 => None,
            1..=200 => Some(id.to_owned()),
            _ => Some(hex::encode(Sha256::digest(id))),
        }
    }

    /// Whether the delivery only tries the connection.
    fn is_ping(self, call: &Call) -> bool {
        let event = match self {
            Self::Github => call.header("x-github-event"),
            Self::Gitea => call.header("x-gitea-event"),
            Self::Generic => call.header("x-event"),
            Self::Gitlab => None,
        };
        event == Some("ping")
    }
}

/// Everything under `/webhooks/`.
pub(crate) struct Webhooks {
    front: Arc<Front>,
    secrets: Secrets,
    reading: Semaphore,
}

/// What is read of a payload. A generic one may leave the ref out.
#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "ref")]
    reference: Option<String>,
}

impl Webhooks {
    pub(crate) fn new(front: Arc<Front>, secrets: Secrets) -> Self {
        Self {
            front,
            secrets,
            reading: Semaphore::new(AT_A_TIME),
        }
    }

    async fn answer(&self, mut call: Call) -> Result<Response, ApiError> {
        let sender = call
            .path
            .strip_prefix("/webhooks/")
            .and_then(Sender::of_name)
            .ok_or_else(ApiError::no_such_path)?;
        if call.method != Method::POST {
            return Err(ApiError::method_not_allowed());
        }
        let refused = |why: &str| ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", why);
        let Some(secret) = self.secrets.0.get(&sender).filter(|secret| !secret.is_empty()) else {
            return Err(refused(&format!(
                "no secret is set for webhooks of {}; name a file that holds it",
                sender.name()
            )));
        };
        let Some(proof) = sender.proof(&call) else {
            return Err(refused("the delivery carries no signature or token"));
        };
        let wrong = || refused("the signature or token is wrong");
        let body = match &proof {
            // A token is judged before a single byte of the body is read.
            Proof::Token(token) if !same(token, secret) => return Err(wrong()),
            Proof::Token(_) => self.read(&mut call, None).await?.0,
            Proof::Signature(given) => {
                let (body, digest) = self.read(&mut call, Some(secret)).await?;
                if !digest.is_some_and(|digest| digest.as_slice().ct_eq(given).into()) {
                    return Err(wrong());
                }
                body
            }
        };
        if sender.is_ping(&call) {
            return Ok(accepted("pong"));
        }
        let payload = payload(sender, call.header(header::CONTENT_TYPE), &body)?;
        let followed = format!("refs/heads/{}", self.front.source.branch());
        match payload.reference {
            Some(reference) if reference != followed => {
                return Ok(accepted(&format!("nothing to do: only {followed} is followed")));
            }
            Some(_) => {}
            None if sender == Sender::Generic => {}
            // Another event than a push: a comment, a release.
            None => return Ok(accepted("nothing to do: not a push")),
        }
        if let Some(id) = sender.delivery(&call)
            && !self.front.store.first_delivery(sender.name(), &id).await?
        {
            return Ok(accepted("nothing to do: this delivery is known"));
        }
        tracing::info!(source = sender.name(), "a webhook asks to look");
        self.front.source.look();
        Ok(accepted("looking"))
    }

    /// Reads the body up to the limit and in time, with its HMAC where a key is given. The time for the
    /// turn counts too: whoever sends nothing holds up nobody for long.
    async fn read(&self, call: &mut Call, key: Option<&[u8]>) -> Result<(Bytes, Option<Vec<u8>>), ApiError> {
        let read = tokio::time::timeout(BODY_TIME, self.read_whole(call, key)).await;
        read.map_err(|_| ApiError::bad_request(format!("the body did not arrive within {} s", BODY_TIME.as_secs())))?
    }

    async fn read_whole(&self, call: &mut Call, key: Option<&[u8]>) -> Result<(Bytes, Option<Vec<u8>>), ApiError> {
        let announced = call.header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        if announced.is_some_and(|length: usize| length > MAX_BODY) {
            return Err(ApiError::too_large(MAX_BODY));
        }
        let _turn = self
            .reading
            .acquire()
            .await
            .map_err(|_| ApiError::unavailable("the server stops"))?;
        let mut mac = match key {
            None => None,
            Some(key) => Some(
                Hmac::<Sha256>::new_from_slice(key)
                    .map_err(|error| ApiError::internal(format!("the secret is not usable: {error}")))?,
            ),
        };
        let mut whole = BytesMut::with_capacity(announced.unwrap_or(0).min(64 * 1024));
        while let Some(piece) = call.body.next().await {
            let piece = piece.map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}")))?;
            if whole.len() + piece.len() > MAX_BODY {
                return Err(ApiError::too_large(MAX_BODY));
            }
            if let Some(mac) = &mut mac {
                mac.update(&piece);
            }
            whole.extend_from_slice(&piece);
        }
        Ok((whole.freeze(), mac.map(|mac| mac.finalize().into_bytes().to_vec())))
    }
}

#[async_trait]
impl Mount for Webhooks {
    fn prefix(&self) -> &str {
        "webhooks"
    }

    fn open(&self) -> bool {
        true
    }

    async fn handle(&self, call: Call) -> Response {
        self.answer(call).await.unwrap_or_else(|error| {
            tracing::warn!(code = error.code.as_u16(), "a webhook was refused: {error}");
            error.response()
        })
    }
}

/// Compares without telling how much is equal, not even by the length.
fn same(a: &[u8], b: &[u8]) -> bool {
    Sha256::digest(a).as_slice().ct_eq(Sha256::digest(b).as_slice()).into()
}

fn payload(sender: Sender, media_type: Option<&str>, body: &[u8]) -> Result<Payload, ApiError> {
    if body.is_empty() && sender == Sender::Generic {
        return Ok(Payload { reference: None });
    }
    let form = media_type.is_some_and(|media_type| media_type.starts_with("application/x-www-form-urlencoded"));
    let decoded;
    let body = if form {
        // Some forges can wrap the JSON in a form's field.
        let text = String::from_utf8_lossy(body);
        let field = text.split('&').find_map(|pair| pair.strip_prefix("payload="));
        let field = field.ok_or_else(|| ApiError::bad_request("the body is sent as a form and has no field `payload`: send the JSON with the header Content-Type: application/json"))?;
        decoded = crate::query::decode(field);
        decoded.as_bytes()
    } else {
        body
    };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the payload is not the JSON of an event: {error}")))
}

fn accepted(message: &str) -> Response {
    exchange::json(StatusCode::OK, &json!({"message": message}))
}

#[cfg(test)]
#[path = "webhooks_tests.rs"]
mod tests;
