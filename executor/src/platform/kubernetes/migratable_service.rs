//! Services that are declared as objects of a cluster: each is a pod template, whose container Sterna starts on a node and moves.
//!
//! To its users such a service looks like any other. In its place in the cluster stands a pod with the template's labels, the
//! *stand-in*: it forwards clients to wherever the service runs, its output is the service's, it is ready when the service is and
//! ends with its exit code. What can't be had this way is refused with a reason; nothing of a template is dropped.
//!
//! | module | what lives there |
//! |---|---|
//! | [`resource`] | the object's kind: `MigratableService` of `sterna.io/v1alpha1` |
//! | [`fields`] | what of a pod template can be honoured, field by field: pure |
//! | [`template`] | what a template means for Sterna: pure |
//! | `quantity` | `250m` and `64Mi`: pure |
//! | [`expansion`] | `$(NAME)` in commands and variables: pure |
//! | [`stand_in`] | the pod that stands for it, and what that is given: pure |
//! | [`status`] | what an object should say: pure |
//! | [`reconcile()`](reconcile::reconcile) | what is to be done next: pure |
//! | [`objects`] | doing it |

pub mod expansion;
pub mod fields;
pub mod objects;
mod quantity;
pub mod reconcile;
pub mod resource;
pub mod stand_in;
pub mod status;
pub mod template;

#[cfg(test)]
mod tests;
