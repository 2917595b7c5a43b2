//! Where a service takes connections, as far as its nodes' agents say. No I/O.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sterna_core::continuum::NodeName;

use crate::migration::order::MigrationId;

use super::announcement::{Announced, Ended, Standing};

/// A place that takes connections. Two of the same node and epoch are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node that owns the service.
    pub node: NodeName,
    /// How often it had changed owners.
    pub epoch: u64,
    /// Where it is reached.
    pub address: SocketAddr,
}

/// Who has a service, as far as agents are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The node.
    pub node: NodeName,
    /// The host of its agent, on which the service's ports are published.
    pub host: IpAddr,
    /// What its agent said.
    pub announced: Announced,
}

impl Owned {
    /// Where a port of its container is reached; `None` where that is not published.
    pub fn at(&self, port: u16) -> Option<Place> {
        let published = self.announced.ports.get(&port)?;
        let address = SocketAddr::new(self.host, *published);
        Some(Place { node: self.node.clone(), epoch: self.announced.epoch, address })
    }
}

/// A service that has ended for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The node that owned it.
    pub node: NodeName,
    /// What its agent said.
    pub ended: Ended,
}

/// What a front may do with what comes for a port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// Send it there.
    Serving(Place),
    /// Finish there what is under way, and send nothing new.
    Stopping(Place, MigrationId),
    /// Hold it: nobody says that the service takes connections.
    Nowhere,
}

impl Stand {
    /// Of a port of a service that this node has.
    pub fn of(owned: Option<&Owned>, port: u16) -> Self {
        let Some(owned) = owned else { return Self::Nowhere };
        let Some(place) = owned.at(port) else { return Self::Nowhere };
        match owned.announced.standing {
            Standing::Runs => Self::Serving(place),
            Standing::Stops(migration) => Self::Stopping(place, migration),
            Standing::Frozen => Self::Nowhere,
        }
    }
}

#[derive(Debug, Clone)]
struct View {
    announced: Announced,
    host: IpAddr,
    /// Whether the agent can still be heard. What it said last holds until another node says more.
    heard: bool,
}

/// What the agents said last of one service.
#[derive(Debug, Clone, Default)]
pub struct Views {
    nodes: BTreeMap<NodeName, View>,
    /// Where it has ended. That it has stays so, though the agent should be silent since.
    ends: BTreeMap<NodeName, Ended>,
    /// The highest epoch that was ever announced. An agent that can't be heard any more is not believed below it.
    highest: u64,
    ever: bool,
}

impl Views {
    /// Notes what the agent of a node at `host` says; `None` where it owns no such service.
    pub fn told(&mut self, node: &NodeName, host: IpAddr, announced: Option<Announced>) {
        match announced {
            Some(announced) => {
                self.highest = self.highest.max(announced.epoch);
                self.ever = true;
                self.nodes.insert(node.clone(), View { announced, host, heard: true });
            }
            None => drop(self.nodes.remove(node)),
        }
    }

    /// Whether anybody ever said that it has the service.
    pub const fn ever(&self) -> bool {
        self.ever
    }

    /// Notes that the service has ended for good on a node, as its agent says; `None` where it does not say so.
    pub fn told_end(&mut self, node: &NodeName, ended: Option<Ended>) {
        match ended {
            Some(ended) => {
                self.highest = self.highest.max(ended.epoch);
                self.ends.insert(node.clone(), ended);
            }
            None => drop(self.ends.remove(node)),
        }
    }

    /// Notes that the agent of a node can't be heard any more.
    pub fn lost(&mut self, node: &NodeName) {
        if let Some(view) = self.nodes.get_mut(node) {
            view.heard = false;
        }
    }

    /// Forgets what the agent of a node said, which is not listened to any more. How far epochs had come stays known.
    pub fn gone(&mut self, node: &NodeName) {
        self.nodes.remove(node);
        self.ends.remove(node);
    }

    /// Who has the service. One owner: the highest epoch decides, and where two nodes claim the same one, none is believed.
    /// What an agent said that can't be heard any more counts where no other says that it has the service running.
    pub fn owned(&self) -> Option<Owned> {
        let ((heard_epoch, heard), (silent_epoch, silent)) = (self.owner(true), self.owner(false));
        let runs = |owner: &Owner| owner.is_some_and(|(_, view)| view.announced.standing != Standing::Frozen);
        let owner = if runs(&heard) || heard_epoch >= silent_epoch { heard } else { silent };
        let (node, view) = owner?;
        Some(Owned { node: node.clone(), host: view.host, announced: view.announced.clone() })
    }

    /// Where the service has ended, if it has: nobody said more, and nobody says that it runs.
    pub fn ended(&self) -> Option<End> {
        let runs = self.owned().is_some_and(|owned| owned.announced.standing != Standing::Frozen);
        let mut last = self.ends.iter().filter(|(_, ended)| ended.epoch >= self.highest);
        match (runs, last.next(), last.next()) {
            (false, Some((node, ended)), None) => Some(End { node: node.clone(), ended: *ended }),
            _ => None,
        }
    }

    /// The highest epoch among those that are heard, or those that are not, and the owner if only one claims it.
    fn owner(&self, heard: bool) -> (Option<u64>, Owner<'_>) {
        // Others have told more since a silent agent was heard last.
        let counts = |view: &&View| view.heard == heard && (heard || view.announced.epoch >= self.highest);
        let epoch = self.nodes.values().filter(counts).map(|view| view.announced.epoch).max();
        let mut owners =
            self.nodes.iter().filter(|(_, view)| counts(view) && Some(view.announced.epoch) == epoch);
        match (owners.next(), owners.next()) {
            (Some(owner), None) => (epoch, Some(owner)),
            _ => (epoch, None),
        }
    }
}

/// Who owns a service, and what it said.
type Owner<'a> = Option<(&'a NodeName, &'a View)>;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn says(epoch: u64, standing: Standing) -> Option<Announced> {
        Some(Announced { epoch, standing, ports: BTreeMap::from([(80, 8080)]) })
    }

    fn stand(views: &Views) -> Stand {
        Stand::of(views.owned().as_ref(), 80)
    }

    fn node(stand: &Stand) -> Option<&str> {
        match stand {
            Stand::Serving(place) => Some(place.node.as_str()),
            _ => None,
        }
    }

    #[test]
    fn a_move_goes_from_one_place_over_none_to_the_other() {
        let (a, b, id) = (NodeName::from("a"), NodeName::from("b"), MigrationId::new());
        let mut views = Views::default();
        assert_eq!(stand(&views), Stand::Nowhere);
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(node(&stand(&views)), Some("a"));
        views.told(&a, HOST, says(1, Standing::Stops(id)));
        assert!(matches!(stand(&views), Stand::Stopping(_, stops) if stops == id));
        views.told(&a, HOST, says(1, Standing::Frozen));
        assert_eq!(stand(&views), Stand::Nowhere);
        views.told(&b, HOST, says(2, Standing::Runs));
        assert_eq!(node(&stand(&views)), Some("b"));
        views.told(&a, HOST, None);
        assert_eq!(node(&stand(&views)), Some("b"));
    }

    #[test]
    fn a_move_that_is_undone_goes_back() {
        let a = NodeName::from("a");
        let mut views = Views::default();
        views.told(&a, HOST, says(1, Standing::Frozen));
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(node(&stand(&views)), Some("a"));
    }

    #[test]
    fn an_agent_that_is_silent_is_believed_until_another_says_more() {
        let (a, b) = (NodeName::from("a"), NodeName::from("b"));
        let mut views = Views::default();
        views.told(&a, HOST, says(1, Standing::Runs));
        views.lost(&a);
        assert_eq!(node(&stand(&views)), Some("a"), "a restart of an agent costs nothing");
        views.told(&b, HOST, says(2, Standing::Runs));
        views.told(&b, HOST, None);
        assert_eq!(stand(&views), Stand::Nowhere, "the service has left the silent node");
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(
            node(&stand(&views)),
            Some("a"),
            "but what an agent says now holds, its register may have been lost"
        );
    }

    #[test]
    fn a_service_that_was_started_anew_is_found_though_its_node_is_dead() {
        let mut views = Views::default();
        views.told(&"a".into(), HOST, says(5, Standing::Runs));
        views.lost(&"a".into());
        views.told(&"b".into(), HOST, says(0, Standing::Runs));
        assert_eq!(node(&stand(&views)), Some("b"));
    }

    #[test]
    fn a_destination_that_is_silent_is_believed_over_a_source_that_stands_frozen() {
        let mut views = Views::default();
        views.told(&"a".into(), HOST, says(1, Standing::Frozen));
        views.told(&"b".into(), HOST, says(2, Standing::Runs));
        views.lost(&"b".into());
        assert_eq!(node(&stand(&views)), Some("b"));
        views.told(&"c".into(), HOST, says(3, Standing::Frozen));
        assert_eq!(stand(&views), Stand::Nowhere);
    }

    #[test]
    fn of_two_that_claim_the_same_epoch_none_is_believed() {
        let mut views = Views::default();
        for name in ["a", "b"] {
            views.told(&name.into(), HOST, says(1, Standing::Runs));
        }
        assert_eq!(stand(&views), Stand::Nowhere);
    }

    #[test]
    fn a_port_that_is_not_published_is_nowhere() {
        let mut views = Views::default();
        views.told(&"a".into(), HOST, says(1, Standing::Runs));
        assert_eq!(Stand::of(views.owned().as_ref(), 81), Stand::Nowhere);
    }

    #[test]
    fn an_end_holds_unless_somebody_says_more() {
        let (a, b) = (NodeName::from("a"), NodeName::from("b"));
        let ends = |epoch| Some(Ended { epoch, code: 3 });
        let mut views = Views::default();
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(views.ended(), None);
        views.told(&a, HOST, None);
        views.told_end(&a, ends(1));
        assert_eq!(views.ended(), Some(End { node: a.clone(), ended: Ended { epoch: 1, code: 3 } }));
        views.lost(&a);
        assert!(views.ended().is_some());
        views.told(&b, HOST, says(2, Standing::Frozen));
        assert_eq!(views.ended(), None, "what had ended on `a` was older");
        // The source of a move that was committed says for a while that it stands frozen there.
        views.told(&a, HOST, says(2, Standing::Frozen));
        views.told(&b, HOST, None);
        views.told_end(&b, ends(3));
        assert_eq!(views.ended().map(|end| end.node), Some(b.clone()));
        views.told(&a, HOST, says(4, Standing::Runs));
        assert_eq!(views.ended(), None);
        views.told(&a, HOST, None);
        views.told_end(&a, ends(3));
        assert_eq!(views.ended(), None, "somebody has said more than both");
    }

    #[test]
    fn what_a_node_said_that_is_none_any_more_is_forgotten_but_not_that_it_said_more_than_others() {
        let (a, b) = (NodeName::from("a"), NodeName::from("b"));
        let mut views = Views::default();
        views.told(&a, HOST, says(1, Standing::Runs));
        views.lost(&a);
        views.told(&b, HOST, says(2, Standing::Runs));
        views.gone(&b);
        assert_eq!(stand(&views), Stand::Nowhere, "the service has left `a`, wherever it is");
        views.told(&b, HOST, says(2, Standing::Runs));
        assert_eq!(node(&stand(&views)), Some("b"));
    }

    proptest! {
        /// Whatever is said in whatever order: the place was last announced to run, and no other node that is heard
        /// announces a higher epoch, in whatever standing.
        #[test]
        fn only_the_owner_is_served(steps in prop::collection::vec((0..3usize, 0..4u64, 0..5u8), 1..60)) {
            let id = MigrationId::new();
            let mut views = Views::default();
            let mut last: BTreeMap<NodeName, (Option<Announced>, bool)> = BTreeMap::new();
            for (at, epoch, what) in steps {
                let node = NodeName::from(["a", "b", "c"][at]);
                let announced = match what {
                    0 => says(epoch, Standing::Runs),
                    1 => says(epoch, Standing::Stops(id)),
                    2 => says(epoch, Standing::Frozen),
                    3 => None,
                    _ => {
                        views.lost(&node);
                        if let Some((_, heard)) = last.get_mut(&node) {
                            *heard = false;
                        }
                        continue;
                    }
                };
                views.told(&node, HOST, announced.clone());
                last.insert(node, (announced, true));
                if let Stand::Serving(place) = stand(&views) {
                    let said = last[&place.node].0.as_ref().unwrap();
                    prop_assert_eq!((said.epoch, said.standing), (place.epoch, Standing::Runs));
                    for (announced, heard) in last.values() {
                        let Some(other) = announced else { continue };
                        prop_assert!(!heard || other.epoch <= place.epoch);
                    }
                }
            }
        }
    }
}
