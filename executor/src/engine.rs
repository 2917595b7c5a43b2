//! What a node is made of: the nested engine, its runtime, CRIU, and the processes of a service.
//!
//! Docker's own checkpoint call copies the image through the content store and is 8 to 20 times slower than CRIU, and its
//! restore is broken on current engines. So the agent drives `runc` for the dump, and the [`shim`], registered with the
//! engine as its runtime, turns the engine's own `create` into a restore. The engine owns the container all the time.

pub mod criu;
pub mod docker;
pub mod memory;
pub mod names;
pub mod privileges;
pub mod processes;
pub mod runc;
pub mod shim;
