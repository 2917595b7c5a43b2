//! The front before real servers on this host, which are moved by agents that are made up.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod traffic {
    pub mod http;
    pub mod redis;
    pub mod redis_server;
    pub mod stage;
    pub mod tcp;
}
