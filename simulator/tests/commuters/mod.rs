//! The shipped day of commuters, with more said of it.

#![allow(dead_code, reason = "each test that has this module uses some of it")]

use std::path::{Path, PathBuf};

use sterna_policies::diagnose::Invalid;
use sterna_policies::policy::Policy;
use sterna_simulator::scenario::load;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The policy that is shipped with it.
pub fn policy() -> Policy {
    let text = std::fs::read_to_string(folder().join("latency-first.toml")).unwrap();
    sterna_policies::load::policy("latency-first.toml", &text).unwrap().value
}

/// The day, with more tables at its end.
pub fn read(more: &str) -> Result<load::Read, Invalid> {
    let text = std::fs::read_to_string(folder().join("commuters.toml")).unwrap() + more;
    load::load("commuters.toml", &text, &|path| std::fs::read_to_string(folder().join(path)))
}

/// How `sessions`, with 256 MiB, write.
pub fn writes(rate: &str, working_set: &str) -> String {
    format!("[[writes]]\nservice = \"sessions\"\nrate = \"{rate}\"\nworking_set = \"{working_set}\"\n")
}
