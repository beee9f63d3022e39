//! The built-in repository over git's smart HTTP, through `git http-backend`.
//!
//! <https://git-scm.com/docs/git-http-backend>: the request becomes the environment and the input of
//! a CGI program, whose output is headers, an empty line and the body. Both bodies stream. The
//! user's name is anything; the password is the administrator's token.

use std::{
    io,
    path::Path,
    pin::Pin,
    process::Stdio,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tokio_util::io::ReaderStream;

use crate::{
    control::Front,
    exchange::{self, ByteStream, Call, Mount, Response},
    identity::{Authenticator, Identity},
    push_hooks::{self, Hooks},
    status::ApiError,
};

/// The largest push: its pack and the commands before it.
const MAX_PUSH: u64 = 2 * 1024 * 1024 * 1024;
/// The largest request of a fetch: what the client has and wants.
const MAX_FETCH: u64 = 16 * 1024 * 1024;
/// The largest head of a CGI answer.
const MAX_HEAD: usize = 16 * 1024;
/// How long git may take before the head of its answer. Hooks run after it.
const HEAD_LIMIT: Duration = Duration::from_secs(60);

/// Everything under `/git/`.
pub(crate) struct GitHttp {
    front: Arc<Front>,
}

/// A service of the smart protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Fetch,
    Push,
}

impl Service {
    fn of_name(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::Fetch),
            "git-receive-pack" => Some(Self::Push),
            _ => None,
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Fetch => MAX_FETCH,
            Self::Push => MAX_PUSH,
        }
    }
}

impl GitHttp {
    pub(crate) fn new(front: Arc<Front>) -> Self {
        if let Some(parent) = front.source.repository().as_deref().and_then(Path::parent) {
            push_hooks::sweep(parent);
        }
        Self { front }
    }

    /// The identity of the call, or the one whose token is the password.
    fn identify(&self, call: &Call) -> Option<Identity> {
        if let Some(identity) = &call.identity {
            return Some(identity.clone());
        }
        let encoded = call.header(header::AUTHORIZATION)?.strip_prefix("Basic ")?;
        let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
        let text = std::str::from_utf8(&decoded).ok()?;
        let (_, password) = text.split_once(':')?;
        self.front.authority.bearer(password)
    }

    async fn answer(&self, call: Call) -> Result<Response, ApiError> {
        let Some(identity) = self.identify(&call) else {
            return Ok(ask_for_password());
        };
        if !identity.is_administrator() {
            return Err(ApiError::forbidden(format!(
                "{} may not use the repository: use the administrator's token as the password",
                identity.user
            )));
        }
        let Some(repository) = self.front.source.repository() else {
            return Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                "this server follows another repository and has no built-in one",
            ));
        };
        let (path, service) = target(&call, &repository).ok_or_else(ApiError::no_such_path)?;
        run(&self.front, &repository, path, service, &identity.user, call).await
    }
}

#[async_trait]
impl Mount for GitHttp {
    fn prefix(&self) -> &str {
        "git"
    }

    fn open(&self) -> bool {
        true
    }

    async fn handle(&self, call: Call) -> Response {
        self.answer(call).await.unwrap_or_else(|error| {
            // git shows text to its user, and nothing of a JSON body.
            exchange::text(error.code, format!("{error}\n"))
        })
    }
}

fn ask_for_password() -> Response {
    let mut response = exchange::text(
        StatusCode::UNAUTHORIZED,
        "the token of the kubeconfig is the password; the user name does not matter\n",
    );
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"Towline\""),
    );
    response
}

/// The path below the project root and the service, for the requests that the smart protocol makes
/// to the built-in repository; nothing else of the disk can be named.
fn target(call: &Call, repository: &Path) -> Option<(String, Service)> {
    let name = repository.file_name()?.to_str()?;
    let rest = call.path.strip_prefix("/git/")?.strip_prefix(name)?.strip_prefix('/')?;
    let service = match (&call.method, rest) {
        (&Method::GET, "info/refs") => Service::of_name(call.query.get("service")?)?,
        (&Method::POST, service) => Service::of_name(service)?,
        _ => return None,
    };
    Some((format!("/{name}/{rest}"), service))
}

async fn run(
    front: &Arc<Front>,
    repository: &Path,
    path: String,
    service: Service,
    user: &str,
    call: Call,
) -> Result<Response, ApiError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        tracing::error!(repository = %repository.display(), "git http-backend: {what}: {error}");
        ApiError::internal(format!("git could not answer: {what}; the server's log says more"))
    };
    let announced: Option<u64> = call
        .header(header::CONTENT_LENGTH)
        .and_then(|length| length.parse().ok());
    if announced.is_some_and(|length| length > service.limit()) {
        return Err(too_large(service));
    }
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", repository.parent().unwrap_or(Path::new("/")))
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &path)
        .env("REQUEST_METHOD", call.method.as_str())
        .env("REMOTE_USER", user)
        .env("CONTENT_TYPE", call.header(header::CONTENT_TYPE).unwrap_or_default())
        // What the caller's shell set for a repository of its own must not reach this one.
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let query = match (service, call.method == Method::GET) {
        (Service::Fetch, true) => "service=git-upload-pack",
        (Service::Push, true) => "service=git-receive-pack",
        (_, false) => "",
    };
    command.env("QUERY_STRING", query);
    if let Some(peer) = call.peer {
        command.env("REMOTE_ADDR", peer.ip().to_string());
    }
    if let Some(length) = announced {
        command.env("CONTENT_LENGTH", length.to_string());
    }
    if let Some(encoding) = call.header(header::CONTENT_ENCODING) {
        command.env("HTTP_CONTENT_ENCODING", encoding);
    }
    if let Some(protocol) = call.header("git-protocol") {
        command.env("GIT_PROTOCOL", protocol);
    }
    // Without pipes the hooks ask in the way of a push by path.
    let hooks = (service == Service::Push && call.method == Method::POST)
        .then(|| Hooks::open(front, repository.parent().unwrap_or(repository)))
        .transpose()
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "the hooks of a push get no pipes");
            None
        });
    command.env_remove(push_hooks::VARIABLE);
    if let Some(hooks) = &hooks {
        command.env(push_hooks::VARIABLE, hooks.folder());
    }
    let mut child = command
        .spawn()
        .map_err(|error| failed("`git` could not be started; is it installed?", &error))?;
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed("its pipes are missing", &"not piped"));
    };
    let body = call.body;
    let limit = service.limit();
    // Runs beside the answer: git may answer before it has read everything.
    tokio::spawn(async move {
        if let Err(error) = feed(body, input, limit).await {
            tracing::debug!("the input of git http-backend ended early: {error}");
        }
    });
    tokio::spawn(async move {
        let mut lines = BufReader::new(errors.take(64 * 1024)).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::warn!("git http-backend: {line}");
        }
    });
    let mut output = output;
    let (mut head, rest) = match tokio::time::timeout(HEAD_LIMIT, read_head(&mut output)).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return Err(failed("its answer has no head", &error)),
        Err(_) => return Err(failed("no answer in time", &format!("{} s", HEAD_LIMIT.as_secs()))),
    };
    let code = head
        .iter()
        .position(|(name, _)| name == "status")
        .and_then(|at| {
            let (_, status) = head.remove(at);
            status.split_whitespace().next()?.parse().ok()
        })
        .unwrap_or(StatusCode::OK);
    let pieces = Output {
        pieces: futures::stream::iter((!rest.is_empty()).then_some(Ok(rest)))
            .chain(ReaderStream::with_capacity(output, 32 * 1024))
            .boxed(),
        _child: child,
        _hooks: hooks,
    };
    let mut response = exchange::stream("application/octet-stream", pieces.boxed());
    *response.status_mut() = code;
    for (name, value) in head {
        // The length is the transport's business: the body is streamed.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>())
            && name != header::CONTENT_LENGTH
        {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

fn too_large(service: Service) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "RequestEntityTooLarge",
        format!("the request is larger than {} bytes", service.limit()),
    )
}

/// Writes the request's body into git, up to the limit; then git sees the end of it.
async fn feed(mut body: ByteStream, mut input: ChildStdin, limit: u64) -> io::Result<()> {
    let mut left = limit;
    while let Some(piece) = body.next().await {
        let piece = piece?;
        left = left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| io::Error::other("the body is larger than the limit"))?;
        input.write_all(&piece).await?;
    }
    input.shutdown().await
}

/// The headers of a CGI answer, names in lower case, and what was already read of the body.
async fn read_head(output: &mut ChildStdout) -> io::Result<(Vec<(String, String)>, Bytes)> {
    let mut read = BytesMut::with_capacity(8 * 1024);
    loop {
        if let Some((end, body)) = end_of_head(&read) {
            let head = parse_head(&read[..end]);
            read.advance(body);
            return Ok((head, read.freeze()));
        }
        if read.len() > MAX_HEAD {
            return Err(io::Error::other("its head is too long"));
        }
        if output.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Where the head ends and the body begins.
fn end_of_head(read: &[u8]) -> Option<(usize, usize)> {
    let at = |mark: &[u8]| read.windows(mark.len()).position(|window| window == mark);
    match (at(b"\r\n\r\n"), at(b"\n\n")) {
        (Some(crlf), Some(lf)) if lf < crlf => Some((lf, lf + 2)),
        (Some(crlf), _) => Some((crlf, crlf + 4)),
        (None, Some(lf)) => Some((lf, lf + 2)),
        (None, None) => None,
    }
}

fn parse_head(head: &[u8]) -> Vec<(String, String)> {
    String::from_utf8_lossy(head)
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.trim().to_lowercase(), value.trim().to_owned()))
        })
        .collect()
}

/// git's output; git ends when it is dropped.
struct Output {
    pieces: ByteStream,
    _child: Child,
    _hooks: Option<Hooks>,
}

impl Stream for Output {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_next_unpin(context)
    }
}

#[cfg(test)]
#[path = "git_http_tests.rs"]
mod tests;
