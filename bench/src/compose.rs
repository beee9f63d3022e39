//! Docker Compose: the plug-in where it is there, else the older `docker-compose`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    IMAGE, IMAGE_2,
    process::{clean, run},
};

pub(crate) struct Compose {
    command: Vec<&'static str>,
    version: String,
    host: String,
    dir: TempDir,
}

impl Compose {
    /// None where there is no compose at all; the table then has no such row, and the run says so.
    pub(crate) fn new(socket: &Path) -> anyhow::Result<Option<Self>> {
        for command in [vec!["docker", "compose"], vec!["docker-compose"]] {
            let version = run(Command::new(command[0])
                .args(&command[1..])
                .args(["version", "--short"]));
            if let Ok(version) = version {
                return Ok(Some(Self {
                    command,
                    version: version.trim().to_owned(),
                    host: format!("unix://{}", socket.display()),
                    dir: tempfile::tempdir()?,
                }));
            }
        }
        eprintln!("compose is left out: neither `docker compose` nor `docker-compose` is there");
        Ok(None)
    }

    pub(crate) fn name(&self) -> String {
        format!("compose {}", self.version)
    }

    fn down(&self) {
        let file = self.dir.path().join("compose.yaml");
        if file.exists() {
            let _ = clean(self.command(&file).args(["down", "--timeout", "0"]));
        }
    }

    fn file(&self, image: &str) -> anyhow::Result<PathBuf> {
        let file = self.dir.path().join("compose.yaml");
        let text = format!(
            "version: \"3\"\nservices:\n  web:\n    image: {image}\n    stop_grace_period: 1s\nnetworks:\n  default:\n    ipam:\n      config:\n        - subnet: 10.202.1.0/24\n"
        );
        fs::write(&file, text)?;
        Ok(file)
    }

    fn compose(&self, file: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        run(self.command(file).args(arguments))
    }

    fn command(&self, file: &Path) -> Command {
        let mut command = Command::new(self.command[0]);
        command
            .args(&self.command[1..])
            .args(["-p", "towline-bench", "-f"])
            .arg(file)
            .env("DOCKER_HOST", &self.host);
        command
    }

    /// `up --detach` with the network there already, as bare Docker has it.
    pub(crate) fn run(&self, replicas: usize) -> anyhow::Result<Duration> {
        let file = self.file(IMAGE)?;
        let scale = format!("web={replicas}");
        self.compose(&file, &["up", "--detach", "--scale", "web=0"])?;
        let start = Instant::now();
        self.compose(&file, &["up", "--detach", "--scale", &scale])?;
        let took = start.elapsed();
        self.compose(&file, &["down", "--timeout", "0"])?;
        Ok(took)
    }

    /// From one image to the next; compose stops each before it starts its successor.
    pub(crate) fn roll(&self, replicas: usize) -> anyhow::Result<Duration> {
        let scale = format!("web={replicas}");
        self.compose(&self.file(IMAGE)?, &["up", "--detach", "--scale", &scale])?;
        let file = self.file(IMAGE_2)?;
        let start = Instant::now();
        self.compose(&file, &["up", "--detach", "--scale", &scale])?;
        let took = start.elapsed();
        self.compose(&file, &["down", "--timeout", "0"])?;
        Ok(took)
    }
}

/// A run that broke off leaves nothing behind.
impl Drop for Compose {
    fn drop(&mut self) {
        self.down();
    }
}
