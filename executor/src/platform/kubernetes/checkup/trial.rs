//! The pod of a service that nobody has declared. What a namespace says of it, it says of every stand-in: they differ in names, ports
//! and probes alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::platform::kubernetes::migratable_service::resource::{MigratableService, MigratableServiceSpec};
use crate::platform::kubernetes::migratable_service::stand_in::Stand;
use crate::platform::kubernetes::migratable_service::template::describe;

const NAME: &str = "sterna-doctor";

/// That pod, in a namespace and with that image. `None` where it can't be described, which a test excludes.
pub fn pod(namespace: &str, image: &str) -> Option<Pod> {
    let template = json!({ "spec": { "containers": [{
        "name": NAME,
        "image": NAME,
        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
    }] } });
    let spec = MigratableServiceSpec { on: None, pinned: false, protocols: BTreeMap::new(), template };
    let mut object = MigratableService::new(NAME, spec);
    object.metadata.namespace = Some(namespace.to_owned());
    // With an owner, as a stand-in has one: some clusters want a right for that.
    object.metadata.uid = Some(NAME.to_owned());
    let described = describe(NAME, &object.spec, &NAME.into()).ok()?;
    let stand = Stand { object: &object, described: &described, image, agents: &BTreeMap::new() };
    Some(stand.pod(NAME))
}
