//! The invariants that imports show.

use std::{
    fs,
    path::{Path, PathBuf},
};

use harness::sources;

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "tests") {
                rust_files(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test(&path) {
            found.push(path);
        }
    }
}

/// Files that hold tests alone: `tests.rs`, `nodes_tests.rs`.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    name == "tests" || name.ends_with("_tests")
}

fn files_of(crate_name: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    rust_files(&sources().join(crate_name), &mut found);
    assert!(!found.is_empty(), "{crate_name} has no sources");
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            (path, text)
        })
        .collect()
}

/// The code of a file without its tests and comments.
fn code(text: &str) -> String {
    // Tests stand in a module at the end; other things that only tests use may stand anywhere.
    let tests = text
        .match_indices("#[cfg(test)]\n")
        .find(|(at, mark)| text[at + mark.len()..].trim_start().starts_with("mod tests {"));
    let text = tests.map_or(text, |(at, _)| &text[..at]);
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

const CRATES: [&str; 7] = [
    "schemas",
    "store",
    "gitsync",
    "reconciler",
    "apiserver",
    "agents",
    "towline",
];

#[test]
fn dependencies_point_one_way() {
    let allowed: [(&str, &[&str]); 6] = [
        ("schemas", &[]),
        ("store", &["schemas"]),
        ("gitsync", &["schemas", "store"]),
        ("reconciler", &["schemas", "store"]),
        ("apiserver", &["schemas", "store"]),
        ("agents", &["schemas"]),
    ];
    for (name, may) in allowed {
        let manifest = fs::read_to_string(sources().join(name).join("Cargo.toml")).expect("a crate has a manifest");
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or(&manifest);
        for other in CRATES {
            let used = dependencies
                .lines()
                .any(|line| line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} ")));
            assert!(!used || may.contains(&other), "{name} may not depend on {other}");
        }
    }
}

#[test]
fn each_outside_world_is_in_one_crate() {
    let homes = [
        ("tokio_postgres", "store"),
        ("git2::", "gitsync"),
        ("bollard", "agents"),
        ("warp::", "apiserver"),
    ];
    for (library, home) in homes {
        for name in CRATES.into_iter().filter(|name| *name != home) {
            for (path, text) in files_of(name) {
                let uses = code(&text).lines().any(|line| line.contains(library));
                assert!(!uses, "{} uses {library}, which belongs to {home}", path.display());
            }
        }
    }
}

#[test]
fn what_is_pure_reads_no_clock_and_does_no_io() {
    let forbidden = [
        "Timestamp::now",
        "Zoned::now",
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "TcpStream",
        "UdpSocket",
        "std::process",
        "tokio::",
        "rand::rng()",
        "Uuid::new_v4",
        "thread::spawn",
    ];
    let mut pure = files_of("schemas");
    let planning = |path: &Path| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let inside = path.components().any(|part| part.as_os_str() == "plan");
        let named = [
            "plan",
            "translate",
            "copy",
            "judge",
            "ask",
            "ring",
            "notes",
            "revise",
            "explain",
        ];
        inside || named.contains(&&*name)
    };
    let mut plans = 0;
    for name in ["store", "reconciler", "agents", "gitsync"] {
        for (path, text) in files_of(name) {
            let plan = text.contains("pub fn plan(") || text.contains("pub(crate) fn plan(");
            plans += usize::from(plan);
            // The database's side of notes does I/O, and is named like the notes.
            let outside = path.components().any(|part| part.as_os_str() == "postgres");
            if (plan || planning(&path)) && !outside {
                pure.push((path, text));
            }
        }
    }
    assert!(plans > 10, "only {plans} plans were found");
    for (path, text) in pure {
        for (number, line) in code(&text).lines().enumerate() {
            for word in forbidden {
                assert!(
                    !line.contains(word),
                    "{}:{}: {word} in code that must be pure",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}
