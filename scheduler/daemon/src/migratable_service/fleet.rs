//! What the agents say of all services.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use sterna_core::continuum::{NodeName, ServiceName};
use sterna_executor::fleet::Fleet;
use sterna_executor::migration::promotion::holder;
use sterna_executor::node::api::{Arriving, ServiceFacts};
use sterna_executor::platform::kubernetes::migratable_service::reconcile::{Standing, Whereabouts};
use tokio::time::timeout;

/// How long an agent may take to answer.
const TO_ANSWER: Duration = Duration::from_secs(5);

/// All that was said at a look.
#[derive(Default)]
pub(super) struct Told {
    /// What each node that answered has.
    pub services: BTreeMap<NodeName, Vec<ServiceFacts>>,
    /// What comes in there and is not finished.
    pub arriving: BTreeMap<NodeName, Vec<Arriving>>,
    /// Why the others did not answer.
    pub silent: BTreeMap<NodeName, String>,
    /// Where agents listen, as far as that is known.
    pub addresses: BTreeMap<NodeName, String>,
}

impl Told {
    /// Asks all agents at once.
    pub async fn by(fleet: &Fleet) -> Self {
        let asked = join_all(fleet.agents().map(|(node, agent)| async move {
            let answer = match agent {
                Ok(agent) => match timeout(TO_ANSWER, agent.holdings()).await {
                    Ok(answer) => answer.map_err(|error| error.to_string()),
                    Err(_) => Err("it does not answer in time".to_owned()),
                },
                Err(why) => Err(why.to_owned()),
            };
            (node.clone(), answer, agent.ok().map(|agent| agent.address().to_owned()))
        }));
        let mut told = Self::default();
        for (node, answer, address) in asked.await {
            told.addresses.extend(address.map(|address| (node.clone(), address)));
            match answer {
                Ok((arriving, services)) => {
                    told.arriving.insert(node.clone(), arriving);
                    told.services.insert(node, services);
                }
                Err(why) => drop(told.silent.insert(node, why)),
            }
        }
        told
    }

    /// Where a service is. Of two nodes that have it the one with the higher epoch owns it.
    pub fn whereabouts(&self, service: &ServiceName) -> Whereabouts {
        let all =
            self.services.iter().flat_map(|(node, services)| services.iter().map(move |one| (node, one)));
        let found = all.filter(|(_, one)| one.service == *service).max_by_key(|(_, one)| one.epoch);
        if let Some((node, facts)) = found {
            let standing = match &facts.leaving_for {
                Some(to) => Standing::Moving(to.clone()),
                None if facts.running => Standing::Runs,
                None if facts.ended.is_none() => Standing::Made,
                None => Standing::Ended,
            };
            return Whereabouts::On(node.clone(), standing);
        }
        if let Some((at, from)) = holder(&self.arriving, service) {
            return Whereabouts::Held { at: at.clone(), from: from.clone() };
        }
        match self.silent.first_key_value() {
            Some((node, why)) => Whereabouts::Unknown(format!("`{node}`: {why}")),
            None => Whereabouts::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use sterna_executor::migration::holding::Holding;
    use sterna_executor::migration::order::{MigrationId, Order};
    use sterna_policies::policy::{Memory, Method};
    use sterna_policies::quantity::{Bytes, Millis};

    use super::*;

    fn facts(epoch: u64, running: bool, leaving_for: Option<&str>) -> ServiceFacts {
        ServiceFacts {
            service: "shop".into(),
            container: "c".into(),
            image: "i".into(),
            running,
            ended: None,
            frozen: false,
            memory: Bytes::ZERO,
            epoch,
            leaving_for: leaving_for.map(NodeName::from),
            committed: None,
        }
    }

    fn where_is(services: Vec<(&str, ServiceFacts)>, silent: &[&str]) -> Whereabouts {
        let told = Told {
            services: services.into_iter().map(|(node, one)| (node.into(), vec![one])).collect(),
            silent: silent.iter().map(|node| ((*node).into(), "gone".to_owned())).collect(),
            ..Told::default()
        };
        told.whereabouts(&"shop".into())
    }

    #[test]
    fn a_service_is_nowhere_only_if_all_nodes_say_so() {
        assert_eq!(where_is(vec![], &[]), Whereabouts::Nowhere);
        assert_eq!(where_is(vec![], &["b"]), Whereabouts::Unknown("`b`: gone".into()));
        let there = Whereabouts::On("a".into(), Standing::Runs);
        assert_eq!(where_is(vec![("a", facts(1, true, None))], &["b"]), there);
    }

    #[test]
    fn what_stands_held_is_not_nowhere() {
        let order = Order {
            id: MigrationId::new(),
            service: "shop".into(),
            from: "a".into(),
            to: "b".into(),
            from_address: String::new(),
            to_address: String::new(),
            method: Method::default(),
            memory: Memory::default(),
            max_downtime: None,
            bandwidth: None,
            deadline: Millis::from_duration(Duration::ZERO),
            freeze_lease: Millis::from_duration(Duration::ZERO),
            predicted: None,
        };
        let held = |standing| Arriving {
            order: order.clone(),
            epoch: 1,
            image: "i".into(),
            holding: Holding::Held,
            standing,
            pod: None,
        };
        let told = |standing| Told {
            services: [("b".into(), vec![])].into(),
            arriving: [("b".into(), vec![held(standing)])].into(),
            ..Told::default()
        };
        let expected = Whereabouts::Held { at: "b".into(), from: "a".into() };
        assert_eq!(told(true).whereabouts(&"shop".into()), expected);
        assert_eq!(told(false).whereabouts(&"shop".into()), Whereabouts::Nowhere);
    }

    #[test]
    fn the_owner_of_the_highest_epoch_has_it() {
        let both = vec![("a", facts(1, false, Some("b"))), ("b", facts(2, true, None))];
        assert_eq!(where_is(both, &[]), Whereabouts::On("b".into(), Standing::Runs));
        let moving = where_is(vec![("a", facts(1, true, Some("b")))], &[]);
        assert_eq!(moving, Whereabouts::On("a".into(), Standing::Moving("b".into())));
        let made = facts(1, false, None);
        let ended = ServiceFacts { ended: Some(0), ..made.clone() };
        for (facts, standing) in [(made, Standing::Made), (ended, Standing::Ended)] {
            assert_eq!(where_is(vec![("a", facts)], &[]), Whereabouts::On("a".into(), standing));
        }
    }
}
