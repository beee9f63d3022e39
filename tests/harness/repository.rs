//! A git repository that a test writes manifests into.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{run, run_any};

/// A work tree with `main` checked out.
#[derive(Debug)]
pub struct Repository {
    pub dir: PathBuf,
}

impl Repository {
    /// Makes an empty repository at `dir`.
    pub fn init(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let repository = Self { dir: dir.to_owned() };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        repository.identify()?;
        Ok(repository)
    }

    /// Clones `url` into `dir`, trusting `ca`.
    pub fn clone(url: &str, ca: &Path, dir: &Path) -> anyhow::Result<Self> {
        let trust = format!("http.sslCAInfo={}", ca.display());
        run(Command::new("git")
            .args(["-c", &trust, "clone", "--quiet", url])
            .arg(dir)
            .env_remove("GIT_SSL_CAINFO")
            .env("GIT_TERMINAL_PROMPT", "0"))?;
        let repository = Self { dir: dir.to_owned() };
        repository.git(&["config", "http.sslCAInfo", &ca.display().to_string()])?;
        repository.identify()?;
        Ok(repository)
    }

    fn identify(&self) -> anyhow::Result<()> {
        self.git(&["config", "user.name", "A Tester"])?;
        self.git(&["config", "user.email", "tester@example.com"])?;
        Ok(())
    }

    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run(Command::new("git")
            .arg("-C")
            .arg(&self.dir)
            .args(arguments)
            .env_remove("GIT_SSL_CAINFO"))
    }

    /// The exit code and all output of a git command that may fail.
    pub fn git_any(&self, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
        run_any(
            Command::new("git")
                .arg("-C")
                .arg(&self.dir)
                .args(arguments)
                .env_remove("GIT_SSL_CAINFO")
                .env("GIT_TERMINAL_PROMPT", "0"),
        )
    }

    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let file = self.dir.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(file, text)?)
    }

    pub fn read(&self, path: &str) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.dir.join(path))?)
    }

    pub fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.git(&["rm", "-r", "--quiet", "--force", path])?;
        Ok(())
    }

    /// Commits everything and returns the commit's id.
    pub fn commit(&self, message: &str) -> anyhow::Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// A file of the status branch, from `remote` (`.` for the repository itself).
    pub fn status_file(&self, path: &str) -> anyhow::Result<String> {
        self.git(&["show", &format!("towline/status:{path}")])
    }

    /// The newest status commit's whole message.
    pub fn status_message(&self) -> anyhow::Result<String> {
        self.git(&["log", "-1", "--format=%B", "towline/status"])
    }
}
