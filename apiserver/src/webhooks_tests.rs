use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::HeaderMap;

use super::*;
use crate::{
    control_harness::{FakeSource, Harness},
    exchange::ByteStream,
    query::Query,
};

const SECRET: &str = "s3cret";
const PUSH: &str = r#"{"ref": "refs/heads/main", "after": "x"}"#;

fn secrets() -> Secrets {
    let senders = [Sender::Github, Sender::Gitlab, Sender::Gitea, Sender::Generic];
    Secrets(senders.map(|sender| (sender, SECRET.into())).into())
}

async fn start() -> (Harness, Webhooks) {
    let harness = Harness::with(FakeSource::default(), Secrets::default()).await;
    let webhooks = Webhooks::new(harness.front.clone(), secrets());
    (harness, webhooks)
}

fn call(path: &str, headers: &[(&str, &str)], body: ByteStream) -> Call {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("a header's name");
        map.insert(name, value.parse().expect("a header's value"));
    }
    Call {
        method: Method::POST,
        path: format!("/webhooks/{path}"),
        query: Query::default(),
        headers: map,
        body,
        peer: None,
        identity: None,
    }
}

fn once(body: &str) -> ByteStream {
    let body = Bytes::from(body.to_owned());
    futures::stream::once(async { Ok(body) }).boxed()
}

fn sign(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key will do");
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// Path, headers, body, the code, and whether it triggers.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a str, u16, bool);

#[tokio::test]
async fn only_a_proven_push_to_the_followed_branch_triggers() {
    let sha = |body: &str| format!("sha256={}", sign(body));
    let other = r#"{"ref": "refs/heads/feature"}"#;
    let tag = r#"{"ref": "refs/tags/main"}"#;
    let comment = r#"{"action": "created"}"#;
    let form = format!("x=1&payload={}", PUSH.replace(' ', "%20").replace('"', "%22"));
    let [push, broken, elsewhere] = [sha(PUSH), sha("{"), sha(other)];
    let [bare, tagged, commented, empty, formed] = [sign(PUSH), sha(tag), sha(comment), sha(""), sha(&form)];
    let hub = "x-hub-signature-256";
    let bearer = format!("Bearer {SECRET}");
    let media = ("content-type", "application/x-www-form-urlencoded");
    let ping = ("x-github-event", "ping");
    let table: Vec<Case<'_>> = vec![
        ("github", vec![(hub, &push)], PUSH, 200, true),
        ("github", vec![(hub, &formed), media], &form, 200, true),
        ("github", vec![(hub, &push)], other, 401, false),
        ("github", vec![(hub, &bare)], PUSH, 401, false),
        ("github", vec![(hub, "sha256=zz")], PUSH, 401, false),
        ("github", vec![(hub, "sha256=")], PUSH, 401, false),
        ("github", vec![], PUSH, 401, false),
        ("github", vec![("authorization", &bearer)], PUSH, 401, false),
        ("github", vec![(hub, &broken)], "{", 400, false),
        ("github", vec![(hub, "sha256=00")], "{", 401, false),
        ("github", vec![(hub, &elsewhere)], other, 200, false),
        ("github", vec![(hub, &tagged)], tag, 200, false),
        ("github", vec![(hub, &commented)], comment, 200, false),
        ("github", vec![(hub, &commented), ping], comment, 200, false),
        ("github", vec![(hub, "sha256=00"), ping], comment, 401, false),
        ("gitlab", vec![("x-gitlab-token", SECRET)], PUSH, 200, true),
        ("gitlab", vec![("x-gitlab-token", "s3cre")], PUSH, 401, false),
        ("gitlab", vec![("x-gitlab-token", "")], PUSH, 401, false),
        ("gitlab", vec![("x-gitlab-token", SECRET)], "{", 400, false),
        ("gitlab", vec![(hub, &push)], PUSH, 401, false),
        ("gitea", vec![("x-gitea-signature", &bare)], PUSH, 200, true),
        ("gitea", vec![("x-gitea-signature", &bare)], other, 401, false),
        ("generic", vec![("authorization", &bearer)], PUSH, 200, true),
        ("generic", vec![("authorization", &bearer)], "", 200, true),
        ("generic", vec![("authorization", "Bearer other")], "", 401, false),
        ("generic", vec![("x-signature-256", &push)], PUSH, 200, true),
        ("generic", vec![("x-signature-256", &empty)], "", 200, true),
        ("generic", vec![("authorization", &bearer)], other, 200, false),
        ("generic", vec![], "", 401, false),
        ("bitbucket", vec![("authorization", &bearer)], PUSH, 404, false),
        ("github/x", vec![(hub, &push)], PUSH, 404, false),
    ];
    let (harness, webhooks) = start().await;
    for (path, headers, body, code, triggers) in table {
        let before = harness.source.looks.load(Ordering::SeqCst);
        let response = webhooks.handle(call(path, &headers, once(body))).await;
        let case = format!("{path} {headers:?} {body}");
        assert_eq!(response.status().as_u16(), code, "{case}");
        let looks = harness.source.looks.load(Ordering::SeqCst) - before;
        assert_eq!(looks, usize::from(triggers), "{case}");
    }
}

#[tokio::test]
async fn a_sender_without_a_secret_is_refused() {
    let harness = Harness::start().await;
    for secret in [None, Some(Vec::new())] {
        let secrets = Secrets(secret.into_iter().map(|secret| (Sender::Gitlab, secret)).collect());
        let webhooks = Webhooks::new(harness.front.clone(), secrets);
        for token in ["", "x"] {
            let response = webhooks
                .handle(call("gitlab", &[("x-gitlab-token", token)], once(PUSH)))
                .await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{token:?}");
        }
    }
    assert_eq!(harness.source.looks.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_delivery_counts_once_for_its_sender() {
    let (harness, webhooks) = start().await;
    let signature = format!("sha256={}", sign(PUSH));
    let github = |id: &'static str| {
        let headers = [("x-hub-signature-256", signature.as_str()), ("x-github-delivery", id)];
        call("github", &headers, once(PUSH))
    };
    let gitlab = |id: &'static str| {
        let headers = [("x-gitlab-token", SECRET), ("x-gitlab-event-uuid", id)];
        call("gitlab", &headers, once(PUSH))
    };
    let forged = call(
        "github",
        &[("x-hub-signature-256", "sha256=00"), ("x-github-delivery", "2")],
        once(PUSH),
    );
    // The forged one must not use up the id of the true one after it.
    for (call, looks) in [
        (github("1"), 1),
        (github("1"), 1),
        (gitlab("1"), 2),
        (forged, 2),
        (github("2"), 3),
        (github("2"), 3),
    ] {
        let case = format!("{} {:?}", call.path, call.headers);
        webhooks.handle(call).await;
        assert_eq!(harness.source.looks.load(Ordering::SeqCst), looks, "{case}");
    }
}

#[tokio::test]
async fn forty_megabytes_are_not_read() {
    let (harness, webhooks) = start().await;
    let piece = Bytes::from(vec![b' '; 1024 * 1024]);
    for (headers, most) in [
        (
            vec![("x-hub-signature-256", "sha256=00"), ("content-length", "41943040")],
            0,
        ),
        (vec![("x-hub-signature-256", "sha256=00")], 26),
        (vec![], 0),
    ] {
        let read = Arc::new(AtomicUsize::new(0));
        let (counted, piece) = (read.clone(), piece.clone());
        let body = futures::stream::iter(0..40)
            .map(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                io::Result::Ok(piece.clone())
            })
            .boxed();
        let code = if headers.is_empty() { 401 } else { 413 };
        let response = webhooks.handle(call("github", &headers, body)).await;
        assert_eq!(response.status().as_u16(), code, "{headers:?}");
        assert!(read.load(Ordering::SeqCst) <= most, "{headers:?}: {read:?}");
    }
    assert_eq!(harness.source.looks.load(Ordering::SeqCst), 0);
}
