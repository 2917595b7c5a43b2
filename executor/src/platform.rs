//! Where nodes live, and what else Sterna asks of it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`docker`] | local nodes: Docker-in-Docker containers of the host's engine |
//! | [`kubernetes`] | what the scheduler asks of a cluster: who leads |

pub mod docker;
pub mod kubernetes;
