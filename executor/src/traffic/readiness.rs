//! Whether clients may be sent to a front now: what `/readyz` says.
//!
//! A front of its own is ready once it has heard an agent. One that stands in for a service is ready when that is: while it runs, and
//! while it stands still for no longer than its clients are held, so that a move does not take its address from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sterna_core::continuum::ServiceName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::announcement::Standing;
use super::config::StandIn;
use super::follow::{Believed, Desk};

/// Time for a service to take a connection: less than whoever asks waits for an answer, which is a second where nobody says more.
const TO_CONNECT: Duration = Duration::from_millis(800);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a front is ready.
#[derive(Debug)]
pub struct Readiness {
    desk: Arc<Desk>,
    ends: AtomicBool,
    stands_in: Option<(StandIn, Mutex<Run>)>,
}

/// Whether a service runs, or when it last did, as far as was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Never,
    Now,
    Until(Instant),
}

impl Readiness {
    /// Of a front that has just begun to listen to agents.
    pub fn new(desk: Arc<Desk>, stands_in: Option<StandIn>) -> Arc<Self> {
        let stands_in = stands_in.map(|one| (one, Mutex::new(Run::Never)));
        Arc::new(Self { desk, ends: AtomicBool::new(false), stands_in })
    }

    /// The front is about to end.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    /// Notes when the service that is stood in for runs and when it does not, for ever.
    pub async fn keep(self: Arc<Self>) {
        let mut believed = self.desk.believed();
        loop {
            if let Some((stand_in, run)) = &self.stands_in {
                let runs = runs(&of(&mut believed, &stand_in.service));
                let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
                *run = match (runs, *run) {
                    (true, _) => Run::Now,
                    (false, Run::Now) => Run::Until(Instant::now()),
                    (false, before) => before,
                };
            }
            if believed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether clients may be sent here.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), String> {
        if self.ends.load(Ordering::Relaxed) {
            return Err("it ends".to_owned());
        }
        if !self.desk.has_heard() {
            return Err("no agent was heard yet".to_owned());
        }
        let Some((stand_in, run)) = &self.stands_in else { return Ok(()) };
        let (mut told, until) = (self.desk.believed(), Instant::now() + TO_CONNECT);
        loop {
            let run = *run.lock().unwrap_or_else(PoisonError::into_inner);
            let believed = of(&mut told, &stand_in.service);
            let Some(address) = judge(stand_in, &believed, run, Instant::now())? else { return Ok(()) };
            let why = match timeout_at(until, TcpStream::connect(address)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            // It may have been frozen meanwhile, or have begun elsewhere only just.
            sleep(PAUSE).await;
            let same = self.desk.believed().borrow().get(&stand_in.service) == Some(&believed);
            if same && Instant::now() >= until {
                return Err(format!("the service takes no connections at {address}: {why}"));
            }
        }
    }
}

fn of(believed: &mut watch::Receiver<BTreeMap<ServiceName, Believed>>, service: &ServiceName) -> Believed {
    believed.borrow_and_update().get(service).cloned().unwrap_or_default()
}

/// Whether it runs, be it that it is about to be frozen.
fn runs(believed: &Believed) -> bool {
    let owned = believed.owned.as_ref();
    owned.is_some_and(|owned| owned.announced.standing != Standing::Frozen)
}

/// Whether a service is ready for clients, or the address that must take a connection for that.
fn judge(
    stand_in: &StandIn,
    believed: &Believed,
    run: Run,
    now: Instant,
) -> Result<Option<SocketAddr>, String> {
    if let Some(end) = &believed.ended {
        return Err(format!("the service has ended on {} with code {}", end.node, end.ended.code));
    }
    if let (Some(owned), Some(port)) = (&believed.owned, stand_in.ready_tcp)
        && owned.announced.standing == Standing::Runs
    {
        let none = || format!("port {port} of the service is not published on {}", owned.node);
        return Ok(Some(owned.at(port).ok_or_else(none)?.address));
    }
    match run {
        _ if runs(believed) => Ok(None),
        Run::Never => Err("the service runs nowhere yet".to_owned()),
        Run::Until(at) if now.duration_since(at) > stand_in.hold => {
            let hold = stand_in.hold.as_secs_f64();
            Err(format!("the service has run nowhere for longer than the {hold} s that its clients are held"))
        }
        Run::Now | Run::Until(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::migration::order::MigrationId;
    use crate::traffic::announcement::{Announced, Ended};
    use crate::traffic::place::{End, Owned};

    const HOLD: Duration = Duration::from_secs(10);

    fn stands(standing: Standing) -> Believed {
        let announced = Announced { epoch: 1, standing, ports: BTreeMap::from([(80, 8080)]) };
        let owned = Owned { node: "a".into(), host: IpAddr::V4(Ipv4Addr::LOCALHOST), announced };
        Believed { owned: Some(owned), ended: None }
    }

    fn stand_in(ready_tcp: Option<u16>) -> StandIn {
        StandIn { service: "web".into(), ready_tcp, hold: HOLD }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_while_its_service_runs_or_is_held_no_longer_than_may_be() {
        let (now, stops) = (Instant::now(), Standing::Stops(MigrationId::new()));
        let ago = |time: Duration| Run::Until(now - time);
        let long = HOLD + Duration::from_millis(1);
        let ended = End { node: "a".into(), ended: Ended { epoch: 1, code: 3 } };
        let ended = Believed { owned: None, ended: Some(ended) };
        for (believed, run, word) in [
            (Believed::default(), Run::Never, Some("runs nowhere yet")),
            (stands(Standing::Frozen), Run::Never, Some("runs nowhere yet")),
            // What was heard just now may not be noted yet.
            (stands(Standing::Runs), Run::Never, None),
            (stands(stops), Run::Now, None),
            (stands(Standing::Frozen), ago(HOLD), None),
            (Believed::default(), ago(HOLD), None),
            (stands(Standing::Frozen), ago(long), Some("longer than the 10 s")),
            (Believed::default(), ago(long), Some("longer than the 10 s")),
            (stands(Standing::Runs), ago(long), None),
            (ended, Run::Now, Some("has ended on a with code 3")),
        ] {
            let judged = judge(&stand_in(None), &believed, run, now);
            match word {
                None => assert_eq!(judged, Ok(None), "{believed:?} {run:?}"),
                Some(word) => assert!(judged.as_ref().unwrap_err().contains(word), "{judged:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_is_tried_while_the_service_runs_and_not_while_it_is_held() {
        let now = Instant::now();
        let judge = |believed: &Believed, port| judge(&stand_in(Some(port)), believed, Run::Until(now), now);
        assert_eq!(judge(&stands(Standing::Runs), 80), Ok(Some(([127, 0, 0, 1], 8080).into())));
        assert!(judge(&stands(Standing::Runs), 81).unwrap_err().contains("not published on a"));
        assert_eq!(judge(&stands(Standing::Stops(MigrationId::new())), 80), Ok(None));
        assert_eq!(judge(&stands(Standing::Frozen), 80), Ok(None));
    }
}
