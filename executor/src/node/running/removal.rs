//! Services that are being removed: none of them may be moved meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sterna_core::continuum::ServiceName;

use crate::migration::holding::Holding;
use crate::node::store::Arrival;

use super::{OrderError, Running};

/// The services of this node that are being removed.
#[derive(Debug, Clone, Default)]
pub(super) struct Removing(Arc<Mutex<BTreeSet<ServiceName>>>);

impl Removing {
    fn all(&self) -> MutexGuard<'_, BTreeSet<ServiceName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a service is among them.
    pub(super) fn has(&self, service: &ServiceName) -> bool {
        self.all().contains(service)
    }

    /// Adds one; `None` where it is among them already.
    pub(super) fn begin(&self, service: &ServiceName) -> Option<Removal> {
        self.all()
            .insert(service.clone())
            .then(|| Removal { removing: self.clone(), service: service.clone() })
    }
}

impl Running {
    /// Refuses where a service is leaving.
    pub(super) fn stays(&self, service: &ServiceName) -> Result<(), OrderError> {
        match self.leaving(service)? {
            Some(other) => Err(OrderError::Refused(format!(
                "`{service}` is being moved to `{}` already, by migration {}",
                other.order.to, other.order.id
            ))),
            None => Ok(()),
        }
    }

    /// Begins to remove a service: until what this gives is dropped, no move of it begins here.
    ///
    /// # Errors
    /// When it leaves or comes, or is being removed already.
    pub async fn begin_removal(&self, service: &ServiceName) -> Result<Removal, OrderError> {
        let _admission = self.admission.lock().await;
        self.stays(service)?;
        for state in [Holding::Held, Holding::Released] {
            let comes = |one: &Arrival| one.reservation.order.service == *service;
            if let Some(arrival) = self.store.arrivals(state)?.into_iter().find(comes) {
                return Err(OrderError::Refused(format!(
                    "`{service}` is being moved here from `{}`, by migration {}",
                    arrival.source, arrival.reservation.order.id
                )));
            }
        }
        self.removing
            .begin(service)
            .ok_or_else(|| OrderError::Refused(format!("`{service}` is being removed already")))
    }

    /// Whether a service is being removed.
    pub fn is_removing(&self, service: &ServiceName) -> bool {
        self.removing.has(service)
    }
}

/// A service is being removed, until this is dropped.
#[derive(Debug)]
pub struct Removal {
    removing: Removing,
    service: ServiceName,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.removing.all().remove(&self.service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::docker::{Container, Engine};
    use crate::identity::{Authority, Role};
    use crate::migration::order::{MigrationId, Order};
    use crate::node::api::{NodeFacts, Reservation};
    use crate::node::bandwidth::Bandwidth;
    use crate::node::config::AdmissionConfig;
    use crate::node::store::Store;

    #[tokio::test]
    async fn of_a_move_and_a_removal_only_one_begins() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let credentials = Authority::open(&folder.path().join("authority")).unwrap();
        let credentials = credentials.issue(&Role::Agent("a".into())).unwrap();
        let (key, engine) = (store.token_key(&credentials).unwrap(), Engine::deaf(folder.path()));
        let (staging, limits) = (folder.path().join("staging"), AdmissionConfig::default());
        let bandwidth = Bandwidth::new(None);
        let running = Running::new(engine, store.clone(), credentials, key, staging, limits, bandwidth);
        let order = Order::example();
        let container = Container::example();

        let removal = running.begin_removal(&order.service).await.unwrap();
        assert!(running.is_removing(&order.service));
        let refused = running.start(order.clone(), &container, NodeFacts::example()).await.unwrap_err();
        assert!(refused.to_string().contains("is being removed"), "{refused}");
        let again = running.begin_removal(&order.service).await.unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
        drop(removal);

        store.plan(&order, "c", 0, None).unwrap();
        let refused = running.begin_removal(&order.service).await.unwrap_err();
        assert!(refused.to_string().contains(&order.id.to_string()), "{refused}");

        let coming = Order { id: MigrationId::new(), service: "db".into(), ..order };
        store.reserve(&Reservation::example(coming.clone()), "c").unwrap();
        let refused = running.begin_removal(&coming.service).await.unwrap_err();
        assert!(refused.to_string().contains("is being moved here"), "{refused}");
    }

    #[test]
    fn a_service_is_removed_once_at_a_time() {
        let removing = Removing::default();
        let removal = removing.begin(&"web".into()).unwrap();
        assert!(removing.begin(&"web".into()).is_none() && removing.begin(&"db".into()).is_some());
        assert!(removing.has(&"web".into()) && !removing.has(&"db".into()));
        drop(removal);
        assert!(!removing.has(&"web".into()));
    }
}
