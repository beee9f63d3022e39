//! The whole cluster in one thread under time that stands still: the store over a log in memory, all
//! reconcilers, agents over runtimes in memory, and faults, all from one seed.
//!
//! `make simulate SEEDS=n` runs many; `SIMULATE_FIRST=SEED SIMULATE_SEEDS=1` runs one again.

#![allow(clippy::print_stdout, reason = "the seeds that fail are the product")]

mod control;
mod faults;
mod invariants;
mod trace;
mod world;

use std::time::Instant;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

/// Runs a seed on a runtime of its own.
fn simulate(seed: u64) -> world::Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(world::run(seed));
    // What a crash has left behind never ends by itself.
    runtime.shutdown_background();
    outcome
}

#[test]
fn seeds_hold_what_must_hold() {
    let (first, count) = (number("SIMULATE_FIRST", 0), number("SIMULATE_SEEDS", 6));
    let began = Instant::now();
    let mut failed = Vec::new();
    let mut steps = 0;
    for seed in first..first + count {
        let outcome = simulate(seed);
        steps += outcome.steps;
        if !outcome.broken.is_empty() {
            println!("seed {seed}: {:#?}\nfaults: {:#?}", outcome.broken, outcome.faults);
            failed.push(seed);
        }
    }
    println!(
        "{count} seeds, {steps} steps in {:?}; failed: {failed:?}",
        began.elapsed()
    );
    assert!(
        failed.is_empty(),
        "seeds that fail: {failed:?}; SIMULATE_FIRST=SEED SIMULATE_SEEDS=1 runs one"
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let (one, other) = (simulate(3), simulate(3));
    assert_eq!(one.faults, other.faults);
    assert_eq!(
        (one.hash, one.steps),
        (other.hash, other.steps),
        "the traces part at step {:?}",
        one.lines
            .iter()
            .zip(&other.lines)
            .enumerate()
            .find(|(_, (a, b))| a != b)
    );
    assert_ne!(one.hash, simulate(4).hash);
}
