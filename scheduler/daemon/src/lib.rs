//! The scheduler as a service: it observes, decides by the pure engine, and has the executor act. (map to come)
