//! The right to run a service at another node.

use serde::{Deserialize, Serialize};
use sterna_core::continuum::{NodeName, ServiceName};

use super::order::{MigrationId, Order};
use super::pod_end::PodEnd;

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
