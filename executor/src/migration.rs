//! One migration: what it is made of, and the machine that carries it out. All of it pure but for the machine's waiting.
//!
//! | module | what lives there |
//! |---|---|
//! | [`phase`] | the phases, in order |
//! | [`table`] | who owns the service in each phase, and what a failure calls for |
//! | [`register`] | the decision, which is made once |
//! | [`certificate`] | the right to run the service at the destination |
//! | [`holding`] | the destination's rules |
//! | [`convergence`] | when to stop sending ahead and freeze the service |
//! | [`recovery`] | what an agent does with a migration that it finds at its start |
//! | [`finding`] | what can speak against one |
//! | [`forecast`] | what one is going to cost |
//! | [`order`] | what the source's agent is told |
//! | [`pod_end`] | the end of the pod that a source's agent ran in |
//! | [`promotion`] | which of what is held may run because such a pod has ended |
//! | [`machine`] | walks the table for one order |
//! | [`report`] | what a migration says while it runs, and when it has ended |

pub mod certificate;
pub mod convergence;
pub mod finding;
pub mod forecast;
pub mod holding;
pub mod machine;
pub mod order;
pub mod phase;
pub mod pod_end;
pub mod promotion;
pub mod recovery;
pub mod register;
pub mod report;
pub mod table;
