//! `towline history`: the revisions that were recorded.

use std::process::ExitCode;

use store::desired::Revision;

use crate::{cli::HistoryArgs, client::Server, output};

pub(crate) async fn run(args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let server = Server::find(&args.client)?;
    let revisions: Vec<Revision> = server
        .json("GET", &format!("/towline/v1/history?limit={}", args.limit), Vec::new())
        .await?;
    output::print(args.output.output, &revisions, |revisions| {
        let rows = revisions
            .iter()
            .map(|revision| {
                let held = revision.units.values().filter(|unit| unit.held.is_some()).count();
                [
                    revision.number.to_string(),
                    revision.commit.short().to_owned(),
                    revision.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                    revision.changed.to_string(),
                    revision.dropped.to_string(),
                    held.to_string(),
                    revision.author.clone(),
                    revision.subject.clone(),
                ]
            })
            .collect();
        output::table(
            ["REVISION", "COMMIT", "AT", "CHANGED", "DROPPED", "HELD", "AUTHOR", "SUBJECT"],
            rows,
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
