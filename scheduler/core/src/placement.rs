//! Where services should run.
//!
//! | module | what lives there |
//! |---|---|
//! | [`numbers`] | what is known of sites and latencies: measured, modelled or missing |
//! | [`evaluate`] | what any placement is worth, exactly |
//! | [`exclude`] | which rules exclude a node for a service |
//! | [`room`] | how much room nodes have |
//! | [`spread`] | services of which only so many may be in one place |
//! | [`mod@model`] | what a policy wants, as an assignment problem |

pub mod evaluate;
pub mod exclude;
pub mod model;
pub mod numbers;
pub mod room;
pub mod spread;
