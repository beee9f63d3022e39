//! Which history the versions of this server belong to, so that an agent that comes back is not taken to
//! have seen what it has not.
//!
//! A database that was put back hands out versions a second time. The store finds that out where it can,
//! and takes a new incarnation; where it cannot (its watermark is lost too), the agents' positions tell:
//! a position names the term in which it was made, and a term that this database does not have, or that
//! ended before, is of another history.

use std::sync::Arc;

use schemas::node::{History, Position, Term};
use store::{Store, Unavailable};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Where the history is kept in the database.
const DOCUMENT: &str = "node-history";

/// The history of the store, with a term of this server's.
#[derive(Default)]
pub(crate) struct Histories {
    kept: Mutex<Option<Arc<History>>>,
}

impl Histories {
    /// The history as it is now. The first time, and with each new incarnation, a term begins: it is
    /// durable before any agent hears of it.
    ///
    /// # Errors
    /// When a term has to begin and cannot be written.
    pub(crate) async fn current(&self, store: &Store) -> Result<Arc<History>, Unavailable> {
        let mut kept = self.kept.lock().await;
        let (incarnation, version) = {
            let view = store.view();
            (view.incarnation().clone(), view.version())
        };
        if let Some(history) = kept.as_ref().filter(|history| history.incarnation == incarnation) {
            return Ok(history.clone());
        }
        let stored = store
            .document(DOCUMENT)
            .and_then(|value| serde_json::from_value::<History>(value).ok())
            .filter(|history| history.incarnation == incarnation);
        let mut history = stored.unwrap_or_else(|| History {
            incarnation,
            terms: Vec::new(),
        });
        let name = Uuid::new_v4().simple().to_string();
        history.begin(Term(name[..12].into()), version);
        let value = serde_json::to_value(&history).map_err(|error| Unavailable(error.to_string()))?;
        store.put_document(DOCUMENT, Some(value)).await?;
        let history = Arc::new(history);
        *kept = Some(history.clone());
        Ok(history)
    }
}

/// Reads the position that an agent names in the query of a request.
pub(crate) fn position(query: &crate::query::Query) -> Result<Option<Position>, crate::status::ApiError> {
    let version = query.parsed::<u64>("version")?;
    let incarnation = query.text("incarnation");
    Ok(incarnation.zip(version).map(|(incarnation, version)| Position {
        incarnation: schemas::node::Incarnation(incarnation.into()),
        term: Term(query.text("term").unwrap_or("").into()),
        version,
    }))
}

#[cfg(test)]
#[path = "nodes_history_tests.rs"]
mod tests;
