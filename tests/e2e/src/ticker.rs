//! A service that can tell its own downtime: it fills its memory with random bytes, then looks at the clock every
//! millisecond and writes down each time that more went by than it should.

use std::time::Duration;

use anyhow::Context as _;

use crate::continuum::Continuum;

/// Gaps below this are the scheduler of the kernel at work.
const NOTABLE: f64 = 0.03;

const SCRIPT: &str = r#"
use Time::HiRes qw(time sleep);
my ($mib, $notable) = @ARGV;
open(my $random, "<:raw", "/dev/urandom") or die;
my @memory;
for (1 .. $mib) { sysread($random, my $block, 1 << 20) == 1 << 20 or die; push @memory, $block; }
open(my $gaps, ">>", "/gaps") or die;
select($gaps); $| = 1;
print "ready\n";
my $last = time;
while (1) {
    my $now = time;
    printf("%.6f\n", $now - $last) if $now - $last > $notable;
    $last = $now;
    sleep 0.001;
}
"#;

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
        if let Ok(text) = continuum.exec(node, name, &["cat", "/gaps"]).await
            && text.starts_with("ready")
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the ticker {name} on {node} is not ready after 30 s")
}

/// The longest time that a ticker stood still since it was asked last.
///
/// # Errors
/// When it does not run there, or has noted something else.
pub async fn longest_gap(continuum: &Continuum, node: &str, name: &str) -> anyhow::Result<Duration> {
    let text = continuum.exec(node, name, &["cat", "/gaps"]).await?;
    let mut longest = 0.0_f64;
    for line in text.lines().filter(|line| *line != "ready") {
        longest = longest.max(line.parse().with_context(|| format!("the ticker noted `{line}`"))?);
    }
    continuum.exec(node, name, &["truncate", "--size=0", "/gaps"]).await?;
    Ok(Duration::from_secs_f64(longest))
}
