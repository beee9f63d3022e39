//! Watches: changes as they are committed, one JSON document a line.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::header;
use schemas::{Kind, Object};
use serde_json::{Value, json};
use store::{Change, Watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    accept::Form,
    api::Api,
    exchange::{self, Call, Response},
    path::Resource,
    read::Wanted,
    select::Selection,
    status::ApiError,
    table::{self, Include, Style},
    wire::{Encodings, Partial},
};

/// How often a quiet watch with bookmarks says how far it has come.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// A watch without a time limit of its own ends after this many seconds, so that clients spread
/// over servers again.
const LIFETIME: std::ops::Range<u64> = 1800..3600;
/// Events are sent in pieces of about this length.
const PIECE: usize = 64 * 1024;

/// Says that the objects that were there at the start have all been sent.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// What happened to an object, from where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Added,
    Modified,
    Deleted,
}

impl Event {
    fn word(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// Where a watch begins.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    /// With everything there is, then what changes.
    Whole { end_mark: bool },
    /// With what changes from now on.
    Now,
    /// With what changed after a version.
    After(u64),
}

struct Options {
    start: Start,
    bookmarks: bool,
    lifetime: Duration,
}

impl Options {
    fn of(call: &Call) -> Result<Self, ApiError> {
        let query = &call.query;
        let bookmarks = query.flag("allowWatchBookmarks")?;
        let initial = match query.get("sendInitialEvents") {
            None => None,
            Some(_) => Some(query.flag("sendInitialEvents")?),
        };
        let version = match (initial, query.text("resourceVersionMatch")) {
            (None, Some(_)) => {
                return Err(ApiError::bad_request(
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (Some(_), found) if found != Some("NotOlderThan") => {
                return Err(ApiError::bad_request(
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            // With initial events an empty version means the newest.
            (Some(_), _) => query.parsed::<u64>("resourceVersion")?.filter(|version| *version > 0),
            (None, None) => match Wanted::of(query)? {
                Wanted::Newest => None,
                Wanted::NotOlderThan(version) | Wanted::Exactly(version) => Some(version),
            },
        };
        let start = match (initial, version) {
            (Some(true), _) => Start::Whole { end_mark: bookmarks },
            (Some(false), None) => Start::Now,
            (None, None) => Start::Whole { end_mark: false },
            (_, Some(version)) => Start::After(version),
        };
        let lifetime = match query.parsed::<u64>("timeoutSeconds")? {
            None | Some(0) => rand::random_range(LIFETIME),
            Some(seconds) => seconds,
        };
        Ok(Self {
            start,
            bookmarks,
            lifetime: Duration::from_secs(lifetime),
        })
    }
}

/// How events are written.
#[derive(Clone, Copy)]
enum Writing {
    Plain,
    Table(Style),
    Metadata(&'static str),
}

struct Stream {
    kind: Kind,
    writing: Writing,
    selection: Selection,
    encodings: Arc<Encodings>,
    clock: Arc<dyn schemas::now::Clock>,
    watch: Watch,
    initial: std::vec::IntoIter<Arc<Object>>,
    /// The version that the initial objects are complete at, while that is still to be said.
    initial_end: Option<u64>,
    bookmarks: Option<Instant>,
    deadline: Instant,
    shutdown: CancellationToken,
    /// Columns were sent already.
    headed: bool,
    ended: bool,
}

/// `GET …?watch=true`.
pub(crate) fn watch(api: &Api, resource: &Resource, call: &Call) -> Result<Response, ApiError> {
    let selection = Selection::of(resource, &call.query)?;
    let options = Options::of(call)?;
    let writing = match Form::of(call.header(header::ACCEPT))? {
        Form::Plain => Writing::Plain,
        Form::Table { version } => Writing::Table(Style {
            kind: selection.kind,
            include: Include::of(&call.query)?,
            version,
            now: api.clock.now().wall,
        }),
        Form::Metadata { version } => Writing::Metadata(version),
        Form::Discovery { .. } => return Err(ApiError::not_acceptable()),
    };
    let (initial, after, end) = match options.start {
        Start::Whole { end_mark } => {
            let view = api.store.view();
            let version = view.version();
            let items = selection.page(&view, None, None).items;
            (items, Some(version), end_mark.then_some(version))
        }
        Start::Now => (Vec::new(), None, None),
        Start::After(version) => (Vec::new(), Some(version), None),
    };
    let watch = api
        .store
        .watch(selection.scope(), after)
        .map_err(|gone| ApiError::expired(format!("too old resource version: {} ({})", gone.asked, gone.oldest)))?;
    let begin = Instant::now();
    let stream = Stream {
        kind: selection.kind,
        writing,
        selection,
        encodings: api.encodings.clone(),
        clock: api.clock.clone(),
        watch,
        initial: initial.into_iter(),
        initial_end: end,
        bookmarks: options.bookmarks.then_some(begin + BOOKMARKS),
        deadline: begin + options.lifetime,
        shutdown: api.shutdown.clone(),
        headed: false,
        ended: false,
    };
    let pieces = futures::stream::unfold(stream, |mut stream| async move {
        let piece = stream.next().await?;
        Some((Ok(piece), stream))
    });
    Ok(exchange::stream("application/json", pieces.boxed()))
}

impl Stream {
    /// The next events; None: the watch has ended.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        loop {
            if self.ended {
                return None;
            }
            while out.len() < PIECE
                && let Some(object) = self.initial.next()
            {
                self.write(Event::Added, &object, &mut out);
            }
            if self.initial.len() == 0
                && let Some(version) = self.initial_end.take()
            {
                self.bookmark(version, true, &mut out);
            }
            if !out.is_empty() {
                return Some(out.into());
            }
            let far = self.deadline;
            tokio::select! {
                changes = self.watch.next() => match changes {
                    Some(changes) => {
                        for change in &changes {
                            self.change(change, &mut out);
                        }
                    }
                    None => {
                        // The client is too slow, or the store was restored.
                        let error = ApiError::expired("too old resource version: changes were missed; list again");
                        push(&mut out, "ERROR", error.to_value().to_string().as_bytes());
                        self.ended = true;
                    }
                },
                () = tokio::time::sleep_until(self.bookmarks.unwrap_or(far)), if self.bookmarks.is_some() => {
                    self.bookmarks = Some(Instant::now() + BOOKMARKS);
                    self.bookmark(self.watch.seen(), false, &mut out);
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    // The last word lets the client go on from here.
                    if self.bookmarks.is_some() {
                        self.bookmark(self.watch.seen(), false, &mut out);
                    }
                    self.ended = true;
                }
                () = self.shutdown.cancelled() => self.ended = true,
            }
            if !out.is_empty() {
                return Some(out.into());
            }
        }
    }

    fn change(&mut self, change: &Change, out: &mut Vec<u8>) {
        let old = change.old.as_ref().filter(|old| self.selection.matches(old));
        let new = change.new.as_ref().filter(|new| self.selection.matches(new));
        match (old, new) {
            (None, None) => {}
            (None, Some(new)) => self.write(Event::Added, new, out),
            (Some(_), Some(new)) => self.write(Event::Modified, new, out),
            (Some(old), None) => {
                // Its last state, at the version at which it went.
                let mut gone = Object::clone(old);
                gone.version = change.version;
                self.write(Event::Deleted, &gone, out);
            }
        }
    }

    fn write(&mut self, event: Event, object: &Object, out: &mut Vec<u8>) {
        let body = match self.writing {
            // What is gone shares its version with no stored state, but other watchers see it too.
            Writing::Plain if event == Event::Deleted => {
                serde_json::to_vec(&crate::wire::Wire(object)).map(Bytes::from)
            }
            Writing::Plain => self.encodings.json(object),
            Writing::Metadata(version) => serde_json::to_vec(&Partial { object, version }).map(Bytes::from),
            Writing::Table(style) => {
                let style = Style {
                    now: self.clock.now().wall,
                    ..style
                };
                let columns = !std::mem::replace(&mut self.headed, true);
                table::of_one(style, object, columns).map(|value| value.to_string().into())
            }
        };
        match body {
            Ok(body) => push(out, event.word(), &body),
            Err(error) => {
                tracing::error!(object = %object.key(), %error, "an object cannot be encoded; its change is not sent");
            }
        }
    }

    fn bookmark(&self, version: u64, initial_end: bool, out: &mut Vec<u8>) {
        let info = self.kind.info();
        let mut meta = json!({"resourceVersion": version.to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({INITIAL_END: "true"});
        }
        let body: Value = match self.writing {
            Writing::Plain => json!({"kind": info.name, "apiVersion": info.api_version(), "metadata": meta}),
            Writing::Metadata(version) => json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": meta,
            }),
            Writing::Table(style) => json!({
                "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", style.version),
                "metadata": {"resourceVersion": version.to_string()},
                "columnDefinitions": [],
                "rows": [{
                    "cells": [],
                    "object": {
                        "kind": "PartialObjectMetadata",
                        "apiVersion": format!("meta.k8s.io/{}", style.version),
                        "metadata": meta,
                    },
                }],
            }),
        };
        push(out, "BOOKMARK", body.to_string().as_bytes());
    }
}

fn push(out: &mut Vec<u8>, event: &str, object: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}
