//! Fetching from and pushing to a remote repository: credentials, host keys, time limits.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, Direction, FetchOptions, ProxyOptions, PushOptions,
    Remote, RemoteCallbacks, Repository, RepositoryInitOptions, cert::Cert,
};
use tokio::task::{self, JoinHandle};

use crate::{
    known_hosts::{HostKey, KnownHosts},
    options::{Credentials, Options, Source},
    source::{Place, SourceError},
};

/// Why a connection did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RemoteError {
    #[error("{url}: {reason}")]
    Git { url: String, reason: String },
    #[error("{url}: the credential file {} cannot be read: {reason}", file.display())]
    Credential { url: String, file: PathBuf, reason: String },
    #[error("{url}: refused to send a password over plain http; use https")]
    Clear { url: String },
    #[error("{url}: no end after {} s", limit.as_secs())]
    TooLong { url: String, limit: Duration },
    #[error("{url} refused the push: {reason}")]
    Refused { url: String, reason: String },
}

/// A remote repository and how to get in.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) url: String,
    credentials: Credentials,
    limit: Duration,
}

/// What is read from files before a connection is made, so that an unreadable file is its own error.
struct Secrets {
    password: Option<String>,
    /// The file of known hosts and what it says.
    known: Option<(PathBuf, KnownHosts)>,
}

impl Connection {
    pub(crate) fn new(url: &str, options: &Options) -> Self {
        Self {
            url: url.to_owned(),
            credentials: options.credentials.clone(),
            limit: options.time_limit,
        }
    }

    fn git(&self, error: &git2::Error) -> RemoteError {
        RemoteError::Git {
            url: self.url.clone(),
            reason: error.message().to_owned(),
        }
    }

    fn secrets(&self) -> Result<Secrets, RemoteError> {
        let read = |file: &Path| {
            fs::read_to_string(file).map_err(|error| RemoteError::Credential {
                url: self.url.clone(),
                file: file.to_path_buf(),
                reason: error.to_string(),
            })
        };
        let password = self.credentials.password_file.as_deref().map(read).transpose()?;
        if password.is_some() && self.url.starts_with("http://") && !is_loopback(&self.url) {
            return Err(RemoteError::Clear { url: self.url.clone() });
        }
        let known = match &self.credentials.known_hosts_file {
            Some(file) => Some((file.clone(), KnownHosts::read(&read(file)?))),
            None => None,
        };
        Ok(Secrets {
            password: password.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
            known,
        })
    }

    fn callbacks<'a>(&'a self, secrets: &'a Secrets, problem: &'a RefCell<Option<String>>) -> RemoteCallbacks<'a> {
        let deadline = Instant::now() + self.limit;
        let mut asked = 0;
        let mut callbacks = RemoteCallbacks::new();
        callbacks.credentials(move |_, user, allowed| {
            // libgit2 asks again after a refusal, without end.
            asked += 1;
            if asked > 4 {
                return Err(git2::Error::from_str("the credentials were refused"));
            }
            self.credential(secrets, user, allowed)
        });
        callbacks.certificate_check(move |cert, host| check(&self.url, secrets, problem, cert, host));
        callbacks.transfer_progress(move |_| Instant::now() < deadline);
        callbacks.sideband_progress(move |_| Instant::now() < deadline);
        callbacks
    }

    fn credential(&self, secrets: &Secrets, user: Option<&str>, allowed: CredentialType) -> Result<Cred, git2::Error> {
        let user = user.or(self.credentials.username.as_deref());
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user.unwrap_or("git"));
        }
        if allowed.contains(CredentialType::SSH_KEY)
            && let Some(key) = &self.credentials.ssh_key_file
        {
            return Cred::ssh_key(user.unwrap_or("git"), None, key, secrets.password.as_deref());
        }
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT)
            && let Some(password) = &secrets.password
        {
            let user = self.credentials.username.as_deref().or(user).unwrap_or("git");
            return Cred::userpass_plaintext(user, password);
        }
        Err(git2::Error::from_str(
            "it asks for credentials; name files with them by --git-username and --git-password-file, or --git-ssh-key",
        ))
    }

    /// The error to tell: the one that a callback left, if it did.
    fn outcome(
        &self,
        result: Result<(), git2::Error>,
        problem: &RefCell<Option<String>>,
        began: Instant,
    ) -> Result<(), RemoteError> {
        result.map_err(|error| match problem.take() {
            Some(reason) => RemoteError::Git {
                url: self.url.clone(),
                reason,
            },
            None if began.elapsed() >= self.limit => RemoteError::TooLong {
                url: self.url.clone(),
                limit: self.limit,
            },
            None => self.git(&error),
        })
    }

    /// Brings references of the remote into a local repository. References that match a pattern and
    /// are gone there go here too.
    pub(crate) fn fetch(&self, repo: &Repository, refspecs: &[String]) -> Result<(), RemoteError> {
        let secrets = self.secrets()?;
        let problem = RefCell::new(None);
        let began = Instant::now();
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks(&secrets, &problem))
            .proxy_options(proxy())
            .prune(git2::FetchPrune::On)
            .download_tags(AutotagOption::None)
            .update_fetchhead(false);
        let result = repo
            .remote_anonymous(&self.url)
            .and_then(|mut remote| remote.fetch(refspecs, Some(&mut options), None));
        self.outcome(result, &problem, began)
    }

    /// The commit that a reference of the remote is at.
    pub(crate) fn tip(&self, repo: &Repository, reference: &str) -> Result<Option<git2::Oid>, RemoteError> {
        let secrets = self.secrets()?;
        let problem = RefCell::new(None);
        let began = Instant::now();
        let find = |mut remote: Remote<'_>| {
            let connection = remote.connect_auth(
                Direction::Fetch,
                Some(self.callbacks(&secrets, &problem)),
                Some(proxy()),
            )?;
            let heads = connection.list()?;
            Ok(heads
                .iter()
                .find(|head| head.name() == reference)
                .map(git2::RemoteHead::oid))
        };
        match repo.remote_anonymous(&self.url).and_then(find) {
            Ok(tip) => Ok(tip),
            Err(error) => self.outcome(Err(error), &problem, began).map(|()| None),
        }
    }

    /// Moves a reference of the remote forward. The remote refuses when it has moved since.
    pub(crate) fn push(&self, repo: &Repository, from: &str, to: &str) -> Result<(), RemoteError> {
        let secrets = self.secrets()?;
        let problem = RefCell::new(None);
        let refused = RefCell::new(None);
        let began = Instant::now();
        let mut callbacks = self.callbacks(&secrets, &problem);
        callbacks.push_update_reference(|_, status| {
            if let Some(reason) = status {
                *refused.borrow_mut() = Some(reason.to_owned());
            }
            Ok(())
        });
        let mut options = PushOptions::new();
        options.remote_callbacks(callbacks).proxy_options(proxy());
        let result = repo
            .remote_anonymous(&self.url)
            .and_then(|mut remote| remote.push(&[format!("{from}:{to}")], Some(&mut options)));
        drop(options);
        self.outcome(result, &problem, began)?;
        match refused.take() {
            Some(reason) => Err(RemoteError::Refused {
                url: self.url.clone(),
                reason,
            }),
            None => Ok(()),
        }
    }
}

fn proxy<'a>() -> ProxyOptions<'a> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

fn is_loopback(url: &str) -> bool {
    let host = url
        .split("://")
        .nth(1)
        .and_then(|rest| rest.split('/').next())
        .unwrap_or_default();
    let host = host.rsplit('@').next().unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|local| host == *local || host.strip_prefix(local).is_some_and(|rest| rest.starts_with(':')))
}

/// Leaves TLS to the library, which checks against the system's authorities and the configured file;
/// checks an ssh host's key against the configured file of known hosts, if there is one.
fn check(
    url: &str,
    secrets: &Secrets,
    problem: &RefCell<Option<String>>,
    cert: &Cert<'_>,
    host: &str,
) -> Result<CertificateCheckStatus, git2::Error> {
    let (Some(key), Some((file, known))) = (cert.as_hostkey(), &secrets.known) else {
        return Ok(CertificateCheckStatus::CertificatePassthrough);
    };
    let file = file.display();
    // As `ssh-keygen -l` prints it.
    let shown = key.hash_sha256().map_or_else(
        || "of a kind that is not known".to_owned(),
        |hash| format!("SHA256:{}", STANDARD_NO_PAD.encode(hash)),
    );
    let reason = match key.hostkey().map(|key| known.check(host, ssh_port(url), key)) {
        Some(HostKey::Known) => return Ok(CertificateCheckStatus::CertificateOk),
        Some(HostKey::Changed) => format!(
            "refused: the key of {host} ({shown}) is not the one in {file}: the host has a new key, or another machine \
             answers in its place; check the key with those who run the host before you add it there"
        ),
        Some(HostKey::Revoked) => format!("refused: the key of {host} ({shown}) is revoked in {file}"),
        Some(HostKey::Unknown) | None => format!(
            "refused: {host} (its key is {shown}) is not in {file}; check the key and add it (ssh-keyscan prints it)"
        ),
    };
    *problem.borrow_mut() = Some(reason.clone());
    Err(git2::Error::from_str(&reason))
}

fn ssh_port(url: &str) -> u16 {
    let rest = url.strip_prefix("ssh://").and_then(|rest| rest.split('/').next());
    rest.and_then(|host| host.rsplit_once(':'))
        .and_then(|(_, port)| port.parse().ok())
        .unwrap_or(22)
}

/// Opens a bare repository, or makes it.
pub(crate) fn mirror(path: &Path) -> Result<Repository, git2::Error> {
    match Repository::open_bare(path) {
        Ok(repo) => Ok(repo),
        Err(_) => Repository::init_opts(
            path,
            RepositoryInitOptions::new()
                .bare(true)
                .mkpath(true)
                .external_template(false)
                .initial_head("towline"),
        ),
    }
}

/// Keeps the mirror of a remote source up to date.
pub(crate) struct Fetcher {
    connection: Connection,
    mirror: PathBuf,
    shown: String,
    /// A fetch that did not end in time. No other one starts beside it.
    hanging: Option<JoinHandle<Result<(), RemoteError>>>,
}

impl Fetcher {
    /// None for a local source.
    pub(crate) fn of(options: &Options, place: &Place) -> Option<Self> {
        let Source::Remote(url) = &options.source else {
            return None;
        };
        Some(Self {
            connection: Connection::new(url, options),
            mirror: place.path.clone(),
            shown: place.shown.clone(),
            hanging: None,
        })
    }

    pub(crate) async fn fetch(&mut self) -> Result<(), SourceError> {
        let error = |error: RemoteError| SourceError::Unreadable {
            path: self.shown.clone(),
            reason: error.to_string(),
        };
        let limit = self.connection.limit;
        let mut running = match self.hanging.take() {
            Some(running) => running,
            None => {
                let (connection, mirror_path) = (self.connection.clone(), self.mirror.clone());
                task::spawn_blocking(move || {
                    let repo = mirror(&mirror_path).map_err(|error| connection.git(&error))?;
                    connection.fetch(&repo, &["+refs/heads/*:refs/heads/*".into()])
                })
            }
        };
        // The library's own limits end a silent connection; this one ends the wait for it.
        match tokio::time::timeout(limit + Duration::from_secs(1), &mut running).await {
            Ok(Ok(result)) => result.map_err(error),
            Ok(Err(panic)) => Err(error(RemoteError::Git {
                url: self.connection.url.clone(),
                reason: panic.to_string(),
            })),
            Err(_) => {
                self.hanging = Some(running);
                Err(error(RemoteError::TooLong {
                    url: self.connection.url.clone(),
                    limit,
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_in_the_clear_to_this_machine_alone() {
        for (url, local) in [
            ("http://127.0.0.1:3000/a.git", true),
            ("http://me@localhost/a.git", true),
            ("http://localhost.example/a.git", false),
            ("http://git.example/a.git", false),
        ] {
            assert_eq!(is_loopback(url), local, "{url}");
        }
    }

    #[test]
    fn the_port_is_part_of_an_ssh_url() {
        for (url, port) in [("ssh://git@h:2222/r", 2222), ("ssh://h/r", 22), ("git@h:r", 22)] {
            assert_eq!(ssh_port(url), port, "{url}");
        }
    }
}
