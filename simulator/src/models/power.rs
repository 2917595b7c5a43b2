//! Power: a straight line from idle to full load over the requested share of the processor.

use sterna_core::continuum::{Node, Power};
use sterna_policies::quantity::{Cores, Watts};

/// What a node draws while services that ask for `requested` cores are on it.
///
/// `P = idle + (full - idle) * requested / cpu`, with the share held at 1. A node that hosts nothing draws its idle power, or
/// nothing where the site switches empty nodes off.
pub fn of_node(power: &Power, node: &Node, requested: Cores, hosts_any: bool) -> Watts {
    if !hosts_any && power.off_when_empty {
        return Watts::ZERO;
    }
    let whole = u64::try_from(node.cpu.as_micros()).unwrap_or(0);
    let used = u64::try_from(requested.as_micros()).unwrap_or(0).min(whole);
    power.idle.saturating_add(power.full.saturating_sub(power.idle).scaled(used, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_line_with_a_switch() {
        let watts = |text: &str| text.parse::<Watts>().unwrap();
        let mut power = Power { idle: watts("100W"), full: watts("250W"), off_when_empty: false };
        let node = Node {
            site: "edge".into(),
            cpu: "16".parse().unwrap(),
            memory: sterna_policies::quantity::Bytes::from_mib(1),
            drain: false,
            agent: None,
            kubernetes: None,
        };
        let at = |power: &Power, cores: &str, any| of_node(power, &node, cores.parse().unwrap(), any);
        assert_eq!(at(&power, "0", false), watts("100W"));
        assert_eq!(at(&power, "8", true), watts("175W"));
        assert_eq!(at(&power, "32", true), watts("250W"));
        power.off_when_empty = true;
        assert_eq!(at(&power, "0", false), Watts::ZERO);
        assert_eq!(at(&power, "0", true), watts("100W"));
    }
}
