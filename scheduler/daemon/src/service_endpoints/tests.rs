//! What is kept beside a cluster that may be away, by a scheduler that may not lead.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use sterna_executor::identity::{Authority, Role};
use sterna_executor::platform::kubernetes::migration_object::objects::Written;
use sterna_executor::platform::kubernetes::service_endpoints::reconcile::Step;

use super::*;
use crate::fixture;

/// A namespace in which a slice is left of a service that has gone.
#[derive(Debug, Default)]
struct Cluster {
    away: AtomicBool,
    lists: Mutex<usize>,
    removed: Mutex<usize>,
}

/// The same, as it is reached.
struct Access(Arc<Cluster>);

impl Slices for Access {
    fn name(&self) -> &str {
        "apps"
    }

    async fn list(&self, continuum: &str) -> Result<Seen, EndpointError> {
        *self.0.lists.lock().unwrap() += 1;
        if self.0.away.load(Ordering::SeqCst) {
            let (namespace, reason) = ("apps".to_owned(), "refused".to_owned());
            return Err(EndpointError::Failed { verb: "list", resource: "services", namespace, reason });
        }
        let mut slice = EndpointSlice::default();
        slice.metadata.name = Some("cache-sterna-fixture".to_owned());
        slice.metadata.labels = Some(BTreeMap::from([
            ("endpointslice.kubernetes.io/managed-by".to_owned(), "sterna.io".to_owned()),
            ("sterna.io/continuum".to_owned(), continuum.to_owned()),
        ]));
        let left = *self.0.removed.lock().unwrap() == 0;
        Ok(Seen { services: Vec::new(), slices: left.then_some(slice).into_iter().collect() })
    }

    async fn write(&self, step: &Step) -> Result<Written, EndpointError> {
        assert!(matches!(step, Step::Remove { .. }), "{step:?}");
        *self.0.removed.lock().unwrap() += 1;
        Ok(Written::Done)
    }
}

#[tokio::test]
async fn only_who_leads_writes_and_a_namespace_that_is_away_keeps_no_other_from_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let credentials = Authority::open(folder.path()).unwrap().issue(&Role::Front).unwrap();
    let clusters: [Arc<Cluster>; 2] = Default::default();
    let leads = Arc::new(AtomicBool::new(false));
    let mut keeper = Keeper {
        namespaces: clusters.iter().map(|cluster| Access(Arc::clone(cluster))).collect(),
        hearing: Hearing::new(credentials),
        leads: {
            let leads = Arc::clone(&leads);
            move || leads.load(Ordering::SeqCst)
        },
        desk: Arc::new(Desk::new(&fixture::continuum(), &[])),
    };
    let mut told = [Told::default(), Told::default()];
    let count = |what: fn(&Cluster) -> &Mutex<usize>| {
        clusters.each_ref().map(|cluster| *what(cluster).lock().unwrap())
    };
    keeper.round(&mut told).await;
    assert_eq!(count(|cluster| &cluster.lists), [0, 0], "it does not lead");

    leads.store(true, Ordering::SeqCst);
    clusters[0].away.store(true, Ordering::SeqCst);
    keeper.round(&mut told).await;
    assert_eq!(count(|cluster| &cluster.removed), [0, 1]);
    assert!(told[0].failed.as_ref().is_some_and(|why| why.contains("refused")) && told[1].failed.is_none());

    clusters[0].away.store(false, Ordering::SeqCst);
    keeper.round(&mut told).await;
    assert_eq!(count(|cluster| &cluster.removed), [1, 1]);
    assert!(told[0].failed.is_none(), "it is told again should it go once more");
}
