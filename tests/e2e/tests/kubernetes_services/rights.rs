//! What a scheduler may do in a namespace of declared services: enough, and no more.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use sterna_e2e::namespace::Ground;
use sterna_e2e::rights::{Rights, cannot};
use sterna_executor::identity::{Authority, Credentials, Role as Party};
use sterna_executor::platform::kubernetes::migratable_service::objects::{DeclarationError, Declarations};
use sterna_executor::platform::kubernetes::migratable_service::reconcile::{Look, Whereabouts};
use sterna_executor::platform::kubernetes::migratable_service::stand_in::{self, Stand};
use sterna_executor::platform::kubernetes::migratable_service::status::due;
use sterna_executor::platform::kubernetes::migratable_service::template::describe;

use super::{SOON, declare, raised, services};

/// All that is done with an object and what is made of it. Gives what is refused.
async fn all_of_it(
    ground: &Ground,
    declarations: &Declarations,
    credentials: &Credentials,
) -> anyhow::Result<Option<String>> {
    let done = async {
        let (objects, _) = declarations.list().await?;
        let object = &objects[0];
        declarations.keep(object, true).await?;
        let object = &declarations.list().await?.0[0];
        let node = "a1".into();
        // What can't be described is refused above; this one is the test's own.
        let Ok(described) = describe(object.name(), &object.spec, &node) else { return Ok(()) };
        let look = Look {
            object: object.clone(),
            described: Ok(described.clone()),
            place: Ok(node),
            whereabouts: Whereabouts::Nowhere,
            stand_in: None,
            tells: None,
            trouble: None,
        };
        if let Some(status) = due(&look, jiff::Timestamp::now()) {
            declarations.tell(object, &status).await?;
        }
        let object = &declarations.list().await?.0[0];
        let agents = [("a1".into(), "192.0.2.1:7420".to_owned())].into();
        let stand = Stand { object, described: &described, image: "sterna:1", agents: &agents };
        declarations.make_stand_in(&stand, credentials).await?;
        for pod in declarations.list().await?.1 {
            let uid = pod.metadata.uid.unwrap_or_default();
            declarations.remove_stand_in(&stand_in::name(object.name()), &uid).await?;
        }
        let object = &declarations.list().await?.0[0];
        declarations.keep(object, false).await
    };
    match done.await {
        Ok(()) => {
            // Nobody waits for events, and so nobody is told that one can't be written.
            let told = ground.events(&ground.namespace, "shop").await?;
            Ok(told.is_empty().then(|| "create events".to_owned()))
        }
        Err(DeclarationError::Forbidden { message, .. }) => cannot(&message).context(message).map(Some),
        Err(error) => Err(error.into()),
    }
}

/// One object, and nothing else.
async fn afresh(ground: &Ground) -> anyhow::Result<()> {
    let services = services(ground);
    for one in services.list(&ListParams::default()).await?.items {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        services.patch(one.name(), &PatchParams::default(), &free).await?;
        services.delete(one.name(), &DeleteParams::default()).await?;
    }
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    ground.api::<Pod>().delete_collection(&now, &ListParams::default()).await?;
    ground.api::<Secret>().delete_collection(&now, &ListParams::default()).await?;
    ground.api::<ConfigMap>().delete_collection(&now, &ListParams::default()).await?;
    ground.api::<Event>().delete_collection(&now, &ListParams::default()).await?;
    declare(ground, "shop", json!({})).await
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = raised().await?;
    let rights = Rights::given(&ground, "keeper", &["--services", &ground.namespace]).await?;
    ensure!(rights.printed.len() == 5, "five objects: {:?}", rights.printed);
    let credentials = Authority::open(&ground.folder.path().join("authority"))?.issue(&Party::Front)?;
    let declarations = Declarations::new(ground.client_of("keeper").await?, &ground.namespace);
    let refused = async || {
        afresh(&ground).await?;
        all_of_it(&ground, &declarations, &credentials).await
    };
    let needed = rights.suffice_and_each_is_needed(SOON, &[], refused).await?;
    ensure!(needed.len() == 11, "{needed:?}");
    let looked = services(&ground).get("shop").await?;
    ensure!(!looked.is_held(), "it was not let go: {looked:?}");
    ground.down().await
}
