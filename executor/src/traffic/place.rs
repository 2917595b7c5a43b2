//! Where a service takes connections, as far as its nodes' agents say. No I/O.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sterna_core::continuum::NodeName;

use crate::migration::order::MigrationId;

use super::announcement::{Announced, Standing};

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

/// What a front may do with what comes for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stand {
    /// Send it there.
    Serving(Place),
    /// Finish there what is under way, and send nothing new.
    Stopping(Place, MigrationId),
    /// Hold it: nobody says that the service takes connections.
    Nowhere,
}

#[derive(Debug, Clone)]
struct View {
    announced: Announced,
    host: IpAddr,
    /// Whether the agent can still be heard. What it said last holds until another node says more.
    heard: bool,
}

/// What the agents said last of one service.
#[derive(Debug, Clone)]
pub struct Views {
    /// The port within its container.
    port: u16,
    nodes: BTreeMap<NodeName, View>,
    /// The highest epoch that was ever announced. An agent that can't be heard any more is not believed below it.
    highest: u64,
}

impl Views {
    /// Of a service that is spoken with on this port of its container; nothing is known yet.
    pub fn new(port: u16) -> Self {
        Self { port, nodes: BTreeMap::new(), highest: 0 }
    }

    /// Notes what the agent of a node at `host` says; `None` where it owns no such service.
    pub fn told(&mut self, node: &NodeName, host: IpAddr, announced: Option<Announced>) {
        match announced {
            Some(announced) => {
                self.highest = self.highest.max(announced.epoch);
                self.nodes.insert(node.clone(), View { announced, host, heard: true });
            }
            None => drop(self.nodes.remove(node)),
        }
    }

    /// Notes that the agent of a node can't be heard any more.
    pub fn lost(&mut self, node: &NodeName) {
        if let Some(view) = self.nodes.get_mut(node) {
            view.heard = false;
        }
    }

    /// Where the service is. One owner: the highest epoch decides, and where two nodes claim the same one, none is believed.
    /// What an agent said that can't be heard any more counts where no other says that it has the service running.
    pub fn stand(&self) -> Stand {
        let ((heard_epoch, heard), (silent_epoch, silent)) = (self.owner(true), self.owner(false));
        let runs = |owner: &Owner| owner.is_some_and(|(_, view)| view.announced.standing != Standing::Frozen);
        let owner = if runs(&heard) || heard_epoch >= silent_epoch { heard } else { silent };
        let Some((node, view)) = owner else { return Stand::Nowhere };
        let Some(published) = view.announced.ports.get(&self.port) else { return Stand::Nowhere };
        let address = SocketAddr::new(view.host, *published);
        let place = Place { node: node.clone(), epoch: view.announced.epoch, address };
        match view.announced.standing {
            Standing::Runs => Stand::Serving(place),
            Standing::Stops(migration) => Stand::Stopping(place, migration),
            Standing::Frozen => Stand::Nowhere,
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

    fn node(stand: &Stand) -> Option<&str> {
        match stand {
            Stand::Serving(place) => Some(place.node.as_str()),
            _ => None,
        }
    }

    #[test]
    fn a_move_goes_from_one_place_over_none_to_the_other() {
        let (a, b, id) = (NodeName::from("a"), NodeName::from("b"), MigrationId::new());
        let mut views = Views::new(80);
        assert_eq!(views.stand(), Stand::Nowhere);
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(node(&views.stand()), Some("a"));
        views.told(&a, HOST, says(1, Standing::Stops(id)));
        assert!(matches!(views.stand(), Stand::Stopping(_, stops) if stops == id));
        views.told(&a, HOST, says(1, Standing::Frozen));
        assert_eq!(views.stand(), Stand::Nowhere);
        views.told(&b, HOST, says(2, Standing::Runs));
        assert_eq!(node(&views.stand()), Some("b"));
        views.told(&a, HOST, None);
        assert_eq!(node(&views.stand()), Some("b"));
    }

    #[test]
    fn a_move_that_is_undone_goes_back() {
        let a = NodeName::from("a");
        let mut views = Views::new(80);
        views.told(&a, HOST, says(1, Standing::Frozen));
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(node(&views.stand()), Some("a"));
    }

    #[test]
    fn an_agent_that_is_silent_is_believed_until_another_says_more() {
        let (a, b) = (NodeName::from("a"), NodeName::from("b"));
        let mut views = Views::new(80);
        views.told(&a, HOST, says(1, Standing::Runs));
        views.lost(&a);
        assert_eq!(node(&views.stand()), Some("a"), "a restart of an agent costs nothing");
        views.told(&b, HOST, says(2, Standing::Runs));
        views.told(&b, HOST, None);
        assert_eq!(views.stand(), Stand::Nowhere, "the service has left the silent node");
        views.told(&a, HOST, says(1, Standing::Runs));
        assert_eq!(
            node(&views.stand()),
            Some("a"),
            "but what an agent says now holds, its register may have been lost"
        );
    }

    #[test]
    fn a_service_that_was_started_anew_is_found_though_its_node_is_dead() {
        let mut views = Views::new(80);
        views.told(&"a".into(), HOST, says(5, Standing::Runs));
        views.lost(&"a".into());
        views.told(&"b".into(), HOST, says(0, Standing::Runs));
        assert_eq!(node(&views.stand()), Some("b"));
    }

    #[test]
    fn a_destination_that_is_silent_is_believed_over_a_source_that_stands_frozen() {
        let mut views = Views::new(80);
        views.told(&"a".into(), HOST, says(1, Standing::Frozen));
        views.told(&"b".into(), HOST, says(2, Standing::Runs));
        views.lost(&"b".into());
        assert_eq!(node(&views.stand()), Some("b"));
        views.told(&"c".into(), HOST, says(3, Standing::Frozen));
        assert_eq!(views.stand(), Stand::Nowhere);
    }

    #[test]
    fn of_two_that_claim_the_same_epoch_none_is_believed() {
        let mut views = Views::new(80);
        for name in ["a", "b"] {
            views.told(&name.into(), HOST, says(1, Standing::Runs));
        }
        assert_eq!(views.stand(), Stand::Nowhere);
    }

    #[test]
    fn a_service_that_does_not_publish_the_port_is_nowhere() {
        let mut views = Views::new(81);
        views.told(&"a".into(), HOST, says(1, Standing::Runs));
        assert_eq!(views.stand(), Stand::Nowhere);
    }

    proptest! {
        /// Whatever is said in whatever order: the place was last announced to run, and no other node that is heard
        /// announces a higher epoch, in whatever standing.
        #[test]
        fn only_the_owner_is_served(steps in prop::collection::vec((0..3usize, 0..4u64, 0..5u8), 1..60)) {
            let id = MigrationId::new();
            let mut views = Views::new(80);
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
                if let Stand::Serving(place) = views.stand() {
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
