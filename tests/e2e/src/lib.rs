//! End-to-end tests and the demo: real engines, real services, real monitoring. Nothing in the house depends on this crate,
//! and it depends on none of the house's crates: it knows Sterna only by the `sterna` binary, as users do. Only the test with
//! hostile input looks behind the agent's API, for its routes and for identities to call it with.
//!
//! | module | what lives there |
//! |---|---|
//! | [`story`] | what the demo tells |
//! | [`stage`] | what it needs: nodes, Redis, client, monitoring, ways |
//! | [`scheduler`] | `sterna run`, beside a test |
//! | [`policy`] | presets with a few keys changed |
//! | [`sterna`] | the `sterna` binary |
//! | [`continuum`] | local nodes, brought up and taken down by it |
//! | [`emulated`] | ordinary hosts, emulated, as nodes |
//! | [`front`] | `sterna front`, beside a test |
//! | [`cluster`] | a Kubernetes API server |
//! | [`namespace`] | what a test has of it: a namespace, accounts, what it applies |
//! | [`rights`] | that the rights which are printed suffice, and that each is needed |
//! | [`charts`] | Helm, kustomize, and what they are given |
//! | [`two_nodes`] | a whole Kubernetes cluster |
//! | [`pods`] | a continuum whose nodes are pods of that |
//! | [`desk`] | a folder with an inventory, in which `sterna` is run |
//! | [`guardian`] | cleaning up, whatever happens to us |
//! | [`inventory`] | inventories of three sites, and services to put into them |
//! | [`node_process`] | processes of a local node, to be stopped where they stand |
//! | [`delay`] | the way between users and a site: a proxy that holds bytes back |
//! | [`monitoring`] | Prometheus, blackbox exporter, node exporters |
//! | [`process`] | programs that end with the test that started them |
//! | [`docker`] | the few questions to the host's engine, and the image of the services |
//! | [`resp`] | as much of the Redis protocol as a client needs |
//! | [`dataset`] | what a client has written and was told is safe |
//! | [`writer`] | the client that writes all the time and measures the gap |
//! | [`clients`] | clients that put up with no error |
//! | [`patience`] | waiting for what takes a moment |
//! | [`ticker`] | a service that can tell its own downtime |
//! | [`digest`] | what a Redis that holds a dataset must answer to `DEBUG DIGEST` |
//! | [`zoo`] | real programs whose state a cold start would lose, and how to tell |

pub mod charts;
pub mod clients;
pub mod cluster;
pub mod continuum;
pub mod dataset;
pub mod delay;
pub mod desk;
pub mod digest;
pub mod docker;
pub mod emulated;
pub mod front;
pub mod guardian;
pub mod inventory;
pub mod monitoring;
pub mod namespace;
pub mod node_process;
pub mod patience;
pub mod pods;
pub mod policy;
pub mod process;
pub mod resp;
pub mod rights;
pub mod scheduler;
pub mod stage;
pub mod sterna;
pub mod story;
pub mod ticker;
pub mod two_nodes;
pub mod writer;
pub mod zoo;
