//! Where nodes live.
//!
//! | module | what lives there |
//! |---|---|
//! | [`docker`] | local nodes: Docker-in-Docker containers of the host's engine |

pub mod docker;
