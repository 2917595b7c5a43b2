//! The policy language of Sterna: what is wanted, and what is allowed.
//!
//! The bottom of the house: nothing here knows of metrics stores, solvers or engines, and every other crate may use it.
//!
//! | module | what lives there |
//! |---|---|
//! | [`quantity`] | units in types: `Millis`, `Watts`, `UsdPerHour`, `Bytes` … |
//! | [`policy`] | the values of one policy |
//! | [`builtin`] | queries for the exporters that people have |
//! | [`select`] | name patterns |
//! | [`precedence`] | which of several policies has a service |
//! | [`window`] | when moves may be made |
//! | [`load`] | files into values: TOML with the place of every value, all mistakes at once |
//! | [`schema`] | the JSON Schema of policy files, for editors |
//! | [`presets`] | policies that come with Sterna |
//! | [`diagnose`] | what is wrong with a file, with code, place and suggestion |

pub mod builtin;
pub mod diagnose;
pub mod load;
pub mod policy;
pub mod precedence;
pub mod presets;
pub mod quantity;
pub mod schema;
pub mod select;
pub mod window;
