//! The container that a reservation describes, as the destination reads it.
//!
//! Another node wrote it: it is read as a whole before anything is made of it, and what the engine would take for something
//! else than a name is refused.

use bollard::models::{ContainerCreateBody, RestartPolicy};
use thiserror::Error;

use crate::engine::docker::destination_body;
use crate::migration::order::MigrationId;

use super::api::Reservation;

/// A container that is not taken in.
#[derive(Debug, Error)]
pub enum DescriptionError {
    /// The engine's API has no such words.
    #[error("the container's description can't be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Names stand in paths of the engine's API.
    #[error("`{name}` can't be the name of a {what}")]
    Name {
        /// What it would be the name of.
        what: &'static str,
        /// What was given.
        name: String,
    },
    /// No register can hold it.
    #[error("{0} can't be an epoch")]
    Epoch(u64),
}

/// A container that is to be taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    body: ContainerCreateBody,
    migration: MigrationId,
}

impl Description {
    /// Reads what a reservation describes.
    ///
    /// # Errors
    /// When it can't be read, or is not for an engine.
    pub fn of(reservation: &Reservation) -> Result<Self, DescriptionError> {
        let refuse = |what, name: &str| DescriptionError::Name { what, name: name.to_owned() };
        let service = reservation.order.service.as_str();
        if !is_engine_name(service) {
            return Err(refuse("container", service));
        }
        if let Some(bad) = reservation.volumes.iter().find(|volume| !is_engine_name(volume)) {
            return Err(refuse("volume", bad));
        }
        // The next epoch is one more, and registers count with a sign.
        if i64::try_from(reservation.epoch).is_ok_and(|epoch| epoch < i64::MAX) {
            let body = serde_json::from_value(reservation.body.clone())?;
            return Ok(Self { body, migration: reservation.order.id });
        }
        Err(DescriptionError::Epoch(reservation.epoch))
    }

    /// Ports of the node that it takes, `6379/tcp`.
    pub fn published(&self) -> Vec<String> {
        published(&self.body)
    }

    /// The restart policy that it has once the migration has ended.
    pub fn restart(&self) -> Option<RestartPolicy> {
        self.body.host_config.as_ref()?.restart_policy.clone()
    }

    /// What it is created from here.
    pub fn destination(self) -> ContainerCreateBody {
        destination_body(self.body, &self.migration.to_string())
    }
}

/// Whether the engine takes this for the name of a container or volume, and for nothing else.
fn is_engine_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    text.len() <= 255
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(inner)
}

/// Ports of the node that a container takes, `6379/tcp`.
pub(super) fn published(body: &ContainerCreateBody) -> Vec<String> {
    let bindings = body.host_config.as_ref().and_then(|host| host.port_bindings.as_ref());
    let mut ports: Vec<String> = bindings
        .into_iter()
        .flatten()
        .flat_map(|(inner, outer)| {
            let protocol = inner.split_once('/').map_or("tcp", |(_, protocol)| protocol);
            outer
                .iter()
                .flatten()
                .filter_map(move |one| Some(format!("{}/{protocol}", one.host_port.as_ref()?)))
        })
        .collect();
    ports.sort();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::docker::service_body;
    use crate::migration::order::Order;
    use sterna_core::continuum::Run;
    use sterna_policies::quantity::Bytes;

    fn body() -> ContainerCreateBody {
        let run = Run {
            image: "x".into(),
            command: vec![],
            env: vec![],
            ports: vec!["80/tcp".into(), "53/udp".into()],
            volumes: vec!["data:/data".into()],
            on: "a".into(),
        };
        service_body(&"s".into(), &run).unwrap()
    }

    fn reservation() -> Reservation {
        Reservation {
            order: Order::example(),
            epoch: 3,
            body: serde_json::to_value(body()).unwrap(),
            image: "sha256:0".into(),
            volumes: vec!["data".into()],
            memory: Bytes::ZERO,
            files: Bytes::ZERO,
            image_size: Bytes::ZERO,
            token: "t".into(),
        }
    }

    #[test]
    fn published_ports_are_those_of_the_node() {
        assert_eq!(published(&body()), ["53/udp", "80/tcp"]);
        assert_eq!(Description::of(&reservation()).unwrap().published(), ["53/udp", "80/tcp"]);
    }

    #[test]
    fn what_leads_elsewhere_in_the_engines_api_is_no_name() {
        for bad in ["", "../containers/db", "a/b", "a?force=true", "-a", ".", "..", "a b", "a\n", "\u{e9}"] {
            let volumes = Reservation { volumes: vec!["data".into(), bad.into()], ..reservation() };
            let order = Order { service: bad.into(), ..Order::example() };
            for reservation in [volumes, Reservation { order, ..reservation() }] {
                let refused = Description::of(&reservation);
                assert!(matches!(refused, Err(DescriptionError::Name { .. })), "{bad:?}: {refused:?}");
            }
        }
    }

    #[test]
    fn an_epoch_that_has_no_next_is_refused() {
        for bad in [u64::MAX, i64::MAX as u64] {
            let refused = Description::of(&Reservation { epoch: bad, ..reservation() });
            assert!(matches!(refused, Err(DescriptionError::Epoch(_))), "{refused:?}");
        }
    }
}
