//! The agent: owns the services of one node, gives them away and takes them in.
//!
//! | module | what lives there |
//! |---|---|
//! | [`config`] | `agent.toml` |
//! | [`store`] | the durable register: departures, arrivals, epochs |
//! | [`listener`] | mutual TLS in front of the API, and who speaks |
//! | [`api`] | what goes over the wire, as types |
//! | [`facts`] | what the node is |
//! | [`running`] | migrations under way, their events, and those found at the start |
//! | [`admission`] | how many migrations may be under way at once |
//! | [`bandwidth`] | how much of a link migrations may take |
//! | [`progress`] | what has crossed so far |
//! | [`server`] | the API: starting up, routes, who may call which |
//! | [`precheck`] | what speaks against a migration, before anything is touched |
//! | [`assessment`] | the answer to: may it go there, and what would that cost? |
//! | [`canary`] | a trial between two nodes, before the first service is frozen |
//! | [`departure`] | the source's side of a migration, and the machine that drives it |
//! | [`arrival`] | the destination's side: taking in and holding, and what is owned by a certificate |
//! | [`staging`] | memory images on their way |
//! | [`front`] | a front that the agent runs |
//! | [`probe`] | how far it is from this node to other places |
//! | [`traffic`] | what fronts are told, and the moment that they get before a freeze |
//! | `output` | what a service has written, on its way from its node |
//! | [`inquiry`] | asking the sources of what is held and was not heard of |
//! | [`peers`] | where other agents are by now, if not where an order says |
//! | [`client`] | how the scheduler and other agents speak to an agent |

pub mod admission;
pub mod api;
pub mod arrival;
pub mod assessment;
pub mod bandwidth;
pub mod canary;
pub mod client;
pub mod config;
pub mod departure;
pub mod facts;
pub mod front;
pub mod inquiry;
pub mod listener;
mod output;
pub mod peers;
pub mod precheck;
pub mod probe;
pub mod progress;
pub mod running;
pub mod server;
pub mod staging;
pub mod store;
pub mod traffic;
