//! The link between two nodes: its rate is set within the nodes' own network namespaces, and what it really carries is
//! measured.

use anyhow::Context as _;
use sterna_e2e::docker::docker;

use crate::matrix::Link;
use crate::pump;

/// The interface of a node.
const INTERFACE: &str = "eth0";
/// What the link may send at once is what it sends in this time: a timer of the kernel fires less often than it should.
const BURST_SECONDS: f64 = 0.004;
/// But at least one packet as large as the kernel makes them for its own interfaces.
const LEAST_BURST: u32 = 64 * 1024;
/// How long a packet may wait for its turn before it is dropped.
const LATENCY: &str = "50ms";

/// The words after `tc` that shape what a node sends; `None` where nothing is to be shaped.
pub fn shaping(link: Link) -> Option<Vec<String>> {
    let Link::Mbit(rate) = link else { return None };
    let burst = LEAST_BURST.max((f64::from(rate) * 1e6 / 8.0 * BURST_SECONDS) as u32);
    let text =
        format!("qdisc replace dev {INTERFACE} root tbf rate {rate}mbit burst {burst} latency {LATENCY}");
    Some(text.split(' ').map(str::to_owned).collect())
}

/// The words after `tc` that take all shaping away.
pub fn unshaping() -> Vec<String> {
    format!("qdisc del dev {INTERFACE} root").split(' ').map(str::to_owned).collect()
}

/// Shapes what each of these containers sends, in its own network namespace.
///
/// # Errors
/// When the kernel has no such shaping, or the containers may not use it.
pub async fn set(containers: &[String], link: Link) -> anyhow::Result<()> {
    for container in containers {
        let shaped = docker(&["exec", container, "tc", "qdisc", "show", "dev", INTERFACE]).await?;
        let words = match shaping(link) {
            Some(words) => words,
            // Without a discipline of its own there is nothing that could be taken away.
            None if shaped.contains(" tbf ") => unshaping(),
            None => continue,
        };
        let mut arguments = vec!["exec", container.as_str(), "tc"];
        arguments.extend(words.iter().map(String::as_str));
        docker(&arguments).await.with_context(|| format!("the link can't be set to {link}"))?;
    }
    Ok(())
}

/// What is sent to measure a link: enough to take some seconds.
fn probe_mib(link: Link) -> u32 {
    match link {
        Link::Unlimited => 1024,
        // Some three seconds.
        Link::Mbit(rate) => (rate * 3 / 8).clamp(8, 1024),
    }
}

/// What a link really carries from one container to another, in MiB/s.
///
/// # Errors
/// When nothing arrives.
pub async fn measured(from: &str, to: &str, link: Link) -> anyhow::Result<f64> {
    pump::rate(from, to, probe_mib(link)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_comes_with_its_burst() {
        let text = |link| shaping(link).map(|words| words.join(" "));
        assert_eq!(text(Link::Unlimited), None);
        assert_eq!(
            text(Link::Mbit(100)).as_deref(),
            Some("qdisc replace dev eth0 root tbf rate 100mbit burst 65536 latency 50ms")
        );
        assert_eq!(
            text(Link::Mbit(1000)).as_deref(),
            Some("qdisc replace dev eth0 root tbf rate 1000mbit burst 500000 latency 50ms")
        );
        assert_eq!(unshaping().join(" "), "qdisc del dev eth0 root");
    }

    #[test]
    fn a_probe_takes_some_seconds_and_has_its_bounds() {
        assert_eq!(probe_mib(Link::Mbit(100)), 37);
        assert_eq!(probe_mib(Link::Mbit(1)), 8);
        assert_eq!(probe_mib(Link::Mbit(100_000)), 1024);
    }
}
