//! That the rights which are printed suffice to lead services of a cluster, and that each is needed.

use std::collections::BTreeMap;

use anyhow::ensure;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use sterna_e2e::namespace::Ground;
use sterna_e2e::rights::Rights;
use sterna_executor::platform::kubernetes::service_endpoints::objects::{self, EndpointError, Slices as _};
use sterna_executor::platform::kubernetes::service_endpoints::reconcile::reconcile;
use sterna_executor::traffic::announcement::{Announced, Standing};
use sterna_executor::traffic::hearing::Known;
use sterna_executor::traffic::place::Owned;

use super::{PORT, SOON, lead, name};

const CONTINUUM: &str = "shop";

/// All that is done: a slice is made, leads elsewhere, and goes. Gives what is refused.
async fn all_of_it(ground: &Ground, namespace: &objects::Namespace) -> anyhow::Result<Option<String>> {
    let slices: Api<EndpointSlice> = ground.api();
    slices.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    for (host, named) in [("10.0.0.1", Some("redis")), ("10.0.0.2", Some("redis")), ("10.0.0.2", None)] {
        name(ground, "cache", named).await?;
        let announced =
            Announced { epoch: 1, standing: Standing::Runs, ports: BTreeMap::from([(PORT, PORT)]) };
        let owned = Owned { node: "n1".into(), host: host.parse()?, announced };
        let known = BTreeMap::from([("redis".into(), Known::At(owned))]);
        for look in 0.. {
            ensure!(look < 10, "it does not come to rest");
            let went = async {
                let seen = namespace.list(CONTINUUM).await?;
                let due = reconcile(CONTINUUM, &known, &seen.services, &seen.slices);
                for step in &due.steps {
                    namespace.write(step).await?;
                }
                Ok(due.steps.is_empty())
            };
            match went.await {
                Ok(true) => break,
                Ok(false) => {}
                Err(EndpointError::Forbidden { verb, resource, .. }) => {
                    return Ok(Some(format!("{verb} {resource}")));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let left = slices.list(&ListParams::default()).await?.items;
    ensure!(left.is_empty(), "{left:?}");
    Ok(None)
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    lead(&ground, "cache", "redis", json!(null)).await?;
    let rights = Rights::given(&ground, "leader", &["--endpoints", &ground.namespace]).await?;
    ensure!(rights.printed.len() == 5, "five objects: {:?}", rights.printed);
    let objects = objects::Namespace::new(ground.client_of("leader").await?, &ground.namespace);
    let refused = async || all_of_it(&ground, &objects).await;
    let needed = rights.suffice_and_each_is_needed(SOON, &[], refused).await?;
    ensure!(needed.len() == 5, "{needed:?}");
    ground.down().await
}
