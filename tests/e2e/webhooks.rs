//! Webhooks over real HTTP: what is proven says "look", what is not changes nothing.

use std::{fs, path::Path, process::Command};

use harness::{Cluster, Options, PATIENCE, have, manifests::config_map, run, wait};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SECRET: &str = "a secret of the tests";

/// A POST to a webhook with a file as its body; the answer's code and text.
fn post(cluster: &Cluster, sender: &str, headers: &[String], body: &Path) -> anyhow::Result<(String, String)> {
    let mut command = Command::new("curl");
    command
        .args([
            "--http2",
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ])
        .arg("--cacert")
        .arg(cluster.data().join("ca.pem"))
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .args(["--header", "Content-Type: application/json"]);
    for header in headers {
        command.arg("--header").arg(header);
    }
    let said = run(command.arg(format!("https://{}/webhooks/{sender}", cluster.listen())))?;
    let (text, code) = said.rsplit_once('\n').unwrap_or_default();
    Ok((code.to_owned(), text.to_owned()))
}

fn signature(body: &[u8]) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    mac.update(body);
    Ok(hex::encode(mac.finalize().into_bytes()))
}

/// The memory that a process holds, in KiB.
fn resident(pid: i32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.unwrap_or_default().trim().trim_end_matches("kB").trim().parse()?)
}

/// How many webhooks have said "look".
fn looks(cluster: &Cluster) -> usize {
    cluster.whole_log().matches("a webhook asks to look").count()
}

#[test]
fn a_webhook_is_proven_before_it_is_read() -> anyhow::Result<()> {
    if !have("curl", &["--version"]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("secret");
    fs::write(&secret, format!("{SECRET}\n"))?;
    let flags = ["github", "gitlab", "gitea"]
        .into_iter()
        .flat_map(|sender| [format!("--webhook-{sender}-secret"), secret.display().to_string()])
        .collect();
    // No agent is needed, and no Docker.
    let cluster = Cluster::start_with(Options {
        flags,
        server_only: true,
        ..Options::default()
    })?;
    let write = |name: &str, text: &[u8]| -> anyhow::Result<_> {
        let path = folder.path().join(name);
        fs::write(&path, text)?;
        Ok((path, signature(text)?))
    };
    let (push, signed) = write("push", br#"{"ref": "refs/heads/main"}"#)?;
    let (foreign, foreign_signed) = write("foreign", br#"{"ref": "refs/heads/other"}"#)?;
    let (broken, broken_signed) = write("broken", br#"{"ref": "#)?;
    let github = |signature: &str, delivery: &str| {
        vec![
            "X-GitHub-Event: push".to_owned(),
            format!("X-Hub-Signature-256: sha256={signature}"),
            format!("X-GitHub-Delivery: {delivery}"),
        ]
    };
    let wrong = signed.chars().rev().collect::<String>();
    for (sender, headers, body, code, words, asked) in [
        ("github", github(&signed, "1"), &push, "200", "looking", 1),
        ("github", github(&signed, "1"), &push, "200", "known", 0),
        ("github", github(&signed, "2"), &push, "200", "looking", 1),
        (
            "github",
            github(&foreign_signed, "3"),
            &foreign,
            "200",
            "only refs/heads/main",
            0,
        ),
        ("github", github(&wrong, "4"), &push, "401", "wrong", 0),
        ("github", github(&signed, "5"), &foreign, "401", "wrong", 0),
        ("github", vec![], &push, "401", "no signature", 0),
        ("github", github(&wrong, "6"), &broken, "401", "wrong", 0),
        ("github", github(&broken_signed, "7"), &broken, "400", "not the JSON", 0),
        (
            "gitea",
            vec![format!("X-Gitea-Signature: {signed}")],
            &push,
            "200",
            "looking",
            1,
        ),
        (
            "gitea",
            vec![format!("X-Gitea-Signature: {wrong}")],
            &push,
            "401",
            "wrong",
            0,
        ),
        (
            "gitlab",
            vec![format!("X-Gitlab-Token: {SECRET}")],
            &push,
            "200",
            "looking",
            1,
        ),
        (
            "gitlab",
            vec!["X-Gitlab-Token: guess".to_owned()],
            &push,
            "401",
            "wrong",
            0,
        ),
        (
            "generic",
            vec![format!("X-Signature-256: {signed}")],
            &push,
            "401",
            "no secret is set",
            0,
        ),
        ("elsewhere", vec![], &push, "404", "", 0),
    ] {
        let before = looks(&cluster);
        let (got, text) = post(&cluster, sender, &headers, body)?;
        assert!(
            got == code && text.contains(words),
            "{sender} {headers:?}: {got}, not {code} {words}\n{text}"
        );
        assert_eq!(
            looks(&cluster) - before,
            asked,
            "{sender} {headers:?}\n{}",
            cluster.log()
        );
    }

    // 40 MB are refused, announced or not, and are not kept.
    let (large, large_signed) = write("large", &vec![b' '; 40 * 1024 * 1024])?;
    let before = resident(cluster.pid())?;
    let announced = github(&large_signed, "8");
    assert_eq!(post(&cluster, "github", &announced, &large)?.0, "413");
    let guess = vec![
        "X-Gitlab-Token: guess".to_owned(),
        "Transfer-Encoding: chunked".to_owned(),
    ];
    assert_eq!(post(&cluster, "gitlab", &guess, &large)?.0, "401");
    let grown = resident(cluster.pid())?.saturating_sub(before);
    assert!(grown < 10 * 1024, "{grown} KiB for what was refused unread");
    let mut chunked = announced;
    chunked.push("Transfer-Encoding: chunked".to_owned());
    assert_eq!(post(&cluster, "github", &chunked, &large)?.0, "413");
    wait("the refused body to be forgotten", PATIENCE, || {
        let grown = resident(cluster.pid())
            .map_err(|error| error.to_string())?
            .saturating_sub(before);
        if grown < 30 * 1024 {
            Ok(())
        } else {
            Err(format!("{grown} KiB"))
        }
    });
    Ok(())
}

/// One cluster's built-in repository is the other's remote one, over https, looked at once an hour
/// unless a webhook says otherwise.
#[test]
fn a_webhook_syncs_a_repository_over_https() -> anyhow::Result<()> {
    if !have("curl", &["--version"]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let seed = folder.path().join("seed");
    fs::create_dir_all(seed.join("namespaces/shop"))?;
    fs::write(
        seed.join("namespaces/shop/settings.yaml"),
        config_map("settings", "a", "1"),
    )?;
    let forge = Cluster::start_with(Options {
        builtin: true,
        seed: Some(seed),
        server_only: true,
        ..Options::default()
    })?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("secret"), SECRET)?;
    run(Command::new("git").args(["init", "--quiet", "--bare", &path("status.git")]))?;
    let token = forge.data().join("admin-token").display().to_string();
    let ca = forge.data().join("ca.pem").display().to_string();
    let cluster = Cluster::start_with(Options {
        repo: Some(format!("https://{}/git/towline.git", forge.listen())),
        flags: [
            ("--git-username", "towline"),
            ("--git-password-file", &token),
            ("--git-ca-file", &ca),
            ("--poll-interval", "3600"),
            ("--status-repo", &path("status.git")),
            ("--webhook-generic-secret", &path("secret")),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
        .collect(),
        server_only: true,
        ..Options::default()
    })?;
    let setting = |value: &str| {
        wait(&format!("the setting to be {value}"), PATIENCE, || {
            match cluster.get(&["configmap", "settings", "-n", "shop"]) {
                Ok(object) if object["data"]["a"] == value => Ok(()),
                other => Err(format!("{other:?}\n{}", cluster.log())),
            }
        });
    };
    setting("1");

    forge
        .repository
        .write("namespaces/shop/settings.yaml", &config_map("settings", "a", "2"))?;
    let commit = forge.repository.commit("Change a setting")?;
    forge.repository.git(&["push", "--quiet", "origin", "main"])?;
    let body = folder.path().join("empty");
    fs::write(&body, "")?;
    let (code, text) = post(&cluster, "generic", &[format!("Authorization: Bearer {SECRET}")], &body)?;
    assert_eq!(code, "200", "{text}");
    setting("2");
    let history = cluster.towline(&["history"])?;
    assert!(history.contains(&commit[..7]), "{history}");
    wait("the status commit in the other repository", PATIENCE, || {
        let said = run(Command::new("git").args(["-C", &path("status.git"), "log", "--format=%B", "towline/status"]))
            .map_err(|error| error.to_string())?;
        if said.contains(&commit) {
            Ok(())
        } else {
            Err(format!("{said}\n{}", cluster.log()))
        }
    });
    Ok(())
}
