//! Whether a service has been on this node before, since it was removed last.

use sterna_core::continuum::ServiceName;

use super::{Store, StoreError, failed};

impl Store {
    /// Whether a service has left this node or come to it, or was about to, since it was last removed from here.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn has_been_here(&self, service: &ServiceName) -> Result<bool, StoreError> {
        let found = self.lock().query_row(
            "SELECT EXISTS (
                 SELECT id FROM departures WHERE service = ?1 AND id NOT IN (SELECT id FROM removed)
                 UNION ALL SELECT id FROM arrivals WHERE service = ?1 AND id NOT IN (SELECT id FROM removed))",
            [service.as_str()],
            |row| row.get(0),
        );
        found.map_err(failed("read"))
    }

    /// Notes that a service was removed: it may be started here for the first time once more. Its epoch stays.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn note_removed(&self, service: &ServiceName) -> Result<(), StoreError> {
        let noted = self.lock().execute(
            "INSERT OR IGNORE INTO removed (id)
                 SELECT id FROM departures WHERE service = ?1 UNION SELECT id FROM arrivals WHERE service = ?1",
            [service.as_str()],
        );
        noted.map(drop).map_err(failed("written"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::order::{MigrationId, Order};

    #[test]
    fn a_service_that_has_left_has_been_here_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let order = Order::example();
        let other = "another".into();
        assert!(!store.has_been_here(&order.service).unwrap());
        store.plan(&order, "c1", 0, None).unwrap();
        assert!(store.has_been_here(&order.service).unwrap() && !store.has_been_here(&other).unwrap());
        store.note_removed(&order.service).unwrap();
        store.note_removed(&order.service).unwrap();
        assert!(!store.has_been_here(&order.service).unwrap());
        store.plan(&Order { id: MigrationId::new(), ..order.clone() }, "c2", 0, None).unwrap();
        drop(store);
        assert!(Store::open(folder.path()).unwrap().has_been_here(&order.service).unwrap());
    }
}
