//! What `sterna run` has written down of its orders, read from outside, and whether the agents' registers say the same.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use crate::register::Departure;

/// An order that `sterna run` gave by a decision of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The migration.
    pub id: String,
    /// The service.
    pub service: String,
    /// When the order was about to be given.
    pub written: Timestamp,
    /// What is written of its end: one row, if all is well.
    pub outcomes: Vec<End>,
}

/// A row about the end of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// `moved`, `rolled-back` or `refused`.
    pub outcome: String,
    /// Whether the agent's report is kept with it.
    pub reported: bool,
}

/// What `sterna run` did in a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Its orders, oldest first.
    pub orders: Vec<Ordered>,
    /// What was seen to be wrong while it ran.
    pub wrong: Vec<String>,
    /// All that it printed.
    pub printed: String,
}

/// `None` where there is no history yet.
fn open(file: &Path) -> anyhow::Result<Option<Connection>> {
    if !file.exists() {
        return Ok(None);
    }
    // Its write-ahead log has to be mapped, which takes the right to write.
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .with_context(|| file.display().to_string())?;
    connection.busy_timeout(Duration::from_secs(2))?;
    Ok(Some(connection))
}

/// How many decisions a history holds.
///
/// # Errors
/// When it can't be read.
pub fn decisions(file: &Path) -> anyhow::Result<i64> {
    let Some(connection) = open(file)? else { return Ok(0) };
    Ok(connection.query_row("SELECT count(*) FROM decision", [], |row| row.get(0))?)
}

/// The orders in a history that come from decisions, oldest first.
///
/// # Errors
/// When it can't be read.
pub fn orders(file: &Path) -> anyhow::Result<Vec<Ordered>> {
    let Some(connection) = open(file)? else { return Ok(Vec::new()) };
    let mut statement = connection.prepare(
        "SELECT intent.id, intent.service, written, outcome, report IS NOT NULL
         FROM intent LEFT JOIN migration ON migration.id = intent.id
         WHERE decision IS NOT NULL ORDER BY intent.id",
    )?;
    let mut rows = statement.query([])?;
    let mut orders: Vec<Ordered> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, outcome): (String, Option<String>) = (row.get(0)?, row.get(3)?);
        if orders.last().is_none_or(|last| last.id != id) {
            let written = row.get::<_, String>(2)?.parse()?;
            orders.push(Ordered { id, service: row.get(1)?, written, outcomes: Vec::new() });
        }
        if let (Some(last), Some(outcome)) = (orders.last_mut(), outcome) {
            last.outcomes.push(End { outcome, reported: row.get(4)? });
        }
    }
    Ok(orders)
}

/// What is wrong with a history, given the migrations of the service that its orders were to move, as the registers have them.
pub fn wrong(history: &History, service: &str, migrations: &[Departure]) -> Vec<String> {
    let mut wrong = history.wrong.clone();
    for one in &history.orders {
        let Ordered { id, outcomes, .. } = one;
        if one.service != service {
            wrong.push(format!("migration {id} moves {}, which is not the policy's", one.service));
            continue;
        }
        let [end] = &outcomes[..] else {
            wrong.push(format!("migration {id} has {} rows in the history", outcomes.len()));
            continue;
        };
        match migrations.iter().find(|departure| departure.id == *id) {
            Some(departure) if departure.outcome() != Some(&end.outcome) => {
                let real = departure.outcome().unwrap_or("under way");
                wrong.push(format!("migration {id} is {real}, and {} by the history", end.outcome));
            }
            Some(_) if !end.reported => {
                wrong.push(format!("of migration {id} the history has no report, and its agent has one"))
            }
            // No agent took the order: nothing was moved.
            None if end.outcome == "moved" => {
                wrong.push(format!(
                    "migration {id} has moved the service by the history, and no agent knows it"
                ));
            }
            _ => {}
        }
    }
    for pair in history.orders.windows(2) {
        let first = migrations.iter().find(|departure| departure.id == pair[0].id);
        let ended = first.and_then(|first| first.ended.as_ref()?.parse::<Timestamp>().ok());
        if first.is_some() && ended.is_none_or(|ended| pair[1].written < ended) {
            wrong.push(format!("migration {} was ordered while {} ran", pair[1].id, pair[0].id));
        }
    }
    for departure in migrations {
        if history.orders.iter().all(|one| one.id != departure.id) {
            wrong.push(format!("migration {} is in no history", departure.id));
        }
    }
    wrong
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// An order at a second, with rows about its end that have a report.
    pub(crate) fn ordered(id: &str, at: i64, outcomes: &[&str]) -> Ordered {
        let end = |outcome: &&str| End { outcome: (*outcome).into(), reported: true };
        Ordered {
            id: id.into(),
            service: "token".into(),
            written: Timestamp::from_second(at).unwrap(),
            outcomes: outcomes.iter().map(end).collect(),
        }
    }

    fn departure(id: &str, outcome: &str, ended: i64) -> Departure {
        Departure {
            id: id.into(),
            service: "token".into(),
            order: json!({}),
            phase: None,
            decision: "commit".into(),
            report: Some(json!({ "outcome": outcome })),
            ended: Some(Timestamp::from_second(ended).unwrap().to_string()),
        }
    }

    fn judge(orders: &[Ordered], migrations: &[Departure]) -> Vec<String> {
        let history = History { orders: orders.to_vec(), ..History::default() };
        wrong(&history, "token", migrations)
    }

    #[test]
    fn what_the_registers_say_too_is_right() {
        let back = departure("1", "rolled-back", 5);
        let moved = departure("3", "moved", 9);
        // The second reached no agent.
        let orders =
            [ordered("1", 1, &["rolled-back"]), ordered("2", 6, &["refused"]), ordered("3", 7, &["moved"])];
        assert_eq!(judge(&orders, &[back, moved]), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_untruth_is_seen() {
        let moved = departure("1", "moved", 5);
        let fine = ordered("1", 1, &["moved"]);
        for rows in [&[][..], &["moved", "moved"], &["rolled-back"]] {
            assert_eq!(judge(&[ordered("1", 1, rows)], std::slice::from_ref(&moved)).len(), 1, "{rows:?}");
        }
        let mut bare = fine.clone();
        bare.outcomes[0].reported = false;
        assert_eq!(judge(&[bare], std::slice::from_ref(&moved)).len(), 1);
        assert_eq!(judge(std::slice::from_ref(&fine), &[]).len(), 1, "nobody moved it");
        assert_eq!(judge(&[], std::slice::from_ref(&moved)).len(), 1, "nobody ordered it");
        let mut other = fine.clone();
        other.service = "redis".into();
        assert_eq!(judge(&[other], std::slice::from_ref(&moved)).len(), 1);
        let early = [fine, ordered("2", 4, &["refused"])];
        assert_eq!(judge(&early, &[moved]).len(), 1, "ordered while the first ran");
        let seen = History { wrong: vec!["it ended".into()], ..History::default() };
        assert_eq!(wrong(&seen, "token", &[]), ["it ended"]);
    }
}
