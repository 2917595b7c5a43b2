//! What is written to a cluster and read from it, without any node: rights, versions, what others have written.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sterna_core::continuum::Continuum;
use sterna_core::history::Outcome;
use sterna_core::plan::MoveCost;
use sterna_executor::migration::order::MigrationId;
use sterna_executor::migration::phase::Phase;
use sterna_executor::platform::kubernetes::migration_object::account::{Account, Course, End, Known};
use sterna_executor::platform::kubernetes::migration_object::objects::{
    self, ObjectError, Objects as _, Written,
};
use sterna_executor::platform::kubernetes::migration_object::reconcile::{Step, reconcile};

use super::{Ground, SERVICE, eventually, own, rests};

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

/// The objects of a namespace in the eyes of an account.
async fn of_account(ground: &Ground, account: &str) -> anyhow::Result<objects::Namespace> {
    let client = own::of_account(&ground.cluster, &ground.client, &ground.namespace, account).await?;
    Ok(objects::Namespace::new(client, &ground.namespace))
}

/// All that is done with objects: two migrations from their start to their end, of which the first is then too old to be kept.
/// Gives the verb of what is refused.
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
                Err(ObjectError::Forbidden { verb, .. }) => return Ok(Some(verb.to_owned())),
                Err(error) => return Err(error.into()),
            }
        }
    }
    let left = ground.all().await?;
    ensure!(left.len() == 1 && rests(&left[0]), "{left:?}");
    // Nobody waits for events, and so nobody is told that one can't be written.
    let told = ground.events(left[0].name()).await?;
    Ok(told.is_empty().then(|| "create events".to_owned()))
}

/// Nothing is left of an earlier time.
async fn afresh(ground: &Ground) -> anyhow::Result<()> {
    let all = ground.all().await?;
    let api = ground.migrations();
    for one in all {
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        api.patch(one.name(), &PatchParams::default(), &free).await?;
        api.delete(one.name(), &DeleteParams::default()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_rights_that_are_printed_suffice_and_each_is_needed() -> anyhow::Result<()> {
    let ground = Ground::up().await?;
    let namespace = ground.namespace.as_str();
    let rbac = ["rbac", "--namespace", namespace, "--account", "teller", "--migrations", namespace];
    let documents: Vec<Value> = serde_saphyr::from_multiple(&ground.sterna.must(&rbac).await?)?;
    let [account, _, _, role, binding] = &documents[..] else { bail!("five objects: {documents:?}") };
    let (client, creates) = (|| ground.client.clone(), PostParams::default());
    Api::namespaced(client(), namespace).create(&creates, &ServiceAccount::deserialize(account)?).await?;
    let roles: Api<Role> = Api::namespaced(client(), namespace);
    let role = roles.create(&creates, &Role::deserialize(role)?).await?;
    Api::namespaced(client(), namespace).create(&creates, &RoleBinding::deserialize(binding)?).await?;
    let objects = of_account(&ground, "teller").await?;
    let refused = async || {
        afresh(&ground).await?;
        all_of_it(&ground, &objects).await
    };
    let works = async || Ok(refused().await?.is_none());
    eventually("the rights suffice", &works).await?;

    let name = role.metadata.name.context("the role has no name")?;
    let rules = role.rules.context("the role allows nothing")?;
    let with = |rules: &[PolicyRule]| Patch::Merge(json!({ "rules": rules }));
    let mut verbs = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        let resource = rule.resources.iter().flatten().next().context("a rule for nothing")?;
        for removed in &rule.verbs {
            let mut fewer = rules.clone();
            fewer[number].verbs.retain(|verb| verb != removed);
            fewer.retain(|rule| !rule.verbs.is_empty());
            roles.patch(&name, &PatchParams::default(), &with(&fewer)).await?;
            let expected = match resource.as_str() {
                "events" => format!("{removed} events"),
                "migrations/status" => format!("{removed} the status of"),
                _ => removed.clone(),
            };
            let missed = async || Ok(refused().await?.is_some_and(|verb| verb == expected));
            eventually(&format!("{removed} {resource} is missed"), &missed).await?;
            roles.patch(&name, &PatchParams::default(), &with(&rules)).await?;
            eventually("it is given back", &works).await?;
            verbs.push(expected);
        }
    }
    ensure!(verbs.len() == 6, "{verbs:?}");

    // Where nodes are pods, what happens is told there too, and only then.
    let nodes = ["rbac", "--nodes", "edge", "--migrations", namespace];
    let with_both: Vec<Value> = serde_saphyr::from_multiple(&ground.sterna.must(&nodes).await?)?;
    let without: Vec<Value> = serde_saphyr::from_multiple(&ground.sterna.must(&nodes[..3]).await?)?;
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
    let ground = Ground::up().await?;
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
    ground.migrations().patch(object.name(), &PatchParams::default(), &touched).await?;
    ensure!(
        objects.write(&tell[0]).await? == Written::Overtaken,
        "an old version was written over a new one"
    );
    ensure!(objects.write(&steps().await?[0]).await? == Written::Done);
    ensure!(steps().await?.is_empty(), "{:?}", steps().await?);

    // What another puts there that is not so is taken away again.
    let lie = Patch::Merge(json!({ "status": { "downtime": "0ms", "outcome": "moved", "conditions": [] } }));
    ground.migrations().patch_status(object.name(), &PatchParams::default(), &lie).await?;
    ensure!(objects.write(&steps().await?[0]).await? == Written::Done);
    ensure!(steps().await?.is_empty(), "{:?}", steps().await?);
    let status = ground.migrations().get(object.name()).await?.status.context("it says nothing")?;
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
