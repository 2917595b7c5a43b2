//! What crosses the link, as checked streams: file trees (memory image, writable layer, volumes), and memory ahead of them.
//!
//! | module | what lives there |
//! |---|---|
//! | [`tree`] | a folder as entries with owner, mode, times and extended attributes, and what changed since the last pass |
//! | `shared` | memory that processes share, as what is sent ahead |
//! | [`stream`] | entries and chunks on the wire, every chunk with its hash |
//! | [`manifest`] | a whole tree in one hash, for both ends to compare |
//! | [`ahead`] | memory that crosses while the service runs, round by round |
//! | [`delta`] | a memory image without what was sent ahead |
//! | [`hashing`] | the pages of a dump, hashed while it is written |
//! | [`holes`] | what of a file is data |
//! | [`packing`] | whether it pays to compress a chunk |
//! | [`receive`] | a stream made into files under a folder that it can't leave |
//! | `unfinished` | a file that is being received |
//! | [`written`] | what was written into a stream, and what of it arrived when it broke |

pub mod ahead;
pub mod delta;
pub mod hashing;
pub mod holes;
pub mod manifest;
pub mod packing;
pub mod receive;
mod shared;
pub mod stream;
pub mod tree;
mod unfinished;
pub mod written;
