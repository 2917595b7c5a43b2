//! One emulated host. Its disk lies over the one that all share, and outlives the emulator: what the host was told is on
//! disk is there after a power cut, and what it was not told may be lost.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::wire::Wire;
use crate::process::{self, Running, bound};

/// Port of the small server that runs our commands on an emulated host; `emulated/init` starts it.
const COMMANDS: u16 = 8090;
/// How long a command may take.
const TO_ANSWER: Duration = Duration::from_secs(120);
/// Memory of a host, MiB: half a gigabyte for services and as much again for the rest, with room for staged images.
const MEMORY: u32 = 1536;

/// What all emulated hosts boot from, kept from being removed while this is held.
#[derive(Debug)]
pub struct Base {
    folder: PathBuf,
    _lock: std::sync::Arc<File>,
}

impl Base {
    /// Opens what `emulated/make` made.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let lock = File::open(folder.join("lock")).with_context(|| folder.display().to_string())?;
        lock.lock_shared()?;
        Ok(Self { folder: folder.to_owned(), _lock: std::sync::Arc::new(lock) })
    }
}

/// An emulated host, running or not. Dropped, its emulator ends, and so it does when this process is killed.
#[derive(Debug)]
pub struct Machine {
    name: String,
    address: IpAddr,
    arguments: Vec<String>,
    console: PathBuf,
    tap: String,
    emulator: Option<Running>,
    _base: std::sync::Arc<File>,
}

impl Machine {
    /// Makes the disks of a host: its own over the shared one, and one with the files in `packed`, a tar file of
    /// `sterna sites pack`. They lie in `folder`.
    ///
    /// # Errors
    /// When a disk can't be made.
    pub async fn make(
        name: &str,
        base: &Base,
        packed: &Path,
        wire: &Wire,
        number: u8,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let disk = folder.join(format!("{name}.qcow2"));
        let shared = base.folder.join("disk");
        let make = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"].map(str::to_owned).to_vec();
        run("qemu-img", [make, vec![text(&shared), text(&disk)]].concat()).await?;
        let unpacked = tempfile::tempdir_in(folder)?;
        let from =
            ["--extract", "--same-permissions", "--numeric-owner", "--file"].map(str::to_owned).to_vec();
        run("tar", [from, vec![text(packed), "--directory".to_owned(), text(unpacked.path())]].concat())
            .await?;
        let files = folder.join(format!("{name}.files"));
        // The file system's own tables need a little.
        let size = std::fs::metadata(packed)?.len() / 1024 * 11 / 10 + (8 << 10);
        run(
            "mkfs.ext4",
            vec!["-q".into(), "-d".into(), text(unpacked.path()), text(&files), format!("{size}k")],
        )
        .await?;

        let address = wire.address(number);
        let console = folder.join(format!("{name}.console"));
        let tap = tap();
        // A huge page has one mark for all of it, so most servers give them only to those who ask.
        // Where the processor is shared with many, the kernel would take a timer that comes late for one that is broken.
        let command_line = format!(
            "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check random.trust_cpu=on transparent_hugepage=madvise task=node name={name} address={address}/{} gateway={}",
            wire.prefix(),
            wire.gateway()
        );
        let arguments = [
            ["-name", name],
            ["-accel", "tcg"],
            ["-cpu", "max"],
            ["-smp", "1"],
            ["-m", &MEMORY.to_string()],
            ["-display", "none"],
            ["-chardev", &format!("file,id=console,path={},append=on", text(&console))],
            ["-serial", "chardev:console"],
            ["-kernel", &text(&base.folder.join("kernel"))],
            ["-initrd", &text(&base.folder.join("initrd"))],
            ["-append", &command_line],
            // A flush of the host is a flush here; what was not flushed is the emulator's own and dies with it.
            ["-drive", &format!("file={},if=virtio,format=qcow2,cache=writeback", text(&disk))],
            ["-drive", &format!("file={},if=virtio,format=raw,readonly=on", text(&files))],
            ["-netdev", &format!("tap,id=wire,ifname={tap},script={},downscript=no", text(wire.script()))],
            ["-device", &format!("virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:00:00:{number:02x}")],
        ];
        let mut arguments: Vec<String> = arguments.into_iter().flatten().map(str::to_owned).collect();
        arguments.extend(["-nodefaults".to_owned(), "-no-reboot".to_owned()]);
        Ok(Self {
            name: name.to_owned(),
            address,
            arguments,
            console,
            tap,
            emulator: None,
            _base: std::sync::Arc::clone(&base._lock),
        })
    }

    /// Switches it on. It is up when its agent [`listens`](Self::listens). Call it from a thread that lives as long as the
    /// machine should.
    ///
    /// # Errors
    /// When the emulator can't be started.
    pub fn boot(&mut self) -> anyhow::Result<()> {
        let mut command = bound(Path::new("qemu-system-x86_64"));
        let log = File::options().create(true).append(true).open(self.console.with_extension("emulator"))?;
        command.args(&self.arguments).stdout(log.try_clone()?).stderr(log);
        self.emulator = Some(Running::start(&mut command).context("can't start qemu-system-x86_64")?);
        Ok(())
    }

    /// Cuts its power: the emulator is killed.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn power_cut(&mut self) -> anyhow::Result<()> {
        if let Some(mut emulator) = self.emulator.take() {
            // An error says that it has ended already.
            let _ended = emulator.child().start_kill();
            emulator.child().wait().await?;
        }
        Ok(())
    }

    /// Waits until something on the host listens on a port.
    ///
    /// # Errors
    /// When that takes longer than `most` or the emulator ends; with the end of the console.
    pub async fn listens(&mut self, port: u16, most: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let tried = timeout(Duration::from_secs(1), TcpStream::connect((self.address, port))).await;
            if matches!(tried, Ok(Ok(_))) {
                return Ok(());
            }
            let Some(emulator) = &mut self.emulator else { bail!("{} is switched off", self.name) };
            let ended = emulator.child().try_wait()?;
            if ended.is_some() || start.elapsed() > most {
                let what = ended
                    .map_or_else(|| format!("is not up after {most:?}"), |status| format!("ended: {status}"));
                bail!("{} {what}; the end of its console:\n{}", self.name, self.console_end());
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// What stands on its console from all of its lives, without colours. What its agent logs is there too.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn console(&self) -> anyhow::Result<String> {
        let bytes = std::fs::read(&self.console).with_context(|| text(&self.console))?;
        Ok(without_colours(&String::from_utf8_lossy(&bytes)))
    }

    /// The last lines of its console, and what the emulator said.
    pub fn console_end(&self) -> String {
        let read =
            |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let console = read(&self.console).unwrap_or_default();
        let lines: Vec<&str> = console.lines().collect();
        let emulator = read(&self.console.with_extension("emulator")).unwrap_or_default();
        format!("{}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"), emulator.trim())
    }

    /// Runs a command on the host, as root, and gives what it prints.
    ///
    /// # Errors
    /// When it fails or the host does not answer.
    pub async fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        let script = quoted(command);
        let answer = timeout(TO_ANSWER, ask(self.address, &script));
        let (status, printed) = answer
            .await
            .with_context(|| {
                format!("{} did not answer within {TO_ANSWER:?}: {}", self.name, command.join(" "))
            })?
            .with_context(|| format!("{}: {}", self.name, command.join(" ")))?;
        if status != 0 {
            bail!("{} on {} ended with status {status}: {}", command.join(" "), self.name, printed.trim());
        }
        Ok(printed.trim().to_owned())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its network device on our side, which goes with the emulator.
    pub fn tap(&self) -> &str {
        &self.tap
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Without the sequences that switch colours: from an escape to the next `m`.
fn without_colours(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |plain, piece| plain + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

/// A name for a network device that no other has: at most 15 characters.
fn tap() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("st{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn run(program: &str, arguments: Vec<String>) -> anyhow::Result<()> {
    let mut command = bound(Path::new(program));
    command.args(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let finished = process::run(&mut command).await.with_context(|| format!("can't start {program}"))?;
    if !finished.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), finished.stderr.trim());
    }
    Ok(())
}

/// For a shell, so that each word stays what it is.
fn quoted(command: &[&str]) -> String {
    let words: Vec<String> =
        command.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    words.join(" ")
}

/// Has the host run a script; gives its exit status and what it printed.
async fn ask(address: IpAddr, script: &str) -> anyhow::Result<(i32, String)> {
    let mut stream = TcpStream::connect((address, COMMANDS)).await?;
    let head = format!("POST /cgi-bin/run HTTP/1.0\r\nContent-Length: {}\r\n\r\n", script.len());
    stream.write_all(format!("{head}{script}").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer but `{answer}`"))?;
    let status = head.lines().find_map(|line| line.strip_prefix("X-Status: "));
    let status = status.with_context(|| format!("no status in `{head}`"))?.trim().parse()?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_what_they_are() {
        let words = ["printf", "%s;", "a b", "it's", "$x", "\"", "\n", ""];
        let output = std::process::Command::new("sh").args(["-c", &quoted(&words)]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b;it's;$x;\";\n;;");
    }

    #[test]
    fn colours_are_left_out() {
        assert_eq!(without_colours("a \u{1b}[2mid\u{1b}[0m=\u{1b}[3mmine\u{1b}[0m"), "a id=mine");
        assert_eq!(without_colours("some"), "some");
    }

    #[test]
    fn names_of_network_devices_are_short_and_different() {
        let (one, other) = (tap(), tap());
        assert!(one.len() <= 15 && one != other, "{one} {other}");
    }
}
