//! What the simulated world does by itself: one small model per subject, in whole numbers, so that every run and every machine
//! counts the same.

pub mod carbon;
pub mod distance;
pub mod fault;
pub mod latency;
pub mod migration;
pub mod mobility;
pub mod power;
pub mod price;
