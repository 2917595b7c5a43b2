//! The list of targets.

use crate::targets::{ahead, api, description, log, names, policy, receive, runtime, seal, stream};

/// Something that reads what came over the network, or what people write.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads one input; panics where something must not be.
    pub read: fn(&[u8]),
    /// Genuine inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Longest input.
    pub longest: usize,
    /// Whether it makes files of what it reads.
    pub files: bool,
}

const fn target(name: &'static str, read: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, read, seeds, longest: 4096, files: false }
}

const fn files(name: &'static str, read: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, read, seeds, longest: 1024, files: true }
}

/// All targets, in the order in which they run.
pub const ALL: &[Target] = &[
    target("stream", stream::read, stream::seeds),
    files("receive-raw", receive::raw, stream::seeds),
    files("receive-hostile", receive::hostile, receive::seeds),
    files("ahead", ahead::read, ahead::seeds),
    target("order", api::order, api::orders),
    target("reservation", api::reservation, api::reservations),
    target("start-service", api::start_service, api::start_services),
    target("sealed", api::sealed, api::sealed_ones),
    target("finish", api::finish, api::finishes),
    target("node-facts", api::node_facts, api::all_node_facts),
    target("service-facts", api::service_facts, api::all_service_facts),
    target("verdict", api::verdict, api::verdicts),
    target("restored", api::restored, api::all_restored),
    target("standing", api::standing, api::standings),
    target("arriving", api::arriving, api::all_arriving),
    target("release-answer", api::release_answer, api::release_answers),
    target("event", api::event, api::events),
    target("assessment", api::assessment, api::assessments),
    target("pull", api::pull, api::pulls),
    target("announcement", api::announcement, api::announcements),
    target("whereabouts", api::whereabouts, api::all_whereabouts),
    target("probe", api::probe, api::probes),
    target("probed", api::probed, api::all_probed),
    target("problem", api::problem, api::problems),
    target("certificate", seal::read, seal::seeds),
    target("description", description::read, api::reservations),
    target("peer", names::peer, names::peers),
    target("names", names::read, names::seeds),
    target("criu-log", log::read, log::seeds),
    target("policy", policy::read, policy::seeds),
    target("runtime-note", runtime::note, runtime::notes),
    target("runtime-call", runtime::call, runtime::calls),
];

/// The target of a name.
pub fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|one| one.name == name)
}
