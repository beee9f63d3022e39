use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use tempfile::TempDir;

use super::*;
use crate::{
    control_harness::{Client, FakeSource, Harness},
    webhooks::Secrets,
};

struct Git {
    harness: Harness,
    folder: TempDir,
    token: String,
}

async fn start() -> Git {
    let folder = TempDir::new().expect("a folder");
    let bare = folder.path().join("repo.git");
    let source = FakeSource {
        repository: Some(bare),
        ..FakeSource::default()
    };
    let harness = Harness::with(source, Secrets::default()).await;
    fs::write(folder.path().join("ca.pem"), harness.authority.ca_pem()).expect("a file");
    let token = harness.authority.admin_token().to_owned();
    let git = Git { harness, folder, token };
    git.ok(&["init", "--bare", "--initial-branch=main", "repo.git"]).await;
    git
}

impl Git {
    fn url(&self, password: &str, name: &str) -> String {
        format!(
            "https://me:{password}@localhost:{}/git/{name}",
            self.harness.address.port()
        )
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let run = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("GIT_SSL_CAINFO", self.folder.path().join("ca.pem"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output();
        let limit = crate::control_harness::PATIENCE;
        tokio::time::timeout(limit, run)
            .await
            .expect("git ends in time")
            .expect("git runs")
    }

    async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let text = all(&output);
        assert!(output.status.success(), "git {arguments:?}: {text}");
        text
    }

    fn hook(&self, name: &str, script: &str) {
        let path = self.folder.path().join("repo.git/hooks").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a hook");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    async fn commit(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join("work").join(file), content).expect("a file");
        self.ok(&["-C", "work", "add", "."]).await;
        self.ok(&["-C", "work", "commit", "-m", file]).await;
    }
}

fn all(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[tokio::test]
async fn clone_push_and_fetch() {
    let git = start().await;
    let url = git.url(&git.token, "repo.git");
    git.ok(&["clone", &url, "work"]).await;
    git.commit("a.yaml", "a: 1\n").await;
    // Larger than what git sends in one piece: this one comes chunked.
    git.commit("large.bin", noise(3 * 1024 * 1024)).await;
    git.hook("post-receive", "echo rolled out, $REMOTE_USER");
    let pushed = git.ok(&["-C", "work", "push", "origin", "HEAD:main"]).await;
    assert!(pushed.contains("remote: rolled out, admin"), "{pushed}");
    git.ok(&["clone", &url, "again"]).await;
    let large = fs::read(git.folder.path().join("again/large.bin")).expect("it was cloned");
    assert_eq!(large, noise(3 * 1024 * 1024));
    for number in 0..80 {
        git.ok(&["-C", "work", "commit", "--allow-empty", "-m", &number.to_string()])
            .await;
    }
    git.ok(&["-C", "work", "push", "origin", "HEAD:main"]).await;
    git.ok(&["-C", "again", "pull"]).await;
    let count = git.ok(&["-C", "again", "rev-list", "--count", "HEAD"]).await;
    assert_eq!(count.trim(), "82");
    git.ok(&["-c", "protocol.version=0", "ls-remote", &url]).await;
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

#[tokio::test]
async fn a_refusal_is_shown_line_by_line() {
    let git = start().await;
    git.ok(&["clone", &git.url(&git.token, "repo.git"), "work"]).await;
    git.commit("a.yaml", "a: 1\n").await;
    git.hook("pre-receive", "echo 'a.yaml:1:1: error: no'\nexit 1");
    let output = git.run(&["-C", "work", "push", "origin", "HEAD:main"]).await;
    let text = all(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("remote: a.yaml:1:1: error: no"), "{text}");
    assert!(text.contains("pre-receive hook declined"), "{text}");
}

#[tokio::test]
async fn only_the_repository_and_only_with_the_token() {
    let git = start().await;
    fs::create_dir(git.folder.path().join("other.git")).expect("a folder");
    git.ok(&["init", "--bare", "other.git"]).await;
    let (token, bootstrap) = (&git.token, git.harness.authority.bootstrap_token());
    for (url, says) in [
        (git.url("wrong", "repo.git"), "Authentication failed"),
        (git.url(bootstrap, "repo.git"), "403"),
        (git.url(token, "other.git"), "not found"),
        (git.url(token, "repo.git/../other.git"), "not found"),
    ] {
        let output = git.run(&["ls-remote", &url]).await;
        let text = all(&output);
        assert!(!output.status.success() && text.contains(says), "{url}: {text}");
    }
    let guest = Client::connect(&git.harness, None, None).await;
    let path = "/git/repo.git/info/refs?service=git-upload-pack";
    let response = guest.send(Method::GET, path, crate::control_harness::whole("")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"Towline\"");
    let admin = git.harness.admin().await;
    for (path, code) in [
        (path, 200),
        ("/git/repo.git/info/refs?service=git-receive-pack", 200),
        ("/git/repo.git/info/refs", 404),
        ("/git/repo.git/HEAD", 404),
        ("/git/repo.git/config", 404),
        ("/git/repo.git/%2e%2e/other.git/info/refs?service=git-upload-pack", 404),
        ("/git/other.git/info/refs?service=git-upload-pack", 404),
    ] {
        let (found, text) = admin.call(Method::GET, path, "").await;
        assert_eq!(found.as_u16(), code, "{path}: {text}");
    }
}

#[test]
fn a_head_ends_at_the_first_empty_line() {
    for (read, expected) in [
        ("a: b\r\n\r\nbody", Some((4, 8))),
        ("a: b\n\nbody\r\n\r\n", Some((4, 6))),
        ("a: b\r\n", None),
        ("", None),
    ] {
        assert_eq!(end_of_head(read.as_bytes()), expected, "{read:?}");
    }
}

#[test]
fn paths_stay_in_the_repository() {
    let call = |method: Method, path: &str, query: &str| Call {
        method,
        path: path.to_owned(),
        query: crate::query::Query::parse(query),
        headers: http::HeaderMap::new(),
        body: futures::stream::empty().boxed(),
        peer: None,
        identity: None,
    };
    for (method, path, query, expected) in [
        (Method::POST, "/git/r.git/git-receive-pack", "", Some(Service::Push)),
        (Method::POST, "/git/r.git/git-upload-pack", "", Some(Service::Fetch)),
        (
            Method::GET,
            "/git/r.git/info/refs",
            "service=git-upload-pack",
            Some(Service::Fetch),
        ),
        (Method::GET, "/git/r.git/info/refs", "service=other", None),
        (Method::GET, "/git/r.git/git-upload-pack", "", None),
        (Method::POST, "/git/r.gitx/git-upload-pack", "", None),
        (Method::POST, "/git/git-upload-pack", "", None),
    ] {
        let found = target(&call(method, path, query), Path::new("/data/r.git"));
        assert_eq!(found.map(|(_, service)| service), expected, "{path}?{query}");
    }
}
