//! What libFuzzer drives: one target, named by the environment. `sterna-fuzz` builds and starts it.

#![no_main]
// What is wrong with the call itself is told by a panic, as all that this program finds.
#![expect(clippy::expect_used, reason = "libFuzzer has no other way to be told")]

use std::path::PathBuf;
use std::sync::OnceLock;

use sterna_fuzz::room;
use sterna_fuzz::run::{TARGET, WORK};
use sterna_fuzz::target::{Target, named};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

fn begin() {
    let work = PathBuf::from(std::env::var_os(WORK).expect("a folder to work in"));
    room::enter(&work).expect("a room of its own");
    let name = std::env::var(TARGET).expect("a target");
    let _first = CHOSEN.set(named(&name).expect("a target of that name"));
}

libfuzzer_sys::fuzz_target!(init: begin(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        (target.read)(data);
    }
});
