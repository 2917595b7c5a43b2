//! A service that can tell its own downtime: it fills its memory with random bytes, then looks at the clock every
//! millisecond and writes down each time that more went by than it should. It can be told to rewrite random pages of its
//! memory meanwhile, and writes down how many it did; and it can be asked whether its memory holds what it wrote there.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::zoo::{Ground, eventually};

/// Gaps below this are the scheduler of the kernel at work.
const NOTABLE: Duration = Duration::from_millis(30);
/// Looks at the clock in the time that is notable.
const LOOKS: u32 = 30;
/// How long a ticker may take to fill its memory.
const TO_FILL: Duration = Duration::from_secs(30);

/// Where a ticker writes down what it sees.
pub const NOTES: &str = "/gaps";
/// Where it looks up how many pages it is to rewrite per second.
pub const ORDERS: &str = "/rate";
/// The file that, once it is there, has it compare its memory with what it wrote.
const QUESTION: &str = "/whole";
/// Bytes of a page, as it rewrites them.
const PAGE: u64 = 4096;

// A block is read into the place where it stays, and pages are rewritten in place and on their own boundaries: a copy, or a
// write across two pages, would change more memory than is counted. Of each block the sum of its words is kept, and changed by
// what is written: a page that is not the one last written there changes the sum of what the block holds.
const SCRIPT: &str = r#"
use Time::HiRes qw(time sleep);
my ($mib, $notable, $nap) = @ARGV;
my ($page, $block) = (4096, 1 << 20);
open(my $random, "<:raw", "/dev/urandom") or die;
my (@memory, @boundary, @sum);
for my $at (0 .. $mib - 1) {
    $memory[$at] = "";
    sysread($random, $memory[$at], $block) == $block or die;
    $boundary[$at] = -unpack("J", pack("p", $memory[$at])) % $page;
    $sum[$at] = unpack("%32L*", $memory[$at]);
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
        my $place = $boundary[$at] + $page * int(rand($block / $page - 1));
        $sum[$at] += unpack("%32L*", $content) - unpack("%32L*", substr($memory[$at], $place, $page));
        substr($memory[$at], $place, $page, $content);
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
        if (unlink("/whole")) {
            my $spoilt = grep { ($sum[$_] - unpack("%32L*", $memory[$_])) % (1 << 32) } 0 .. $mib - 1;
            printf("spoilt %d\n", $spoilt);
            # That took its time, which is no gap.
            my $took = time - $now;
            $_ += $took for $last, $told, $looked;
        }
    }
    sleep $nap;
}
"#;

/// The command of a ticker with this much memory, for whatever starts it from the image of the services.
pub fn command(mib: u32) -> [String; 6] {
    noting(mib, NOTABLE)
}

fn noting(mib: u32, notable: Duration) -> [String; 6] {
    let [notable, nap] = [notable, notable / LOOKS].map(|time| format!("{:.6}", time.as_secs_f64()));
    ["perl".to_owned(), "-e".to_owned(), SCRIPT.to_owned(), mib.to_string(), notable, nap]
}

/// The `[[service]]` table of a ticker with this much memory, for an inventory.
pub fn service(name: &str, mib: u32, on: &str) -> String {
    service_noting(name, mib, on, NOTABLE)
}

/// The same for a host so slow that only gaps from `notable` on tell anything: it looks at the clock less often, and rewrites
/// what it is told to in spite of smaller gaps.
pub fn service_noting(name: &str, mib: u32, on: &str, notable: Duration) -> String {
    let escaped = |word: &str| word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let command: Vec<String> =
        noting(mib, notable).iter().map(|word| format!("\"{}\"", escaped(word))).collect();
    format!(
        "[[service]]\nname = \"{name}\"\ncpu = \"0.1\"\nmemory = \"{}MiB\"\n[service.run]\n\
         image = \"sterna-services:latest\"\ncommand = [{}]\non = \"{on}\"\n",
        mib + 64,
        command.join(", ")
    )
}

/// Waits until a ticker has filled its memory.
///
/// # Errors
/// When that takes too long.
pub async fn ready<G: Ground>(ground: &G, node: &str, name: &str) -> anyhow::Result<()> {
    let filled = || async {
        let text = ground.exec(node, name, &["cat", NOTES]).await?;
        ensure!(text.starts_with("ready"), "the ticker {name} on {node} is not ready");
        Ok(())
    };
    eventually(TO_FILL, filled).await
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
    /// MiB of its memory that did not hold what it wrote there; `None` where it was not asked.
    pub spoilt: Option<u64>,
}

impl Noted {
    /// From its notes.
    ///
    /// # Errors
    /// When something else stands there.
    pub fn read(notes: &str) -> anyhow::Result<Self> {
        let (mut longest, mut pages, mut over, mut spoilt) = (0.0_f64, 0, 0.0_f64, None);
        for line in notes.lines().filter(|line| *line != "ready") {
            let wrong = || format!("the ticker noted `{line}`");
            if let Some(wrote) = line.strip_prefix("wrote ") {
                let (count, seconds) = wrote.split_once(' ').with_context(wrong)?;
                pages += count.parse::<u64>().with_context(wrong)?;
                over += seconds.parse::<f64>().with_context(wrong)?;
            } else if let Some(count) = line.strip_prefix("spoilt ") {
                spoilt = spoilt.max(Some(count.parse().with_context(wrong)?));
            } else {
                longest = longest.max(line.parse().with_context(wrong)?);
            }
        }
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).context("the ticker's clock");
        Ok(Self { longest_gap: duration(longest)?, pages, over: duration(over)?, spoilt })
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
pub async fn rewrite<G: Ground>(
    ground: &G,
    node: &str,
    name: &str,
    mib_per_second: f64,
) -> anyhow::Result<()> {
    // The new orders are there at once and whole.
    let script = format!("echo {} >{ORDERS}.new && mv {ORDERS}.new {ORDERS}", orders(mib_per_second)?);
    ground.exec(node, name, &["sh", "-c", &script]).await?;
    Ok(())
}

/// What a ticker has noted since it was asked last.
///
/// # Errors
/// When it does not run there, or has noted something else.
pub async fn noted<G: Ground>(ground: &G, node: &str, name: &str) -> anyhow::Result<Noted> {
    let noted = Noted::read(&ground.exec(node, name, &["cat", NOTES]).await?)?;
    ground.exec(node, name, &["truncate", "--size=0", NOTES]).await?;
    Ok(noted)
}

/// The longest time that a ticker stood still since it was asked last.
///
/// # Errors
/// As [`noted`].
pub async fn longest_gap<G: Ground>(ground: &G, node: &str, name: &str) -> anyhow::Result<Duration> {
    Ok(noted(ground, node, name).await?.longest_gap)
}

/// Has a ticker compare all of its memory with what it wrote there; gives what it has noted since it was asked last.
///
/// # Errors
/// When any of it is not what it wrote, or it does not answer within `most`.
pub async fn whole<G: Ground>(ground: &G, node: &str, name: &str, most: Duration) -> anyhow::Result<Noted> {
    ground.exec(node, name, &["touch", QUESTION]).await?;
    let answer = || async {
        let notes = Noted::read(&ground.exec(node, name, &["cat", NOTES]).await?)?;
        notes.spoilt.context("it has not compared its memory")
    };
    eventually(most, answer).await?;
    let noted = noted(ground, node, name).await?;
    ensure!(noted.spoilt == Some(0), "{name} on {node} is not whole: {noted:?}");
    Ok(noted)
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
        assert_eq!((noted.spoilt, Noted::read("ready\n").unwrap().mib_per_second()), (None, None));
        assert_eq!(Noted::read("spoilt 0\nspoilt 2\n").unwrap().spoilt, Some(2));
        for wrong in ["soon", "spoilt", "spoilt -1", "wrote", "wrote 1", "wrote x 1", "-1e300\nwrote 1 -5"] {
            assert!(Noted::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn orders_are_in_pages() {
        assert_eq!(orders(1.0).unwrap(), "256.000");
        assert!(orders(-1.0).is_err() && orders(f64::NAN).is_err());
    }

    /// The program itself, on this host: files at its root are elsewhere here, and there is no engine.
    struct Here {
        folder: tempfile::TempDir,
        child: std::process::Child,
    }

    impl Here {
        fn start(mib: u32, rate: f64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |file: &str| folder.path().join(&file[1..]);
            let mut words = noting(mib, Duration::from_secs(10));
            for file in [NOTES, ORDERS, QUESTION] {
                words[2] = words[2].replace(&format!("\"{file}\""), &format!("\"{}\"", at(file).display()));
            }
            words[5] = "0.001".to_owned();
            std::fs::write(at(ORDERS), orders(rate).unwrap()).unwrap();
            let child = std::process::Command::new(&words[0]).args(&words[1..]).spawn().expect("perl");
            Self { folder, child }
        }

        fn until(&self, enough: impl Fn(&Noted) -> bool) -> Noted {
            for _ in 0..100 {
                std::thread::sleep(Duration::from_millis(100));
                let notes = std::fs::read_to_string(self.folder.path().join(&NOTES[1..])).unwrap_or_default();
                let noted = Noted::read(&notes).unwrap_or_default();
                if enough(&noted) {
                    return noted;
                }
            }
            panic!("nothing within ten seconds");
        }

        fn ask(&self) {
            std::fs::write(self.folder.path().join(&QUESTION[1..]), "").unwrap();
        }

        /// Changes a byte of its largest area, away from where blocks meet.
        fn spoil(&self) {
            use std::os::unix::fs::FileExt as _;
            let proc = |file: &str| format!("/proc/{}/{file}", self.child.id());
            let maps = std::fs::read_to_string(proc("maps")).unwrap();
            let area = |line: &str| {
                let (from, to) =
                    line.split_once(' ').filter(|(_, rest)| rest.starts_with("rw-p"))?.0.split_once('-')?;
                Some((u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?))
            };
            let (from, to) = maps.lines().filter_map(area).max_by_key(|(from, to)| to - from).unwrap();
            let memory = std::fs::File::options().read(true).write(true).open(proc("mem")).unwrap();
            let mut byte = [0];
            let place = from + (to - from) / 3;
            memory.read_exact_at(&mut byte, place).unwrap();
            memory.write_all_at(&[!byte[0]], place).unwrap();
        }
    }

    impl Drop for Here {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn the_program_rewrites_whole_pages_at_the_rate_that_it_is_told() {
        let here = Here::start(8, 4.0);
        let noted = here.until(|noted| noted.pages > 0);
        // On a busy machine it may be slower than it should, never faster.
        let rate = noted.mib_per_second().expect("it rewrites");
        assert!(rate > 0.0 && rate < 5.0, "{rate} MiB/s");
    }

    #[test]
    fn the_program_knows_its_memory() {
        let here = Here::start(8, 4.0);
        here.until(|noted| noted.pages > 500);
        here.ask();
        assert_eq!(here.until(|noted| noted.spoilt.is_some()).spoilt, Some(0));
        here.spoil();
        here.ask();
        assert_eq!(here.until(|noted| noted.spoilt > Some(0)).spoilt, Some(1));
    }
}
