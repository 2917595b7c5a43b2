//! The decision engine of Sterna, pure: it decides **what** to move, **when** and **where to**, as a function over plain
//! values. No clock, no network, no disk, no randomness but what comes in as data; a test holds it to that.
//!
//! Above it: the executor carries its plans out, the daemon and the simulator call [`decide()`]. Below it: only the policy
//! language.
//!
//! | module | what lives there |
//! |---|---|
//! | [`continuum`] | what is: site, node, service, link, users, placement; the inventory file |
//! | [`directive`] | what people have said while it runs: pause, cordon, drain, opt-out |
//! | [`observation`] | what was seen at one instant, with age and source |
//! | [`history`] | what a decision remembers of earlier ones |
//! | [`assignment`] | the assignment problem: items on bins, with rules and objectives, and its search |
//! | [`placement`] | where: evaluation, exclusion, the assignment model, its exact solution |
//! | [`planning`] | in which order |
//! | [`cost`] | what a move is predicted to cost |
//! | [`gain`] | what moves gain, and when that has paid for them |
//! | [`gate`] | when: least gain, payback, residency, cooldown, returns |
//! | [`standing`] | what lasts from one decision to the next: triggers, better places, regret |
//! | [`budget`] | how much may be moved within a time, and when moving stops because it fails |
//! | [`checker`] | the independent judge of plans |
//! | [`mod@decide`] | the one function that ties everything |
//! | [`plan`], [`report`] | the data that leaves |
//! | [`explain`] | that data in words and tables |
//! | [`why`] | why a service is not on a node |
//! | [`compare`] | what another policy would decide differently |
//! | [`state`] | the fingerprint of the state that a plan was made from, and what changed since |
//! | [`difference`] | where two policies or continuums differ |
//! | [`record`] | a decision with its inputs, to be made again |
//! | [`saved`] | a plan as a file, to be carried out later |
//!
//! The feature `highs` (on by default) builds in the HiGHS solver; without it, microlp solves tiny models and the report says
//! so.

pub mod assignment;
pub mod budget;
pub mod checker;
pub mod compare;
pub mod continuum;
pub mod cost;
pub mod decide;
pub mod difference;
pub mod directive;
pub mod explain;
pub mod gain;
pub mod gate;
pub mod history;
pub mod observation;
pub mod placement;
pub mod plan;
pub mod planning;
pub mod record;
pub mod report;
pub mod saved;
pub mod standing;
pub mod state;
pub mod why;

pub use decide::decide;
