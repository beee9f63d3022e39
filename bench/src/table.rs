//! Figures and how they are printed.

use std::{collections::BTreeMap, time::Duration};

/// Rounds by peer, then by replicas and what was waited for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    order: Vec<String>,
    rounds: BTreeMap<(String, usize, &'static str), Vec<Duration>>,
}

const COLUMNS: [(usize, &str, &str); 5] = [
    (1, "running", "1 running"),
    (1, "Ready", "1 Ready"),
    (10, "running", "10 running"),
    (10, "Ready", "10 Ready"),
    (10, "rolled", "10 rolled"),
];

impl Table {
    pub(crate) fn add(&mut self, peer: &str, replicas: usize, what: &'static str, took: Duration) {
        if !self.order.iter().any(|known| known == peer) {
            self.order.push(peer.to_owned());
        }
        self.rounds
            .entry((peer.to_owned(), replicas, what))
            .or_default()
            .push(took);
    }

    /// Prints a Markdown table of medians, each with its ratio to the first peer.
    pub(crate) fn print(&self, machine: &str) {
        println!("Medians; in brackets the ratio to the first row. {machine}.\n");
        println!("| | {} |", COLUMNS.map(|column| column.2).join(" | "));
        println!("|---|{}", "---|".repeat(COLUMNS.len()));
        for peer in &self.order {
            let cells = COLUMNS.map(|(replicas, what, _)| {
                let figure = |peer: &str, what| self.rounds.get(&(peer.to_owned(), replicas, what)).map(|r| median(r));
                let Some(took) = figure(peer, what) else {
                    return "–".to_owned();
                };
                let base = self.order.first().and_then(|first| figure(first, "running"));
                match base {
                    Some(base) if what != "rolled" => {
                        format!(
                            "{} ({:.2})",
                            milliseconds(took),
                            took.as_secs_f64() / base.as_secs_f64()
                        )
                    }
                    _ => milliseconds(took),
                }
            });
            println!("| {peer} | {} |", cells.join(" | "));
        }
    }
}

pub(crate) fn median(rounds: &[Duration]) -> Duration {
    let mut sorted = rounds.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn milliseconds(took: Duration) -> String {
    format!("{:.0} ms", took.as_secs_f64() * 1000.0)
}
