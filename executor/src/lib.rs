//! Carries out moves: takes a service from one node to another, live, and gives it back whole if that can't be done.
//!
//! Above it: the daemon and the cli give orders. Below it: the decision engine's plan, which it never second-guesses.
//!
//! | module | what lives there |
//! |---|---|
//! | [`migration`] | one migration: phases, order, events, report |
//! | [`node`] | the agent: register, API, both sides of a migration |
//! | [`engine`] | nested engine, runtime shim, CRIU, processes |
//! | [`transfer`] | file trees, and memory ahead of them, as checked streams |
//! | [`config_file`] | reading settings of agents and fronts |
//! | [`identity`] | certificate authority, mutual TLS |
//! | [`fleet`] | all agents of a continuum, seen from the scheduler |
//! | [`platform`] | where nodes live: making, showing and removing them |
//! | [`traffic`] | the front: one address for a service, wherever it runs |
//! | `error_chain` | an error in words, with what caused it |
//! | [`fault`] | points at which a test can have a fault strike; empty without the feature `faults` |

pub mod config_file;
pub mod engine;
mod error_chain;
pub mod fault;
pub mod fleet;
pub mod identity;
pub mod migration;
pub mod node;
pub mod platform;
pub mod traffic;
pub mod transfer;
