//! What the status branch says. Pure: from a report to files and a commit message.

use std::fmt::Write as _;

use schemas::{
    Key,
    report::{ObjectReport, Outcome, Problem, Report, Severity},
};
use serde::Serialize;
use serde_json::Value;
use store::DesiredRow;

use crate::revise::NO_COMMIT;

/// The most objects, units and problems that `STATUS.md` lists.
const LISTED: usize = 100;

/// Where the status of a declared object lies.
pub(crate) fn object_path(key: &Key) -> String {
    let namespace = key.namespace.as_deref().unwrap_or("_cluster");
    format!("status/{namespace}/{}/{}.yaml", key.kind.info().singular(), key.name)
}

/// Where the status of a node lies.
pub(crate) fn node_path(name: &str) -> String {
    format!("status/nodes/{name}.yaml")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    api_version: String,
    kind: &'a str,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourcePlace<'a>>,
    outcome: Outcome,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Value::is_null")]
    status: Value,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

#[derive(Serialize)]
struct SourcePlace<'a> {
    file: &'a str,
    line: u32,
    /// The commit that this content came with.
    commit: &'a str,
}

/// The file of a declared object.
pub(crate) fn object_file(key: &Key, report: &ObjectReport, row: &DesiredRow) -> String {
    let info = key.kind.info();
    yaml(&File {
        api_version: info.api_version(),
        kind: info.name,
        metadata: Metadata {
            name: &key.name,
            namespace: key.namespace.as_deref(),
        },
        source: Some(SourcePlace {
            file: &row.file,
            line: row.line,
            commit: &row.commit.0,
        }),
        outcome: report.outcome,
        reason: &report.reason,
        status: telling(&report.status),
    })
}

/// The file of a node.
pub(crate) fn node_file(name: &str, report: &ObjectReport) -> String {
    yaml(&File {
        api_version: "v1".into(),
        kind: "Node",
        metadata: Metadata { name, namespace: None },
        source: None,
        outcome: report.outcome,
        reason: &report.reason,
        status: telling(&report.status),
    })
}

fn yaml(file: &File<'_>) -> String {
    // Every map key is a string, so this cannot fail; should it, the file says why.
    serde_saphyr::to_string(file).unwrap_or_else(|error| format!("# {error}\n"))
}

/// A status without what only a clock changes.
fn telling(status: &Value) -> Value {
    match status {
        Value::Object(map) => map
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "lastUpdateTime" | "lastHeartbeatTime" | "lastProbeTime"))
            .map(|(name, value)| (name.clone(), telling(value)))
            .collect(),
        Value::Array(items) => items.iter().map(telling).collect(),
        other => other.clone(),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Converged => "converged",
        Outcome::Superseded => "superseded",
        Outcome::Progressing => "progressing",
        Outcome::Held => "held",
        Outcome::Failed => "failed",
    }
}

/// The commit message with its trailers.
pub(crate) fn message(report: &Report, cluster: &str) -> String {
    let commit = report.commit.as_ref().map_or(NO_COMMIT, |commit| &*commit.0);
    let short = report.commit.as_ref().map_or("no commit", |commit| commit.short());
    let mut outcome = word(report.outcome).to_owned();
    if let Some(first) = outcome.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let totals: Vec<String> = report
        .totals()
        .into_iter()
        .map(|(outcome, count)| format!("{count} {}", word(outcome)))
        .collect();
    let totals = if totals.is_empty() {
        "no objects".into()
    } else {
        totals.join(", ")
    };
    let mut text = format!(
        "{outcome} at {short} [skip ci]\n\n{totals}\n\nSource-Commit: {commit}\nOutcome: {}\n",
        word(report.outcome)
    );
    for (unit, at) in behind(report) {
        let _ = writeln!(text, "Unit-Behind: {unit}@{at}");
    }
    let _ = writeln!(text, "Cluster: {cluster}");
    text
}

/// The units that are at another commit than the newest, with that commit.
fn behind(report: &Report) -> impl Iterator<Item = (&str, &str)> {
    report
        .units
        .iter()
        .filter(|(_, unit)| Some(&unit.commit) != report.commit.as_ref())
        .map(|(name, unit)| (&*name.0, &*unit.commit.0))
}

/// `STATUS.md`.
pub(crate) fn summary(report: &Report) -> String {
    let mut text = String::from("# Status\n\n");
    let commit = report.commit.as_ref().map_or("no commit yet", |commit| &*commit.0);
    let _ = writeln!(text, "**{}** at `{commit}`\n", word(report.outcome));
    if let Some(error) = &report.source_error {
        let _ = writeln!(text, "**The source cannot be followed:** {}\n", line(error));
    }
    let all: usize = report.units.values().map(|unit| unit.objects.len()).sum();
    text.push_str("| objects | |\n|---|---|\n");
    for (outcome, count) in report.totals() {
        let _ = writeln!(text, "| {} | {count} |", word(outcome));
    }
    let ready = report
        .nodes
        .values()
        .filter(|node| node.outcome == Outcome::Converged)
        .count();
    let _ = writeln!(
        text,
        "| all | {all} |\n\n{ready} of {} nodes ready\n",
        report.nodes.len()
    );
    units(report, &mut text);
    unhealthy(report, &mut text);
    held_deletions(report, &mut text);
    problems(&report.problems, &mut text);
    text
}

fn units(report: &Report, text: &mut String) {
    let telling: Vec<_> = report
        .units
        .iter()
        .filter(|(_, unit)| unit.outcome != Outcome::Converged || Some(&unit.commit) != report.commit.as_ref())
        .collect();
    if telling.is_empty() {
        return;
    }
    text.push_str("## Units\n\n| unit | outcome | at | why |\n|---|---|---|---|\n");
    for (name, unit) in telling.iter().take(LISTED) {
        let at = match &*unit.commit.0 {
            NO_COMMIT => "nothing yet",
            _ => unit.commit.short(),
        };
        let _ = writeln!(
            text,
            "| {name} | {} | `{at}` | {} |",
            word(unit.outcome),
            cell(&unit.reason)
        );
    }
    more(telling.len(), text);
}

fn unhealthy(report: &Report, text: &mut String) {
    let is_bad = |object: &ObjectReport| !matches!(object.outcome, Outcome::Converged | Outcome::Superseded);
    let nodes = report.nodes.iter().filter(|(_, node)| is_bad(node));
    let mut bad: Vec<(String, &ObjectReport)> = nodes.map(|(name, node)| (format!("Node {name}"), &**node)).collect();
    let bad_nodes = bad.len();
    for unit in report.units.values() {
        let objects = unit.objects.unsettled().take_while(|(_, object)| is_bad(object));
        bad.extend(objects.take(LISTED).map(|(key, object)| (key.to_string(), &**object)));
    }
    if bad.is_empty() {
        return;
    }
    let bad_objects: usize = [Outcome::Progressing, Outcome::Held, Outcome::Failed]
        .into_iter()
        .map(|outcome| {
            report
                .units
                .values()
                .map(|unit| unit.objects.count(outcome))
                .sum::<usize>()
        })
        .sum();
    // The worst first; within an outcome the order of names stays.
    bad.sort_by_key(|(_, object)| std::cmp::Reverse(object.outcome));
    text.push_str("## Not converged\n\n| object | outcome | why | declared at |\n|---|---|---|---|\n");
    for (name, object) in bad.iter().take(LISTED) {
        let place = match &object.position {
            Some(at) => format!("`{}:{}`", at.file, at.line),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} |",
            word(object.outcome),
            cell(&object.reason),
            cell(&place)
        );
    }
    more(bad_nodes + bad_objects, text);
}

fn held_deletions(report: &Report, text: &mut String) {
    let Some(held) = &report.held_deletions else { return };
    let _ = writeln!(
        text,
        "## Deletions that wait for a word\n\n{}\n\nTo confirm: `towline sync --confirm-deletes {}`\n",
        line(&held.reason),
        held.commit
    );
    for key in held.objects.iter().take(LISTED) {
        let _ = writeln!(text, "- {key}");
    }
    more(held.objects.len(), text);
}

fn problems(problems: &[Problem], text: &mut String) {
    if problems.is_empty() {
        return;
    }
    text.push_str("## Problems\n\n");
    // Errors first; within a severity the order of positions stays.
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    for problem in sorted.iter().take(LISTED) {
        let severity = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = match &problem.position {
            Some(at) => format!("`{}:{}:{}` ", at.file, at.line, at.column),
            None => String::new(),
        };
        let _ = writeln!(text, "- {severity}: {place}{}", line(&problem.message));
    }
    more(sorted.len(), text);
}

fn more(count: usize, text: &mut String) {
    if count > LISTED {
        let _ = writeln!(text, "\nand {} more", count - LISTED);
    }
    text.push('\n');
}

/// One line of text: what comes from manifests and error messages must not shape the page.
fn line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('<', "&lt;")
}

fn cell(text: &str) -> String {
    line(text).replace('|', "\\|")
}
