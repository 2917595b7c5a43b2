//! Migrations as objects of a cluster: each is shown there while it runs and for a while after, and deleting its object cancels it.
//!
//! An object tells and decides nothing: what a migration is stands with the agents and in the scheduler's history. So any object
//! may be lost, stale or written over by others at any time, and the next look puts it right.
//!
//! | module | what lives there |
//! |---|---|
//! | [`resource`] | the object's kind: `Migration` of `sterna.io/v1alpha1` |
//! | [`account`] | what is known of a migration |
//! | [`status`] | what an object should say: pure |
//! | [`reconcile()`](reconcile::reconcile) | what is to be done so that objects say it: pure |
//! | [`occurrence`] | what is worth an event: pure |
//! | [`objects`] | doing it |

pub mod account;
pub mod objects;
pub mod occurrence;
pub mod reconcile;
pub mod resource;
pub mod status;

#[cfg(test)]
mod tests;
