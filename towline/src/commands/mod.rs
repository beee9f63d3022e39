//! One module for each command that asks a server, or that works offline.

pub(crate) mod explain;
pub(crate) mod history;
pub(crate) mod hook;
pub(crate) mod plan;
pub(crate) mod rollback;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod unclaimed;
pub(crate) mod validate;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::CommandFactory;
use schemas::{Kind, report::Outcome};

use crate::{cli, client, output};

/// The command was not carried out: never to be taken for the outcome of a rollout.
pub(crate) const REFUSED: u8 = 2;
/// `sync --wait`: something is held.
pub(crate) const HELD: u8 = 3;
/// `sync --wait`: a newer commit took its place.
pub(crate) const SUPERSEDED: u8 = 4;
/// The server could not be reached.
pub(crate) const UNREACHABLE: u8 = 5;
/// `sync --wait`: not finished in time.
pub(crate) const UNFINISHED: u8 = 6;

/// `KIND/NAME`, as people write it: the kind in any of the words that kubectl knows.
pub(crate) fn object(text: &str) -> anyhow::Result<(Kind, &str)> {
    let Some((word, name)) = text.split_once('/').filter(|(_, name)| !name.is_empty()) else {
        bail!("{text:?} names no object: write KIND/NAME, such as deployment/web");
    };
    let kind = Kind::of_word(word).with_context(|| format!("there is no kind {word:?}"))?;
    Ok((kind, name))
}

/// A text as a query's value.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The exit code that stands for an outcome.
pub(crate) fn exit_code(outcome: Outcome) -> ExitCode {
    match outcome {
        Outcome::Converged => ExitCode::SUCCESS,
        Outcome::Failed => ExitCode::FAILURE,
        Outcome::Held => ExitCode::from(HELD),
        Outcome::Superseded => ExitCode::from(SUPERSEDED),
        Outcome::Progressing => ExitCode::from(UNFINISHED),
    }
}

pub(crate) fn kubeconfig(client: &cli::Client) -> anyhow::Result<ExitCode> {
    let path = client::kubeconfig_path(client);
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "no kubeconfig at {}: start `towline up` first, or name its --data-dir",
            path.display()
        )
    })?;
    output::line(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn schema(args: &cli::SchemaArgs) -> anyhow::Result<ExitCode> {
    let schema = if args.kind == "all" {
        schemas::jsonschema::all()
    } else {
        let kind = Kind::of_word(&args.kind).with_context(|| {
            let known: Vec<&str> = schemas::kind::KINDS.iter().map(|info| info.name).collect();
            format!("there is no kind {:?}; the kinds are {}", args.kind, known.join(", "))
        })?;
        schemas::jsonschema::json_schema(kind)
    };
    output::line(serde_json::to_string_pretty(&schema)?);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::Cli::command(), "towline", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Holds a pod's network until it is told to end.
pub(crate) async fn pause() -> anyhow::Result<ExitCode> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_encoded_for_a_query() {
        assert_eq!(encode("feature/a&b c"), "feature/a%26b%20c");
    }

    #[test]
    fn objects_are_named_as_for_kubectl() {
        for text in ["deployment/web", "deploy/web", "Deployment/web", "deployments/web"] {
            assert_eq!(object(text).expect("an object"), (Kind::Deployment, "web"), "{text}");
        }
        for (text, fault) in [
            ("web", "KIND/NAME"),
            ("deploy/", "KIND/NAME"),
            ("deploi/web", "no kind"),
        ] {
            let error = object(text).expect_err(text);
            assert!(error.to_string().contains(fault), "{error}");
        }
    }
}
