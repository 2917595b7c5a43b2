//! The scheduler as a service: it observes, has the pure engine decide, and has the executor act.
//!
//! Above it: the cli, which wires real parts to the traits here. Below it: the engine, the executor, the policy language.
//!
//! | module | what lives there |
//! |---|---|
//! | [`settings`] | layered settings of the service |
//! | [`observe`] | one observation from the fleet and the metrics store; Prometheus, ages, borders of units; own probes |
//! | [`doctor`] | whether the policy's metrics are there, and what to do where they are not |
//! | [`control`] | the loop: observe, decide, approve, record, move; stopping |
//! | [`declared`] | services that are declared elsewhere than in the inventory |
//! | [`governing`] | the policies in force, and which of them has which service |
//! | [`history`] | decisions, orders and migrations in SQLite; one scheduler per state |
//! | [`reload`] | policy and inventory read again when they change |
//! | [`api`] | what others may ask and say over HTTP |
//! | [`migratable_service`] | services that are declared as objects in a Kubernetes cluster |
//! | [`migration_object`] | migrations as objects in a Kubernetes cluster |
//! | [`service_endpoints`] | services in a Kubernetes cluster that lead to where services run |
//! | [`telemetry`] | own metrics, health and readiness over HTTP |
//! | [`webhook`] | what happens, posted to other programs |

pub mod api;
pub mod control;
pub mod declared;
pub mod doctor;
pub mod governing;
pub mod history;
pub mod migratable_service;
pub mod migration_object;
pub mod observe;
pub mod reload;
pub mod service_endpoints;
pub mod settings;
pub mod telemetry;
pub mod webhook;

#[cfg(test)]
mod fixture;
