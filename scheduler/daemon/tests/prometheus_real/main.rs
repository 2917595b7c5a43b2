//! Observation against a real Prometheus, which scrapes exporters that the test serves, or has series that the test wrote.
//!
//! Without a `prometheus` binary on the path the tests say so and end; with `CI=true` that is a failure.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says aloud what is wrong"
)]

mod built_in;
mod doctor;
mod guards;
mod probes;
mod scraped;
mod stage;
