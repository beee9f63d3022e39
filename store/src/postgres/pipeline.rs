//! Several statements of one transaction, sent in one go.

use std::{future::Future, pin::Pin, task::Poll};

use tokio_postgres::Error;

use crate::log::LogError;

use super::connect::{chain, meaning};

pub(super) type Call<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Runs statements in their order, without waiting for one before the next is sent. The first has to
/// begin a transaction and the last to commit it.
///
/// A statement is sent when its future is polled first, so they are polled in order.
pub(super) async fn run(mut calls: Vec<Call<'_>>) -> Result<(), LogError> {
    let mut results: Vec<Option<Result<(), Error>>> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (call, result) in calls.iter_mut().zip(&mut results) {
            if result.is_none() {
                match call.as_mut().poll(context) {
                    Poll::Ready(ready) => *result = Some(ready),
                    Poll::Pending => done = false,
                }
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outcome(results.into_iter().flatten().collect())
}

/// A commit in a failed transaction is answered like any other, so every answer counts. The first
/// error says why; it decides only if the connection outlived it.
fn outcome(results: Vec<Result<(), Error>>) -> Result<(), LogError> {
    let lost = results.iter().any(|result| match result {
        Ok(()) => false,
        Err(error) => error.as_db_error().is_none_or(|db| meaning_in(db).is_none()),
    });
    let Some(Err(first)) = results.into_iter().find(Result::is_err) else {
        return Ok(());
    };
    match first.as_db_error().and_then(meaning_in) {
        Some(LogError::Fenced { ours, found }) => Err(LogError::Fenced { ours, found }),
        Some(meaning) if !lost => Err(meaning),
        _ => Err(LogError::Unknown(chain(&first))),
    }
}

/// Statements after a failed one fail too, and say nothing of the connection.
fn meaning_in(db: &tokio_postgres::error::DbError) -> Option<LogError> {
    if *db.code() == tokio_postgres::error::SqlState::IN_FAILED_SQL_TRANSACTION {
        return Some(LogError::Refused(db.message().to_owned()));
    }
    meaning(db)
}
