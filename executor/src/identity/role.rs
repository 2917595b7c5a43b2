//! Who a certificate speaks for. The role is its one host name, so TLS itself checks that a server is who it should be.

use sterna_core::continuum::NodeName;
use sterna_policies::load::is_name;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::IdentityError;

const SCHEDULER: &str = "scheduler.sterna";
const FRONT: &str = "front.sterna";
const AGENT_SUFFIX: &str = ".node.sterna";

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The agent of a node.
    Agent(NodeName),
    /// The scheduler, or an operator's command line.
    Scheduler,
    /// A front, before services.
    Front,
}

impl Role {
    /// The host name that the certificate of this role is made for: `<node>.node.sterna`, `scheduler.sterna` or
    /// `front.sterna`.
    pub fn host_name(&self) -> String {
        match self {
            Self::Agent(node) => format!("{node}{AGENT_SUFFIX}"),
            Self::Scheduler => SCHEDULER.to_owned(),
            Self::Front => FRONT.to_owned(),
        }
    }

    /// The role that a certificate speaks for. Its signature is TLS's business and has been checked before.
    ///
    /// # Errors
    /// When the certificate can't be read, or does not carry exactly one name that belongs to a role.
    pub fn of_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| IdentityError::Nobody(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| IdentityError::Nobody(error.to_string()))?
            .map(|extension| extension.value.general_names.as_slice())
            .unwrap_or_default();
        let [GeneralName::DNSName(name)] = names else {
            return Err(IdentityError::Nobody(format!("it has {} names", names.len())));
        };
        if *name == SCHEDULER {
            return Ok(Self::Scheduler);
        }
        if *name == FRONT {
            return Ok(Self::Front);
        }
        match name.strip_suffix(AGENT_SUFFIX) {
            Some(node) if is_name(node) => Ok(Self::Agent(NodeName::from(node))),
            _ => Err(IdentityError::Nobody(format!("its name is `{name}`"))),
        }
    }

    /// Refuses a node name that can't stand in a host name.
    pub(super) fn check(&self) -> Result<(), IdentityError> {
        match self {
            Self::Agent(node) if !is_name(node.as_str()) => Err(IdentityError::NotAHostName(node.clone())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        rcgen::generate_simple_self_signed(names).unwrap().cert.der().to_vec()
    }

    #[test]
    fn a_certificate_speaks_for_the_one_name_it_carries() {
        let agent = |name| Role::Agent(NodeName::from(name));
        for role in [Role::Scheduler, Role::Front, agent("edge-a"), agent("7")] {
            assert_eq!(Role::of_certificate(&certificate(&[&role.host_name()])).unwrap(), role);
        }
    }

    #[test]
    fn a_certificate_with_no_role_or_with_several_is_nobody() {
        for names in [
            &["example.org"][..],
            &[".node.sterna"],
            &["a.b.node.sterna"],
            &["scheduler.sterna.example.org"],
            &["scheduler.sterna", "edge-a.node.sterna"],
            &["front.sterna", "scheduler.sterna"],
            &["a.front.sterna"],
            &[],
        ] {
            let refused = Role::of_certificate(&certificate(names));
            assert!(matches!(refused, Err(IdentityError::Nobody(_))), "{names:?}: {refused:?}");
        }
        assert!(matches!(Role::of_certificate(b"not a certificate"), Err(IdentityError::Nobody(_))));
    }

    #[test]
    fn node_names_must_be_host_name_labels() {
        let long = "a".repeat(64);
        for bad in ["", "Edge", "a b", "a.b", "-a", "a-", "é", long.as_str()] {
            assert!(Role::Agent(NodeName::from(bad)).check().is_err(), "{bad:?}");
        }
        assert!(Role::Agent(NodeName::from("edge-a-1")).check().is_ok());
    }
}
