//! How answers are printed: for people in colour where a terminal is, JSON and YAML for scripts.

use std::{
    io::{self, Write as _},
    sync::OnceLock,
};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;
use schemas::report::Outcome;
use serde::Serialize;

use crate::cli::Format;

/// Prints a value for scripts, or calls `human` for people.
pub(crate) fn print<T: Serialize>(format: Format, value: &T, human: impl FnOnce(&T)) -> anyhow::Result<()> {
    match format {
        Format::Human => human(value),
        Format::Json => line(serde_json::to_string_pretty(value)?),
        Format::Yaml => line(serde_saphyr::to_string(value)?.trim_end()),
    }
    Ok(())
}

/// One of several values that follow each other: a compact JSON document on a line, or a YAML
/// document of its own.
pub(crate) fn print_next<T: Serialize>(format: Format, value: &T, human: impl FnOnce(&T)) -> anyhow::Result<()> {
    match format {
        Format::Human => human(value),
        Format::Json => line(serde_json::to_string(value)?),
        Format::Yaml => line(format!("---\n{}", serde_saphyr::to_string(value)?.trim_end())),
    }
    Ok(())
}

/// Why standard output could not be written, the first time. One for the process, as its output is.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// A line of the product's output. A reader that has gone (`towline status | head -1`, or a terminal
/// that was closed under `towline up`) has seen what it wanted; any other trouble is told by
/// [`finish`].
pub(crate) fn line(text: impl std::fmt::Display) {
    let mut out = anstream::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        // Only the first counts.
        let _ = UNWRITTEN.set(error);
    }
}

/// Whether all output was written.
pub(crate) fn finish() -> anyhow::Result<()> {
    match UNWRITTEN.get() {
        Some(error) => anyhow::bail!("the output cannot be written: {error}"),
        None => Ok(()),
    }
}

/// A word as a shell takes it, quoted where it must be.
pub(crate) fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A count and its noun, in the plural where there is not just one.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The last word of a command that failed, with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    // Where not even this can be written, the exit code says it.
    let _ = writeln!(anstream::stderr(), "{} {error:#}", "error:".red().bold());
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
    line(table.trim_fmt());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_read_them() {
        for (text, word) in [
            ("/var/lib/towline/ca.pem", "/var/lib/towline/ca.pem"),
            ("/home/a b/ca.pem", "'/home/a b/ca.pem'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(1, "error"), "1 error");
        assert_eq!(count(0, "error"), "0 errors");
    }
}
