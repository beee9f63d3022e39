//! How far the database had come, kept beside it.
//!
//! A database that was put back while nobody ran looks whole. Without this it would hand out versions
//! again that watchers and agents have seen with other contents.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, time::Instant};

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) incarnation: String,
    pub(crate) batch: u64,
}

/// Keeps the file current, at most once a second and never because of a clock alone.
pub(crate) struct Watermark {
    path: PathBuf,
    last: Option<Mark>,
    due: Instant,
}

const PAUSE: Duration = Duration::from_secs(1);

impl Watermark {
    /// Reads what is there. A file that cannot be read counts as none: it can be torn by a crash.
    pub(crate) async fn read(path: &Path) -> Self {
        let last = match tokio::fs::read(path).await {
            Ok(text) => serde_json::from_slice(&text).ok(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the watermark cannot be read");
                }
                None
            }
        };
        Self {
            path: path.to_owned(),
            last,
            due: Instant::now(),
        }
    }

    /// Whether a database has come less far than it had, or is of another life than the one last seen.
    pub(crate) fn is_past(&self, incarnation: &str, batch: u64) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.incarnation != incarnation || last.batch > batch)
    }

    pub(crate) async fn note(&mut self, mark: Mark, now: bool) {
        if self.last.as_ref() == Some(&mark) || (!now && Instant::now() < self.due) {
            return;
        }
        self.due = Instant::now() + PAUSE;
        let draft = self.path.with_extension("new");
        let written = async {
            let mut file = tokio::fs::File::create(&draft).await?;
            file.write_all(&serde_json::to_vec(&mark)?).await?;
            file.sync_all().await?;
            tokio::fs::rename(&draft, &self.path).await
        };
        match written.await {
            Ok(()) => self.last = Some(mark),
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "the watermark cannot be written"),
        }
    }
}
