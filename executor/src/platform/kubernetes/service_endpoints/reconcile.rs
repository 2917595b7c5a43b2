//! What is to be done so that slices say where services are.
//!
//! At most one writing of each slice in a look: the next look sees what came of it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sterna_core::continuum::ServiceName;

use super::slice::{self, MANAGED_BY, MANAGER};
use crate::platform::kubernetes::migration_object::resource::{CONTINUUM, SERVICE};
use crate::traffic::hearing::Known;

/// One thing to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Make a slice.
    Create(Box<EndpointSlice>),
    /// Write what a slice should say, if it is still of the version that was looked at.
    Write {
        /// What it should say.
        slice: Box<EndpointSlice>,
        /// That version.
        version: String,
    },
    /// Remove a slice.
    Remove {
        /// Its name.
        name: String,
        /// Another one of the same name is not meant.
        uid: String,
    },
}

/// What a look at a namespace comes to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Due {
    /// What is to be done.
    pub steps: Vec<Step>,
    /// By service of the cluster, what keeps it from leading where it should.
    pub notes: Vec<(String, String)>,
}

/// The service of the inventory that a service of the cluster names, if it is for this continuum.
pub fn names(service: &Service, continuum: &str) -> Option<ServiceName> {
    let label = |key| service.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let ours = label(CONTINUUM).is_none_or(|named| named == continuum);
    label(SERVICE).filter(|_| ours).map(|name| ServiceName::from(name.as_str()))
}

/// What is to be done about the services and slices of a namespace. `known` has each service of the continuum that a service of the
/// cluster may name.
pub fn reconcile(
    continuum: &str,
    known: &BTreeMap<ServiceName, Known>,
    services: &[Service],
    slices: &[EndpointSlice],
) -> Due {
    let ours = slices.iter().filter(|slice| {
        let label = |key| slice.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        label(MANAGED_BY).is_some_and(|by| by == MANAGER)
            && label(CONTINUUM).is_some_and(|of| of == continuum)
    });
    let ours: BTreeMap<&str, &EndpointSlice> =
        ours.filter_map(|slice| Some((slice.metadata.name.as_deref()?, slice))).collect();
    let (mut due, mut kept) = (Due::default(), BTreeSet::new());
    for service in services {
        let Some(named) = names(service, continuum) else { continue };
        let of = service.metadata.name.clone().unwrap_or_default();
        let known = match of_the_inventory(known, service, &named) {
            Ok(known) => known,
            Err(why) => {
                due.notes.push((of, why));
                continue;
            }
        };
        let name = slice::name(&of, continuum);
        let seen = ours.get(name.as_str()).copied();
        let wanted = match (known, seen) {
            (Known::At(owned), _) => {
                let (slice, notes) = slice::leading(service, continuum, owned);
                due.notes.extend(notes.into_iter().map(|note| (of.clone(), note)));
                slice
            }
            (Known::Nowhere, Some(seen)) => slice::leading_nowhere(service, continuum, seen),
            (Known::Nothing, _) | (Known::Nowhere, None) => {
                kept.insert(name);
                continue;
            }
        };
        match seen {
            None => due.steps.push(Step::Create(Box::new(wanted))),
            // It can't be changed: this one goes, and the next look makes another.
            Some(seen) if seen.address_type != wanted.address_type => continue,
            Some(seen) if !slice::says(seen, &wanted) => {
                let version = seen.metadata.resource_version.clone().unwrap_or_default();
                due.steps.push(Step::Write { slice: Box::new(wanted), version });
            }
            Some(_) => {}
        }
        kept.insert(name);
    }
    let left = ours.iter().filter(|(name, _)| !kept.contains(**name));
    due.steps.extend(left.map(|(name, slice)| Step::Remove {
        name: (*name).to_owned(),
        uid: slice.metadata.uid.clone().unwrap_or_default(),
    }));
    due
}

/// What is known of where a service of the cluster should lead.
fn of_the_inventory<'k>(
    known: &'k BTreeMap<ServiceName, Known>,
    service: &Service,
    named: &ServiceName,
) -> Result<&'k Known, String> {
    match misfit(service) {
        Some(why) => Err(why.to_owned()),
        None => known.get(named).ok_or_else(|| unknown(named)),
    }
}

/// What keeps a service of the cluster from leading anywhere that is not its own.
pub fn misfit(service: &Service) -> Option<&'static str> {
    let spec = service.spec.as_ref()?;
    if spec.selector.as_ref().is_some_and(|selector| !selector.is_empty()) {
        return Some("it has a selector, by which the cluster itself says where it leads; take that away");
    }
    (spec.type_.as_deref() == Some("ExternalName"))
        .then_some("it is of the type ExternalName, which leads to a name")
}

/// What is wrong with the name of a service that the inventory does not have.
pub fn unknown(named: &ServiceName) -> String {
    format!("the inventory has no service `{named}`")
}
