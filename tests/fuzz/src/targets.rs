//! What each target does, and genuine messages to begin from.
//!
//! | module | what lives there |
//! |---|---|
//! | [`stream`] | frames of the data stream |
//! | [`ahead`] | memory that was sent ahead, behind right hashes |
//! | [`receive`] | a stream made into files: raw, and hostile behind right hashes |
//! | [`api`] | bodies and answers of the agent's API |
//! | [`examples`] | genuine ones of these |
//! | [`seal`] | commit certificates, changed |
//! | [`description`] | the container of a reservation |
//! | [`names`] | certificates of peers, ids in paths, parts |
//! | [`log`] | logs of CRIU |
//! | [`policy`] | policy files |
//! | [`runtime`] | calls of the runtime shim, and its note |

pub mod ahead;
pub mod api;
pub mod description;
pub mod examples;
pub mod log;
pub mod names;
pub mod policy;
pub mod receive;
pub mod runtime;
pub mod seal;
pub mod stream;
