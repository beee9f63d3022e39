//! `towline validate`: manifests checked offline.

use std::process::ExitCode;

use schemas::report::Severity;
use serde_json::json;

use crate::{cli::ValidateArgs, commands::status, output};

pub(crate) fn run(args: &ValidateArgs) -> anyhow::Result<ExitCode> {
    let found = gitsync::validate(&args.path)?;
    let errors = found
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .count();
    let warnings = found.problems.len() - errors;
    let answer = json!({"objects": found.objects, "errors": errors, "warnings": warnings, "problems": found.problems});
    output::print(args.output.output, &answer, |_| {
        for problem in &found.problems {
            output::line(status::problem(problem));
        }
        output::line(format!(
            "{}, {}, {}",
            output::count(found.objects, "object"),
            output::count(errors, "error"),
            output::count(warnings, "warning")
        ));
    })?;
    Ok(if errors > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
