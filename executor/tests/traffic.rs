//! The front before real servers on this host, which are moved by agents that are made up.

mod traffic {
    pub mod http;
    pub mod redis;
    pub mod redis_server;
    pub mod stage;
    pub mod tcp;
}
