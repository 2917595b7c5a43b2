//! One migration: its phases, the order that starts it, the events and the report that come out of it.

pub mod order;
pub mod phase;
pub mod report;
