//! Fuzzing of everything in the executor that reads what came over the network, and of policy files; guided by coverage, on stable
//! Rust.
//!
//! Each target is a plain function of bytes that calls the real code and panics where something must not be, so that the
//! guided run, the quick one and a replay do the same.
//!
//! | module | what lives there |
//! |---|---|
//! | [`target`] | the list of targets |
//! | [`targets`] | what each one does, and genuine messages to begin from |
//! | [`mutate`] | changes to genuine messages, without guidance |
//! | [`room`] | a place of its own, in which nothing else can be written to |
//! | [`found`] | inputs that were found, as text |
//! | [`instrument`] | the guided binary, built with coverage |
//! | [`run`] | the guided run |
//! | [`quick`] | the quick run, without coverage, and replays |
//! | [`results`] | the table |

// What fuzzing finds is told by a panic.
#![expect(clippy::panic, clippy::expect_used, reason = "a target tells what it found by a panic")]

pub mod found;
pub mod instrument;
pub mod mutate;
pub mod quick;
pub mod results;
pub mod room;
pub mod run;
pub mod target;
pub mod targets;
