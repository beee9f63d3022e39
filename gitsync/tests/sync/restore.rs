//! One document put back as a commit, and nothing else.

use std::os::unix::fs::PermissionsExt as _;

use schemas::{
    ContentHash, Kind,
    restore::{Restore, Restored, Target, Why},
};

use crate::{harness::*, remote::over_http};

const FILE: &str = "namespaces/a/web.yaml";

fn file(image: &str, other: &str) -> String {
    format!(
        "# {other}\n{}---\n# The page\n{}",
        config("page", other),
        deployment("web", image, 1)
    )
}

/// Two contents of a Deployment that shares its file with something that changes too.
fn two_contents(repo: &Repo) {
    two_shops(repo);
    repo.write(FILE, &file("web:1", "one"));
    repo.commit("Works");
    repo.write(FILE, &file("web:2", "two"));
    repo.commit("Works not");
}

fn asked(world: &World, why: Why) -> Restore {
    let first = world.repo.git(&["rev-parse", "HEAD~1"]);
    Restore {
        key: key(Kind::Deployment, "a", "web"),
        file: FILE.to_owned(),
        to: Target::Revision {
            text: first,
            files: vec![FILE.to_owned()],
        },
        why,
    }
}

fn by_ann() -> Why {
    Why::Asked { by: "ann".to_owned() }
}

fn at(repo: &Repo, revision: &str) -> String {
    repo.git(&["show", &format!("{revision}:{FILE}")]) + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_goes_back_alone_on_top_of_its_branch() {
    let world = World::new(two_contents).await;
    world.look().await;
    let asked = asked(&world, by_ann());
    let repo = &world.repo;
    // A work tree that has the branch would fall behind: the commit is for people to merge.
    let proposed = world.sync.restore(asked.clone()).await.expect("restored");
    assert_eq!(proposed.branch, "proposals/restore-deployment-a-web");
    assert!(
        proposed.refused.as_ref().is_some_and(|why| why.contains("work tree")),
        "{proposed:?}"
    );
    assert_eq!(at(repo, &proposed.branch), file("web:1", "two"));
    let again = world.sync.restore(asked.clone()).await.expect("restored");
    assert_eq!(
        (&again.branch, &again.commit),
        (&proposed.branch, &proposed.commit),
        "one proposal is enough"
    );

    repo.git(&["checkout", "-q", "--detach"]);
    let tip = repo.git(&["rev-parse", "main"]);
    let restored = world.sync.restore(asked.clone()).await.expect("restored");
    assert_eq!((restored.branch.as_str(), &restored.refused), ("main", &None));
    assert_eq!(repo.git(&["rev-parse", "main"]), restored.commit.to_string());
    assert_eq!(repo.git(&["rev-parse", "main~1"]), tip);
    assert_eq!(at(repo, "main"), file("web:1", "two"));
    assert_eq!(repo.git(&["diff", "--name-only", "main~1", "main"]), FILE);
    let message = repo.git(&["log", "-1", "--format=%B", "main"]);
    for part in [
        "Roll Deployment a/web back to",
        "Restored-Object: Deployment a/web",
        "Requested-By: ann",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let desired = world.look().await;
    assert_eq!(desired.commit.as_ref(), Some(&restored.commit));

    let error = world.sync.restore(asked).await.expect_err("nothing to do");
    assert!(error.to_string().contains("already as it was"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_content_is_reverted_once_and_only_while_it_is_there() {
    let world = World::new(two_contents).await;
    let desired = world.look().await;
    let bad = desired
        .rows
        .get(&key(Kind::Deployment, "a", "web"))
        .expect("declared")
        .hash;
    let asked = asked(
        &world,
        Why::Failed {
            content: bad,
            reason: "ProgressDeadlineExceeded:\n no".to_owned(),
        },
    );
    let repo = &world.repo;
    repo.git(&["checkout", "-q", "--detach"]);
    let first = world.sync.restore(asked.clone()).await.expect("restored");
    // A server that was killed asks again; whatever was pushed since.
    let again = world.sync.restore(asked.clone()).await.expect("restored");
    assert_eq!(first.commit, again.commit);
    repo.git(&["checkout", "-q", "main"]);
    repo.write(FILE, &file("web:2", "two"));
    repo.commit("Once more");
    repo.git(&["checkout", "-q", "--detach"]);
    let again = world.sync.restore(asked.clone()).await.expect("restored");
    assert_eq!(first.commit, again.commit, "one revert for each content");
    assert_eq!(repo.git(&["log", "-1", "--format=%s", "main"]), "Once more");
    let message = repo.git(&["log", "-1", "--format=%B", &first.commit.to_string()]);
    assert!(message.contains(&format!("Reverted-Content: {bad}")), "{message}");
    assert!(message.contains("failed: ProgressDeadlineExceeded: no\n"), "{message}");

    // Something newer is there.
    let other = Restore {
        why: Why::Failed {
            content: ContentHash([1; 32]),
            reason: "no".to_owned(),
        },
        ..asked
    };
    let error = world.sync.restore(other).await.expect_err("it moved on");
    assert!(error.to_string().contains("declared otherwise by now"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_push_is_lost_beside_it() {
    let world = World::new(two_contents).await;
    world.look().await;
    let repo = &world.repo;
    let asked = asked(&world, by_ann());
    let back = |text: &str| Restore {
        to: Target::Revision {
            text: text.to_owned(),
            files: vec![FILE.to_owned()],
        },
        ..asked.clone()
    };
    let tips = [repo.git(&["rev-parse", "HEAD~1"]), repo.git(&["rev-parse", "HEAD"])];
    repo.git(&["checkout", "-q", "--detach"]);
    let other = world.root.path().join("other");
    repo.git(&[
        "clone",
        "-q",
        "--branch",
        "main",
        &repo.dir.to_string_lossy(),
        &other.to_string_lossy(),
    ]);
    let pushing = std::thread::spawn(move || {
        let other = Repo { dir: other };
        for number in 0..12 {
            other.write("namespaces/a/other.yaml", &config("other", &number.to_string()));
            other.commit(&format!("Push {number}"));
            while !other.try_git(&["push", "-q", "origin", "main"]).0 {
                other.git(&["pull", "-q", "--rebase", "origin", "main"]);
            }
        }
    });
    let mut made: Vec<Restored> = Vec::new();
    for number in 0..12 {
        made.push(world.sync.restore(back(&tips[number % 2])).await.expect("restored"));
    }
    pushing.join().expect("pushed");
    let log = repo.git(&["log", "--format=%H %s", "main"]);
    for number in 0..12 {
        assert!(log.contains(&format!("Push {number}\n")), "push {number}\n{log}");
    }
    for restored in &made {
        assert!(log.contains(&*restored.commit.0), "{restored:?}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_protects_its_branch_gets_a_proposal() {
    let (world, bare) = over_http(None, false).await;
    let push = |repo: &Repo| repo.git(&["push", "-q", &bare.dir.to_string_lossy(), "main"]);
    two_contents(&world.repo);
    push(&world.repo);
    world.look().await;
    let asked = asked(&world, by_ann());
    let restored = world.sync.restore(asked.clone()).await.expect("restored");
    assert_eq!((restored.branch.as_str(), &restored.refused), ("main", &None));
    assert_eq!(bare.git(&["rev-parse", "main"]), restored.commit.to_string());

    let hook = bare.dir.join("hooks/update");
    std::fs::write(&hook, "#!/bin/sh\ntest $1 != refs/heads/main\n").expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("set");
    let back = Restore {
        to: Target::Revision {
            text: world.repo.git(&["rev-parse", "HEAD"]),
            files: vec![FILE.to_owned()],
        },
        ..asked
    };
    let proposed = world.sync.restore(back).await.expect("restored");
    assert_eq!(proposed.branch, "proposals/restore-deployment-a-web", "{proposed:?}");
    assert!(proposed.refused.is_some(), "{proposed:?}");
    assert_eq!(bare.git(&["rev-parse", &proposed.branch]), proposed.commit.to_string());
    assert_eq!(bare.git(&["rev-parse", "main"]), restored.commit.to_string());
}
