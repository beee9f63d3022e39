//! How answers are printed: for people in colour where a terminal is, JSON and YAML for scripts.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is where the command line prints"
)]

use anstream::{eprintln, println};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;
use schemas::report::Outcome;
use serde::Serialize;

use crate::cli::Format;

/// Prints a value for scripts, or calls `human` for people.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, human: impl FnOnce(&T)) -> anyhow::Result<()> {
    match format {
        Format::Human => human(value),
        Format::Json => println!("{}", serde_json::to_string_pretty(value)?),
        Format::Yaml => println!("{}", serde_saphyr::to_string(value)?.trim_end()),
    }
    Ok(())
}

pub(crate) fn line(text: impl std::fmt::Display) {
    println!("{text}");
}

/// The last word of a command that failed, with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("{} {error:#}", "error:".red().bold());
}

/// A table in kubectl's manner: no borders, columns three blanks apart, outcomes in their colour.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: Vec<[Cell; N]>) {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    println!("{}", table.trim_fmt());
}

/// An outcome in its colour, in a table.
pub(crate) fn outcome_cell(outcome: Outcome) -> Cell {
    let color = match outcome {
        Outcome::Converged => Color::Green,
        Outcome::Progressing => Color::Cyan,
        Outcome::Superseded => Color::DarkGrey,
        Outcome::Held => Color::Yellow,
        Outcome::Failed => Color::Red,
    };
    Cell::new(format!("{outcome:?}").to_lowercase()).fg(color)
}

/// An outcome in its colour, in a line.
pub(crate) fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Converged => "converged".green().to_string(),
        Outcome::Progressing => "progressing".cyan().to_string(),
        Outcome::Superseded => "superseded".dimmed().to_string(),
        Outcome::Held => "held".yellow().to_string(),
        Outcome::Failed => "failed".red().to_string(),
    }
}
