//! Where nodes live, and what else Sterna asks of it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`docker`] | local nodes: Docker-in-Docker containers of the host's engine |
//! | [`kubernetes`] | nodes that are pods of a cluster, and which scheduler leads |
//! | [`agent`] | what every node's agent is given |
//! | [`addresses`] | where the agents listen |
//! | [`late_answers`] | questions to clusters that take their time |
//! | [`status`] | how a node is |
//! | [`step`] | what is being done |

pub mod addresses;
pub mod agent;
pub mod docker;
pub mod kubernetes;
pub mod late_answers;
pub mod status;
pub mod step;
