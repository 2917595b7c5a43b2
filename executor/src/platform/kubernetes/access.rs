//! Which of the rights that something takes an account has: asked of the cluster.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::{Api, Client};

use super::node::ClusterError;
use super::node::failure::Failure;
use super::node::place::Place;

/// What of these rules is not allowed at a place: verb and resource.
///
/// # Errors
/// When that can't be asked.
pub async fn lacking(
    client: &Client,
    place: &Place,
    rules: &[PolicyRule],
) -> Result<Vec<String>, ClusterError> {
    let mut lacks = Vec::new();
    for rule in rules {
        let group = rule.api_groups.iter().flatten().next().cloned().unwrap_or_default();
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                let name = rule.resource_names.iter().flatten().next().cloned();
                if !may(client, place, [&group, resource, verb], name).await? {
                    lacks.push(format!("{verb} {resource}"));
                }
            }
        }
    }
    Ok(lacks)
}

async fn may(
    client: &Client,
    place: &Place,
    [group, resource, verb]: [&str; 3],
    name: Option<String>,
) -> Result<bool, ClusterError> {
    // Rules write both in one, questions do not.
    let (resource, part) = match resource.split_once('/') {
        Some((resource, part)) => (resource, Some(part)),
        None => (resource, None),
    };
    let asked = ResourceAttributes {
        namespace: Some(place.namespace.clone()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: part.map(str::to_owned),
        verb: Some(verb.to_owned()),
        name,
        ..ResourceAttributes::default()
    };
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), non_resource_attributes: None };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let answer =
        Api::<SelfSubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await;
    let answer = answer
        .map_err(|error| Failure::from(error).told(format!("asking what is allowed in {place}"), place))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
