//! Every route of the API, once: the router is built from this table, and so is what tests try.

use axum::Router;
use axum::routing::{MethodFilter, on};

use super::{Agent, arrivals, departures, output, peers, probes, removal, services, traffic};

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// The scheduler alone.
    Scheduler,
    /// Other nodes' agents alone.
    Agents,
    /// Both.
    Both,
    /// Fronts alone.
    Fronts,
    /// The scheduler and fronts.
    Readers,
}

/// What the body of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Nothing that is read.
    Nothing,
    /// A JSON document.
    Document,
    /// A stream of any length.
    Stream,
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path; segments in braces stand for any.
    pub path: &'static str,
    /// Who may call it.
    pub callers: Callers,
    /// What it is called with.
    pub carries: Carries,
}

macro_rules! routes {
    ($($method:ident $path:literal $callers:ident $carries:ident $handler:path;)+) => {
        /// All routes.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            callers: Callers::$callers,
            carries: Carries::$carries,
        }),+];

        /// The router that serves them.
        pub(super) fn router() -> Router<Agent> {
            Router::new()$(.route($path, on(MethodFilter::$method, $handler)))+
        }
    };
}

routes! {
    GET "/v1/node" Both Nothing services::node;
    GET "/v1/images" Both Nothing services::image;
    PUT "/v1/images" Both Stream services::load_image;
    POST "/v1/images/pull" Scheduler Document services::pull_image;
    GET "/v1/services" Scheduler Nothing services::services;
    POST "/v1/services" Scheduler Document services::start_service;
    DELETE "/v1/services/{name}" Scheduler Nothing removal::remove_service;
    GET "/v1/services/{name}/logs" Readers Nothing output::logs;
    GET "/v1/migrations" Scheduler Nothing departures::standings;
    POST "/v1/migrations" Scheduler Document departures::migrate;
    POST "/v1/migrations/check" Scheduler Document departures::assess;
    GET "/v1/migrations/{id}" Both Nothing departures::standing;
    DELETE "/v1/migrations/{id}" Scheduler Nothing departures::cancel;
    GET "/v1/migrations/{id}/events" Scheduler Nothing departures::events;
    GET "/v1/arrivals" Scheduler Nothing arrivals::coming_in;
    POST "/v1/arrivals" Agents Document arrivals::reserve;
    POST "/v1/arrivals/check" Agents Document arrivals::check;
    GET "/v1/arrivals/{id}" Both Nothing arrivals::arriving;
    DELETE "/v1/arrivals/{id}" Agents Nothing arrivals::discard;
    PUT "/v1/arrivals/{id}/parts/memory/{stream}" Agents Stream arrivals::receive_memory;
    DELETE "/v1/arrivals/{id}/parts/memory/{stream}" Agents Nothing arrivals::end_memory;
    PUT "/v1/arrivals/{id}/parts/ahead/{stream}" Agents Stream arrivals::receive_ahead;
    DELETE "/v1/arrivals/{id}/parts/ahead/{stream}" Agents Nothing arrivals::end_ahead;
    PUT "/v1/arrivals/{id}/parts/layer/{stream}" Agents Stream arrivals::receive_layer;
    DELETE "/v1/arrivals/{id}/parts/layer/{stream}" Agents Nothing arrivals::end_layer;
    PUT "/v1/arrivals/{id}/parts/volume/{name}/{stream}" Agents Stream arrivals::receive_volume;
    DELETE "/v1/arrivals/{id}/parts/volume/{name}/{stream}" Agents Nothing arrivals::end_volume;
    POST "/v1/arrivals/{id}/prepare" Agents Nothing arrivals::prepare;
    POST "/v1/arrivals/{id}/restore" Agents Nothing arrivals::restore;
    GET "/v1/arrivals/{id}/restored" Agents Nothing arrivals::restored;
    POST "/v1/arrivals/{id}/release" Both Document arrivals::release;
    POST "/v1/arrivals/{id}/start-anew" Agents Document arrivals::start_anew;
    POST "/v1/arrivals/{id}/finish" Agents Document arrivals::finish;
    GET "/v1/traffic" Fronts Nothing traffic::listen;
    POST "/v1/traffic/held" Fronts Document traffic::held;
    POST "/v1/probes" Scheduler Document probes::probe;
    POST "/v1/peers" Scheduler Document peers::told;
}
