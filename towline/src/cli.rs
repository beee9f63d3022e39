//! The command line: what can be asked for, and how answers are printed.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Git pulls; hosts follow. Keeps plain Docker hosts in the state that a git repository declares.
#[derive(Debug, Parser)]
#[command(name = "towline", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes:
  0  done; for `sync --wait`: converged; for `validate`: no errors
  1  `sync --wait`: the rollout failed; `validate`: errors were found; `up`, `server`, `agent`: ended by a fault
  2  not carried out: a wrong command line, no kubeconfig, refused by the server, output that cannot be written
  3  `sync --wait`: deletions, or a broken part of the repository, are held
  4  `sync --wait`: a newer commit took this one's place
  5  the server could not be reached
  6  `sync --wait`: not finished within --timeout";

const UNCLAIMED: &str =
    "A node's agent removes a pod's containers only when the pod was deleted. After a database was put
back from a backup, the server may not know pods that run; it cannot say whether they were deleted, so
they stay as they are (not restarted, not probed) until the server has them again or you decide:

  towline unclaimed                            list them
  towline unclaimed --remove NODE/POD-UID      end and remove one
  towline unclaimed --remove NODE/all          end and remove all of a node
  towline unclaimed --keep NODE/POD-UID        leave one as it is, and report it no more";

const ROLLBACK: &str =
    "The document goes back as its author wrote it, as one commit on the branch; other documents of its file
and whatever was pushed since stay. Where the branch takes no commit of the server's (it is protected, or
checked out in a work tree), the commit is on proposals/…, to be merged.

  towline rollback deployment/web -n shop                  the last content that was healthy
  towline rollback deployment/web -n shop --to 1a2b3c4     as it was at a commit";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine: Postgres, server and a node agent on the local Docker
    Up(UpArgs),
    /// Run the server alone: API, git, reconcilers
    Server(ServerArgs),
    /// Run a node agent alone, against a server elsewhere
    Agent(AgentArgs),
    /// Print the admin kubeconfig of a running server
    Kubeconfig(Client),
    /// Check manifests in a folder, offline; exits with 1 and positions when there are errors
    Validate(ValidateArgs),
    /// Show what a ref would change against the desired state
    Plan(PlanArgs),
    /// Say which field and commit is behind each container that was replaced, and what each pod waits for
    Explain(ExplainArgs),
    /// Show how far each unit and object has come
    Status(StatusArgs),
    /// Look at the repository now, and with --wait follow until the outcome is known
    Sync(SyncArgs),
    /// Put an object's document back to its last healthy content, as a commit
    #[command(after_help = ROLLBACK)]
    Rollback(RollbackArgs),
    /// List the revisions that were recorded, newest first
    History(HistoryArgs),
    /// List pods that keep running although the server does not have them, and decide about them
    #[command(after_help = UNCLAIMED)]
    Unclaimed(UnclaimedArgs),
    /// Print the JSON Schema of a kind, for editors
    Schema(SchemaArgs),
    /// Print shell completions
    Completions { shell: clap_complete::Shell },
    /// Called by the hooks of the built-in repository
    #[command(hide = true)]
    Hook(HookArgs),
    /// Sleep until told to end: holds a pod's network
    #[command(hide = true)]
    Pause,
}

/// How to reach a running server.
#[derive(Clone, Debug, Args)]
pub(crate) struct Client {
    /// The kubeconfig to use [default: the first file of $KUBECONFIG that is there, then
    /// $TOWLINE_DATA_DIR/kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The server's data directory, whose kubeconfig is used whatever $KUBECONFIG says
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    Json,
    Yaml,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Output {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The git repository: a path, file://, https:// or ssh:// [default: a built-in one]
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) repo: Option<String>,
    /// The branch that declares the desired state
    #[arg(long, default_value = "main")]
    pub(crate) branch: String,
    /// The folder in the repository that holds the manifests
    #[arg(long, default_value = "", value_name = "FOLDER")]
    pub(crate) path: String,
    /// Fill a new built-in repository with the files of this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "repo")]
    pub(crate) seed: Option<PathBuf>,
    /// Where everything durable lies [default: /var/lib/towline as root, else ~/.local/share/towline]
    #[arg(long, value_name = "DIR", env = "TOWLINE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Another Postgres, managed or highly available [default: a private one in DATA_DIR/postgres]
    #[arg(long, value_name = "URL", env = "TOWLINE_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// The folder of the Postgres binaries [default: the newest installed]
    #[arg(long, value_name = "DIR")]
    pub(crate) postgres_bin: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) git: GitArgs,
    #[command(flatten)]
    pub(crate) webhooks: WebhookArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Git")]
pub(crate) struct GitArgs {
    /// User name for https:// and ssh://
    #[arg(long, value_name = "NAME")]
    pub(crate) git_username: Option<String>,
    /// A file that holds the password or token for https://
    #[arg(long, value_name = "FILE")]
    pub(crate) git_password_file: Option<PathBuf>,
    /// A file that holds the private key for ssh://
    #[arg(long, value_name = "FILE")]
    pub(crate) git_ssh_key: Option<PathBuf>,
    /// A file with the known hosts for ssh:// [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE")]
    pub(crate) git_known_hosts: Option<PathBuf>,
    /// A file with the certificate authority for https://
    #[arg(long, value_name = "FILE")]
    pub(crate) git_ca_file: Option<PathBuf>,
    /// How often a remote repository is looked at, in seconds
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = some_seconds)]
    pub(crate) poll_interval: Duration,
    /// The branch that status is committed to
    #[arg(long, default_value = "towline/status", value_name = "BRANCH")]
    pub(crate) status_branch: String,
    /// Another repository for the status branch
    #[arg(long, value_name = "PATH|URL")]
    pub(crate) status_repo: Option<String>,
    /// How long a push waits for its rollout
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) push_wait: Duration,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Webhooks")]
pub(crate) struct WebhookArgs {
    /// A file with the secret of webhooks from GitHub
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_github_secret: Option<PathBuf>,
    /// A file with the token of webhooks from GitLab
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_gitlab_secret: Option<PathBuf>,
    /// A file with the secret of webhooks from Gitea or Forgejo
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_gitea_secret: Option<PathBuf>,
    /// A file with the secret of webhooks from anything else
    #[arg(long, value_name = "FILE")]
    pub(crate) webhook_generic_secret: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct NodeArgs {
    /// The node's name [default: this machine's host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The Docker socket
    #[arg(
        long,
        default_value = "/var/run/docker.sock",
        value_name = "SOCKET",
        env = "TOWLINE_DOCKER"
    )]
    pub(crate) docker: PathBuf,
    /// The range that this node's pods get their addresses from
    #[arg(long, default_value = "10.88.0.0/24", value_name = "CIDR")]
    pub(crate) pod_range: String,
    /// The most containers that start at the same time
    #[arg(long, default_value_t = NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN), value_name = "N")]
    pub(crate) concurrent_starts: NonZeroUsize,
    /// From where on the node is under pressure, and takes no new pods; what is not named keeps its default
    /// [default: memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%,pid.available<10%]
    #[arg(
        long,
        value_name = "SIGNAL<AMOUNT,…",
        default_value = "",
        hide_default_value = true,
        overrides_with = "pressure"
    )]
    pub(crate) pressure: agents::Thresholds,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The server, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub(crate) server: String,
    /// A file that holds the join token (printed in DATA_DIR/join-token on the server)
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// A file with the server's certificate authority (DATA_DIR/ca.pem on the server)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: PathBuf,
    /// Where the agent keeps its state [default: /var/lib/towline as root, else ~/.local/share/towline]
    #[arg(long, value_name = "DIR", env = "TOWLINE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The folder, or one file
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The ref to compare [default: the branch that is synced]
    #[arg(long, value_name = "REF")]
    pub(crate) head: Option<String>,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A workload or a pod, as for kubectl: deployment/web, pod/web-5d4c
    #[arg(value_name = "KIND/NAME")]
    pub(crate) object: String,
    /// Its namespace
    #[arg(short, long, default_value = "default", value_name = "NS")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Follow until converged, failed, held or superseded
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: give up after this many seconds
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = seconds)]
    pub(crate) timeout: Duration,
    /// Confirm the deletions that are held at this commit
    #[arg(long, value_name = "COMMIT")]
    pub(crate) confirm_deletes: Option<String>,
    /// Do not let objects of this commit, the newest, wait for earlier waves and dependencies
    #[arg(long, value_name = "COMMIT")]
    pub(crate) skip_gates: Option<String>,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// A declared object, as for kubectl: deployment/web
    #[arg(value_name = "KIND/NAME")]
    pub(crate) object: String,
    /// Its namespace
    #[arg(short, long, default_value = "default", value_name = "NS")]
    pub(crate) namespace: String,
    /// The commit to take its document from [default: the last with which it was healthy]
    #[arg(long, value_name = "COMMIT")]
    pub(crate) to: Option<String>,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The most revisions to list
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) limit: usize,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct UnclaimedArgs {
    /// End and remove the containers of this pod, or of all unclaimed pods of a node; the node must be connected
    #[arg(long, value_name = "NODE/POD-UID|NODE/all")]
    pub(crate) remove: Vec<String>,
    /// Leave this pod's containers as they are, and report them no more
    #[arg(long, value_name = "NODE/POD-UID|NODE/all")]
    pub(crate) keep: Vec<String>,
    #[command(flatten)]
    pub(crate) client: Client,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// A kind, as in manifests or as kubectl names it: Deployment, deploy; `all` for every kind at once
    pub(crate) kind: String,
}

#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    /// pre-receive or post-receive
    pub(crate) stage: HookStage,
    /// The server, https://HOST:PORT
    #[arg(long)]
    pub(crate) server: String,
    /// The file that holds the token
    #[arg(long)]
    pub(crate) token_file: PathBuf,
    /// The file that holds the certificate authority
    #[arg(long)]
    pub(crate) ca_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HookStage {
    PreReceive,
    PostReceive,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: u64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Ok(Duration::from_secs(number))
}

fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("at least 1".to_owned()),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_at_once() {
        for flags in [
            ["--poll-interval", "0"],
            ["--poll-interval", "soon"],
            ["--concurrent-starts", "0"],
            ["--listen", "nowhere"],
        ] {
            assert!(
                Cli::try_parse_from(["towline", "up"].iter().chain(&flags)).is_err(),
                "{flags:?}"
            );
        }
        assert!(Cli::try_parse_from(["towline", "up", "--poll-interval", "1s", "--concurrent-starts", "1"]).is_ok());
    }
}
