//! Fault points are in the binary that is built for them, and in no other.

use sterna_chaos::binary::has_fault_points;
use sterna_e2e::sterna::Sterna;

#[test]
fn the_binary_that_is_shipped_has_no_fault_points() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    std::fs::write(&other, b"\x7fELF\0\0/run/sterna/faults\0armed\0").unwrap();
    assert!(has_fault_points(&other).unwrap());
    assert!(!has_fault_points(Sterna::built().unwrap().path()).unwrap());
}
