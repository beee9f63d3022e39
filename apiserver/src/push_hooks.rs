//! The hooks of a push that came over this server's own HTTP: asked and answered over named pipes, so
//! that no hook has to start a program and to open a connection of its own.
//!
//! git starts the hooks of the repository, which are shell scripts. They find the folder of the pipes
//! in [`VARIABLE`]. Each stage (`pre-receive`, `post-receive`) has two pipes there:
//!
//! - into `STAGE.ask` the hook writes its folder, `GIT_QUARANTINE_PATH`, `GIT_OBJECT_DIRECTORY` and
//!   `GIT_ALTERNATE_OBJECT_DIRECTORIES`, a line each, then git's lines, then `end`;
//! - from `STAGE.answer` it reads lines to show, each after a `=`, and `yes` or `no` at last.
//!
//! Both ends of a pipe are open here from the start, so that no hook waits to open one. A hook that
//! reads the end of an answer before `yes` or `no` knows that the server has gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
    sync::mpsc,
    task::JoinHandle,
};

use crate::{
    control::Front,
    push::{self, Push, Quarantine, RefUpdate, Verdict},
};

/// The variable that names the folder of the pipes to the hooks.
pub(crate) const VARIABLE: &str = "TOWLINE_HOOKS";
/// How the folders are called, before something that makes each unique.
const PREFIX: &str = "hooks-";

/// The pipes of one push. They go when it is dropped, and so does what listens.
pub(crate) struct Hooks {
    folder: PathBuf,
    task: JoinHandle<()>,
}

/// Takes away what a server that was killed has left in `parent`, and lets go the hooks that wait there.
pub(crate) fn sweep(parent: &Path) {
    let folders = fs::read_dir(parent).into_iter().flatten().flatten();
    for folder in folders.filter(|folder| folder.file_name().to_string_lossy().starts_with(PREFIX)) {
        for pipe in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            // A hook that waits to open the other end goes on, and reads that nobody is there.
            let _ = fs::OpenOptions::new().read(true).write(true).open(pipe.path());
        }
        if let Err(error) = fs::remove_dir_all(folder.path()) {
            tracing::warn!(folder = %folder.path().display(), "pipes of an earlier push stay behind: {error}");
        }
    }
}

/// One stage's pipes.
struct Stage {
    ask: Receiver,
    answer: Sender,
}

impl Hooks {
    /// Makes the pipes in a new folder of `parent`, which nobody else can enter, and listens.
    pub(crate) fn open(front: &Arc<Front>, parent: &Path) -> io::Result<Self> {
        let folder = parent.join(format!("{PREFIX}{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder)?;
        let stages = Stage::open(&folder, "pre-receive").and_then(|pre| {
            let post = Stage::open(&folder, "post-receive")?;
            Ok((pre, post))
        });
        let (pre, post) = stages.inspect_err(|_| {
            let _ = fs::remove_dir_all(&folder);
        })?;
        let front = front.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = serve(&front, pre, post).await {
                tracing::warn!("a hook of a push could not be answered: {error}");
            }
        });
        Ok(Self { folder, task })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::debug!(folder = %self.folder.display(), "pipes of a push stay behind: {error}");
        }
    }
}

impl Stage {
    fn open(folder: &Path, name: &str) -> io::Result<Self> {
        let pipe = |end: &str| {
            let path = folder.join(format!("{name}.{end}"));
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            io::Result::Ok(path)
        };
        let mut both = OpenOptions::new();
        both.read_write(true);
        Ok(Self {
            ask: both.open_receiver(pipe("ask")?)?,
            answer: both.open_sender(pipe("answer")?)?,
        })
    }
}

async fn serve(front: &Arc<Front>, mut pre: Stage, mut post: Stage) -> io::Result<()> {
    let verdict = match read(&mut pre.ask).await {
        Ok(push) => push::judge(front, &push).await.unwrap_or_else(|error| {
            Verdict::refused(format!("the push could not be checked, so it is refused: {error}"))
        }),
        Err(error) => Verdict::refused(format!("git sent what is not understood: {error}")),
    };
    for line in &verdict.lines {
        show(&mut pre.answer, line).await?;
    }
    let word = if verdict.accepted { "yes\n" } else { "no\n" };
    pre.answer.write_all(word.as_bytes()).await?;

    let push = read(&mut post.ask).await?;
    match push::begin(front, &push) {
        Err(line) => show(&mut post.answer, &line).await?,
        Ok(follower) => {
            let (out, mut lines) = mpsc::channel::<String>(16);
            let telling = async move { push::tell(front, follower, &out).await };
            let showing = async {
                while let Some(line) = lines.recv().await {
                    show(&mut post.answer, &line).await?;
                }
                io::Result::Ok(())
            };
            let ((), shown) = tokio::join!(telling, showing);
            shown?;
        }
    }
    post.answer.write_all(b"yes\n").await?;
    // The pipes stay open until the push has ended: what is in them would be lost otherwise.
    std::future::pending().await
}

async fn show(answer: &mut Sender, text: &str) -> io::Result<()> {
    for line in text.lines() {
        answer.write_all(format!("={line}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn read(ask: &mut Receiver) -> io::Result<Push> {
    let mut lines = BufReader::new(ask).lines();
    let mut next = async || {
        let line = lines.next_line().await?;
        line.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let here = PathBuf::from(next().await?);
    let (path, objects, alternates) = (next().await?, next().await?, next().await?);
    let quarantine = (!path.is_empty()).then(|| Quarantine {
        object_directory: here.join(if objects.is_empty() { &path } else { &objects }),
        path: here.join(&path),
        // git's own separator, as in `towline hook`.
        alternates: std::env::split_paths(&alternates)
            .filter(|path| !path.as_os_str().is_empty())
            .map(|path| here.join(path))
            .collect(),
    });
    let mut updates = Vec::new();
    loop {
        let line = next().await?;
        if line == "end" {
            return Ok(Push { updates, quarantine });
        }
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let (Some(old), Some(new), Some(reference)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(io::Error::other(format!("{line:?} is no line of a hook")));
        };
        updates.push(RefUpdate { old, new, reference });
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::{
        control_harness::{FakeSource, Harness},
        webhooks::Secrets,
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn hooks_are_answered_over_their_pipes() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let source = FakeSource {
            repository: Some(folder.path().join("repo.git")),
            ..FakeSource::default()
        };
        let harness = Harness::with(source, Secrets::default()).await;
        for (reference, answer) in [
            ("refs/heads/main", "=refs/heads/main is not valid\nno\n"),
            (
                "refs/heads/towline/status",
                "=refs/heads/towline/status is written by Towline itself; push to another branch\nno\n",
            ),
        ] {
            let hooks = Hooks::open(&harness.front, folder.path()).expect("pipes");
            let script = format!(
                "printf '%s\\n' \"$PWD\" '' '' '' '0 1 {reference}' end >pre-receive.ask; \
                 while read -r line; do echo \"$line\"; case $line in yes|no) exit;; esac; done <pre-receive.answer"
            );
            let at = hooks.folder().to_path_buf();
            let said =
                tokio::task::spawn_blocking(move || Command::new("sh").arg("-c").arg(script).current_dir(at).output());
            let said = said.await.expect("it ends").expect("sh runs");
            assert_eq!(String::from_utf8_lossy(&said.stdout), answer, "{reference}");
            let left = hooks.folder().to_path_buf();
            drop(hooks);
            assert!(!left.exists());
        }
    }
}
