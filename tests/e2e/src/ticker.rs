//! A service that can tell its own downtime: it fills its memory with random bytes, then looks at the clock every
//! millisecond and writes down each time that more went by than it should. It can be told to rewrite random pages of its
//! memory meanwhile, and writes down how many it did.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::continuum::Continuum;

/// Gaps below this are the scheduler of the kernel at work.
const NOTABLE: f64 = 0.03;

/// Where a ticker writes down what it sees.
pub const NOTES: &str = "/gaps";
/// Where it looks up how many pages it is to rewrite per second.
pub const ORDERS: &str = "/rate";
/// Bytes of a page, as it rewrites them.
const PAGE: u64 = 4096;

// A block is read into the place where it stays, and pages are rewritten in place and on their own boundaries: a copy, or a
// write across two pages, would change more memory than is counted.
const SCRIPT: &str = r#"
use Time::HiRes qw(time sleep);
my ($mib, $notable) = @ARGV;
my ($page, $block) = (4096, 1 << 20);
open(my $random, "<:raw", "/dev/urandom") or die;
my (@memory, @boundary);
for my $at (0 .. $mib - 1) {
    $memory[$at] = "";
    sysread($random, $memory[$at], $block) == $block or die;
    $boundary[$at] = -unpack("J", pack("p", $memory[$at])) % $page;
}
open(my $gaps, ">>", "/gaps") or die;
select($gaps); $| = 1;
print "ready\n";
my ($rate, $due, $wrote) = (0, 0, 0);
my $last = my $looked = my $told = time;
while (1) {
    my $now = time;
    my $gap = $now - $last;
    printf("%.6f\n", $gap) if $gap > $notable;
    $last = $now;
    # What was due while it stood still is not made up for.
    $due += $rate * ($gap > $notable ? 0 : $gap);
    while ($due >= 1) {
        my $at = int(rand($mib));
        sysread($random, my $content, $page) == $page or die;
        substr($memory[$at], $boundary[$at] + $page * int(rand($block / $page - 1)), $page, $content);
        $due--; $wrote++;
    }
    if ($now - $told > 1) {
        printf("wrote %d %.6f\n", $wrote, $now - $told) if $rate > 0;
        ($wrote, $told) = (0, $now);
    }
    if ($now - $looked > 0.2) {
        $looked = $now;
        my $wanted = 0;
        if (open(my $orders, "<", "/rate")) { $wanted = 0 + (<$orders> || 0); close($orders); }
        ($rate, $due, $wrote, $told) = ($wanted, 0, 0, $now) if $wanted != $rate;
    }
    sleep 0.001;
}
"#;

/// The command of a ticker with this much memory, for whatever starts it from the image of the services.
pub fn command(mib: u32) -> [String; 5] {
    ["perl", "-e", SCRIPT, &mib.to_string(), &NOTABLE.to_string()].map(str::to_owned)
}

/// The `[[service]]` table of a ticker with this much memory, for an inventory.
pub fn service(name: &str, mib: u32, on: &str) -> String {
    let script = SCRIPT.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(
        "[[service]]\nname = \"{name}\"\ncpu = \"0.1\"\nmemory = \"{}MiB\"\n[service.run]\n\
         image = \"sterna-services:latest\"\ncommand = [\"perl\", \"-e\", \"{script}\", \"{mib}\", \"{NOTABLE}\"]\non = \"{on}\"\n",
        mib + 64
    )
}

/// Waits until a ticker has filled its memory.
///
/// # Errors
/// When that takes too long.
pub async fn ready(continuum: &Continuum, node: &str, name: &str) -> anyhow::Result<()> {
    for _ in 0..300 {
        if let Ok(text) = continuum.exec(node, name, &["cat", NOTES]).await
            && text.starts_with("ready")
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the ticker {name} on {node} is not ready after 30 s")
}

/// What a ticker has written down.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Noted {
    /// The longest time that it stood still.
    pub longest_gap: Duration,
    /// Pages that it rewrote.
    pub pages: u64,
    /// The time in which it did, all in all; what it stood still in between is part of it.
    pub over: Duration,
}

impl Noted {
    /// From its notes.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn read(notes: &str) -> anyhow::Result<Self> {
        let (mut longest, mut pages, mut over) = (0.0_f64, 0, 0.0_f64);
        for line in notes.lines().filter(|line| *line != "ready") {
            let wrong = || format!("the ticker noted `{line}`");
            if let Some(wrote) = line.strip_prefix("wrote ") {
                let (count, seconds) = wrote.split_once(' ').with_context(wrong)?;
                pages += count.parse::<u64>().with_context(wrong)?;
                over += seconds.parse::<f64>().with_context(wrong)?;
            } else {
                longest = longest.max(line.parse().with_context(wrong)?);
            }
        }
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).context("the ticker's clock");
        Ok(Self { longest_gap: duration(longest)?, pages, over: duration(over)? })
    }

    /// MiB that it rewrote per second while it ran; `None` where it was not to.
    pub fn mib_per_second(&self) -> Option<f64> {
        let ran = self.over.checked_sub(self.longest_gap).unwrap_or(self.over).as_secs_f64();
        (ran > 0.0).then(|| (self.pages * PAGE) as f64 / 1_048_576.0 / ran)
    }
}

/// The orders for a ticker that is to rewrite this many MiB of random pages per second.
///
/// # Errors
/// When the rate is below 0 or no number.
pub fn orders(mib_per_second: f64) -> anyhow::Result<String> {
    ensure!(mib_per_second.is_finite() && mib_per_second >= 0.0, "a rate of {mib_per_second} MiB/s");
    Ok(format!("{:.3}", mib_per_second * 1_048_576.0 / PAGE as f64))
}

/// Has a ticker rewrite this many MiB of random pages per second, from now on and wherever it goes.
///
/// # Errors
/// When it does not run there.
pub async fn rewrite(
    continuum: &Continuum,
    node: &str,
    name: &str,
    mib_per_second: f64,
) -> anyhow::Result<()> {
    // The new orders are there at once and whole.
    let script = format!("echo {} >{ORDERS}.new && mv {ORDERS}.new {ORDERS}", orders(mib_per_second)?);
    continuum.exec(node, name, &["sh", "-c", &script]).await?;
    Ok(())
}

/// What a ticker has noted since it was asked last.
///
/// # Errors
/// When it does not run there, or has noted something else.
pub async fn noted(continuum: &Continuum, node: &str, name: &str) -> anyhow::Result<Noted> {
    let noted = Noted::read(&continuum.exec(node, name, &["cat", NOTES]).await?)?;
    continuum.exec(node, name, &["truncate", "--size=0", NOTES]).await?;
    Ok(noted)
}

/// The longest time that a ticker stood still since it was asked last.
///
/// # Errors
/// As [`noted`].
pub async fn longest_gap(continuum: &Continuum, node: &str, name: &str) -> anyhow::Result<Duration> {
    Ok(noted(continuum, node, name).await?.longest_gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_tell_the_longest_gap_and_the_rate() {
        let noted =
            Noted::read("ready\n0.050000\nwrote 256 1.000000\n1.500000\nwrote 256 2.500000\n").unwrap();
        assert_eq!(noted.longest_gap, Duration::from_millis(1500));
        // 512 pages are 2 MiB, and it ran for 2 of 3.5 seconds.
        assert_eq!(noted.mib_per_second(), Some(1.0));
        assert_eq!(Noted::read("ready\n").unwrap().mib_per_second(), None);
        for wrong in ["soon", "wrote", "wrote 1", "wrote x 1", "-1e300\nwrote 1 -5"] {
            assert!(Noted::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn orders_are_in_pages() {
        assert_eq!(orders(1.0).unwrap(), "256.000");
        assert!(orders(-1.0).is_err() && orders(f64::NAN).is_err());
    }

    /// The program itself, on this host: files at its root are elsewhere here, and there is no engine.
    #[test]
    fn the_program_rewrites_whole_pages_at_the_rate_that_it_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(&file[1..]).display().to_string();
        let script = SCRIPT.replace(NOTES, &at(NOTES)).replace(ORDERS, &at(ORDERS));
        std::fs::write(at(ORDERS), orders(4.0).unwrap()).unwrap();
        let mut child =
            std::process::Command::new("perl").args(["-e", &script, "8", "10"]).spawn().expect("perl");
        let mut noted = Noted::default();
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(100));
            noted = Noted::read(&std::fs::read_to_string(at(NOTES)).unwrap_or_default()).unwrap_or_default();
            if noted.pages > 0 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // On a busy machine it may be slower than it should, never faster.
        let rate = noted.mib_per_second().expect("it rewrites");
        assert!(rate > 0.0 && rate < 5.0, "{rate} MiB/s");
    }
}
