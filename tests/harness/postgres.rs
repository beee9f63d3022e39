//! A Postgres of a test's own, that servers reach with `--database-url`: it can be stopped, copied and
//! put back while they run, and several servers can use it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context;
use tempfile::TempDir;

use crate::run;

/// A cluster in a folder of its own, reached over a Unix socket. It ends when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    dir: TempDir,
    programs: PathBuf,
}

impl Postgres {
    pub fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("towline-pg-").tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let postgres = Self {
            programs: programs()?,
            dir,
        };
        if nix::unistd::Uid::effective().is_root() {
            run(Command::new("chown").arg("postgres").arg(postgres.dir.path()))?;
        }
        postgres.run(
            "initdb",
            &[
                "-A",
                "trust",
                "-U",
                "towline",
                "-E",
                "UTF8",
                "-D",
                &postgres.path("data"),
            ],
        )?;
        postgres.launch()?;
        Ok(postgres)
    }

    /// What `--database-url` takes.
    pub fn url(&self) -> String {
        format!("postgresql:///postgres?user=towline&host={}", self.dir.path().display())
    }

    /// Starts it, also again after a stop, and waits until it answers.
    pub fn launch(&self) -> anyhow::Result<()> {
        let options = format!("-k {} -c listen_addresses=''", self.dir.path().display());
        let (data, log) = (self.path("data"), self.path("log"));
        self.run(
            "pg_ctl",
            &["start", "-w", "-s", "-D", &data, "-l", &log, "-o", &options],
        )
    }

    /// Stops it at once, waited for.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.run("pg_ctl", &["stop", "-w", "-s", "-m", "fast", "-D", &self.path("data")])
    }

    /// Keeps a copy of what a stopped one holds.
    pub fn keep(&self) -> anyhow::Result<()> {
        replace(&self.dir.path().join("data"), &self.dir.path().join("copy"))
    }

    /// Puts the copy in the place of what a stopped one holds.
    pub fn put_back(&self) -> anyhow::Result<()> {
        replace(&self.dir.path().join("copy"), &self.dir.path().join("data"))
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Runs one of its programs, as its own user where we are root.
    fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let program = self.programs.join(program);
        let mut command = if nix::unistd::Uid::effective().is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        run(command.args(arguments).current_dir(self.dir.path())).map(|_| ())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    run(Command::new("rm").arg("-rf").arg(to))?;
    run(Command::new("cp").arg("-a").arg(from).arg(to)).map(|_| ())
}

/// The folder of the newest server programs of this machine.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("there is no PostgreSQL on this machine")?;
    let mut found: Vec<(u32, PathBuf)> = versions
        .flatten()
        .map(|version| version.path())
        .filter(|path| path.join("bin/initdb").exists())
        .filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin"))))
        .collect();
    found.sort();
    found
        .pop()
        .map(|(_, programs)| programs)
        .context("there are no PostgreSQL server programs")
}
