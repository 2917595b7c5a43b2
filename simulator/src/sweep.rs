//! Many policies over many seeds: every policy meets the same worlds, one for each seed.
//!
//! What is drawn differs between seeds, so two policies are compared seed by seed: the differences scatter less than what each
//! comes to. Runs go side by side on as many threads as there are; who runs what when changes nothing in what comes out.
//!
//! | module | what lives there |
//! |---|---|
//! | [`matrix`] | the runs |
//! | [`measure`] | what policies are compared by |
//! | [`estimate`] | means, and how sure they are |
//! | [`front`] | which policies nothing beats |
//! | [`grid`] | the variants of a policy, from a file |
//! | [`result`] | what came of it all, as values |

pub mod estimate;
pub mod front;
pub mod grid;
pub mod matrix;
pub mod measure;
pub mod result;

mod file;

pub use matrix::{Matrix, Runs, run};
pub use measure::Measure;
pub use result::Comparison;
