//! The right to run a service at another node.

use serde::{Deserialize, Serialize};
use sterna_core::continuum::{NodeName, ServiceName};

use super::order::{MigrationId, Order};
use super::pod_end::PodEnd;
use crate::identity::Role;

/// What a certificate rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "grounds")]
pub enum Grounds {
    /// The source's register says `commit`. Issued by the source's agent.
    Commit,
    /// The source is known to be gone for good. Issued with the scheduler's certificate, on somebody's word.
    Fenced {
        /// Who says so.
        by: String,
        /// Why they know.
        reason: String,
    },
    /// The pod in which the source's agent ran has ended, with its register. Issued with the scheduler's certificate, on the
    /// word of the pod's cluster.
    PodEnded(PodEnd),
}

impl Grounds {
    /// Whether this party may issue a certificate on these grounds for a service that left `source`, whose agent said that it runs in
    /// the pod of that UID: the source's agent issues a commit, nobody but a scheduler tells of a source that is gone, and of
    /// the end of a pod only where it is that very pod.
    pub fn may_be_issued(&self, issuer: &Role, source: &NodeName, pod: Option<&str>) -> bool {
        match self {
            Self::Commit => *issuer == Role::Agent(source.clone()),
            Self::Fenced { .. } => *issuer == Role::Scheduler,
            Self::PodEnded(end) => {
                *issuer == Role::Scheduler && end.node == *source && pod == Some(end.uid.as_str())
            }
        }
    }
}

/// The right to run a service, for one destination and one epoch; of use once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The migration.
    pub migration: MigrationId,
    /// The service.
    pub service: ServiceName,
    /// The epoch that begins with it.
    pub epoch: u64,
    /// Who may run it.
    pub destination: NodeName,
    /// Digest of the image that it must have.
    pub image: String,
    /// What it rests on.
    #[serde(flatten)]
    pub grounds: Grounds,
}

impl Certificate {
    /// The certificate that is due for an order of a service that is at `epoch` and runs `image`.
    pub fn due(order: &Order, epoch: u64, image: &str, grounds: Grounds) -> Self {
        Self {
            migration: order.id,
            service: order.service.clone(),
            epoch: epoch.saturating_add(1),
            destination: order.to.clone(),
            image: image.to_owned(),
            grounds,
        }
    }

    /// Whether this is the certificate due for an order, whatever it rests on.
    pub fn fits(&self, order: &Order, epoch: u64, image: &str) -> bool {
        *self == Self::due(order, epoch, image, self.grounds.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ground_is_for_one_party_to_give_and_the_end_of_a_pod_for_what_left_that_pod() {
        let end = PodEnd::example();
        let (source, uid) = (end.node.clone(), end.uid.clone());
        let (scheduler, agent, other) =
            (Role::Scheduler, Role::Agent(source.clone()), Role::Agent("b".into()));
        let fenced = Grounds::Fenced { by: "ann".to_owned(), reason: "it burnt".to_owned() };
        let ended = Grounds::PodEnded(end.clone());
        for (grounds, by_scheduler, by_agent) in
            [(&Grounds::Commit, false, true), (&fenced, true, false), (&ended, true, false)]
        {
            for (issuer, may) in [(&scheduler, by_scheduler), (&agent, by_agent), (&other, false)] {
                assert_eq!(grounds.may_be_issued(issuer, &source, Some(&uid)), may, "{grounds:?} {issuer:?}");
            }
        }
        assert!(!ended.may_be_issued(&scheduler, &source, None));
        assert!(!ended.may_be_issued(&scheduler, &source, Some("another")));
        let elsewhere = Grounds::PodEnded(PodEnd { node: "b".into(), ..end });
        assert!(!elsewhere.may_be_issued(&scheduler, &source, Some(&uid)));
        let certificate = Certificate::due(&Order::example(), 3, "sha256:0", ended);
        let text = serde_json::to_string(&certificate).unwrap();
        assert_eq!(serde_json::from_str::<Certificate>(&text).unwrap(), certificate);
    }

    #[test]
    fn a_certificate_fits_only_what_it_was_made_for() {
        let order = Order::example();
        let due = Certificate::due(&order, 3, "sha256:0", Grounds::Commit);
        assert_eq!(due.epoch, 4);
        assert!(due.fits(&order, 3, "sha256:0"));
        assert!(!due.fits(&order, 4, "sha256:0"));
        assert!(!due.fits(&order, 3, "sha256:1"));
        // What a peer says its epoch is may be anything.
        assert!(!due.fits(&order, u64::MAX, "sha256:0"));
        let others = [
            Order { id: MigrationId::new(), ..order.clone() },
            Order { service: "other".into(), ..order.clone() },
            Order { to: "elsewhere".into(), ..order.clone() },
        ];
        for other in others {
            assert!(!due.fits(&other, 3, "sha256:0"), "{other:?}");
        }
        let text = serde_json::to_string(&due).unwrap();
        assert_eq!(serde_json::from_str::<Certificate>(&text).unwrap(), due);
    }
}
