//! The decisions of a policy, one after the other, with all that they were made from.

use jiff::Timestamp;
use rusqlite::params;
use sterna_core::record::Recorded;

use super::decision::{instant, read};
use super::{HistoryError, HistoryStore, explain};

impl HistoryStore {
    /// The policies that have decided since a time, by name, each with how often.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn deciders(&self, since: Timestamp) -> Result<Vec<(String, u64)>, HistoryError> {
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT body ->> '$.name' AS name, sum(times) FROM
                         (SELECT policy, count(*) AS times FROM decision WHERE at >= ?1 GROUP BY policy)
                     JOIN document ON hash = policy GROUP BY name ORDER BY name",
                )
                .map_err(failed)?;
            let line = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
            };
            let lines = statement.query_map([instant(since)], line).map_err(failed)?;
            lines.collect::<Result<_, _>>().map_err(failed)
        })
        .await
    }

    /// Calls `each` with every decision of a policy since a time, in the order in which they were made, one at a time: there may
    /// be very many.
    ///
    /// # Errors
    /// When the file can't be read or a row makes no sense.
    pub async fn each_of<T: Send + 'static>(
        &self,
        policy: &str,
        since: Timestamp,
        mut state: T,
        each: impl Fn(&mut T, Recorded) + Send + 'static,
    ) -> Result<T, HistoryError> {
        let policy = policy.to_owned();
        self.work(move |connection, path| {
            let failed = |error| explain(path, error);
            let ids: Vec<i64> = {
                let mut statement = connection
                    .prepare_cached(
                        "SELECT id FROM decision JOIN document ON hash = policy
                         WHERE body ->> '$.name' = ?1 AND at >= ?2 ORDER BY at, id",
                    )
                    .map_err(failed)?;
                let ids =
                    statement.query_map(params![policy, instant(since)], |row| row.get(0)).map_err(failed)?;
                ids.collect::<Result<_, _>>().map_err(failed)?
            };
            for id in ids {
                // What retention took away meanwhile was not to be kept.
                if let Some(recorded) = read(connection, id, path)? {
                    each(&mut state, recorded);
                }
            }
            Ok(state)
        })
        .await
    }
}
