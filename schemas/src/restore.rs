//! Restoring an object's document to an earlier content: what is asked for, and what came of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Commit, ContentHash, Key};

/// What shall be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    pub key: Key,
    /// The file that declares it now.
    pub file: String,
    pub to: Target,
    pub why: Why,
}

/// Where the content to restore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In this file of a commit, with this content.
    Content {
        commit: Commit,
        file: String,
        hash: ContentHash,
    },
    /// Whatever a commit (or branch, or tag) has, in one of these files.
    Revision { text: String, files: Vec<String> },
}

/// Who or what wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A person asked.
    Asked { by: String },
    /// This content failed. It is left alone once something newer took its place, and reverted once at
    /// most.
    Failed { content: ContentHash, reason: String },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub commit: Commit,
    /// The branch that the commit is on.
    pub branch: String,
    /// Why it is not on the branch that declares, if so.
    pub refused: Option<String>,
    /// The commit that the content is from.
    pub from: Commit,
    pub file: String,
}

/// Where contents with which a rollout failed are kept, each as a document of its own.
pub const BAD_CONTENTS: &str = "bad-content/";

/// A content with which an object's rollout failed and whose manifest asks for a revert. It is not
/// released again, and reverted once at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BadContent {
    pub key: Key,
    pub content: ContentHash,
    /// The commit that it came with, and its place there.
    pub commit: Commit,
    pub file: String,
    /// Why its rollout failed.
    pub reason: String,
    pub since: Timestamp,
    pub reverted: Reverted,
}

/// What became of the revert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reverted {
    Pending,
    By(Restored),
    /// It was not made, and will not be.
    Not(String),
}

impl BadContent {
    /// The name of its document.
    #[must_use]
    pub fn document(&self) -> String {
        let Key { kind, name, .. } = &self.key;
        let kind = kind.info().plural;
        format!("{BAD_CONTENTS}{kind}/{}/{name}/{}", self.key.ns(), self.content)
    }

    /// Why the content is not released, and how to get out of it.
    #[must_use]
    pub fn held(&self) -> String {
        format!(
            "this content has failed at {} ({}) and is not released again{}; push another one: any change of its \
             document counts",
            self.commit.short(),
            self.reason,
            self.outcome()
        )
    }

    /// What became of the revert, to be put behind why it failed.
    #[must_use]
    pub fn outcome(&self) -> String {
        match &self.reverted {
            Reverted::Pending => "; it is about to be reverted".to_owned(),
            Reverted::Not(why) => format!("; it was not reverted: {why}"),
            Reverted::By(done) => match &done.refused {
                None => format!("; it was reverted by {}", done.commit.short()),
                Some(why) => format!(
                    "; its revert {} is on {}, to be merged ({why})",
                    done.commit.short(),
                    done.branch
                ),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Kind;

    use super::*;

    #[test]
    fn a_bad_content_says_what_became_of_it_and_how_to_get_out() {
        let mut bad = BadContent {
            key: Key::namespaced(Kind::Deployment, "shop", "web"),
            content: ContentHash([7; 32]),
            commit: "1111111111111".into(),
            file: "web.yaml".to_owned(),
            reason: "ProgressDeadlineExceeded: no".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            reverted: Reverted::Pending,
        };
        let done = |refused: Option<&str>| {
            Reverted::By(Restored {
                commit: "2222222222222".into(),
                branch: "proposals/x".to_owned(),
                refused: refused.map(str::to_owned),
                from: "3".into(),
                file: "web.yaml".to_owned(),
            })
        };
        for (reverted, part) in [
            (Reverted::Pending, "about to be reverted"),
            (
                Reverted::Not("its file is gone".to_owned()),
                "not reverted: its file is gone",
            ),
            (done(None), "reverted by 2222222222;"),
            (done(Some("protected")), "is on proposals/x, to be merged (protected)"),
        ] {
            bad.reverted = reverted;
            let held = bad.held();
            assert!(held.contains(part) && held.contains("at 1111111111"), "{held}");
            assert!(
                held.ends_with("push another one: any change of its document counts"),
                "{held}"
            );
            let kept = serde_json::to_value(&bad).expect("JSON");
            assert_eq!(serde_json::from_value::<BadContent>(kept).expect("read"), bad);
        }
        assert!(
            bad.document().starts_with("bad-content/deployments/shop/web/0707"),
            "{}",
            bad.document()
        );
    }
}
