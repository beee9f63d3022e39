//! A repository behind a connection: git's own HTTP back-end on loopback.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use gitsync::Source;
use schemas::report::Outcome;

use crate::harness::*;

/// Serves the repositories below a folder; ends with the process.
fn serve(root: PathBuf, password: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let root = root.clone();
            thread::spawn(move || answer(stream, &root, password));
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, root: &Path, password: Option<&str>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut request = String::new();
    reader.read_line(&mut request).expect("a request");
    let mut words = request.split_whitespace();
    let (method, target) = (
        words.next().unwrap_or_default().to_owned(),
        words.next().unwrap_or_default().to_owned(),
    );
    let mut headers = std::collections::HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
        body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
    } else if headers.contains_key("transfer-encoding") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).expect("a chunk");
            let size = usize::from_str_radix(size.trim(), 16).expect("a size");
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).expect("a chunk");
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    }
    if let Some(password) = password {
        use base64::Engine as _;
        let expected = format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(format!("ann:{password}"))
        );
        if headers.get("authorization") != Some(&expected) {
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes());
            return;
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", method)
        .env("REMOTE_USER", "ann")
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("CONTENT_TYPE", headers.get("content-type").cloned().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git runs");
    child
        .stdin
        .take()
        .expect("its input")
        .write_all(&body)
        .expect("written");
    let output = child.wait_with_output().expect("its answer").stdout;
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("headers");
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK")
        .to_owned();
    let body = &output[end + 4..];
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(body);
}

/// A world whose watcher reads and writes over HTTP; the bare repository lies beside.
pub(crate) async fn over_http(password: Option<&'static str>, wrong: bool) -> (World, Repo) {
    let served = tempfile::tempdir().expect("a folder").keep();
    let bare = served.join("shop.git");
    let (made, text) = Repo { dir: served.clone() }.try_git(&["init", "-q", "--bare", "-b", "main", "shop.git"]);
    assert!(made, "{text}");
    let bare = Repo { dir: bare };
    bare.git(&["config", "http.receivepack", "true"]);
    let url = serve(served, password);
    let world = World::with(
        |repo| {
            two_shops(repo);
            repo.git(&["push", "-q", &bare.dir.to_string_lossy(), "main"]);
        },
        |options| {
            options.source = Source::Remote(format!("{url}/shop.git"));
            options.poll = Some(Duration::from_millis(50));
            if let Some(password) = password {
                let file = options.data_dir.with_extension("password");
                std::fs::write(
                    &file,
                    if wrong {
                        "wrong\n".into()
                    } else {
                        format!("{password}\n")
                    },
                )
                .expect("written");
                options.credentials.username = Some("ann".into());
                options.credentials.password_file = Some(file);
            }
        },
    )
    .await;
    (world, bare)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_is_polled_and_gets_the_status() {
    let (world, bare) = over_http(Some("hunter2"), false).await;
    let first = world.look().await;
    assert_eq!(first.rows.len(), 4, "{:?}", world.sync.conditions().borrow());
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

    let mut changes = world.store.desired_changes();
    world.repo.write("namespaces/a/one.yaml", &config("one", "2"));
    world.repo.commit("Two");
    world.repo.git(&["push", "-q", &bare.dir.to_string_lossy(), "main"]);
    let seen = *changes.borrow_and_update();
    tokio::time::timeout(
        LIMIT,
        changes.wait_for(|revision| *revision > seen || *revision > first.revision),
    )
    .await
    .expect("polled")
    .expect("open");
    world.report(&[(&map("a", "one"), Outcome::Progressing, "on its way")]);
    until(
        "the second status",
        || bare.try_git(&["rev-list", "--count", "towline/status"]).1 == "2",
        || format!("{:?}", world.sync.conditions().borrow()),
    )
    .await;

    // A branch that is gone there is gone here, and deletes nothing.
    bare.git(&["update-ref", "-d", "refs/heads/main"]);
    let gone = world.look().await;
    assert!(
        gone.source_error
            .as_deref()
            .is_some_and(|text| text.contains("has no branch main")),
        "{:?}",
        gone.source_error
    );
    assert_eq!(gone.rows.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_and_ends() {
    let (world, _bare) = over_http(Some("hunter2"), true).await;
    let mut conditions = world.sync.conditions();
    let told = tokio::time::timeout(LIMIT, conditions.wait_for(|now| now.source.is_some()))
        .await
        .expect("told");
    let text = told.expect("open").source.clone().unwrap_or_default();
    assert!(text.contains("/shop.git") && !text.contains("wrong"), "{text}");
    assert_eq!(world.store.desired().rows.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_answers_nothing_ends_in_time_and_blocks_no_one() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/shop.git", listener.local_addr().expect("an address"));
    let world = World::with(
        |_| {},
        |options| {
            options.source = Source::Remote(url);
            options.time_limit = Duration::from_millis(300);
        },
    )
    .await;
    let mut conditions = world.sync.conditions();
    let told = tokio::time::timeout(LIMIT, conditions.wait_for(|now| now.source.is_some()))
        .await
        .expect("told");
    assert!(
        told.expect("open")
            .source
            .as_deref()
            .is_some_and(|text| text.contains("no end after"))
    );
    drop(listener);
}
