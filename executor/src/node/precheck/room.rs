//! What speaks against a migration in how much room there is for it.

use sterna_policies::quantity::Bytes;

use crate::migration::finding::{Code, Finding, Subject};
use crate::node::api::{NodeFacts, Reservation};

/// What a memory image takes. CRIU's other images are small; a tenth more covers them.
pub fn image(memory: Bytes) -> Bytes {
    Bytes(memory.0.saturating_add(memory.0 / 10).saturating_add(16 << 20))
}

/// What speaks against an end that has this much room for a memory image.
pub fn staging(end: Subject, memory: Bytes, free: Bytes) -> Option<Finding> {
    let needed = image(memory);
    (needed > free).then(|| {
        let what = format!("the memory image needs about {needed}, and {free} are free");
        Finding::new(Code::Staging, end, what)
    })
}

/// What speaks against the destination: memory for the service beside its image, what services may use in all, and disk.
pub fn destination(wanted: &Reservation, own: &NodeFacts, used: Bytes, has_image: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        staging(Subject::Destination, wanted.memory, own.staging_free).into_iter().collect();
    let mut short = |code, what| findings.push(Finding::new(code, Subject::Destination, what));
    // The image stands in RAM until the service runs.
    let beside = if own.staging_in_ram { image(wanted.memory) } else { Bytes::ZERO };
    let memory = Bytes(wanted.memory.0.saturating_add(beside.0));
    if memory > own.memory_free {
        let beside = if own.staging_in_ram { ", its image in RAM among it" } else { "" };
        let free = own.memory_free;
        short(Code::Memory, format!("it needs {memory}{beside}, and {free} are free"));
    }
    let together = Bytes(used.0.saturating_add(wanted.memory.0));
    if together > own.memory {
        let what = format!(
            "services may use {} and use {used} already; this one needs {}",
            own.memory, wanted.memory
        );
        short(Code::Memory, what);
    }
    let disk = Bytes(wanted.files.0.saturating_add(if has_image { 0 } else { wanted.image_size.0 }));
    if disk > own.engine_free {
        let free = own.engine_free;
        short(Code::Disk, format!("its image and files need {disk}, and the engine has {free} free"));
    }
    findings
}
