//! What the watcher is told at its start: where the repository is and who may read it.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use crate::StartError;

/// Everything that a [`crate::GitSync`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    pub source: Source,
    /// The branch that declares the desired state.
    pub branch: String,
    /// The folder of the repository that holds the manifests; empty for its root.
    pub path: String,
    /// A folder of gitsync's own, for mirrors.
    pub data_dir: PathBuf,
    pub credentials: Credentials,
    /// How long to wait between looks when nothing else says "look". `None`: 60 s for a remote
    /// repository, 5 s for a local one.
    pub poll: Option<Duration>,
    /// The most that one fetch or push may take.
    pub time_limit: Duration,
    pub status: StatusOptions,
    /// The repository is Towline's own: it repacks it now and then.
    pub repack: bool,
}

/// Where the status goes, and how often.
#[derive(Clone, Debug)]
pub struct StatusOptions {
    pub branch: String,
    /// `None`: into the repository that the manifests are read from.
    pub repo: Option<Source>,
    /// The least time between two commits. `None`: 2 s for a local repository, 30 s for a remote one.
    pub pace: Option<Duration>,
}

impl Options {
    /// The defaults for a source: branch `main`, the whole repository, status on `towline/status`.
    #[must_use]
    pub fn new(source: Source, data_dir: PathBuf) -> Self {
        Self {
            source,
            branch: "main".into(),
            path: String::new(),
            data_dir,
            credentials: Credentials::default(),
            poll: None,
            time_limit: Duration::from_secs(120),
            status: StatusOptions {
                branch: "towline/status".into(),
                repo: None,
                pace: None,
            },
            repack: false,
        }
    }

    /// Checks what can be checked without looking at a repository.
    ///
    /// # Errors
    /// Names that no branch can have, and a status branch that is the one that declares.
    pub fn check(&self) -> Result<(), StartError> {
        for branch in [&self.branch, &self.status.branch] {
            if !git2::Branch::name_is_valid(branch).unwrap_or(false) {
                return Err(StartError::BranchName(branch.clone()));
            }
        }
        let here = self.status.repo.as_ref().is_none_or(|repo| *repo == self.source);
        if here && self.branch == self.status.branch {
            return Err(StartError::SameBranch(self.branch.clone()));
        }
        Ok(())
    }

    pub(crate) fn poll(&self) -> Duration {
        self.poll.unwrap_or(match self.source {
            Source::Local(_) => Duration::from_secs(5),
            Source::Remote(_) => Duration::from_secs(60),
        })
    }

    /// `path` without leading, trailing or doubled slashes.
    pub(crate) fn folder(&self) -> String {
        let parts: Vec<&str> = self
            .path
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .collect();
        parts.join("/")
    }

    pub(crate) fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }
}

/// Files with credentials for a remote repository. They are read anew for every connection, so that
/// a rotated credential needs no restart.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub ssh_key_file: Option<PathBuf>,
    /// The host keys to trust, in the format of OpenSSH. Without it, `~/.ssh/known_hosts`.
    pub known_hosts_file: Option<PathBuf>,
}

/// A repository: a folder of this machine, or something behind a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Local(PathBuf),
    Remote(String),
}

/// Why a text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceSyntax {
    #[error("the repository is an empty text; give a path, or a URL of file, https or ssh")]
    Empty,
    #[error("{0}:// is no way to reach a repository here; use a path, or a URL of file, https or ssh")]
    Scheme(String),
    #[error("the URL holds a password, which would end up in logs; put it into a file and name that")]
    Password,
}

impl FromStr for Source {
    type Err = SourceSyntax;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SourceSyntax::Empty);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(match scp_like(text) {
                true => Self::Remote(text.to_owned()),
                false => Self::Local(text.into()),
            });
        };
        match scheme {
            "file" => Ok(Self::Local(rest.strip_prefix("localhost").unwrap_or(rest).into())),
            "https" | "http" | "ssh" => {
                let authority = rest.split('/').next().unwrap_or_default();
                match authority.rsplit_once('@') {
                    Some((user, _)) if user.contains(':') => Err(SourceSyntax::Password),
                    _ => Ok(Self::Remote(text.to_owned())),
                }
            }
            other => Err(SourceSyntax::Scheme(other.to_owned())),
        }
    }
}

/// `git@host:path`: a colon before the first slash. A path with such a colon is written `./a:b`.
fn scp_like(text: &str) -> bool {
    let head = text.split('/').next().unwrap_or_default();
    head.contains(':')
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Remote(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart() {
        let local = |path: &str| Ok(Source::Local(path.into()));
        let remote = |url: &str| Ok(Source::Remote(url.into()));
        for (text, expected) in [
            ("/srv/git/shop.git", local("/srv/git/shop.git")),
            ("./a:b", local("./a:b")),
            ("file:///srv/shop", local("/srv/shop")),
            ("file://localhost/srv/shop", local("/srv/shop")),
            ("https://git.example/shop.git", remote("https://git.example/shop.git")),
            ("ssh://git@git.example/shop", remote("ssh://git@git.example/shop")),
            ("git@git.example:shop.git", remote("git@git.example:shop.git")),
            ("https://me:secret@git.example/shop", Err(SourceSyntax::Password)),
            ("ftp://git.example/shop", Err(SourceSyntax::Scheme("ftp".into()))),
            (" ", Err(SourceSyntax::Empty)),
        ] {
            assert_eq!(text.parse::<Source>(), expected, "{text}");
        }
    }

    #[test]
    fn the_folder_is_trimmed() {
        let mut options = Options::new(Source::Local("/r".into()), "/d".into());
        options.path = "./deploy//prod/".into();
        assert_eq!(options.folder(), "deploy/prod");
    }
}
