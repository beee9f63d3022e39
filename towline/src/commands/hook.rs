//! `towline hook`: what the hooks of the built-in repository run. It only asks the server, so that a
//! push by path is checked as one over HTTP is.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use apiserver::push::{Push, Quarantine, RefUpdate, Verdict};

use crate::{
    cli::{HookArgs, HookStage},
    client::{Server, accepted},
    commands::sync::Lines,
    output,
};

/// How long the server may take to judge a push.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn run(args: &HookArgs) -> anyhow::Result<ExitCode> {
    let mut input = String::new();
    std::io::stdin()
        .read_to_string(&mut input)
        .context("the updates cannot be read from git")?;
    let push = Push {
        updates: updates(&input)?,
        quarantine: quarantine()?,
    };
    match args.stage {
        HookStage::PreReceive => check(args, &push).await,
        HookStage::PostReceive => follow(args, &push).await,
    }
}

fn server(args: &HookArgs) -> anyhow::Result<Server> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let token = String::from_utf8(read(&args.token_file)?)?.trim().to_owned();
    Server::new(&args.server, token, &read(&args.ca_file)?)
}

/// Prints the verdict; a server that gives none in time refuses.
async fn check(args: &HookArgs, push: &Push) -> anyhow::Result<ExitCode> {
    let ask = async {
        let body = serde_json::to_vec(push)?;
        server(args)?
            .json::<Verdict>("POST", "/towline/v1/push/check", body)
            .await
    };
    let verdict = match tokio::time::timeout(CHECK_LIMIT, ask).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::refused(format!("the push could not be checked, so it is refused: {error:#}")),
        Err(_) => Verdict::refused(format!(
            "the server gave no answer in {} s, so the push is refused; is it running and healthy?",
            CHECK_LIMIT.as_secs()
        )),
    };
    for line in &verdict.lines {
        output::line(line);
    }
    Ok(if verdict.accepted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the rollout. The push is accepted whatever happens here, so trouble is only told.
async fn follow(args: &HookArgs, push: &Push) -> anyhow::Result<ExitCode> {
    let tell = async {
        let body = serde_json::to_vec(push)?;
        let response = server(args)?.send("POST", "/towline/v1/push/rollout", body).await?;
        let mut lines = Lines::new(accepted(response).await?.into_body());
        while let Some(line) = lines.next().await? {
            output::line(line);
        }
        anyhow::Ok(())
    };
    if let Err(error) = tell.await {
        output::line(format!(
            "the push is accepted, but its rollout cannot be followed: {error:#}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Git's lines: old, new and name of each ref.
fn updates(input: &str) -> anyhow::Result<Vec<RefUpdate>> {
    input
        .lines()
        .map(|line| {
            let mut parts = line.splitn(3, ' ').map(str::to_owned);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(old), Some(new), Some(reference)) => Ok(RefUpdate { old, new, reference }),
                _ => anyhow::bail!("git sent a line that is not understood: {line:?}"),
            }
        })
        .collect()
}

/// Where git keeps the pushed objects until the hook has agreed.
fn quarantine() -> anyhow::Result<Option<Quarantine>> {
    let Some(path) = std::env::var_os("GIT_QUARANTINE_PATH") else {
        return Ok(None);
    };
    // Git's paths are relative to the repository, which is where it starts hooks.
    let here = std::env::current_dir()?;
    let absolute = |path: &Path| here.join(path);
    let object_directory = std::env::var_os("GIT_OBJECT_DIRECTORY").map_or_else(|| PathBuf::from(&path), PathBuf::from);
    let alternates = std::env::var_os("GIT_ALTERNATE_OBJECT_DIRECTORIES")
        .map(|paths| std::env::split_paths(&paths).map(|path| absolute(&path)).collect())
        .unwrap_or_default();
    Ok(Some(Quarantine {
        path: absolute(Path::new(&path)),
        object_directory: absolute(&object_directory),
        alternates,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_read_as_git_writes_them() {
        let read = updates("a b refs/heads/main\nc d refs/heads/a b\n").expect("they are valid");
        assert_eq!(read[0].new, "b");
        assert_eq!(read[1].reference, "refs/heads/a b");
        assert!(updates("nonsense").is_err());
    }
}
