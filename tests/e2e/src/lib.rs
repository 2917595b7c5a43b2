//! (map to come)

pub mod dataset;
pub mod delay;
pub mod digest;
pub mod docker;
pub mod monitoring;
pub mod process;
pub mod resp;
pub mod writer;
