//! Which lives of services have been started on this node.

use rusqlite::params;
use sterna_core::continuum::ServiceName;

use super::{Store, StoreError, failed};

impl Store {
    /// Whether this life of a service was started here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn was_started(&self, service: &ServiceName, life: &str) -> Result<bool, StoreError> {
        let found = self.lock().query_row(
            "SELECT EXISTS (SELECT 1 FROM started WHERE service = ?1 AND life = ?2)",
            params![service.as_str(), life],
            |row| row.get(0),
        );
        found.map_err(failed("read"))
    }

    /// Notes that it is, before it is.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note_started(&self, service: &ServiceName, life: &str) -> Result<(), StoreError> {
        let noted = self.lock().execute(
            "INSERT OR IGNORE INTO started (service, life) VALUES (?1, ?2)",
            params![service.as_str(), life],
        );
        noted.map(drop).map_err(failed("written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_of_a_service_is_known_by_itself_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (shop, other) = ("shop".into(), "other".into());
        assert!(!store.was_started(&shop, "one").unwrap());
        store.note_started(&shop, "one").unwrap();
        store.note_started(&shop, "one").unwrap();
        drop(store);
        let store = Store::open(folder.path()).unwrap();
        assert!(store.was_started(&shop, "one").unwrap());
        assert!(!store.was_started(&shop, "two").unwrap() && !store.was_started(&other, "one").unwrap());
    }
}
