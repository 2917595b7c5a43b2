//! Kubernetes, and what is made of it: K3s, RKE2. So far nodes don't live there; schedulers may.
//!
//! | module | what lives there |
//! |---|---|
//! | [`connection`] | how the API server is reached |
//! | [`election`] | which of several schedulers leads: pure |
//! | [`lease`] | the Lease that says so |
//! | [`leadership`] | whether this one leads now |
//! | [`rights`] | what a scheduler must be allowed to do, as manifests |

pub mod connection;
pub mod election;
pub mod leadership;
pub mod lease;
pub mod rights;
