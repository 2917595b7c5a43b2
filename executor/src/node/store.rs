//! The agent's durable memory, in SQLite with every write on the disk before it counts.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use sterna_core::continuum::{NodeName, ServiceName};
use thiserror::Error;

use crate::migration::certificate::Certificate;
use crate::migration::holding::Holding;
use crate::migration::order::{MigrationId, Order};
use crate::migration::phase::Phase;
use crate::migration::register::Decision;
use crate::migration::report::Report;

use super::api::Reservation;

mod lives;
mod register;
mod tokens;
pub use register::DepartureRegister;
pub use tokens::TokenKey;

/// The store can't be read or written.
#[derive(Debug, Error)]
#[error("the agent's register can't be {what}: {source}")]
pub struct StoreError {
    what: &'static str,
    source: rusqlite::Error,
}

fn failed(what: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError { what, source }
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA busy_timeout = 5000;
    CREATE TABLE IF NOT EXISTS departures (
        id TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        container TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        migration TEXT NOT NULL,
        phase TEXT,
        decision TEXT NOT NULL DEFAULT 'undecided',
        restart TEXT,
        report TEXT,
        taken TEXT NOT NULL DEFAULT '1970-01-01T00:00:00Z',
        ended TEXT,
        froze TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS arrivals (
        id TEXT PRIMARY KEY,
        service TEXT NOT NULL,
        source TEXT NOT NULL,
        container TEXT NOT NULL,
        reservation TEXT NOT NULL,
        state TEXT NOT NULL,
        certificate TEXT
    ) STRICT;
    CREATE TABLE IF NOT EXISTS epochs (
        service TEXT PRIMARY KEY,
        epoch INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS started (
        service TEXT NOT NULL,
        life TEXT NOT NULL,
        PRIMARY KEY (service, life)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS token_key (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        value BLOB NOT NULL
    ) STRICT;
";

/// Past migrations that a prediction is made from.
const REMEMBERED: u32 = 16;

/// Written to `user_version`.
const VERSION: i64 = 2;

/// What version 1 lacks.
const FROM_1: &str = "
    ALTER TABLE departures ADD COLUMN taken TEXT NOT NULL DEFAULT '1970-01-01T00:00:00Z';
    ALTER TABLE departures ADD COLUMN ended TEXT;
    ALTER TABLE departures ADD COLUMN froze TEXT;
";

/// Most departures that one question is answered with.
const PAGE: u32 = 500;

/// A service on its way in, or that has come in.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who sends it.
    pub source: NodeName,
    /// Its container here.
    pub container: String,
    /// What was agreed.
    pub reservation: Reservation,
    /// How far it has come.
    pub state: Holding,
    /// The certificate it was released with.
    pub certificate: Option<Certificate>,
}

/// A migration that this node's agent drives or drove.
#[derive(Debug, Clone)]
pub struct Departure {
    /// What was ordered.
    pub order: Order,
    /// The container that leaves.
    pub container: String,
    /// The service's epoch before the migration.
    pub epoch: u64,
    /// What was reached; `None` for nothing.
    pub phase: Option<Phase>,
    /// What stands in the register.
    pub decision: Decision,
    /// Restart policy of the container before the migration, as JSON.
    pub restart: Option<String>,
    /// How it ended; `None` while it is under way.
    pub report: Option<Report>,
    /// When the order was taken.
    pub taken: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

impl Departure {
    /// One that is only thought of: it is in no register.
    pub fn imagined(order: Order, container: String, epoch: u64) -> Self {
        Self {
            order,
            container,
            epoch,
            phase: None,
            decision: Decision::Undecided,
            restart: None,
            report: None,
            taken: Timestamp::now(),
            ended: None,
        }
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the store in `folder`, and makes it on first use.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = failed("opened");
        std::fs::create_dir_all(folder)
            .map_err(|_| failed(rusqlite::Error::InvalidPath(folder.to_owned())))?;
        let connection = Connection::open(folder.join("agent.db")).map_err(&failed)?;
        let found: i64 =
            connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
        if found == 1 {
            connection.execute_batch(FROM_1).map_err(&failed)?;
        }
        connection.execute_batch(SCHEMA).map_err(&failed)?;
        connection.pragma_update(None, "user_version", VERSION).map_err(&failed)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves SQLite consistent: it writes in transactions.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new departure. `false` when it was noted before.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn plan(
        &self,
        order: &Order,
        container: &str,
        epoch: u64,
        restart: Option<&str>,
    ) -> Result<bool, StoreError> {
        let rows = self.lock().execute(
            "INSERT OR IGNORE INTO departures (id, service, container, epoch, migration, restart, taken)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                order.id.to_string(),
                order.service.as_str(),
                container,
                epoch as i64,
                json(order),
                restart,
                Timestamp::now().to_string()
            ],
        );
        Ok(rows.map_err(failed("written"))? == 1)
    }

    /// A departure by its id.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn departure(&self, id: MigrationId) -> Result<Option<Departure>, StoreError> {
        Ok(self.departures("id = ?1", &id.to_string())?.pop())
    }

    /// Departures that have not ended.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn departures_under_way(&self) -> Result<Vec<Departure>, StoreError> {
        self.departures("report IS NULL AND ?1 = ''", "")
    }

    /// Departures whose id is greater than `after`, oldest first, a limited number of them.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn departures_after(&self, after: Option<MigrationId>) -> Result<Vec<Departure>, StoreError> {
        self.departures("id > ?1", &after.map(|id| id.to_string()).unwrap_or_default())
    }

    /// Reports of the last migrations to a node, newest first, at most `REMEMBERED`.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn reports_to(&self, node: &NodeName) -> Result<Vec<Report>, StoreError> {
        let failed = failed("read");
        let connection = self.lock();
        let sql = format!(
            "SELECT report FROM departures WHERE report IS NOT NULL AND json_extract(migration, '$.to') = ?1
             ORDER BY id DESC LIMIT {REMEMBERED}"
        );
        let mut statement = connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([node.as_str()], |row| parse(&row.get::<_, String>(0)?));
        rows.and_then(Iterator::collect).map_err(&failed)
    }

    fn departures(&self, filter: &str, value: &str) -> Result<Vec<Departure>, StoreError> {
        let failed = failed("read");
        let connection = self.lock();
        let sql = format!(
            "SELECT migration, container, epoch, phase, decision, restart, report, taken, ended
             FROM departures WHERE {filter} ORDER BY id LIMIT {PAGE}"
        );
        let mut statement = connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([value], |row| {
            Ok(Departure {
                order: parse(row.get::<_, String>(0)?.as_str())?,
                container: row.get(1)?,
                epoch: row.get::<_, i64>(2)?.unsigned_abs(),
                phase: row
                    .get::<_, Option<String>>(3)?
                    .and_then(|name| Phase::ALL.into_iter().find(|phase| phase.name() == name)),
                decision: word(4, &row.get::<_, String>(4)?, Decision::from_name)?,
                restart: row.get(5)?,
                report: row.get::<_, Option<String>>(6)?.map(|text| parse(&text)).transpose()?,
                taken: instant(7, &row.get::<_, String>(7)?)?,
                ended: row.get::<_, Option<String>>(8)?.map(|text| instant(8, &text)).transpose()?,
            })
        });
        rows.and_then(Iterator::collect).map_err(&failed)
    }

    /// Notes that the container of an arrival exists here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn reserve(&self, reservation: &Reservation, container: &str) -> Result<(), StoreError> {
        let order = &reservation.order;
        let rows = self.lock().execute(
            "INSERT INTO arrivals (id, service, source, container, reservation, state) VALUES (?1, ?2, ?3, ?4, ?5, 'held')
             ON CONFLICT (id) DO UPDATE SET container = ?4 WHERE state = 'held'",
            params![
                order.id.to_string(),
                order.service.as_str(),
                order.from.as_str(),
                container,
                json(reservation)
            ],
        );
        rows.map(drop).map_err(failed("written"))
    }

    /// An arrival by its migration's id.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn arrival(&self, id: MigrationId) -> Result<Option<Arrival>, StoreError> {
        Ok(self.arrivals_where("id = ?1", &id.to_string())?.pop())
    }

    /// Arrivals that are in a state, oldest first.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn arrivals(&self, state: Holding) -> Result<Vec<Arrival>, StoreError> {
        self.arrivals_where("state = ?1", state.name())
    }

    fn arrivals_where(&self, filter: &str, value: &str) -> Result<Vec<Arrival>, StoreError> {
        let failed = failed("read");
        let connection = self.lock();
        let sql = format!(
            "SELECT source, container, reservation, state, certificate FROM arrivals WHERE {filter} ORDER BY id"
        );
        let mut statement = connection.prepare(&sql).map_err(&failed)?;
        let rows = statement.query_map([value], |row| {
            Ok(Arrival {
                source: NodeName::from(row.get::<_, String>(0)?),
                container: row.get(1)?,
                reservation: parse(row.get::<_, String>(2)?.as_str())?,
                state: word(3, &row.get::<_, String>(3)?, Holding::from_name)?,
                certificate: row.get::<_, Option<String>>(4)?.map(|text| parse(&text)).transpose()?,
            })
        });
        rows.and_then(Iterator::collect).map_err(&failed)
    }

    /// Takes over a service with its certificate: from here on this node owns it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn take_over(&self, id: MigrationId, certificate: &Certificate) -> Result<(), StoreError> {
        let failed = failed("written");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(&failed)?;
        transaction
            .execute(
                "UPDATE arrivals SET state = 'released', certificate = ?2 WHERE id = ?1 AND state = 'held'",
                params![id.to_string(), json(certificate)],
            )
            .map_err(&failed)?;
        transaction
            .execute(
                "INSERT INTO epochs (service, epoch) VALUES (?1, ?2)
                 ON CONFLICT (service) DO UPDATE SET epoch = max(epoch, ?2)",
                params![certificate.service.as_str(), certificate.epoch as i64],
            )
            .map_err(&failed)?;
        transaction.commit().map_err(&failed)
    }

    /// Notes how far an arrival has come.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_arrival(&self, id: MigrationId, state: Holding) -> Result<(), StoreError> {
        let rows = self
            .lock()
            .execute("UPDATE arrivals SET state = ?2 WHERE id = ?1", params![id.to_string(), state.name()]);
        rows.map(drop).map_err(failed("written"))
    }

    /// The epoch of a service on this node; 0 for one that never arrived.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn epoch(&self, service: &ServiceName) -> Result<u64, StoreError> {
        let row =
            self.lock().query_row("SELECT epoch FROM epochs WHERE service = ?1", [service.as_str()], |row| {
                row.get::<_, i64>(0)
            });
        Ok(row.optional().map_err(failed("read"))?.unwrap_or(0).unsigned_abs())
    }

    /// The register of one departure.
    pub fn register(&self, id: MigrationId) -> DepartureRegister {
        DepartureRegister { store: self.clone(), id }
    }
}

/// The value of a word in a column; a word that is none means that another program wrote there.
fn word<T>(column: usize, text: &str, of: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    of(text).ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            format!("`{text}` is not known here").into(),
        )
    })
}

fn instant(column: usize, text: &str) -> rusqlite::Result<Timestamp> {
    word(column, text, |text| text.parse().ok())
}

fn json(value: &impl serde::Serialize) -> String {
    // These are plain structs with text keys: writing them as JSON can't fail.
    serde_json::to_string(value).unwrap_or_default()
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::certificate::Grounds;
    use crate::migration::machine::Register as _;
    use sterna_policies::quantity::Millis;

    #[test]
    fn the_register_decides_once_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        let order = Order::example();
        {
            let store = Store::open(folder.path()).unwrap();
            assert!(store.plan(&order, "c1", 3, None).unwrap());
            assert!(!store.plan(&order, "c1", 3, None).unwrap(), "an order given twice is one order");
            let mut register = store.register(order.id);
            assert_eq!(register.frozen_for(), None);
            register.freezing().unwrap();
            register.reached(Phase::Verified).unwrap();
            assert_eq!(register.decide(Decision::Commit).unwrap(), Decision::Commit);
            assert_eq!(register.decide(Decision::Abort).unwrap(), Decision::Commit);
        }
        let store = Store::open(folder.path()).unwrap();
        let found = store.departures_under_way().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].phase, found[0].decision, found[0].epoch),
            (Some(Phase::Verified), Decision::Commit, 3)
        );
        assert_eq!(found[0].order, order);
        assert!(store.register(order.id).frozen_for().unwrap() < Millis::from_micros(60_000_000_000));
        assert_eq!(store.departures_after(None).unwrap().len(), 1);
        assert_eq!(store.departures_after(Some(order.id)).unwrap().len(), 0);
    }

    #[test]
    fn the_register_of_an_earlier_version_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let old = Connection::open(folder.path().join("agent.db")).unwrap();
        old.execute_batch(
            "CREATE TABLE departures (id TEXT PRIMARY KEY, service TEXT NOT NULL, container TEXT NOT NULL,
                 epoch INTEGER NOT NULL, migration TEXT NOT NULL, phase TEXT,
                 decision TEXT NOT NULL DEFAULT 'undecided', restart TEXT, report TEXT) STRICT;
             PRAGMA user_version = 1;",
        )
        .unwrap();
        drop(old);
        for _ in 0..2 {
            let store = Store::open(folder.path()).unwrap();
            assert!(store.departures_after(None).unwrap().is_empty());
        }
    }

    #[test]
    fn an_arrival_owns_its_service_only_with_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let order = Order::example();
        let reservation = Reservation::example(order.clone());
        store.reserve(&reservation, "c2").unwrap();
        assert_eq!(store.arrivals(Holding::Held).unwrap()[0].container, "c2");
        assert_eq!(store.epoch(&order.service).unwrap(), 0);
        let certificate = Certificate::due(&order, 1, "sha256:0", Grounds::Commit);
        store.take_over(order.id, &certificate).unwrap();
        assert!(store.arrivals(Holding::Held).unwrap().is_empty());
        assert!(store.arrivals(Holding::Released).unwrap().len() == 1);
        assert_eq!(store.epoch(&order.service).unwrap(), 2);
        assert_eq!(store.arrival(order.id).unwrap().unwrap().certificate, Some(certificate));
    }
}
