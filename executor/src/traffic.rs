//! The front: clients keep one address for a service while it is moved live between nodes.
//!
//! ```text
//!  clients ──► front ──► the node that owns the service
//!                ▲            │ GET /v1/traffic: runs · about to be frozen · frozen, as whole states
//!                └────────────┘ POST /v1/traffic/held: nothing more is sent
//! ```
//!
//! Each agent tells what it owns; the front follows all of them and believes the highest epoch. Before a freeze the agent
//! says so and waits for the front for at most a tenth of a second: the front sends nothing new and lets what is under way
//! end. Then it holds what comes, and sends it to wherever the service is announced to run next: the destination with the
//! commit certificate, or the source after a move that was undone. What is only held at a destination is never announced, so
//! nothing is ever sent there. A front has no say: without it, or when it is silent, a migration goes the same way.
//!
//! What becomes of a connection whose service moves:
//!
//! | protocol | between requests | with a request under way |
//! |---|---|---|
//! | `http` | stays open; the next request goes to the new place | waited for; if it is safe and has no answer yet, repeated; else 502 |
//! | `redis` | stays open, its state is set up again at the new place | waited for; then closed |
//! | `redis` in a transaction, subscribed, tracking | closed | closed |
//! | `tcp` | closed, unless nothing was said yet | waited for; then closed |
//!
//! HTTP is hyper's, both ways. The rest is on tokio's sockets, and bulk TCP goes through the kernel by `splice`. No whole
//! proxy was taken as the base: pingora has its own runtime, OpenSSL-minded listeners and no hook to hold a connection between
//! two upstreams of one pool; linkerd's proxy is no library; envoy and haproxy are other processes, which can hold new
//! connections but can't put a Redis connection behind another one, and would have to be configured for each move within
//! milliseconds.
//!
//! | module | what lives there |
//! |---|---|
//! | [`announcement`] | what agents say |
//! | [`place`] | where a service takes connections, of all that agents said; pure |
//! | [`gate`] | who may send now, who waits, what is under way |
//! | [`follow`] | listening to agents, answering them |
//! | [`roster`] | which nodes there are, and where their agents listen |
//! | [`followers`] | whom to listen to as nodes come and go |
//! | [`hearing`] | hearing where services are, without clients |
//! | [`tcp`] | connections of any protocol; `splice` |
//! | [`http`] | HTTP/1.1, request by request |
//! | [`redis`] | Redis, command by command |
//! | [`output`] | all that a service writes, wherever it goes |
//! | [`reach`] | connecting to the place, closing without a reset |
//! | [`config`] | the front's settings |
//! | [`descriptors`] | as many open files as its connections take |
//! | [`readiness`] | whether clients may be sent here |
//! | [`serve`] | listening, and joining the parts |
//! | [`stand_in`] | printing what a service writes, ending as it does |
//! | [`telemetry`] | what is counted |

pub mod announcement;
pub mod config;
pub mod descriptors;
pub mod follow;
pub mod followers;
pub mod gate;
pub mod hearing;
pub mod http;
pub mod output;
pub mod place;
pub mod reach;
pub mod readiness;
pub mod redis;
pub mod roster;
pub mod serve;
pub mod stand_in;
pub mod tcp;
pub mod telemetry;
