//! The server: Postgres, store, git, reconcilers and the API.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use apiserver::{
    Authority,
    control::{Front, FrontParts},
    webhooks::{Secrets, Sender},
};
use gitsync::GitSync;
use schemas::now::Clock;
use store::{
    MasterKey, Store, SystemClock,
    postgres::Settings,
    private::{DataDirLock, PrivateOptions, PrivatePostgres},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    files,
    flags::{self, Guard},
    source::Git,
};
use crate::{
    cli::{ServerArgs, WebhookArgs},
    client, output, paths,
};

/// The name of the built-in repository, in the data directory and under `/git/`.
const BUILTIN: &str = "towline.git";

/// A running server.
pub(crate) struct Server {
    pub(crate) data_dir: PathBuf,
    pub(crate) url: String,
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<dyn Clock>,
    store: Store,
    postgres: Option<Arc<PrivatePostgres>>,
    /// Ends git and the reconcilers, then the API.
    work: CancellationToken,
    serving: CancellationToken,
    reconcilers: JoinHandle<()>,
    api: JoinHandle<()>,
    broken: CancellationToken,
    _lock: DataDirLock,
}

pub(crate) async fn start(args: &ServerArgs, shutdown: &CancellationToken) -> anyhow::Result<Server> {
    let data_dir = std::path::absolute(paths::data_dir(args.data_dir.as_deref()))?;
    // What the flags say is checked before anything is made or started.
    let git = git_options(args, &data_dir)?;
    let secrets = secrets(&args.webhooks)?;
    let database = args.database_url.as_deref().map(Settings::from_url).transpose();
    let database = database.context("--database-url")?;
    files::make_data_dir(&data_dir)?;
    let lock = DataDirLock::take(&data_dir)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address with --listen", args.listen))?;
    let address = listener.local_addr()?;
    let url = format!("https://{}", reachable(address));
    // A kubeconfig of an earlier run would promise a server that is not there yet.
    files::remove(&data_dir.join("kubeconfig"));

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (store, postgres) = open_store(args, &data_dir, database, &lock, clock.clone()).await?;
    let authority = Arc::new(Authority::open(&store, clock.now()).await?);
    files::write(&data_dir.join("ca.pem"), authority.ca_pem().as_bytes())?;
    files::write(
        &data_dir.join("admin-token"),
        format!("{}\n", authority.admin_token()).as_bytes(),
    )?;
    files::write(
        &data_dir.join("join-token"),
        format!("{}\n", authority.bootstrap_token()).as_bytes(),
    )?;
    files::write(
        &data_dir.join("cluster-id"),
        format!("{}\n", store.cluster()).as_bytes(),
    )?;

    let work = CancellationToken::new();
    let serving = CancellationToken::new();
    let broken = CancellationToken::new();
    let git = start_git(args, git, &data_dir, &url, &store, &clock, &work)?;
    let builtin = git.builtin.is_some();
    let front = Front::start(FrontParts {
        store: store.clone(),
        clock: clock.clone(),
        authority: authority.clone(),
        source: Arc::new(git),
        push_wait: args.git.push_wait,
        shutdown: serving.clone(),
    });
    let config = apiserver::Config {
        listener,
        tls: authority.server_config(&hosts(address), clock.now())?,
        parts: apiserver::Parts {
            store: store.clone(),
            clock: clock.clone(),
            authenticator: authority.clone(),
            logs: Arc::new(front.sessions().clone()),
            mounts: front.mounts(secrets),
        },
    };
    let api = tokio::spawn({
        let (serving, broken) = (serving.clone(), broken.clone());
        async move {
            if let Err(error) = apiserver::serve(config, serving).await {
                tracing::error!(%error, "the API server ended");
                broken.cancel();
            }
        }
    });
    let reconcilers = reconciler::start(
        store.clone(),
        clock.clone(),
        work.clone(),
        reconciler::Options {
            root_ca: Some(authority.ca_pem().into()),
            ..reconciler::Options::default()
        },
    )
    .await;

    let server = Server {
        data_dir,
        url,
        authority,
        clock,
        store,
        postgres,
        work,
        serving,
        reconcilers,
        api,
        broken,
        _lock: lock,
    };
    server.ready(shutdown).await?;
    let kubeconfig = server.data_dir.join("kubeconfig");
    files::write(&kubeconfig, server.authority.kubeconfig(&server.url).as_bytes())?;
    tracing::info!(server = server.url, kubeconfig = %kubeconfig.display(), "ready");
    output::line(format!(
        "ready: export KUBECONFIG={}",
        output::shell_word(&kubeconfig.display().to_string())
    ));
    if builtin {
        output::line(to_push(&server.data_dir, reachable(address)));
    }
    Ok(server)
}

/// What a person types to push to the built-in repository.
fn to_push(data_dir: &Path, host: SocketAddr) -> String {
    let word = |file: &str| output::shell_word(&data_dir.join(file).display().to_string());
    format!(
        "to push: git remote add towline https://towline@{host}/git/{BUILTIN} && \
         git config http.https://{host}/.sslCAInfo {ca}\n\
         (git asks for a password: that is the token in {token})",
        ca = word("ca.pem"),
        token = word("admin-token"),
    )
}

/// Opens the store over the database that was asked for, or over a private one.
async fn open_store(
    args: &ServerArgs,
    data_dir: &Path,
    database: Option<Settings>,
    lock: &DataDirLock,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(Store, Option<Arc<PrivatePostgres>>)> {
    let file = data_dir.join("master.key");
    let key = MasterKey::load_or_create(&file)
        .with_context(|| format!("the key {} of the database cannot be read or made", file.display()))?;
    let options = store::Options {
        clock,
        // So that a database that was restored while no server ran is noticed as set back.
        watermark: Some(data_dir.join("watermark")),
        admission: true,
        ..store::Options::default()
    };
    if let Some(settings) = database {
        return Ok((Store::open_postgres(settings, &key, options).await?, None));
    }
    let mut private = PrivateOptions::new(data_dir);
    private.binaries.clone_from(&args.postgres_bin);
    private.lock = Some(lock.clone());
    let postgres = Arc::new(PrivatePostgres::start(private).await?);
    tokio::spawn({
        let postgres = postgres.clone();
        async move { postgres.run().await }
    });
    let settings = Settings::new(postgres.connection());
    Ok((Store::open_postgres(settings, &key, options).await?, Some(postgres)))
}

/// What git is asked for, checked without touching anything.
fn git_options(args: &ServerArgs, data_dir: &Path) -> anyhow::Result<gitsync::Options> {
    let source = match &args.repo {
        Some(repo) => repo.parse().with_context(|| format!("--repo {repo}"))?,
        None => gitsync::Source::Local(builtin(data_dir)),
    };
    if let Some(seed) = &args.seed {
        anyhow::ensure!(seed.is_dir(), "--seed {}: there is no such folder", seed.display());
    }
    let local = matches!(source, gitsync::Source::Local(_));
    let mut options = gitsync::Options::new(source, data_dir.join("gitsync"));
    options.branch.clone_from(&args.branch);
    options.path.clone_from(&args.path);
    options.repack = args.repo.is_none();
    options.poll = (!local).then_some(args.git.poll_interval);
    options.status.branch.clone_from(&args.git.status_branch);
    options.status.repo = args
        .git
        .status_repo
        .as_ref()
        .map(|repo| repo.parse().with_context(|| format!("--status-repo {repo}")))
        .transpose()?;
    options.credentials = gitsync::Credentials {
        username: args.git.git_username.clone(),
        password_file: args.git.git_password_file.clone(),
        ssh_key_file: args.git.git_ssh_key.clone(),
        known_hosts_file: args.git.git_known_hosts.clone(),
    };
    options.check()?;
    Ok(options)
}

/// Where the built-in repository lies.
fn builtin(data_dir: &Path) -> PathBuf {
    data_dir.join("git").join(BUILTIN)
}

fn start_git(
    args: &ServerArgs,
    options: gitsync::Options,
    data_dir: &Path,
    url: &str,
    store: &Store,
    clock: &Arc<dyn Clock>,
    work: &CancellationToken,
) -> anyhow::Result<Git> {
    let builtin = args.repo.is_none().then(|| builtin(data_dir));
    if let Some(dir) = &builtin {
        let hook = gitsync::Hook {
            binary: std::env::current_exe().context("the path of this program cannot be found out")?,
            server: url.to_owned(),
            token_file: data_dir.join("admin-token"),
            ca_file: data_dir.join("ca.pem"),
        };
        files::make_private(&data_dir.join("git"))?;
        gitsync::ensure_builtin(dir, &args.branch, args.seed.as_deref(), &hook, clock.now().wall)?;
    }
    Ok(Git {
        sync: GitSync::start(options, store.clone(), clock.clone(), work.clone())?,
        store: store.clone(),
        branch: args.branch.clone(),
        builtin,
    })
}

fn secrets(args: &WebhookArgs) -> anyhow::Result<Secrets> {
    let mut secrets = Secrets::default();
    for (sender, file) in [
        (Sender::Github, &args.webhook_github_secret),
        (Sender::Gitlab, &args.webhook_gitlab_secret),
        (Sender::Gitea, &args.webhook_gitea_secret),
        (Sender::Generic, &args.webhook_generic_secret),
    ] {
        let Some(file) = file else { continue };
        let flag = format!("--webhook-{}-secret", sender.name());
        let secret = flags::read(&flag, file, Guard::Secret)?;
        secrets.0.insert(sender, secret.trim_ascii().to_vec());
    }
    Ok(secrets)
}

/// The address under which this machine reaches its own server.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    reachable
}

/// What the server's certificate is good for, beside the local names.
fn hosts(address: SocketAddr) -> Vec<String> {
    let mut hosts = vec![reachable(address).ip().to_string()];
    if let Ok(name) = nix::unistd::gethostname() {
        hosts.push(name.to_string_lossy().into_owned());
    }
    if address.ip().is_unspecified()
        && let Ok(interfaces) = nix::ifaddrs::getifaddrs()
    {
        for interface in interfaces {
            let Some(found) = interface.address else { continue };
            if let Some(v4) = found.as_sockaddr_in() {
                hosts.push(v4.ip().to_string());
            } else if let Some(v6) = found.as_sockaddr_in6() {
                hosts.push(v6.ip().to_string());
            }
        }
    }
    hosts
}

impl Server {
    /// Waits until `/readyz` answers, as a client sees it.
    async fn ready(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let client = client::Server::new(
            &self.url,
            self.authority.admin_token().to_owned(),
            self.authority.ca_pem().as_bytes(),
        )?;
        loop {
            let answer = client.send("GET", "/readyz", Vec::new()).await;
            if matches!(&answer, Ok(response) if response.status().is_success()) {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                () = shutdown.cancelled() => anyhow::bail!("ended before the server was ready"),
                () = self.broken.cancelled() => anyhow::bail!("the API server does not start; its log says why"),
            }
        }
    }

    /// Ends when the server cannot go on: its API ended, or another server took over its database.
    /// What it serves from memory would only grow older, so it must not serve any longer.
    pub(crate) async fn failed(&self) -> &'static str {
        let mut office = self.store.office();
        let lost = async { office.wait_for(|office| *office == store::Office::Lost).await.is_ok() };
        tokio::select! {
            () = self.broken.cancelled() => "the API server ended",
            true = lost => {
                self.broken.cancel();
                "another server leads with this database now"
            }
        }
    }

    /// Ends everything in order: git and reconcilers, then the API, the store, and its Postgres.
    pub(crate) async fn stop(self) -> anyhow::Result<ExitCode> {
        self.work.cancel();
        if let Err(error) = self.reconcilers.await {
            tracing::error!(%error, "the reconcilers did not end well");
        }
        self.serving.cancel();
        if let Err(error) = self.api.await {
            tracing::error!(%error, "the API server did not end well");
        }
        self.store.close().await;
        if let Some(postgres) = self.postgres {
            postgres.stop().await;
        }
        tracing::info!("ended");
        Ok(if self.broken.is_cancelled() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}
