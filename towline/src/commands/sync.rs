//! `towline sync`: look at the repository now, and follow the outcome.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use schemas::{Commit, report::Outcome};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{Format, SyncArgs},
    client::{Server, accepted},
    commands::exit_code,
    output,
};

/// A line of the server's answer.
#[derive(Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Line {
    Progress {
        message: String,
    },
    Outcome {
        outcome: Outcome,
        commit: Option<Commit>,
        message: String,
    },
}

pub(crate) async fn run(args: &SyncArgs) -> anyhow::Result<ExitCode> {
    let server = Server::find(&args.client)?;
    let mut path = format!("/towline/v1/sync?wait={}&timeout={}", args.wait, args.timeout.as_secs());
    if let Some(commit) = &args.confirm_deletes {
        path.push_str(&format!("&confirm-deletes={commit}"));
    }
    if let Some(commit) = &args.skip_gates {
        path.push_str(&format!("&skip-gates={commit}"));
    }
    let response = accepted(server.send("POST", &path, Vec::new()).await?).await?;
    if !args.wait {
        if args.output.output == Format::Human {
            output::line("Looking; `towline status` shows what comes of it.");
        } else {
            output::print(args.output.output, &serde_json::json!({"looking": true}), |_| ())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut body = Lines::new(response.into_body());
    // The server keeps the time; this only ends a wait for a server that went away without a word.
    let patience = args.timeout + Duration::from_secs(30);
    loop {
        let line = tokio::time::timeout(patience, body.next())
            .await
            .context("the server has not said anything for too long")??;
        let Some(line) = line else {
            bail!("the server ended before the outcome was known; `towline status` shows how it stands");
        };
        let line: Line =
            serde_json::from_str(&line).with_context(|| format!("the answer is not understood: {line}"))?;
        output::print_next(args.output.output, &line, |line| match line {
            Line::Progress { message } => output::line(message),
            Line::Outcome {
                outcome,
                commit,
                message,
            } => {
                let commit = commit.as_ref().map_or("", |commit| commit.short());
                output::line(format!("{commit} {}: {message}", output::outcome(*outcome)).trim());
            }
        })?;
        if let Line::Outcome { outcome, .. } = line {
            return Ok(exit_code(outcome));
        }
    }
}

/// A streamed body, line by line.
pub(crate) struct Lines {
    body: Incoming,
    read: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(body: Incoming) -> Self {
        Self { body, read: Vec::new() }
    }

    /// The next line, without its end; `None` at the end of the body.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                None if self.read.is_empty() => return Ok(None),
                None => {
                    let line = std::mem::take(&mut self.read);
                    return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
                }
            }
        }
    }
}
