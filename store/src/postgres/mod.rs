//! The log in Postgres: the only SQL of Towline.
//!
//! What do we store? Objects in two halves (`objects`: metadata and a reference to the body;
//! `states`: version, node, status), so that a status write carries no spec; contents once each by a
//! keyed hash (`bodies`); what each change undid (`changes`), from which watches resume; revisions and
//! desired rows with the revisions they are valid from and to; marks, confirmations, deliveries,
//! secrets, documents and the audit. One row each says which cluster this is, who leads and how far
//! the batches have come.
//!
//! A batch is one transaction, sent in one go. It locks the leader's row `FOR SHARE` and checks the
//! epoch, so a server that lost its office commits nothing. After a lost connection the next epoch is
//! taken first: whatever the old connection still had under way then fails.

mod commit;
mod connect;
mod load;
mod notes;
mod pipeline;
mod seal;
mod stage;
mod tidy;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use schemas::{Key, node::Incarnation};
use tokio::sync::Mutex;

use crate::{
    desired::{Desired, DesiredRow, Revision},
    log::{Batch, Loaded, Log, LogError, Standing, Tidy},
    staging::Stage,
    write::AuditLine,
};

use connect::Session;
use seal::Sealer;

pub use connect::Settings;
pub(crate) use connect::chain;
pub use seal::MasterKey;

/// A log in a Postgres database.
pub struct PostgresLog {
    settings: Settings,
    sealer: Sealer,
    /// The writer's connection.
    writer: Mutex<Option<Session>>,
    /// The server process of the writer's last connection that was lost.
    lost: Mutex<Option<connect::Backend>>,
    /// For loading and for questions beside the writer's work.
    reader: Mutex<Option<Arc<Session>>>,
    /// How far the look for unused bodies has come.
    swept: Mutex<Vec<u8>>,
}

impl fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresLog({:?})", self.settings)
    }
}

impl PostgresLog {
    /// Connects, brings the schema up to date and checks that the key fits.
    pub async fn connect(settings: Settings, key: &MasterKey) -> Result<Self, LogError> {
        let sealer = Sealer::new(key);
        let mut session = Session::open(&settings).await?;
        session.migrate(&sealer).await?;
        Ok(Self {
            settings,
            sealer,
            writer: Mutex::new(Some(session)),
            lost: Mutex::new(None),
            reader: Mutex::new(None),
            swept: Mutex::new(Vec::new()),
        })
    }

    /// The reader's session, connected anew where it is lost.
    async fn reader(&self) -> Result<Arc<Session>, LogError> {
        let mut reader = self.reader.lock().await;
        if let Some(session) = reader.as_ref().filter(|session| !session.is_closed()) {
            return Ok(session.clone());
        }
        let session = Arc::new(Session::open(&self.settings).await?);
        *reader = Some(session.clone());
        Ok(session)
    }

    async fn load(&self, epoch: u64, max_changes: usize) -> Result<Loaded, LogError> {
        let session = self.reader().await?;
        load::load(&session, &self.sealer, epoch, max_changes).await
    }
}

/// Postgres counts with a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn away() -> LogError {
    LogError::Away("there is no connection".into())
}

#[async_trait]
impl Log for PostgresLog {
    async fn take_office(&self, max_changes: usize) -> Result<Loaded, LogError> {
        let epoch = {
            let mut writer = self.writer.lock().await;
            let session = match writer.take().filter(|session| !session.is_closed()) {
                Some(session) => session,
                None => Session::open(&self.settings).await?,
            };
            let row = session
                .client
                .query_one(
                    "update leader set epoch = epoch + 1, holder = $1, since = now() returning epoch",
                    &[&self.settings.holder],
                )
                .await
                .map_err(connect::reading)?;
            *writer = Some(session);
            unsigned(row.get(0))
        };
        self.load(epoch, max_changes).await
    }

    async fn commit(&self, epoch: u64, batch: &Batch) -> Result<(), LogError> {
        let mut writer = self.writer.lock().await;
        let session = writer.as_mut().ok_or_else(away)?;
        commit::commit(session, &self.sealer, epoch, batch).await
    }

    async fn renew(&self, epoch: u64) -> Result<(), LogError> {
        let writer = self.writer.lock().await;
        let session = writer.as_ref().ok_or_else(away)?;
        let row = session.client.query_one("select epoch from leader", &[]).await;
        let found = unsigned(row.map_err(connect::reading)?.get(0));
        if found == epoch {
            Ok(())
        } else {
            Err(LogError::Fenced { ours: epoch, found })
        }
    }

    async fn recover(&self, epoch: u64) -> Result<Standing, LogError> {
        let mut writer = self.writer.lock().await;
        let mut lost = self.lost.lock().await;
        if let Some(session) = writer.take() {
            *lost = Some(session.backend.clone());
        }
        let session = Session::open(&self.settings).await?;
        if let Some(backend) = &*lost {
            // It may still hold locks; taking the epoch would wait for it.
            session.end_backend(backend).await?;
        }
        *lost = None;
        let taken = session
            .client
            .query_opt(
                "update leader set epoch = $1 + 1, holder = $2, since = now() where epoch <= $1 returning epoch",
                &[&signed(epoch), &self.settings.holder],
            )
            .await
            .map_err(connect::reading)?;
        if taken.is_none() {
            let row = session.client.query_one("select epoch from leader", &[]).await;
            let found = unsigned(row.map_err(connect::reading)?.get(0));
            return Err(LogError::Fenced { ours: epoch, found });
        }
        let row = session
            .client
            .query_one(
                "select c.id, c.incarnation, p.batch, p.version from cluster c, progress p",
                &[],
            )
            .await
            .map_err(connect::reading)?;
        *writer = Some(session);
        Ok(Standing {
            epoch: epoch + 1,
            cluster: row.get::<_, &str>(0).into(),
            incarnation: Incarnation(row.get::<_, &str>(1).into()),
            batch: unsigned(row.get(2)),
            version: unsigned(row.get(3)),
        })
    }

    async fn reload(&self, epoch: u64, max_changes: usize) -> Result<Loaded, LogError> {
        {
            let writer = self.writer.lock().await;
            let session = writer.as_ref().ok_or_else(away)?;
            let incarnation = uuid::Uuid::new_v4().to_string();
            let changed = session
                .client
                .execute(
                    "update cluster set incarnation = $1 where exists (select from leader where epoch = $2)",
                    &[&incarnation, &signed(epoch)],
                )
                .await
                .map_err(connect::reading)?;
            if changed == 0 {
                return Err(LogError::Away("the epoch changed meanwhile".into()));
            }
        }
        // The reader's connection may lead to the database that was.
        *self.reader.lock().await = None;
        self.load(epoch, max_changes).await
    }

    async fn stage(&self, epoch: u64, stage: &Stage) -> Result<(), LogError> {
        let mut writer = self.writer.lock().await;
        let session = writer.as_mut().ok_or_else(away)?;
        stage::stage(session, &self.sealer, epoch, stage).await
    }

    async fn unstage(&self, epoch: u64) -> Result<bool, LogError> {
        let mut writer = self.writer.lock().await;
        let session = writer.as_mut().ok_or_else(away)?;
        stage::unstage(session, epoch).await
    }

    async fn tidy(&self, epoch: u64, tidy: &Tidy) -> Result<bool, LogError> {
        let mut writer = self.writer.lock().await;
        let session = writer.as_mut().ok_or_else(away)?;
        let mut swept = self.swept.lock().await;
        tidy::step(session, epoch, tidy, &mut swept).await
    }

    async fn revisions(&self, limit: usize) -> Result<Vec<Revision>, LogError> {
        let session = self.reader().await?;
        load::revisions(&session, limit).await
    }

    async fn desired_at(&self, revision: u64) -> Result<Option<Desired>, LogError> {
        let session = self.reader().await?;
        load::desired_at(&session, &self.sealer, Some(revision)).await
    }

    async fn declarations(&self, key: &Key, limit: usize) -> Result<Vec<DesiredRow>, LogError> {
        let session = self.reader().await?;
        load::declarations(&session, &self.sealer, key, limit).await
    }

    async fn audited(&self, limit: usize) -> Result<Vec<AuditLine>, LogError> {
        let session = self.reader().await?;
        load::audited(&session, limit).await
    }
}
