//! Old decisions go; what came of them stays.

use rusqlite::TransactionBehavior;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sterna_policies::quantity::Millis;
use tokio::time::Instant;

use super::decision::instant;
use super::{HistoryError, HistoryStore, explain};
use crate::control::world::Clock;

/// So many decisions go at a time: whoever else waits for the file does not wait long.
const AT_A_TIME: u32 = 500;

/// How often it is looked for old decisions.
const EVERY: Duration = Duration::from_secs(3600);

/// Deletes decisions that are older than `keep`, now and from time to time, for as long as it is polled.
///
/// A clock that has not been set yet may be years ahead. So it is believed no further than the last decision from before the
/// start, and the time that has passed since: what the scheduler was down for is kept the longer.
pub async fn keep(store: HistoryStore, keep: Millis, clock: impl Clock) {
    let began = Instant::now();
    let newest = match store.newest_time().await {
        Ok(newest) => newest,
        Err(error) => {
            return tracing::warn!(%error, "old decisions are kept: it can't be told which these are");
        }
    };
    loop {
        let believed = newest.and_then(|newest| newest.checked_add(began.elapsed()).ok());
        let now = clock.now().min(believed.unwrap_or(Timestamp::MAX));
        let before = now.checked_sub(SignedDuration::from_nanos(keep.as_micros())).unwrap_or(Timestamp::MIN);
        match store.prune(before, now).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(gone, %before, "old decisions deleted"),
            Err(error) => tracing::warn!(%error, "old decisions can't be deleted"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

impl HistoryStore {
    /// Deletes decisions from before a time, with all that only they refer to. Decisions from which an order came, or that were
    /// put up for approval, stay with what came of them. Gives how many went.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn prune(&self, before: Timestamp, now: Timestamp) -> Result<usize, HistoryError> {
        let mut gone = 0;
        loop {
            let some = self.prune_some(before, now).await?;
            gone += some;
            if some < AT_A_TIME as usize {
                return Ok(gone);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn prune_some(&self, before: Timestamp, now: Timestamp) -> Result<usize, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            // Reads before it writes, so it has to wait for its turn at once.
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            let before = instant(before);
            let old: Vec<i64> = {
                let mut statement = transaction
                    .prepare_cached(
                        // The newest stays, so that no number is given twice.
                        "SELECT id FROM decision WHERE at < ?1 AND id < (SELECT max(id) FROM decision)
                            AND NOT EXISTS (SELECT 1 FROM intent WHERE intent.decision = decision.id)
                            AND NOT EXISTS (SELECT 1 FROM approval WHERE approval.decision = decision.id)
                         LIMIT ?2",
                    )
                    .map_err(failed)?;
                let rows = statement.query_map((&before, AT_A_TIME), |row| row.get(0)).map_err(failed)?;
                rows.collect::<Result<_, _>>().map_err(failed)?
            };
            if old.is_empty() {
                return Ok(0);
            }
            // What is deleted is recorded first: the tables refuse it otherwise.
            transaction
                .execute("INSERT INTO pruning (at, before) VALUES (?1, ?2)", (instant(now), &before))
                .map_err(failed)?;
            for id in &old {
                transaction.execute("DELETE FROM decision WHERE id = ?1", [id]).map_err(failed)?;
            }
            transaction
                .execute(
                    "DELETE FROM document WHERE NOT EXISTS (SELECT 1 FROM decision WHERE policy = hash)
                        AND NOT EXISTS (SELECT 1 FROM decision WHERE continuum = hash)
                        AND NOT EXISTS (SELECT 1 FROM decision WHERE history = hash)",
                    [],
                )
                .map_err(failed)?;
            transaction.commit().map_err(failed)?;
            Ok(old.len())
        })
        .await
    }
}
