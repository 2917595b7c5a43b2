//! Whom to listen to: the agents of the nodes that a front's file names, as nodes come and go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sterna_core::continuum::NodeName;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::identity::Credentials;

use super::follow::{Agent, Announcer, Desk};
use super::roster::{Roster, RosterFile, Whereabouts};

/// Pause between two looks at the file.
const LOOK: Duration = Duration::from_secs(2);

/// Gives the agent of a node.
type Of<A> = Box<dyn Fn(&NodeName, &Arc<Roster>) -> A + Send + Sync>;

/// Those that are listened to. Dropped, they are not any more.
pub struct Followers<A> {
    desk: Arc<Desk>,
    of: Of<A>,
    following: BTreeMap<NodeName, (Whereabouts, AbortOnDropHandle<()>)>,
}

impl Followers<Agent> {
    /// Agents, by their API; nobody is listened to yet.
    pub fn of_agents(desk: Arc<Desk>, credentials: Credentials) -> Self {
        let of = move |node: &NodeName, roster: &Arc<Roster>| {
            Agent::new(node.clone(), Arc::clone(roster), credentials.clone())
        };
        Self { desk, of: Box::new(of), following: BTreeMap::new() }
    }
}

impl<A: Announcer> Followers<A> {
    /// Listens to the agents of these nodes from now on, and to no others. What one said that is not among them any more, or
    /// listens elsewhere, is forgotten: a freeze there would not be heard, and where it was somebody else may be by now.
    pub async fn follow(&mut self, roster: &Roster) {
        let nodes = roster.nodes();
        let left =
            self.following.extract_if(.., |node, (whereabouts, _)| nodes.get(node) != Some(whereabouts));
        for (node, (_, task)) in left.collect::<Vec<_>>() {
            task.abort();
            // Or what it takes in just now would be left.
            let _ = task.await;
            self.desk.gone(&node);
            if !nodes.contains_key(&node) {
                tracing::info!(%node, "is no node any more, and not listened to");
            }
        }
        let roster = Arc::new(roster.clone());
        for (node, whereabouts) in nodes {
            self.following.entry(node).or_insert_with_key(|node| {
                let task = tokio::spawn(Arc::clone(&self.desk).follow((self.of)(node, &roster)));
                (whereabouts, AbortOnDropHandle::new(task))
            });
        }
    }

    /// The nodes whose agents are listened to.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.following.keys()
    }

    /// Listens to the agents of the nodes that a file names, for ever, and tells which those are. It is read again every two
    /// seconds.
    pub async fn keep(mut self, mut file: RosterFile, tell: watch::Sender<Arc<Roster>>) {
        self.follow(file.roster()).await;
        loop {
            tokio::time::sleep(LOOK).await;
            match file.read_again() {
                Ok(None) => {}
                Ok(Some(roster)) => {
                    tell.send_replace(Arc::new(roster.clone()));
                    self.follow(roster).await;
                }
                Err(error) => {
                    tracing::error!(%error, "the nodes stay those that were read before: this can't be used");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::StreamExt as _;
    use sterna_core::continuum::ServiceName;

    use super::*;
    use crate::traffic::announcement::{Announced, Announcement, Held, Standing};
    use crate::traffic::follow::Heard;

    /// Says that it runs the service, at an epoch that is its address.
    struct Says {
        node: NodeName,
        epoch: u64,
    }

    impl Announcer for Says {
        fn node(&self) -> &NodeName {
            &self.node
        }

        async fn listen(&self, services: &[ServiceName]) -> Result<Heard, String> {
            let one = Announced {
                epoch: self.epoch,
                standing: Standing::Runs,
                ports: BTreeMap::from([(80, 8080)]),
            };
            let said = Announcement {
                listener: 1,
                services: BTreeMap::from([(services[0].clone(), one)]),
                ended: BTreeMap::new(),
            };
            let said = futures_util::stream::iter([Ok(said)]).chain(futures_util::stream::pending());
            Ok(Heard { host: IpAddr::V4(Ipv4Addr::LOCALHOST), said: said.boxed() })
        }

        async fn held(&self, _: &Held) -> Result<(), String> {
            Ok(())
        }
    }

    fn roster(agents: &[(&str, &str)]) -> Roster {
        let agents = agents.iter().map(|(node, epoch)| (NodeName::from(*node), (*epoch).to_owned()));
        Roster::Agents(agents.collect())
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_come_and_go_and_what_one_said_that_is_gone_is_forgotten() {
        let service = ServiceName::from("web");
        let desk = Desk::new([(service.clone(), BTreeMap::new())], Duration::from_millis(60));
        let of = |node: &NodeName, roster: &Arc<Roster>| {
            let Roster::Agents(agents) = &**roster else { panic!() };
            Says { node: node.clone(), epoch: agents[node].parse().unwrap() }
        };
        let mut followers =
            Followers { desk: Arc::clone(&desk), of: Box::new(of), following: BTreeMap::new() };
        let believed = desk.believed();
        let owner = || {
            let owned = believed.borrow()[&service].owned.clone();
            owned.map(|one| (one.node, one.announced.epoch))
        };
        let settle = || tokio::time::sleep(Duration::from_millis(10));

        followers.follow(&roster(&[("a", "1"), ("b", "2")])).await;
        settle().await;
        assert_eq!(owner(), Some(("b".into(), 2)));
        // One that is where it was is listened to on, and says nothing anew.
        followers.follow(&roster(&[("a", "1")])).await;
        assert_eq!(owner(), Some(("a".into(), 1)), "nobody that is heard says more");
        followers.follow(&roster(&[("a", "7")])).await;
        assert_eq!(owner(), None, "at another address it must say so itself");
        settle().await;
        assert_eq!(owner(), Some(("a".into(), 7)));
        followers.follow(&roster(&[])).await;
        settle().await;
        assert_eq!(owner(), None);
    }
}
