//! What is written to a cluster and read from it, without any node: rights, versions, what others have written.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sterna_core::continuum::Continuum;
use sterna_core::history::Outcome;
use sterna_core::plan::MoveCost;
use sterna_e2e::namespace::Ground;
use sterna_e2e::rights::Rights;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::phase::Phase;
use sterna_executor::platform::kubernetes::migration_object::account::{Account, Course, End, Known};
use sterna_executor::platform::kubernetes::migration_object::objects::{
    self, ObjectError, Objects as _, Written,
};
use sterna_executor::platform::kubernetes::migration_object::reconcile::{Step, reconcile};

use super::{SERVICE, SOON, all, migrations, raised, rests};

/// A migration that runs, as a scheduler knows it.
fn account(course: Course) -> Account {
    Account {
        id: MigrationId::new(),
        service: SERVICE.into(),
        from: "a1".into(),
        to: "b1".into(),
        policy: None,
        decision: None,
        reason: None,
        predicted: MoveCost::default(),
        course,
        shown: false,
    }
}

/// All that is done with objects: two migrations from their start to their end, of which the first is then too old to be kept.
/// Gives what is refused.
async fn all_of_it(ground: &Ground, objects: &objects::Namespace) -> anyhow::Result<Option<String>> {
    let running = [(); 2].map(|()| account(Course::UnderWay { reached: Some(Phase::Checked) }));
    let end = End {
        outcome: Outcome::Moved,
        reached: Some(Phase::Cleaned),
        reason: None,
        downtime: None,
        duration: None,
        bytes: None,
    };
    let ended = running.clone().map(|one| Account { course: Course::Ended(end.clone()), shown: true, ..one });
    let continuum = Continuum {
        name: String::new(),
        sites: BTreeMap::new(),
        nodes: BTreeMap::new(),
        links: Vec::new(),
        users: BTreeMap::new(),
        services: BTreeMap::new(),
    };
    for accounts in [running, ended] {
        let known = Known { continuum: String::new(), accounts: accounts.to_vec(), asked: true, keep: 1 };
        for look in 0.. {
            ensure!(look < 10, "it does not come to rest");
            let mut steps = Vec::new();
            let went = async {
                steps = reconcile(&known, &objects.list().await?, jiff::Timestamp::now());
                for step in &steps {
                    objects.write(step).await?;
                    if let Step::Tell { object, happened, .. } = step {
                        objects.announce(object, happened, &continuum).await;
                    }
                }
                Ok(())
            };
            match went.await {
                Ok(()) if steps.is_empty() => break,
                Ok(()) => {}
                Err(ObjectError::Forbidden { verb, .. }) => {
                    return Ok(Some(match verb.strip_suffix(" the status of") {
                        Some(verb) => format!("{verb} migrations/status"),
                        None => format!("{verb} migrations"),
                    }));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    let left = all(ground).await?;
    ensure!(left.len() == 1 && rests(&left[0]), "{left:?}");
    // Nobody waits for events, and so nobody is told that one can't be written.
    let told = ground.events(&ground.namespace, left[0].name()).await?;
    Ok(told.is_empty().then(|| "create events".to_owned()))
}

/// Nothing is left of an earlier time.
async fn afresh(ground: &Ground) -> anyhow::Result<()> {
    let api = migrations(ground);
    for one in all(ground).await? {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        api.patch(one.name(), &PatchParams::default(), &free).await?;
        api.delete(one.name(), &DeleteParams::default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = raised().await?;
    let namespace = ground.namespace.as_str();
    let rights = Rights::given(&ground, "teller", &["--migrations", namespace]).await?;
    ensure!(rights.printed.len() == 5, "five objects: {:?}", rights.printed);
    let objects = objects::Namespace::new(ground.client_of("teller").await?, namespace);
    let refused = async || {
        afresh(&ground).await?;
        all_of_it(&ground, &objects).await
    };
    let needed = rights.suffice_and_each_is_needed(SOON, &[], refused).await?;
    ensure!(needed.len() == 6, "{needed:?}");

    // Where nodes are pods, what happens is told there too, and only then.
    let nodes = ["rbac", "--nodes", "edge", "--migrations", namespace];
    let with_both = ground.printed(&nodes).await?;
    let without = ground.printed(&nodes[..3]).await?;
    let role = |documents: &[Value]| {
        documents
            .iter()
            .find(|one| one["kind"] == "Role" && one["metadata"]["name"] == "sterna-nodes")
            .cloned()
    };
    let told =
        |role: Option<Value>| role.is_some_and(|role| role["rules"].to_string().contains("events.k8s.io"));
    ensure!(told(role(&with_both)) && !told(role(&without)), "{with_both:?}");
    ground.down().await
}

#[tokio::test]
async fn what_is_written_by_others_is_looked_at_before_it_is_written_over() -> anyhow::Result<()> {
    let ground = raised().await?;
    let objects = objects::Namespace::new(ground.client.clone(), &ground.namespace);
    let one = account(Course::UnderWay { reached: None });
    let known = Known { continuum: "c".to_owned(), accounts: vec![one], asked: true, keep: 1 };
    let steps = async || anyhow::Ok(reconcile(&known, &objects.list().await?, jiff::Timestamp::now()));
    let create = steps().await?;
    ensure!(objects.write(&create[0]).await? == Written::Done);
    ensure!(objects.write(&create[0]).await? == Written::Overtaken, "it was made twice");
    let tell = steps().await?;
    let Step::Tell { object, .. } = &tell[0] else { bail!("{tell:?}") };
    let touched = Patch::Merge(json!({ "metadata": { "annotations": { "touched": "yes" } } }));
    migrations(&ground).patch(object.name(), &PatchParams::default(), &touched).await?;
    ensure!(
        objects.write(&tell[0]).await? == Written::Overtaken,
        "an old version was written over a new one"
    );
    ensure!(objects.write(&steps().await?[0]).await? == Written::Done);
    ensure!(steps().await?.is_empty(), "{:?}", steps().await?);

    // What another puts there that is not so is taken away again.
    let lie = Patch::Merge(json!({ "status": { "downtime": "0ms", "outcome": "moved", "conditions": [] } }));
    migrations(&ground).patch_status(object.name(), &PatchParams::default(), &lie).await?;
    ensure!(objects.write(&steps().await?[0]).await? == Written::Done);
    ensure!(steps().await?.is_empty(), "{:?}", steps().await?);
    let status = migrations(&ground).get(object.name()).await?.status.context("it says nothing")?;
    ensure!(status.outcome.is_none() && status.downtime.is_none(), "{status:?}");

    // Who asks for something that is no migration is refused by the cluster.
    let nonsense = json!({ "apiVersion": "sterna.io/v1alpha1", "kind": "Migration", "metadata": { "name": "x" },
        "spec": { "service": 1 } });
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sterna.io", "v1alpha1", "Migration"));
    let api: Api<DynamicObject> = Api::namespaced_with(ground.client.clone(), &ground.namespace, &kind);
    let made = api.create(&PostParams::default(), &serde_json::from_value(nonsense)?).await;
    ensure!(matches!(&made, Err(kube::Error::Api(status)) if status.is_invalid()), "{made:?}");
    afresh(&ground).await?;
    ground.down().await
}
