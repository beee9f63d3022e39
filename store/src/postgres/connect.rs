//! Connections: how they are made, what they are set to, and what their errors mean.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::task::JoinHandle;
use tokio_postgres::{
    Client, Config, NoTls, Statement,
    config::SslMode,
    error::{DbError, SqlState},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::log::LogError;

use super::seal::Sealer;

refinery::embed_migrations!("migrations");

/// Where the certificates that the machine trusts are, on the systems we know.
const TRUSTED: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// How to reach the database.
#[derive(Clone)]
pub struct Settings {
    config: Config,
    /// Certificates to trust instead of the machine's own.
    ca: Option<PathBuf>,
    /// Who we are, as the leader's row shows it.
    pub holder: String,
}

impl fmt::Debug for Settings {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}/{}",
            self.config.get_hosts(),
            self.config.get_dbname().unwrap_or("")
        )
    }
}

impl Settings {
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut config = config;
        config.application_name("towline");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        config.keepalives_idle(Duration::from_secs(15));
        config.tcp_user_timeout(Duration::from_secs(20));
        Self {
            config,
            ca: None,
            holder: format!("{}", std::process::id()),
        }
    }

    /// Reads a connection URL, as `psql` takes it. `sslmode` is `disable`, `prefer` (without TLS),
    /// `require` or `verify-full`; the last two both check the server's certificate, against
    /// `sslrootcert` or else against what the machine trusts.
    pub fn from_url(url: &str) -> Result<Self, LogError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut ca = None;
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslrootcert", path)) => ca = Some(PathBuf::from(path.replace("%2F", "/"))),
                Some(("sslmode", "verify-full" | "verify-ca")) => rest.push("sslmode=require"),
                _ => rest.push(pair),
            }
        }
        let url = if rest.is_empty() {
            base.to_owned()
        } else {
            format!("{base}?{}", rest.join("&"))
        };
        // The error of the parser names the option; the URL holds a password and is not repeated.
        let config = Config::from_str(&url)
            .map_err(|error| LogError::Foreign(format!("the database URL is not valid: {}", chain(&error))))?;
        let mut settings = Self::new(config);
        settings.ca = ca;
        Ok(settings)
    }

    fn tls(&self) -> Result<MakeRustlsConnect, LogError> {
        let machine = || TRUSTED.iter().map(PathBuf::from).find(|path| path.exists());
        let file = self.ca.clone().or_else(machine).ok_or_else(|| {
            LogError::Foreign("no trusted certificates were found; name a file with sslrootcert=".into())
        })?;
        let unreadable = |error: &dyn fmt::Display| {
            LogError::Foreign(format!("cannot read certificates of {}: {error}", file.display()))
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&file).map_err(|error| unreadable(&error))? {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            // A certificate of an unknown sort among the machine's own is no reason to stop.
            let _ = roots.add(certificate);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| LogError::Foreign(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

/// A server process: its id and when it started, so that a later one of the same id is not meant.
pub(super) type Backend = (i32, String);

/// One connection.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) backend: Backend,
    statements: FxHashMap<&'static str, Statement>,
    task: JoinHandle<()>,
}

impl Drop for Session {
    /// Cuts the connection at once: what is under way on it fails or is found out about later.
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A setting of `remote_apply` is stronger than what we need, and stays.
const SET_UP: &str = "
    set search_path to towline;
    set statement_timeout = '60s';
    set lock_timeout = '10s';
    set idle_in_transaction_session_timeout = '20s';
    select set_config('synchronous_commit', 'on', false)
        where current_setting('synchronous_commit') in ('off', 'local');
";

impl Session {
    pub(super) async fn open(settings: &Settings) -> Result<Self, LogError> {
        let connecting = async {
            if settings.config.get_ssl_mode() == SslMode::Require {
                let (client, connection) = settings.config.connect(settings.tls()?).await.map_err(reading)?;
                Ok((client, tokio::spawn(ended(connection))))
            } else {
                let (client, connection) = settings.config.connect(NoTls).await.map_err(reading)?;
                Ok::<_, LogError>((client, tokio::spawn(ended(connection))))
            }
        };
        let timeout = tokio::time::timeout(Duration::from_secs(10), connecting);
        let (client, task) = timeout
            .await
            .map_err(|_| LogError::Away("it takes no connection".into()))??;
        let mut session = Self {
            client,
            backend: (0, String::new()),
            statements: FxHashMap::default(),
            task,
        };
        session.client.batch_execute(SET_UP).await.map_err(reading)?;
        let row = session
            .client
            .query_one(
                "select pid, backend_start::text from pg_stat_activity where pid = pg_backend_pid()",
                &[],
            )
            .await
            .map_err(reading)?;
        session.backend = (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default());
        Ok(session)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends a server process of a connection that was lost.
    pub(super) async fn end_backend(&self, (pid, start): &Backend) -> Result<(), LogError> {
        let ended =
            "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start::text = $2";
        self.client
            .execute(ended, &[pid, start])
            .await
            .map(|_| ())
            .map_err(reading)
    }

    /// A prepared statement, prepared once for each connection.
    pub(super) async fn statement(&mut self, sql: &'static str) -> Result<Statement, LogError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(reading)?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Brings the schema up to date, and makes or checks the row that says which cluster this is.
    pub(super) async fn migrate(&mut self, sealer: &Sealer) -> Result<(), LogError> {
        // Two servers that start at once take turns. The number is ours alone.
        self.client
            .batch_execute("select pg_advisory_lock(76211); create schema if not exists towline")
            .await
            .map_err(reading)?;
        let migrated = migrations::runner().run_async(&mut self.client).await;
        let migrated = migrated.map(|_| ()).map_err(|error| match error.kind() {
            refinery::error::Kind::Connection(..) => LogError::Away(chain(&error)),
            _ => LogError::Foreign(format!(
                "{}; was the database made by a newer version of Towline?",
                chain(&error)
            )),
        });
        let checked = match migrated {
            Ok(()) => self.check_cluster(sealer).await,
            Err(error) => Err(error),
        };
        self.client
            .batch_execute("select pg_advisory_unlock(76211)")
            .await
            .map_err(reading)?;
        checked
    }

    async fn check_cluster(&self, sealer: &Sealer) -> Result<(), LogError> {
        let id = uuid::Uuid::new_v4().to_string();
        let incarnation = uuid::Uuid::new_v4().to_string();
        let check = sealer.seal("cluster", b"", b"towline");
        self.client
            .execute(
                "insert into cluster (id, incarnation, key_check) values ($1, $2, $3) on conflict do nothing",
                &[&id, &incarnation, &check],
            )
            .await
            .map_err(reading)?;
        let row = self
            .client
            .query_one("select key_check, current_setting('fsync') from cluster", &[])
            .await
            .map_err(reading)?;
        sealer.open("cluster", b"", row.get(0)).map_err(|_| {
            LogError::Foreign(
                "its contents are sealed with another master key; start with the key file that belongs to this database".into(),
            )
        })?;
        if row.get::<_, &str>(1) != "on" {
            tracing::warn!("fsync is off in this database: what is acknowledged can be lost when the machine fails");
        }
        Ok(())
    }
}

async fn ended<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(error = chain(&error), "a connection to the database ended");
    }
}

/// What an error of a statement outside a batch means: nothing was at stake.
pub(super) fn reading(error: tokio_postgres::Error) -> LogError {
    match error.as_db_error() {
        Some(db) => meaning(db).unwrap_or_else(|| LogError::Away(chain(&error))),
        None => LogError::Away(chain(&error)),
    }
}

/// What an error within a batch means. None: the connection ends with it.
pub(super) fn meaning(db: &DbError) -> Option<LogError> {
    let code = db.code();
    let text = || format!("{} ({})", db.message(), code.code());
    match code.code() {
        "TL001" => {
            let found = db.detail().and_then(|detail| detail.parse().ok()).unwrap_or(0);
            return Some(LogError::Fenced { ours: 0, found });
        }
        "TL002" => return Some(LogError::Unknown(text())),
        _ => {}
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION || *code == SqlState::LOCK_NOT_AVAILABLE {
        return Some(LogError::Away(text()));
    }
    match code.code().get(..2) {
        // Shutdown, crash recovery, lost connections, faults of the system below.
        Some("08" | "57" | "58" | "XX" | "25") => None,
        // No room, or two transactions in each other's way: nothing is wrong with what was written.
        Some("40" | "53" | "55") => Some(LogError::Away(text())),
        Some("28" | "3D" | "42" | "0A") => Some(LogError::Foreign(text())),
        _ => Some(LogError::Refused(text())),
    }
}

/// An error with its causes: tokio-postgres says `db error` alone otherwise.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
