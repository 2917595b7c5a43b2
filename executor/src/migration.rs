//! One migration: its phases and their table, the machine that walks it, the order that starts it, and what comes out of it.

pub mod machine;
pub mod order;
pub mod phase;
pub mod report;
pub mod table;
