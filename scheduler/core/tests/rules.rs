//! Every rule that a decision keeps, one test each.

mod fixture;

use fixture::*;
use sterna_core::report::Verdict;

#[test]
fn a_service_goes_to_the_nearest_node() {
    let decision = decide(&observation(), &policy());
    assert_eq!(decision.report.verdict, Verdict::Move);
    assert_eq!(moves(&decision), ["redis a1>b1"]);
}
