//! What happens, as it happens: server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event as Sent, KeepAlive};
use futures_util::Stream;
use futures_util::stream::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use sterna_core::explain;
use sterna_executor::migration::report::Event as Sign;
use sterna_policies::quantity::{Bytes, Millis};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_stream::wrappers::BroadcastStream;
use utoipa::ToSchema;

use super::Api;
use super::error::ApiError;
use super::view::{Differences, MoveView, SidesView};
use crate::control::notice::Notice;

/// A reader that is so far behind loses what is oldest, and is told so.
const KEPT: usize = 256;
/// So many may listen at one time.
const LISTENERS: usize = 64;
/// A silent stream says that it is there.
const ALIVE: Duration = Duration::from_secs(15);

/// Something that happened. The stream's `event` field holds the same word as `event`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Happened {
    /// A decision was made.
    Decided {
        /// Its number.
        id: i64,
        /// The policy that made it.
        policy: String,
        /// The verdict in words.
        verdict: String,
        /// Whether it says something else than the one before.
        news: bool,
        /// Whether its moves are now ordered.
        acted_on: bool,
        /// The moves of its plan.
        moves: Vec<MoveView>,
    },
    /// A plan was put up for approval.
    PutUp {
        /// The number of its decision.
        id: i64,
        /// Until when it may be approved.
        #[schema(value_type = String, format = DateTime)]
        expires: Timestamp,
        /// Its moves.
        moves: Vec<MoveView>,
    },
    /// Something became of a plan that was put up.
    Approval {
        /// The number of its decision.
        id: i64,
        /// What.
        step: crate::history::approval::Step,
        /// Why, where there is more to say.
        note: String,
    },
    /// The circuit breaker opened, so that nothing is moved for a while, or closed again.
    Breaker {
        /// Whether it is open.
        open: bool,
        /// Why, and for how long; `None` where it is closed.
        reason: Option<String>,
    },
    /// A move is about to be ordered.
    Moving {
        /// The migration.
        migration: String,
        /// The move.
        #[serde(rename = "move")]
        planned: MoveView,
    },
    /// A migration reached a phase.
    Phase {
        /// The service.
        service: String,
        /// The phase.
        phase: String,
        /// Time since the phase before it.
        #[schema(value_type = String)]
        took: Millis,
        /// What crossed the link.
        #[schema(value_type = String)]
        bytes: Bytes,
    },
    /// Bytes crossed.
    Progress {
        /// The service.
        service: String,
        /// So far in this phase.
        #[schema(value_type = String)]
        bytes: Bytes,
        /// Of how many, where that is known.
        #[schema(value_type = Option<String>)]
        of: Option<Bytes>,
        /// In the last second.
        #[schema(value_type = String)]
        per_second: Bytes,
    },
    /// A migration ended.
    Ended {
        /// The migration.
        migration: String,
        /// The service.
        service: String,
        /// `moved`, `rolled-back` or `refused`.
        outcome: String,
        /// How long the service stood still, where it was moved.
        #[schema(value_type = Option<String>)]
        downtime: Option<Millis>,
    },
    /// An order was not taken, or its end was not seen.
    NotSeen {
        /// The service.
        service: String,
        /// Why.
        reason: String,
    },
    /// It became known what came of an earlier order.
    Settled {
        /// In words.
        text: String,
    },
    /// A file changed and is in force.
    Reloaded {
        /// `policy` or `inventory`.
        file: String,
        /// What it says otherwise than before.
        differs: Differences,
    },
    /// A file changed and can't be used: what it said before stays in force.
    ReloadRefused {
        /// `policy` or `inventory`.
        file: String,
        /// Why.
        reason: String,
        /// What is written otherwise in it than in what is in force; `None` where that can't be told.
        written: Option<Differences>,
    },
    /// A policy that has come into force made its first decision: what the one before decides on the same.
    Compared {
        /// The number of the decision.
        id: i64,
        /// The verdict of the policy before, in words.
        old: String,
        /// The verdict of the policy in force.
        new: String,
        /// The services of which they decide differently.
        services: Vec<SidesView>,
    },
    /// A look could not be completed.
    Failed {
        /// The policy whose look it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<String>,
        /// Why.
        reason: String,
    },
    /// Running migrations are left to the agents.
    LeftToAgents {
        /// Of which services.
        services: Vec<String>,
    },
    /// This reader was too slow, and did not get some events.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Happened {
    /// What a notice is to others; `None` where another one tells it.
    pub(crate) fn of(notice: &Notice<'_>) -> Option<Self> {
        let moves = |plan: &sterna_core::plan::Plan| plan.moves.iter().map(MoveView::from).collect();
        Some(match notice {
            Notice::Decided(decided) => Self::Decided {
                id: decided.number,
                policy: decided.policy.to_owned(),
                verdict: explain::verdict(&decided.decision.report.verdict),
                news: decided.news,
                acted_on: decided.acted_on,
                moves: moves(&decided.decision.plan),
            },
            Notice::PutUp(id, plan, expires) => {
                Self::PutUp { id: *id, expires: *expires, moves: moves(plan) }
            }
            Notice::Approval(id, step, note) => {
                Self::Approval { id: *id, step: *step, note: (*note).to_owned() }
            }
            Notice::Breaker(circuit) => {
                Self::Breaker { open: circuit.is_some(), reason: circuit.map(ToString::to_string) }
            }
            Notice::Moving(id, planned) => {
                Self::Moving { migration: id.to_string(), planned: (*planned).into() }
            }
            Notice::Event(service, Sign::Reached(record)) => Self::Phase {
                service: service.to_string(),
                phase: record.phase.name().to_owned(),
                took: record.took,
                bytes: record.bytes,
            },
            Notice::Event(service, Sign::Progress { bytes, of, per_second }) => Self::Progress {
                service: service.to_string(),
                bytes: *bytes,
                of: *of,
                per_second: *per_second,
            },
            // Told by the notice of the whole migration.
            Notice::Event(_, Sign::Ended(_)) => return None,
            Notice::Ended(planned, report) => Self::Ended {
                migration: report.id.to_string(),
                service: planned.service.to_string(),
                outcome: crate::history::migration::outcome_name(report.past_outcome()).to_owned(),
                downtime: report.downtime,
            },
            Notice::NotSeen(planned, reason) => {
                Self::NotSeen { service: planned.service.to_string(), reason: (*reason).to_owned() }
            }
            Notice::Settled(text) => Self::Settled { text: (*text).to_owned() },
            Notice::Reloaded(file, _, differences) => {
                Self::Reloaded { file: file.name().to_owned(), differs: (*differences).into() }
            }
            Notice::ReloadRefused(file, refused) => Self::ReloadRefused {
                file: file.name().to_owned(),
                reason: refused.error.to_string(),
                written: refused.written.as_deref().map(Differences::from),
            },
            Notice::Compared(id, decisions) => Self::Compared {
                id: *id,
                old: explain::verdict(&decisions.old),
                new: explain::verdict(&decisions.new),
                services: decisions.services.iter().map(SidesView::from).collect(),
            },
            Notice::Failed(policy, reason) => {
                Self::Failed { policy: policy.map(str::to_owned), reason: (*reason).to_owned() }
            }
            Notice::LeftToAgents(services) => {
                Self::LeftToAgents { services: services.iter().map(ToString::to_string).collect() }
            }
        })
    }
}

/// Hands what happens to all who listen.
#[derive(Debug, Clone)]
pub struct Feed {
    sender: broadcast::Sender<Arc<Happened>>,
    seats: Arc<Semaphore>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::channel(KEPT).0, seats: Arc::new(Semaphore::new(LISTENERS)) }
    }
}

impl Feed {
    /// Tells all who listen.
    pub fn tell(&self, notice: &Notice<'_>) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        if let Some(happened) = Happened::of(notice) {
            // Nobody listens any more: nobody misses it.
            let _gone = self.sender.send(Arc::new(happened));
        }
    }
}

/// What happens from now on, as server-sent events: decisions, approvals, the phases of migrations, files that are read again.
#[utoipa::path(get, path = "/api/v1/events", responses((status = OK, body = Happened, content_type = "text/event-stream"), (status = "default", body = ApiError)))]
pub(super) async fn events(
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, ApiError> {
    let Ok(seat) = Arc::clone(&api.feed.seats).try_acquire_owned() else {
        return Err(ApiError::crowded());
    };
    let stream = BroadcastStream::new(api.feed.sender.subscribe()).filter_map(move |event| {
        let event = match event {
            Ok(happened) => sent(&happened, &seat),
            Err(tokio_stream::wrappers::errors::BroadcastStreamRecvError::Lagged(events)) => {
                sent(&Happened::Missed { events }, &seat)
            }
        };
        std::future::ready(event.map(Ok))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(ALIVE)))
}

/// The stream holds its seat for as long as it lasts.
fn sent(happened: &Happened, _: &OwnedSemaphorePermit) -> Option<Sent> {
    let value = serde_json::to_value(happened).ok()?;
    let name = value.get("event").and_then(|name| name.as_str()).unwrap_or("event").to_owned();
    Sent::default().event(name).json_data(value).ok()
}
