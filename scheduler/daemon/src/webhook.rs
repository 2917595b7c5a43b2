//! What happens, told to other programs: each event is posted to the receivers that the settings name.
//!
//! At least once within bounds: a receiver that fails for a moment is tried again, with pauses; one that stays away loses events
//! rather than delay the loop or fill the memory, and the loss is counted.
//!
//! | module | what lives there |
//! |---|---|
//! | `delivery` | one event on its way to one receiver: the request, its signature, which failures pass |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::delivery::{Pace, Receiver};
use crate::api::events::Happened;
use crate::control::notice::Notice;
use crate::control::world::Clock;
use crate::telemetry::{Lost, Telemetry};

mod delivery;

/// What kind of thing happened, as a receiver chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A decision that says something else than the one before, or a look that could not be completed.
    Decision,
    /// A plan was put up for approval, or something became of it.
    Approval,
    /// A migration was ordered, or ended.
    Migration,
    /// The circuit breaker opened, or closed again.
    Breaker,
    /// A file was read again or refused, or another policy decides differently.
    Reload,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Decision, Self::Approval, Self::Migration, Self::Breaker, Self::Reload];

    /// The kind of an event; `None` of those that only who watches wants to see.
    const fn of(happened: &Happened) -> Option<Self> {
        Some(match happened {
            Happened::Decided { news: true, .. } | Happened::Failed { .. } => Self::Decision,
            Happened::PutUp { .. } | Happened::Approval { .. } => Self::Approval,
            Happened::Moving { .. }
            | Happened::Ended { .. }
            | Happened::NotSeen { .. }
            | Happened::Settled { .. }
            | Happened::LeftToAgents { .. } => Self::Migration,
            Happened::Breaker { .. } => Self::Breaker,
            Happened::Reloaded { .. } | Happened::ReloadRefused { .. } | Happened::Compared { .. } => {
                Self::Reload
            }
            Happened::Decided { .. }
            | Happened::Phase { .. }
            | Happened::Progress { .. }
            | Happened::Missed { .. } => return None,
        })
    }

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Approval => "approval",
            Self::Migration => "migration",
            Self::Breaker => "breaker",
            Self::Reload => "reload",
        }
    }
}

/// A receiver, as the settings have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where events are posted to.
    pub url: Url,
    /// Which ones.
    pub kinds: BTreeSet<Kind>,
    /// File with the secret that they are signed with; `None`: they are not signed.
    pub secret_file: Option<PathBuf>,
}

impl Webhook {
    /// Its host, and its port where that is not the usual one. The rest of an address is often a secret.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Webhook");
        shown.field("host", &self.host()).field("kinds", &self.kinds).field("secret_file", &self.secret_file);
        shown.finish_non_exhaustive()
    }
}

/// A receiver that can't be used.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// The secret can't be read.
    #[error("can't read the webhook's secret from {path}: {source}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The secret is too short.
    #[error(
        "the webhook's secret in {path} has fewer than {} characters; write a longer one, such as 32 random bytes in hexadecimal",
        delivery::SHORTEST
    )]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// The HTTP client can't be made.
    #[error("the HTTP client for webhooks can't be made: {0}")]
    Client(reqwest::Error),
}

/// So many events may wait for one receiver.
const MOST: usize = 256;
/// And so many bytes of them.
const MOST_BYTES: usize = 4 << 20;

/// An event as it is posted.
#[derive(Serialize)]
struct Body<'a> {
    /// The same each time that it is tried.
    delivery: Uuid,
    at: Timestamp,
    continuum: &'a str,
    kind: Kind,
    #[serde(flatten)]
    happened: &'a Happened,
}

/// An event on its way to one receiver.
struct Waiting {
    id: Uuid,
    kind: Kind,
    body: Bytes,
    /// Its share of [`MOST_BYTES`].
    _room: OwnedSemaphorePermit,
}

/// A receiver with what waits for it.
struct Hook {
    host: String,
    kinds: BTreeSet<Kind>,
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    /// Those in the queue, and the one on its way.
    waiting: Arc<AtomicUsize>,
    worker: JoinHandle<()>,
}

/// All receivers.
pub struct Hooks {
    hooks: Vec<Hook>,
    continuum: String,
    telemetry: Arc<Telemetry>,
    clock: Arc<dyn Clock>,
    /// Why each policy's look before could not be completed: one that fails again for the same reason is no news.
    failures: Mutex<BTreeMap<Option<String>, String>>,
}

impl Hooks {
    /// Reads the secrets and waits for something to happen. A rustls provider must have been installed in the process.
    ///
    /// # Errors
    /// When a secret can't be used.
    pub fn start(
        webhooks: &[Webhook],
        continuum: &str,
        telemetry: Arc<Telemetry>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WebhookError> {
        Self::start_at(Pace::default(), webhooks, continuum, telemetry, clock)
    }

    fn start_at(
        pace: Pace,
        webhooks: &[Webhook],
        continuum: &str,
        telemetry: Arc<Telemetry>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, WebhookError> {
        let mut hooks = Vec::new();
        for webhook in webhooks {
            let host = webhook.host();
            let receiver = Receiver::new(webhook, pace)?;
            let (queue, waits) = mpsc::channel(MOST);
            let waiting = Arc::new(AtomicUsize::new(0));
            telemetry.webhook(&host);
            let worker = tokio::spawn(work(
                receiver,
                host.clone(),
                waits,
                Arc::clone(&waiting),
                Arc::clone(&telemetry),
            ));
            let (kinds, room) = (webhook.kinds.clone(), Arc::new(Semaphore::new(MOST_BYTES)));
            hooks.push(Hook { host, kinds, queue, room, waiting, worker });
        }
        Ok(Self { hooks, continuum: continuum.to_owned(), telemetry, clock, failures: Mutex::default() })
    }

    /// Tells all receivers that want to know. Never waits.
    pub fn tell(&self, notice: &Notice<'_>) {
        if self.hooks.is_empty() {
            return;
        }
        let Some(happened) = Happened::of(notice) else { return };
        let news = self.is_news(&happened);
        let Some(kind) = Kind::of(&happened).filter(|_| news) else { return };
        let id = Uuid::now_v7();
        let (at, continuum) = (self.clock.now(), &*self.continuum);
        let body = match serde_json::to_vec(&Body { delivery: id, at, continuum, kind, happened: &happened })
        {
            Ok(body) => Bytes::from(body),
            Err(error) => return tracing::error!(%error, "an event can't be put into JSON"),
        };
        for hook in self.hooks.iter().filter(|hook| hook.kinds.contains(&kind)) {
            let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let room = Arc::clone(&hook.room).try_acquire_many_owned(size).ok();
            let queued = room.and_then(|room| {
                hook.waiting.fetch_add(1, Ordering::SeqCst);
                let waiting = Waiting { id, kind, body: body.clone(), _room: room };
                let queued = hook.queue.try_send(waiting).ok();
                if queued.is_none() {
                    hook.waiting.fetch_sub(1, Ordering::SeqCst);
                }
                queued
            });
            if queued.is_none() {
                tracing::warn!(
                    webhook = hook.host,
                    kind = kind.name(),
                    "too much waits for it; an event is lost"
                );
                self.telemetry.webhook_lost(&hook.host, Lost::Full, 1);
            }
        }
    }

    fn is_news(&self, happened: &Happened) -> bool {
        let mut last = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match happened {
            Happened::Failed { policy, reason } => {
                last.insert(policy.clone(), reason.clone()).as_ref() != Some(reason)
            }
            Happened::Decided { policy, .. } => {
                last.remove(&Some(policy.clone()));
                true
            }
            _ => true,
        }
    }

    /// Waits until all is delivered that has been told, no longer than `most`. What is left then is lost, and counted.
    pub async fn finish(&self, most: Duration) {
        let all = u32::try_from(MOST_BYTES).unwrap_or(u32::MAX);
        let empty = join_all(self.hooks.iter().map(|hook| hook.room.acquire_many(all)));
        let _in_time = tokio::time::timeout(most, empty).await;
        for hook in &self.hooks {
            hook.worker.abort();
            let left = hook.waiting.swap(0, Ordering::SeqCst);
            if left > 0 {
                tracing::warn!(webhook = hook.host, events = left, "stopping; what waited for it is lost");
                self.telemetry.webhook_lost(&hook.host, Lost::Stopped, left);
            }
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.hooks.iter().for_each(|hook| hook.worker.abort());
    }
}

async fn work(
    receiver: Receiver,
    host: String,
    mut waits: mpsc::Receiver<Waiting>,
    waiting: Arc<AtomicUsize>,
    telemetry: Arc<Telemetry>,
) {
    while let Some(next) = waits.recv().await {
        match receiver.deliver(&next).await {
            Ok(()) => telemetry.webhook_delivered(&host),
            Err(failure) => {
                tracing::warn!(webhook = host, delivery = %next.id, %failure, "an event is lost");
                let lost = if failure.passes() { Lost::GivenUp } else { Lost::Refused };
                telemetry.webhook_lost(&host, lost, 1);
            }
        }
        waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
