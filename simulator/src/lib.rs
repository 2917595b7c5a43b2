//! What-if: a described continuum in simulated time, on which the production decision runs.
//!
//! Below it: `sterna_core`, whose [`decide`](sterna_core::decide()) is the only thing here that decides, and `sterna_policies`. Above
//! it: the cli. No clock, network or disk: the same scenario, policies and seed give the same bytes on every machine.
//!
//! | module | what lives there |
//! |---|---|
//! | [`scenario`] | what is simulated: the file, its checks, tracks of values over time |
//! | [`cases`] | what a policy must decide in described situations: the file, and its trial |
//! | [`clock`], [`events`] | time in whole nanoseconds; what happens next |
//! | [`stream`] | numbers that look random, each thing's own |
//! | [`world`] | the continuum at one instant, what a scheduler sees of it, what adds up |
//! | [`models`] | power, price, carbon, latency, how migrations go |
//! | [`calibrate`] | what the parts of a move take, learnt from migrations that were measured |
//! | [`replay`] | decisions from their recorded inputs: one, or a whole past under another policy |
//! | [`carrying`] | a plan on its way, as the daemon carries plans out |
//! | [`run`] | the loop: events, looks, moves; several policies side by side |
//! | [`sweep`] | many policies over many seeds, and which are worth a thought |
//! | [`fleet`] | thousands of nodes, with moves that are given |
//! | [`gain`], [`alternatives`], [`hold`] | why a move was made, where else it could have gone, and what held others back |
//! | [`violation`] | for how long a policy's rules were broken |
//! | [`report`] | what a simulation found, as values |

pub mod alternatives;
pub mod calibrate;
pub mod carrying;
pub mod cases;
pub mod clock;
pub mod events;
pub mod fleet;
pub mod gain;
pub mod hold;
pub mod models;
pub mod replay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod stream;
pub mod sweep;
pub mod violation;
pub mod world;
