//! Kubernetes, and what is made of it: K3s, RKE2. Nodes may live there as pods, and schedulers; migrations are
//! shown there, services are declared there, and services of the cluster lead to where services run.
//!
//! | module | what lives there |
//! |---|---|
//! | `access` | which of the rights somebody has |
//! | [`checkup`] | what is wrong in the namespaces that the settings name |
//! | [`connection`] | how the API server is reached |
//! | [`election`] | which of several schedulers leads: pure |
//! | [`lease`] | the Lease that says so |
//! | [`leadership`] | whether this one leads now |
//! | [`migratable_service`] | services that are declared as objects there |
//! | [`migration_object`] | migrations as objects that are shown there |
//! | [`node`] | nodes as pods |
//! | `object_condition` | conditions of objects that are shown there |
//! | [`service_endpoints`] | services of the cluster that lead straight to where services run |
//! | [`rights`] | what a scheduler must be allowed to do, as manifests |

mod access;
pub mod checkup;
pub mod connection;
pub mod election;
pub mod leadership;
pub mod lease;
pub mod migratable_service;
pub mod migration_object;
pub mod node;
mod object_condition;
pub mod rights;
pub mod service_endpoints;
