//! `towline status`: how far each unit and object has come.

use std::process::ExitCode;

use comfy_table::Cell;
use schemas::{
    Commit, Unit,
    report::{ObjectReport, Position, Problem, Report, Severity},
};
use serde::{Deserialize, Serialize};

use crate::{cli::StatusArgs, client::Server, output};

/// What the server answers: the desired state's own condition, and the report on the cluster, which
/// may be a moment behind.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    cluster: String,
    branch: String,
    revision: u64,
    commit: Option<Commit>,
    source_error: Option<String>,
    problems: Vec<Problem>,
    held: Vec<HeldUnit>,
    writable: bool,
    #[serde(default)]
    unclaimed: Vec<serde_json::Value>,
    report: Option<Report>,
}

#[derive(Serialize, Deserialize)]
struct HeldUnit {
    unit: Unit,
    commit: Commit,
    reason: String,
}

pub(crate) async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let server = Server::find(&args.client)?;
    let status: Status = server.json("GET", "/towline/v1/status", Vec::new()).await?;
    output::print(args.output.output, &status, print)?;
    Ok(ExitCode::SUCCESS)
}

fn print(status: &Status) {
    let commit = status.commit.as_ref().map_or("no commit yet", |commit| commit.short());
    output::line(format!(
        "branch {} at {commit}, revision {}",
        status.branch, status.revision
    ));
    if let Some(error) = &status.source_error {
        output::line(format!("source: {error}"));
    }
    if !status.writable {
        output::line("the database is away: nothing can be written until it is back");
    }
    if let Some(hint) = super::unclaimed::hint(&status.unclaimed) {
        output::line(hint);
    }
    for problem in &status.problems {
        output::line(self::problem(problem));
    }
    // What the source as a whole holds is told once, above.
    let own = |held: &&HeldUnit| status.source_error.as_ref() != Some(&held.reason);
    for held in status.held.iter().filter(own) {
        output::line(format!(
            "held: {} stays at {}: {}",
            held.unit,
            held.commit.short(),
            held.reason
        ));
    }
    match &status.report {
        None => output::line("Nothing has been synced yet."),
        Some(report) => print_report(report),
    }
}

/// A report for people: totals first, then what is not as it should be.
fn print_report(report: &Report) {
    let commit = report.commit.as_ref().map_or("no commit", |commit| commit.short());
    output::line(format!("report on {commit}: {}", output::outcome(report.outcome)));
    output::line("");
    let units = report
        .units
        .iter()
        .map(|(unit, report)| {
            [
                unit.into(),
                report.commit.short().into(),
                output::outcome_cell(report.outcome),
                report.objects.len().into(),
                report.reason.as_str().into(),
            ]
        })
        .collect();
    output::table(["UNIT", "COMMIT", "OUTCOME", "OBJECTS", "REASON"], units);

    let worse: Vec<[Cell; 4]> = report
        .units
        .values()
        .flat_map(|unit| unit.objects.unsettled())
        .map(|(key, object)| {
            [
                key.into(),
                output::outcome_cell(object.outcome),
                place(object).into(),
                object.reason.as_str().into(),
            ]
        })
        .collect();
    if !worse.is_empty() {
        output::line("");
        output::table(["OBJECT", "OUTCOME", "DECLARED AT", "REASON"], worse);
    }

    output::line("");
    let nodes = report
        .nodes
        .iter()
        .map(|(name, node)| {
            [
                name.into(),
                output::outcome_cell(node.outcome),
                node.reason.as_str().into(),
            ]
        })
        .collect();
    output::table(["NODE", "OUTCOME", "REASON"], nodes);

    if let Some(held) = &report.held_deletions {
        output::line("");
        output::line(format!(
            "held back, {}: {}",
            output::count(held.objects.len(), "deletion"),
            held.reason
        ));
        for key in held.objects.iter().take(20) {
            output::line(format!("  {key}"));
        }
    }
}

fn place(object: &ObjectReport) -> String {
    object.position.as_ref().map_or_else(
        || "-".to_owned(),
        |position| format!("{}:{}", position.file, position.line),
    )
}

/// `FILE:LINE:COLUMN: error: MESSAGE`, as editors and CI logs understand it.
pub(crate) fn problem(problem: &Problem) -> String {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    match &problem.position {
        Some(Position { file, line, column }) => format!("{file}:{line}:{column}: {severity}: {}", problem.message),
        None => format!("{severity}: {}", problem.message),
    }
}
