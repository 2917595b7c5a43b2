//! The assignment problem: which item goes on which bin, so that rules hold and objectives are least.
//!
//! It knows nothing of services and nodes. Public benchmarks are read into it; decisions are still made with the smaller
//! [`crate::placement::model`]. All numbers are whole, so that values are exact and every run can be repeated.
//!
//! | module | what lives there |
//! |---|---|
//! | [`model`] | the problem as data: dimensions, bins, items, groups, rules, objectives |
//! | [`validity`] | what is wrong with a model, with the place |
//! | [`problem`] | the same, laid out for the search |
//! | [`state`] | an assignment with everything counted, changed in time that depends on what is touched |
//! | [`counts`] | how many items of a group are where, and which rules that breaks |
//! | `apart` | objectives in which each item counts for itself |
//! | `moved` | how many items of a group are elsewhere than now |
//! | [`worth`] | what is minimised: per bin, per item, per group |
//! | [`bound`] | what no assignment can be worth less than |
//! | [`conflict`] | why not everything can hold, and what is cheapest to give up |
//! | [`exact`] | the same as mixed-integer programs: proved answers and bounds, of the whole or a part |
//! | [`order`] | in which order items go, and when |
//! | [`search`] | better assignments within a budget |
//! | [`stages`] | all objectives, the most important first, by what suits the size |
//! | [`explain`] | why an item is where it is, and not elsewhere |
//!
//! The judge of it all stands apart, in [`crate::checker::assignment`].

mod apart;
pub mod bound;
pub mod conflict;
pub mod counts;
pub mod exact;
pub mod explain;
pub mod model;
mod moved;
pub mod order;
pub mod problem;
pub mod search;
pub mod stages;
pub mod state;
pub mod validity;
pub mod worth;
