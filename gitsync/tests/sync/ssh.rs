//! A repository behind OpenSSH's own server, where there is one.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use gitsync::{Options, Source};

use crate::harness::*;

/// Ends the server with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The server's program: from the environment, or from where packages put it.
fn sshd() -> Option<PathBuf> {
    let named = std::env::var_os("TOWLINE_TEST_SSHD").map(PathBuf::from);
    named
        .into_iter()
        .chain([PathBuf::from("/usr/sbin/sshd")])
        .find(|path| path.exists())
}

/// Says that a test is skipped; under CI that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI skips no test: {why}");
    println!("SKIPPED: {why}");
}

fn keygen(file: &Path) -> String {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(file)
        .status()
        .expect("ssh-keygen runs");
    assert!(made.success());
    fs::read_to_string(file.with_extension("pub")).expect("the public key")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_over_ssh_with_its_host_key_checked() {
    let Some(sshd) = sshd() else {
        skipped("there is no OpenSSH server on this machine (Debian's package openssh-server)");
        return;
    };
    // Where a server of root's keeps its unprivileged half; the start of the service would have made
    // it. Another user's server needs none.
    let _ = fs::create_dir_all("/run/sshd");
    let root = tempfile::tempdir().expect("a folder");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    let (host, user) = (root.path().join("host"), root.path().join("user"));
    let host_key = keygen(&host);
    fs::write(root.path().join("authorized"), keygen(&user)).expect("written");
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a port")
        .port();
    let options = [
        format!("ListenAddress=127.0.0.1:{port}"),
        format!("HostKey={}", host.display()),
        format!("AuthorizedKeysFile={}/authorized", root.path().display()),
        format!("PidFile={}/pid", root.path().display()),
        "StrictModes=no".into(),
        "UsePAM=no".into(),
        "PasswordAuthentication=no".into(),
        "KbdInteractiveAuthentication=no".into(),
    ];
    let mut command = Command::new(&sshd);
    let log = root.path().join("log");
    command
        .args(["-D", "-e", "-f", "/dev/null"])
        .stderr(fs::File::create(&log).expect("made"));
    for option in &options {
        command.args(["-o", option]);
    }
    let mut server = Server(command.spawn().expect("sshd starts"));
    let mut ended = false;
    let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let mut settled = || {
        ended = server.0.try_wait().is_ok_and(|status| status.is_some());
        ended || answers()
    };
    until("the server", &mut settled, || "no answer".into()).await;
    if ended {
        let said = fs::read_to_string(&log).unwrap_or_default();
        skipped(&format!(
            "the OpenSSH server of this machine does not start for this user: {said}"
        ));
        return;
    }

    let bare = Repo {
        dir: root.path().join("shop.git"),
    };
    fs::create_dir_all(&bare.dir).expect("a folder");
    bare.git(&["init", "-q", "--bare", "-b", "main"]);
    let name = Command::new("id").arg("-un").output().expect("a name").stdout;
    let url = format!(
        "ssh://{}@127.0.0.1:{port}{}",
        String::from_utf8_lossy(&name).trim(),
        bare.dir.display()
    );
    let known = root.path().join("known_hosts");
    fs::write(&known, format!("[127.0.0.1]:{port} {host_key}")).expect("written");
    let set = |options: &mut Options| {
        options.source = Source::Remote(url.clone());
        options.credentials.ssh_key_file = Some(user.clone());
        options.credentials.known_hosts_file = Some(known.clone());
    };
    let world = World::with(
        |repo| {
            two_shops(repo);
            repo.git(&["push", "-q", &bare.dir.to_string_lossy(), "main"]);
        },
        set,
    )
    .await;
    let desired = world.look().await;
    assert_eq!(desired.rows.len(), 4, "{:?}", world.sync.conditions().borrow());
    world.report(&[]);
    until(
        "the status",
        || {
            bare.try_git(&["log", "-1", "--format=%B", "towline/status"])
                .1
                .contains("converged")
        },
        || format!("{:?}", world.sync.conditions().borrow()),
    )
    .await;

    // Another key under the same name is refused, and so is a host that is not known.
    let other = keygen(&root.path().join("other"));
    let shown = Command::new("ssh-keygen")
        .args(["-l", "-f"])
        .arg(host.with_extension("pub"))
        .output()
        .expect("ssh-keygen runs")
        .stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let fingerprint = shown.split_whitespace().nth(1).expect("a fingerprint");
    for (line, part) in [
        (format!("[127.0.0.1]:{port} {other}"), "is not the one in"),
        (format!("@revoked * {host_key}"), "is revoked in"),
        (String::new(), "is not in"),
    ] {
        fs::write(&known, line).expect("written");
        let world = World::with(|_| {}, set).await;
        let problem = tokio::time::timeout(LIMIT, world.sync.look_now())
            .await
            .expect("it ends")
            .problem;
        let text = problem.unwrap_or_default();
        for part in [part, fingerprint, &*known.to_string_lossy()] {
            assert!(text.contains(part), "{part:?} is missing in {text:?}");
        }
        assert_eq!(world.store.desired().rows.len(), 0);
    }
}
