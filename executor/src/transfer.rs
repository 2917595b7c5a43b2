//! What crosses the link: file trees (memory image, writable layer, volumes) as one checked stream.
//!
//! | module | what lives there |
//! |---|---|
//! | [`tree`] | a folder as entries with owner, mode, times and extended attributes, and what changed since the last pass |
//! | [`stream`] | entries and chunks on the wire, every chunk with its hash |
//! | [`manifest`] | a whole tree in one hash, for both ends to compare |
//! | [`receive`] | a stream made into files under a folder that it can't leave |

pub mod manifest;
pub mod receive;
pub mod stream;
pub mod tree;
