//! How migrations go, one model per way of making them.
//!
//! Each model is a function of plain values to a [`Passage`]: what follows on what, how the service stands meanwhile, what crosses
//! the link, and from when to when which end holds the service.
//!
//! | module | what lives there |
//! |---|---|
//! | [`passage`] | what all of them result in |
//! | [`path`] | the link that is crossed, and how much of it one migration has |
//! | [`cold`] | stopped and started anew |
//! | [`checkpoint`] | dumped, sent, restored; with its memory sent ahead or not |
//! | [`rounds`] | memory that is sent while it is being written, and when that ends |
//! | [`precopy`] | a virtual machine's memory in rounds, the rest while it stands still |
//! | [`postcopy`] | started first, its memory fetched afterwards |
//! | [`layers`] | what a node lacks of an image |
//! | [`failure`] | a migration that fails on the way to a phase |
//! | [`way`] | which of them a service's moves follow |
//! | [`course`] | a move within the limits of its policy, as predicted or as its model has it |

pub mod checkpoint;
pub mod cold;
pub mod course;
pub mod failure;
pub mod layers;
pub mod passage;
pub mod path;
pub mod postcopy;
pub mod precopy;
pub mod rounds;
pub mod way;

pub use course::Course;
pub use passage::Passage;
pub use path::Path;
pub use way::Way;
