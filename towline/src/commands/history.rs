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
                    revision.number.into(),
                    revision.commit.short().into(),
                    revision.at.strftime("%Y-%m-%d %H:%M:%SZ").into(),
                    revision.changed.into(),
                    revision.dropped.into(),
                    held.into(),
                    // The name without the address.
                    revision.author.split(" <").next().unwrap_or_default().into(),
                    revision.subject.as_str().into(),
                ]
            })
            .collect();
        output::table(
            [
                "REVISION", "COMMIT", "AT", "CHANGED", "DROPPED", "HELD", "AUTHOR", "SUBJECT",
            ],
            rows,
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
