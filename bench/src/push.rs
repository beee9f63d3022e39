//! What a push to the built-in repository costs over a push of the same commit, from the same clone, to
//! plain `git http-backend`.
//!
//! A push to Towline is validated before it is accepted, and streams its rollout after; the second part
//! takes as long as the rollout, so Towline runs with `--push-wait 0` here. Two moments count: when the
//! branch has moved, and when `git push` has ended.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{Arguments, PATIENCE, plain::Plain, process::run, table, towline::Towline};

/// Rounds of one peer.
#[derive(Default)]
struct Rounds {
    accepted: Vec<Duration>,
    ended: Vec<Duration>,
}

/// Measures in a repository of `manifests` manifests, and prints.
pub(crate) async fn overhead(arguments: &Arguments, manifests: usize) -> anyhow::Result<()> {
    let mut towline = Towline::start(&arguments.towline, &arguments.docker, true, &["--push-wait", "0"]).await?;
    towline.fill(manifests)?;
    towline.push_all("Fill")?;
    let bare = towline.data().join("git/towline.git");
    let plain = Plain::start(towline.folder(), &bare).await?;
    let url = plain.url();
    let ca = plain.ca();
    towline.git(&["remote", "add", "plain", &url])?;
    towline.git(&[
        "config",
        &format!(
            "http.{}.sslCAInfo",
            url.replace("bench:bench@", "").replace("/plain.git", "/")
        ),
        &ca.display().to_string(),
    ])?;
    let peers = [("plain", plain.repository()), ("origin", bare)];
    let mut rounds = [Rounds::default(), Rounds::default()];
    // One round more than asked: the first one warms both up and does not count.
    for round in 0..=arguments.rounds.max(10) {
        let file = towline.repo().join("namespaces/team-0/settings-0.yaml");
        fs::write(file, crate::towline::manifest(0, round + 1))?;
        let commit = towline.prepare("Change one")?;
        towline.git(&["update-ref", "refs/heads/main", &commit])?;
        for turn in 0..2 {
            // Each peer goes first every other time.
            let which = (round + turn) % 2;
            let (remote, bare) = &peers[which];
            let (accepted, ended) = push(&towline.repo(), remote, bare, &commit)?;
            if round > 0 {
                rounds[which].accepted.push(accepted);
                rounds[which].ended.push(ended);
            }
        }
    }
    drop(plain);
    towline.stop()?;
    let [plain, own] = &rounds;
    let cell = |own: &[Duration], plain: &[Duration]| {
        let (own, plain) = (table::median(own), table::median(plain));
        format!(
            "{} against {} ({:+.0} ms)",
            table::milliseconds(own),
            table::milliseconds(plain),
            (own.as_secs_f64() - plain.as_secs_f64()) * 1000.0
        )
    };
    println!(
        "\nA push of one changed file of {manifests} manifests, over plain git http-backend (both TLS), medians of {} rounds:",
        own.accepted.len()
    );
    println!("- until the branch has moved: {}", cell(&own.accepted, &plain.accepted));
    println!("- until git push has ended:   {}", cell(&own.ended, &plain.ended));
    Ok(())
}

/// Pushes `main`; how long until the branch had moved, and until the command ended.
fn push(clone: &Path, remote: &str, bare: &Path, commit: &str) -> anyhow::Result<(Duration, Duration)> {
    let reference: PathBuf = bare.join("refs/heads/main");
    let start = Instant::now();
    let looking = thread::spawn({
        let commit = commit.to_owned();
        move || {
            while start.elapsed() < PATIENCE {
                if fs::read_to_string(&reference).is_ok_and(|text| text.trim() == commit) {
                    return Some(start.elapsed());
                }
                thread::sleep(Duration::from_micros(200));
            }
            None
        }
    });
    run(Command::new("git")
        .arg("-C")
        .arg(clone)
        .args(["push", "--quiet", remote, "main"]))?;
    let ended = start.elapsed();
    let accepted = looking.join().ok().flatten();
    let accepted = accepted.ok_or_else(|| anyhow::anyhow!("{remote} was pushed to and did not move"))?;
    Ok((accepted, ended))
}
