//! Contending for the lease by which one of several schedulers leads, before anything of `sterna run` is begun.

use std::sync::Arc;
use std::time::Duration;

use sterna_daemon::control::stop::{Stop, Urgency};
use sterna_daemon::settings::Leader;
use sterna_daemon::telemetry::{self, Telemetry};
use sterna_executor::platform::kubernetes::connection;
use sterna_executor::platform::kubernetes::election::Candidate;
use sterna_executor::platform::kubernetes::leadership::{self, Leadership, Told};
use sterna_executor::platform::kubernetes::lease::{Contender, Place, steady};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::supervisor;

/// The leadership of this scheduler, until it is given up.
pub struct Reign {
    /// Whether it leads still.
    pub leadership: Leadership,
    end: oneshot::Sender<()>,
    rounds: JoinHandle<()>,
}

impl Reign {
    /// Waits until this scheduler leads; `None` where it is asked to stop before. Meanwhile it serves by `listener` that it is
    /// well and not ready.
    pub async fn begin(
        leader: &Leader,
        listener: tokio::net::TcpListener,
        tell: impl Fn(&str) + Send + Sync + 'static,
        stop: &Stop,
    ) -> anyhow::Result<Option<Self>> {
        let client = connection::client(leader.kubeconfig.as_deref()).await?;
        let namespace = leader.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        let place = Place { namespace, name: leader.lease.clone() };
        let candidate = Candidate::new(identity(), leader.term.to_duration());
        tell(&format!("leader     by the lease {place}, as {}", candidate.identity()));
        let contender = Contender::new(client, place, candidate, steady());
        let (end, ended) = oneshot::channel();
        let ended = async {
            // Dropped, it is the end as well.
            let _ended = ended.await;
        };
        let (leadership, rounds) = leadership::contend(contender, ended, move |told| match told {
            Told::Leads => tell("leading"),
            Told::Follows(leader) => tell(&format!("waiting: {leader} leads")),
            Told::Failed(error) => tell(&format!("not known who leads: {error}")),
        });
        let telemetry = Arc::new(Telemetry::new());
        let routes = telemetry::routes(Arc::clone(&telemetry));
        let server = tokio::spawn(telemetry::serve(listener, routes));
        let watchdog = tokio::spawn(supervisor::watchdog(Arc::clone(&telemetry)));
        // Waiting is what it is started for.
        supervisor::ready();
        let stopped = stop.at_least(Urgency::WhenDone);
        tokio::pin!(stopped);
        let leads = loop {
            tokio::select! {
                () = &mut stopped => break false,
                waited = tokio::time::timeout(PULSE, leadership.gained()) => match waited {
                    Ok(()) => break true,
                    Err(_) => telemetry.goes_on(),
                },
            }
        };
        watchdog.abort();
        server.abort();
        // Its address is free once it is gone.
        let _aborted = server.await;
        let reign = Self { leadership, end, rounds };
        if !leads {
            // It may have been given the lease in this moment.
            reign.end().await;
            return Ok(None);
        }
        Ok(Some(reign))
    }

    /// Lets another one lead.
    pub async fn end(self) {
        let _asked = self.end.send(());
        let _ended = tokio::time::timeout(LAST_WORD, self.rounds).await;
    }
}

/// How long giving up may take; without it, another one waits for the end of the term.
const LAST_WORD: Duration = Duration::from_secs(5);

/// How often one that waits is told to be alive.
const PULSE: Duration = Duration::from_secs(1);

/// A name that no other scheduler has, and this one never again.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{}", host.trim(), Uuid::now_v7())
}
