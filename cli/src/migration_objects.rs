//! Showing migrations as objects in a Kubernetes cluster, beside `sterna run`.

use std::sync::Arc;
use std::time::Duration;

use sterna_daemon::control::desk::Desk;
use sterna_daemon::control::stop::{Stop, Urgency};
use sterna_daemon::control::world::{RealWorld, SystemClock};
use sterna_daemon::history::HistoryStore;
use sterna_daemon::migration_object::Keeper;
use sterna_daemon::migration_object::heard::Heard;
use sterna_daemon::settings::Kubernetes;
use sterna_executor::platform::kubernetes::connection;
use sterna_executor::platform::kubernetes::leadership::Leadership;
use sterna_executor::platform::kubernetes::migration_object::objects::Namespace;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The task that keeps the objects.
pub struct Shown {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// What it needs.
pub struct Parts {
    /// With a connection of its own: the loop does not wait for it.
    pub history: HistoryStore,
    /// Who has migrations undone.
    pub world: RealWorld,
    /// What the loop saw last.
    pub desk: Arc<Desk>,
    /// What the loop tells.
    pub heard: Arc<Heard>,
    /// Whether this scheduler leads; `None` where it is the only one.
    pub leadership: Option<Leadership>,
}

impl Shown {
    /// Begins, in a namespace.
    pub async fn begin(settings: &Kubernetes, namespace: &str, parts: Parts) -> anyhow::Result<Self> {
        let client = connection::client(settings.kubeconfig.as_deref()).await?;
        let Parts { history, world, desk, heard, leadership } = parts;
        let keeper = Keeper {
            objects: Namespace::new(client, namespace),
            canceller: world,
            clock: SystemClock,
            leads: move || leadership.as_ref().is_none_or(Leadership::holds),
            history,
            desk,
            heard,
            keep: usize::try_from(settings.keep).unwrap_or(usize::MAX),
        };
        let (end, ended) = oneshot::channel();
        Ok(Self { end, task: tokio::spawn(keeper.keep(ended)) })
    }

    /// Says what is left to say; nothing more is told by the loop.
    pub async fn end(self, stop: &Stop) {
        let Self { end, mut task } = self;
        let _asked = end.send(());
        let most = if stop.urgency() == Urgency::Now { HURRIED } else { LAST_WORDS };
        if tokio::time::timeout(most, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// How long objects may take when the service stops.
const LAST_WORDS: Duration = Duration::from_secs(6);
/// And when it is to end at once.
const HURRIED: Duration = Duration::from_secs(1);
