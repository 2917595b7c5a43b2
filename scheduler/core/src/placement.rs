//! Where services should run.
//!
//! | module | what lives there |
//! |---|---|
//! | [`numbers`] | what is known of sites and latencies: measured, modelled or missing |
//! | [`evaluate`] | what any placement is worth, exactly |
//! | [`exclude`] | which rules exclude a node for a service |
//! | [`model`] | the assignment problem in whole millionths |
//! | [`exact`] | its solution as mixed-integer models, by good_lp |

pub mod evaluate;
pub mod exact;
pub mod exclude;
pub mod model;
pub mod numbers;
