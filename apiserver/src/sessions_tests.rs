use bytes::Bytes;
use futures::StreamExt;
use http::{Method, StatusCode};
use schemas::{
    Kind,
    node::{LogOptions, SessionRequest},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::control_harness::{Client, Harness, Lines, key, streamed};

const SESSIONS: &str = "/towline/v1/nodes/a/sessions";

async fn ask(harness: &Harness) -> Result<ByteStream, SessionError> {
    let options = LogOptions {
        follow: true,
        ..LogOptions::default()
    };
    harness
        .front
        .sessions()
        .logs("a", key(Kind::Pod, "p"), "u".into(), options)
        .await
}

/// The id of the next request, which must be for a log.
async fn request(lines: &mut Lines) -> String {
    let SessionRequest::Logs { id, options, .. } = lines.json().await else {
        panic!("not the log that was asked for");
    };
    assert!(options.follow);
    id
}

#[tokio::test]
async fn a_log_streams_from_the_agent_to_the_reader() {
    let harness = Harness::start().await;
    let a = harness.node("a").await;
    let mut requests = a.lines(SESSIONS).await;
    let agent = async {
        let id = request(&mut requests).await;
        let (pieces, body) = mpsc::channel(1);
        let body = streamed(ReceiverStream::new(body).map(Ok).boxed());
        let client = a.clone();
        let path = format!("{SESSIONS}/{id}");
        let sent = tokio::spawn(async move { client.send(Method::POST, &path, body).await.status() });
        (pieces, sent)
    };
    let (log, (pieces, sent)) = tokio::join!(ask(&harness), agent);
    let mut log = log.expect("a log");
    for line in ["one\n", "two\n"] {
        pieces.send(Bytes::from(line)).await.expect("a reader");
        assert_eq!(log.next().await.expect("a piece").expect("a piece"), line);
    }
    drop(pieces);
    // The end may come as an empty piece.
    while let Some(rest) = log.next().await {
        assert_eq!(rest.expect("the end"), "");
    }
    drop(log);
    assert_eq!(sent.await.expect("an answer"), StatusCode::OK);
}

#[tokio::test]
async fn a_reader_who_leaves_ends_the_agents_request() {
    let harness = Harness::start().await;
    let a = harness.node("a").await;
    let mut requests = a.lines(SESSIONS).await;
    let agent = async {
        let id = request(&mut requests).await;
        let client = a.clone();
        let endless = streamed(futures::stream::repeat_with(|| Ok(Bytes::from("line\n".repeat(1000)))).boxed());
        let sent = tokio::spawn(async move {
            let path = format!("{SESSIONS}/{id}");
            client.send(Method::POST, &path, endless).await.status()
        });
        (sent,)
    };
    let (log, (sent,)) = tokio::join!(ask(&harness), agent);
    let mut log = log.expect("a log");
    log.next().await.expect("a piece").expect("a piece");
    drop(log);
    assert_eq!(sent.await.expect("an answer"), StatusCode::OK);
}

#[tokio::test]
async fn an_agent_says_why_it_has_no_answer() {
    let harness = Harness::start().await;
    let a = harness.node("a").await;
    let mut requests = a.lines(SESSIONS).await;
    let agent = async {
        let id = request(&mut requests).await;
        a.call(
            Method::POST,
            &format!("{SESSIONS}/{id}?status=404"),
            "no such container\n",
        )
        .await
    };
    let (log, answered) = tokio::join!(ask(&harness), agent);
    assert_eq!(answered.0, StatusCode::OK);
    let error = ApiError::from(log.err().expect("an error"));
    assert_eq!(error.code, StatusCode::NOT_FOUND);
    assert_eq!(error.message, "no such container");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_named() {
    let harness = Harness::start().await;
    let not_connected = || Some(SessionError::NotConnected { node: "a".into() });
    assert_eq!(ask(&harness).await.err(), not_connected());

    let a = harness.node("a").await;
    let mut requests = a.lines(SESSIONS).await;
    let agent = async {
        request(&mut requests).await;
        // The connection breaks before the answer.
        drop(requests);
    };
    let (log, ()) = tokio::join!(ask(&harness), agent);
    assert_eq!(log.err(), not_connected());
}

#[tokio::test]
async fn only_the_node_that_was_asked_answers_and_only_once() {
    let harness = Harness::start().await;
    let (a, b) = (harness.node("a").await, harness.node("b").await);
    let mut requests = a.lines(SESSIONS).await;
    let post = async |client: &Client, path: String| client.call(Method::POST, &path, "log").await.0;
    let agents = async {
        let id = request(&mut requests).await;
        assert_eq!(
            post(&b, format!("/towline/v1/nodes/b/sessions/{id}")).await,
            StatusCode::GONE
        );
        assert_eq!(post(&a, format!("{SESSIONS}/other")).await, StatusCode::GONE);
        let again = format!("{SESSIONS}/{id}");
        tokio::join!(post(&a, again.clone()), async { again.clone() })
    };
    let reader = async {
        let log = ask(&harness).await.expect("a log");
        log.map(|piece| piece.expect("a piece")).collect::<Vec<_>>().await
    };
    let (log, (first, again)) = tokio::join!(reader, agents);
    assert_eq!(log, ["log"]);
    assert_eq!(first, StatusCode::OK);
    assert_eq!(post(&a, again).await, StatusCode::GONE);
}
