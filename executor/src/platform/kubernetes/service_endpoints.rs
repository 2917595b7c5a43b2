//! A Kubernetes service that leads straight to where a service runs, without a front between.
//!
//! Of a Kubernetes service without a selector nobody in the cluster knows where it leads. One that names a service of the inventory
//! by its label has an EndpointSlice that is kept at the node that owns it, as its agents say. Like a front, and with the same words
//! of theirs, it never leads to what is only held.
//!
//! | module | what lives there |
//! |---|---|
//! | [`mod@slice`] | what a slice should say: pure |
//! | [`reconcile()`](reconcile::reconcile) | what is to be done so that slices say it: pure |
//! | [`objects`] | reading services and slices, writing slices |

pub mod objects;
pub mod reconcile;
pub mod slice;

#[cfg(test)]
mod tests;
