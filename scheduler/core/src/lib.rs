//! The decision engine of Sterna, pure: it decides **what** to move, **when** and **where to**, as a function over plain
//! values. No clock, no network, no disk, no randomness but what comes in as data; a test holds it to that.
//!
//! Above it: the executor carries its plans out, the daemon and the simulator call [`decide()`]. Below it: only the policy
//! language.
//!
//! | module | what lives there |
//! |---|---|
//! | [`continuum`] | what is: site, node, service, link, users, placement; the inventory file |
//! | [`observation`] | what was seen at one instant, with age and source |
//! | [`history`] | what a decision remembers of earlier ones |
//! | [`decide`] | the one function that ties everything |
//! | [`plan`], [`report`] | the data that leaves |

pub mod continuum;
pub mod decide;
pub mod history;
pub mod observation;
pub mod plan;
pub mod report;

pub use decide::decide;
