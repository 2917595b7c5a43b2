//! The container that a reservation describes, as the destination reads it.

use sterna_executor::engine::criu;
use sterna_executor::engine::docker::{MIGRATION_LABEL, RUNTIME, destination_body};
use sterna_executor::node::api::{NodeFacts, Reservation};
use sterna_executor::node::precheck::bounds;
use sterna_executor::node::precheck::description::{description, taken_ports};

/// Reads a reservation, and makes of it what a container is created from.
pub fn read(text: &[u8]) {
    let Ok((reservation, _)) = serde_json::from_slice::<(Reservation, NodeFacts)>(text) else { return };
    let Ok(body) = bounds::reservation(&reservation) else { return };
    for name in reservation.volumes.iter().map(String::as_str).chain([reservation.order.service.as_str()]) {
        assert!(!name.contains(['/', '?', '#', '%', ' ']) && name != ".." && name != ".", "{name:?}");
    }
    assert!(reservation.epoch < i64::MAX as u64);
    let ports = taken_ports(&body);
    assert!(ports.is_sorted());
    let id = reservation.order.id.to_string();
    // What nothing speaks against asks for no more than any service has.
    if description(&body, 2).is_empty() {
        let host = body.host_config.clone().unwrap_or_default();
        assert!(host.privileged != Some(true) && host.devices.is_none_or(|all| all.is_empty()));
        assert!(host.pid_mode.is_none_or(|mode| mode != "host"));
    }
    let made = destination_body(body.clone(), &id);
    let host = made.host_config.as_ref().expect("it is held by its host configuration");
    // Whatever the other node wrote: held, not restarted, and known to be of this migration.
    assert_eq!(host.restart_policy, None);
    assert_eq!(host.runtime.as_deref(), Some(RUNTIME));
    let settings = criu::settings_path(&id);
    let annotations = host.annotations.as_ref().expect("it is annotated");
    assert_eq!(annotations[criu::ANNOTATION], settings.to_string_lossy());
    assert_eq!(settings.parent(), Some(std::path::Path::new(criu::SETTINGS)));
    assert_eq!(made.labels.as_ref().expect("it is labelled")[MIGRATION_LABEL], id);
    // The register keeps the reservation as JSON: a later life of the agent reads the same out of it.
    let kept_text = serde_json::to_string(&reservation).expect("it can be kept");
    let again: Reservation = serde_json::from_str(&kept_text).expect("and read");
    let again = bounds::reservation(&again).expect("and is taken in as before");
    assert_eq!(taken_ports(&again), ports);
    // Without order, as the engine reads them: ports to be exposed are the keys of an object.
    let shown = |body| serde_json::to_value(body).expect("it can be written");
    assert_eq!(shown(destination_body(again, &id)), shown(made));
}
