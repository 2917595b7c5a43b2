//! A bad link between two emulated hosts: what one sends the other comes late, and some of it never. All else that they send
//! goes as before.

use anyhow::Context as _;

use super::Emulated;

/// What is wrong with a link, in each of its directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// How late every packet comes, in milliseconds.
    pub late_ms: u32,
    /// How many of a hundred packets are lost.
    pub lost_percent: u32,
}

/// What went over one direction of a bad link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Bytes that came late.
    pub bytes: u64,
    /// Packets that were lost.
    pub lost: u64,
}

/// The band that is kept for the other host; those before it are what packets are sorted into by their kind.
const BAND: &str = "1:4";
const DEVICE: &str = "eth0";

impl Emulated {
    /// Makes the link between two hosts bad.
    ///
    /// # Errors
    /// When a host does not answer, or its kernel refuses.
    pub async fn worsen(&self, one: &str, other: &str, trouble: Trouble) -> anyhow::Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            let address = self.address(to).await?;
            let (late, lost) = (format!("{}ms", trouble.late_ms), format!("{}%", trouble.lost_percent));
            let script = format!(
                "tc qdisc add dev {DEVICE} root handle 1: prio bands 4 && \
                 tc qdisc add dev {DEVICE} parent {BAND} netem delay {late} loss {lost} && \
                 tc filter add dev {DEVICE} parent 1: protocol ip u32 match ip dst {address}/32 flowid {BAND}"
            );
            self.run(from, &["sh", "-c", &script]).await.with_context(|| format!("from {from} to {to}"))?;
        }
        Ok(())
    }

    /// Makes it a good one again; gives what went over each direction meanwhile.
    ///
    /// # Errors
    /// When a host does not answer, or the link was not bad.
    pub async fn mend(&self, one: &str, other: &str) -> anyhow::Result<[Carried; 2]> {
        let mut carried = [Carried::default(); 2];
        for (from, carried) in [one, other].into_iter().zip(&mut carried) {
            let told = self.run(from, &["tc", "-s", "qdisc", "show", "dev", DEVICE]).await?;
            *carried = read(&told).with_context(|| format!("{from} tells nothing of its link: {told}"))?;
            self.run(from, &["tc", "qdisc", "del", "dev", DEVICE, "root"]).await?;
        }
        Ok(carried)
    }
}

/// From `qdisc netem …` and the line after it, ` Sent 1234 bytes 5 pkt (dropped 6, …)`.
fn read(told: &str) -> Option<Carried> {
    let mut lines = told.lines().skip_while(|line| !line.starts_with("qdisc netem"));
    let counts = lines.nth(1)?;
    let mut words = counts.split_whitespace();
    let bytes = words.find(|word| *word == "Sent").and_then(|_| words.next())?.parse().ok()?;
    let lost = words.find(|word| *word == "(dropped").and_then(|_| words.next())?;
    Some(Carried { bytes, lost: lost.trim_end_matches(',').parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_carried_is_read() {
        let told = "qdisc prio 1: root refcnt 2 bands 4 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1\n \
                    Sent 99 bytes 9 pkt (dropped 9, overlimits 0 requeues 0)\n backlog 0b 0p requeues 0\n\
                    qdisc netem 8001: parent 1:4 limit 1000 delay 40ms loss 1%\n \
                    Sent 1234 bytes 5 pkt (dropped 6, overlimits 0 requeues 0)\n backlog 0b 0p requeues 0\n";
        assert_eq!(read(told), Some(Carried { bytes: 1234, lost: 6 }));
        assert_eq!(read(&told[..told.find("qdisc netem").unwrap()]), None);
    }
}
