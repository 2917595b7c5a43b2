//! What a scheduler may do in a namespace of declared services: enough, and no more.

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_executor::identity::{Authority, Credentials, Role as Party};
use sterna_executor::platform::kubernetes::migratable_service::objects::{DeclarationError, Declarations};
use sterna_executor::platform::kubernetes::migratable_service::reconcile::{Look, Whereabouts};
use sterna_executor::platform::kubernetes::migratable_service::resource::MigratableService;
use sterna_executor::platform::kubernetes::migratable_service::stand_in::{self, Stand};
use sterna_executor::platform::kubernetes::migratable_service::status::due;
use sterna_executor::platform::kubernetes::migratable_service::template::describe;

use super::{Ground, eventually, own};

/// All that is done with an object and what is made of it. Gives the server's words where something is refused.
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
            let told = ground.events("shop").await?;
            Ok(told.is_empty().then(|| "cannot create resource \"events\"".to_owned()))
        }
        Err(DeclarationError::Forbidden { message, .. }) => Ok(Some(message)),
        Err(error) => Err(error.into()),
    }
}

/// One object, and nothing else.
async fn afresh(ground: &Ground) -> anyhow::Result<()> {
    for one in ground.services().list(&ListParams::default()).await?.items {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        ground.services().patch(one.name(), &PatchParams::default(), &free).await?;
        ground.services().delete(one.name(), &DeleteParams::default()).await?;
    }
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    ground.api::<Pod>().delete_collection(&now, &ListParams::default()).await?;
    ground.api::<Secret>().delete_collection(&now, &ListParams::default()).await?;
    ground.api::<ConfigMap>().delete_collection(&now, &ListParams::default()).await?;
    let events: Api<k8s_openapi::api::events::v1::Event> = ground.api();
    events.delete_collection(&now, &ListParams::default()).await?;
    ground.declare("shop", json!({})).await
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let namespace = ground.namespace.as_str();
    let rbac = ["rbac", "--namespace", namespace, "--account", "keeper", "--services", namespace];
    let documents: Vec<Value> = serde_saphyr::from_multiple(&ground.sterna.must(&rbac).await?)?;
    let [account, _, _, role, binding] = &documents[..] else { bail!("five objects: {documents:?}") };
    let (client, creates) = (|| ground.client.clone(), PostParams::default());
    Api::namespaced(client(), namespace).create(&creates, &ServiceAccount::deserialize(account)?).await?;
    let roles: Api<Role> = Api::namespaced(client(), namespace);
    let role = roles.create(&creates, &Role::deserialize(role)?).await?;
    Api::namespaced(client(), namespace).create(&creates, &RoleBinding::deserialize(binding)?).await?;
    let folder = tempfile::tempdir()?;
    let credentials = Authority::open(folder.path())?.issue(&Party::Front)?;
    let client = own::of_account(&ground.cluster, &ground.client, namespace, "keeper").await?;
    let declarations = Declarations::new(client, namespace);
    let refused = async || {
        afresh(&ground).await?;
        all_of_it(&ground, &declarations, &credentials).await
    };
    let works = async || Ok(refused().await?.is_none());
    eventually("the rights suffice", &works).await?;

    let name = role.metadata.name.context("the role has no name")?;
    let rules = role.rules.context("the role allows nothing")?;
    let with = |rules: &[PolicyRule]| Patch::Merge(json!({ "rules": rules }));
    let mut verbs = 0;
    for (number, rule) in rules.iter().enumerate() {
        let resource = rule.resources.iter().flatten().next().context("a rule for nothing")?;
        for removed in &rule.verbs {
            let mut fewer = rules.clone();
            fewer[number].verbs.retain(|verb| verb != removed);
            fewer.retain(|rule| !rule.verbs.is_empty());
            roles.patch(&name, &PatchParams::default(), &with(&fewer)).await?;
            let words = format!("cannot {removed} resource \"{resource}\"");
            let missed = async || Ok(refused().await?.is_some_and(|message| message.contains(&words)));
            eventually(&words, &missed).await?;
            roles.patch(&name, &PatchParams::default(), &with(&rules)).await?;
            eventually("it is given back", &works).await?;
            verbs += 1;
        }
    }
    ensure!(verbs == 11, "{verbs} verbs");
    let looked = Api::<MigratableService>::namespaced(ground.client.clone(), namespace).get("shop").await?;
    ensure!(!looked.is_held(), "it was not let go: {looked:?}");
    ground.down().await
}
