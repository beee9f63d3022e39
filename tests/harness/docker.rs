//! Looking at real Docker through its command line.

use std::process::Command;

use crate::run;

/// A container of one cluster, as Docker sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    /// `running`, `exited`, …
    pub state: String,
}

pub(crate) fn host() -> String {
    let socket = std::env::var("TOWLINE_TEST_DOCKER").unwrap_or_else(|_| "/var/run/docker.sock".into());
    format!("unix://{socket}")
}

pub(crate) fn socket() -> String {
    host().trim_start_matches("unix://").to_owned()
}

/// `docker …` on the engine of the tests.
pub(crate) fn docker(host: &str, arguments: &[&str]) -> anyhow::Result<String> {
    run(Command::new("docker").arg("-H").arg(host).args(arguments))
}

/// Removes what `list` finds, as far as that goes.
pub(crate) fn remove(host: &str, list: &[&str], remove: &[&str]) {
    let ids = docker(host, list).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    if !ids.is_empty() {
        let _ = docker(host, &[remove, ids.as_slice()].concat());
    }
}

/// The containers with a label, dead ones included, in the order of their names.
pub(crate) fn containers(host: &str, label: &str) -> anyhow::Result<Vec<Container>> {
    let text = docker(
        host,
        &[
            "ps",
            "--all",
            "--no-trunc",
            "--filter",
            &format!("label={label}"),
            "--format",
            "{{.ID}}\t{{.Names}}\t{{.Image}}\t{{.State}}",
        ],
    )?;
    let mut found: Vec<Container> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('\t').map(str::to_owned);
            Some(Container {
                id: parts.next()?,
                name: parts.next()?,
                image: parts.next()?,
                state: parts.next()?,
            })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
