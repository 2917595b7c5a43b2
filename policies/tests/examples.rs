//! The policies that are shown as examples load as they stand.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use sterna_policies::load;
use sterna_policies::policy::Mode;

#[test]
fn examples_load_without_a_warning() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let loaded = load::policy(&path.to_string_lossy(), &text).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings.plain());
        assert_eq!(loaded.value.mode, Mode::Recommend, "an example must not move anything by itself");
        seen += 1;
    }
    assert!(seen > 0);
}
