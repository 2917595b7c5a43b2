//! A node seen from the host: its processes, its files, its network; and what the kernel lets root do to them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sterna_executor::fault::Point;
use sterna_executor::platform::agent::AGENT_PORT;
use tokio::process::Command;
use tokio::time::sleep;

use crate::home::{Home, Seen};

const FREEZER: &str = "/sys/fs/cgroup/freezer";
const FAULTS: &str = "run/sterna/faults";
const LOOK: Duration = Duration::from_millis(5);
/// Time for a node that was killed to run again: a cluster waits before it starts again what ends often.
const TO_START: Duration = Duration::from_secs(120);

/// One node. What is known of its container or pod is from the last [`Node::look`].
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the inventory.
    pub name: String,
    /// What it is.
    pub home: Home,
    /// Its container's id.
    id: String,
    /// Its first process, as the host counts; 0 while it does not run.
    pid: i32,
    /// Its address.
    pub address: IpAddr,
    /// Where the host sees the disk with the agent's register, while the node runs.
    pub state: PathBuf,
}

/// What a node's engine and folders hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Holds {
    /// Containers by name, with their state in the engine's words.
    pub containers: BTreeMap<String, String>,
    /// Start of the first process of each container that runs, in clock ticks, with its number.
    pub processes: BTreeMap<String, String>,
    /// Volumes.
    pub volumes: Vec<String>,
    /// Memory images, notes for the runtime.
    pub staged: Vec<String>,
}

impl Holds {
    /// Whether this container runs and is not paused.
    pub fn runs(&self, container: &str) -> bool {
        self.containers.get(container).is_some_and(|state| state == "running")
    }
}

/// Everything in one go.
const QUESTION: &str = r#"
set -e
docker ps --all --format 'container {{.Names}} {{.State}}'
for name in $(docker ps --format '{{.Names}}'); do
    pid=$(docker inspect --format '{{.State.Pid}}' "$name")
    echo "process $name $pid/$(cut -d ' ' -f 22 "/proc/$pid/stat")"
done
docker volume ls --format 'volume {{.Name}}'
for folder in /dev/shm/sterna /run/sterna/restore; do
    [ -d "$folder" ] || continue
    for entry in $(ls -A "$folder"); do echo "staged $folder/$entry"; done
done
"#;

impl Node {
    /// Finds a node.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn find(name: &str, home: Home) -> anyhow::Result<Self> {
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let state = home.state(name).await?;
        let mut node = Self { name: name.to_owned(), home, id: String::new(), pid: 0, address, state };
        node.look().await?;
        ensure!(node.pid > 0, "node {} does not run", node.name);
        Ok(node)
    }

    /// Looks at it again.
    ///
    /// # Errors
    /// When who keeps it does not answer.
    pub async fn look(&mut self) -> anyhow::Result<()> {
        let Seen { id, pid, address } = self.home.look().await?;
        (self.id, self.pid) = (id, pid);
        if pid > 0 {
            self.address = address.with_context(|| format!("node {} has no address", self.name))?;
        }
        Ok(())
    }

    /// A path within the node, as the host sees it.
    pub fn path(&self, inner: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join("root").join(inner.trim_start_matches('/'))
    }

    /// Its processes of this name, without those within services: they have numbers of their own.
    pub fn processes(&self, name: &str) -> Vec<Pid> {
        let space = |pid: &str| fs::read_link(Path::new("/proc").join(pid).join("ns/pid")).ok();
        let Some(own) = space(&self.pid.to_string()) else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| {
            fs::read_to_string(Path::new("/proc").join(pid).join("comm"))
                .is_ok_and(|comm| comm.trim() == name)
                && space(pid).as_ref() == Some(&own)
        })
        .filter_map(|pid| pid.parse().ok().map(Pid::from_raw))
        .collect()
    }

    /// Kills a program of the node.
    ///
    /// # Errors
    /// When it does not run within a few seconds: then nothing was tried.
    pub async fn kill(&self, program: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let found = self.processes(program);
            if !found.is_empty() {
                for pid in found {
                    // It may have ended by itself just now.
                    let _gone = kill(pid, Signal::SIGKILL);
                }
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(5), "{program} does not run on {}", self.name);
            sleep(LOOK).await;
        }
    }

    /// Kills all of it at once, as if the power had gone, and waits until nothing of it is left.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill_all(&mut self) -> anyhow::Result<()> {
        // The kernel ends everything in the node with its first process.
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).context("the node's first process")?;
        let start = Instant::now();
        loop {
            end_frozen(Path::new(FREEZER), &self.id);
            if self.home.has_ended(self.pid).await? {
                self.pid = 0;
                return Ok(());
            }
            ensure!(start.elapsed() < Duration::from_secs(20), "node {} can't be killed", self.name);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts it again, or waits until its cluster has done that.
    ///
    /// # Errors
    /// When the host's engine can't, or it does not run in time.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.home.start().await?;
        let start = Instant::now();
        loop {
            self.look().await?;
            if self.is_up() {
                return Ok(());
            }
            ensure!(start.elapsed() < TO_START, "node {} is not started again", self.name);
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.pid > 0
    }

    /// Whether its engine, what that runs containers with, and its agent accept calls.
    pub fn is_ready(&self) -> bool {
        let agent = SocketAddr::new(self.address, AGENT_PORT);
        let sockets = ["run/docker.sock", "run/docker/containerd/containerd.sock"];
        self.is_up()
            && sockets.iter().all(|socket| UnixStream::connect(self.path(socket)).is_ok())
            && TcpStream::connect_timeout(&agent, Duration::from_millis(200)).is_ok()
    }

    /// Runs a script in it, with the file system, the network and the processes that it has, and gives what that prints.
    ///
    /// # Errors
    /// When the script fails, or the node is down.
    pub async fn run(&self, script: &str) -> anyhow::Result<String> {
        ensure!(self.is_up(), "node {} is down", self.name);
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid"]);
        let output = command.args(["sh", "-c", script]).kill_on_drop(true).output().await;
        let output = output.context("can't start nsenter")?;
        if !output.status.success() {
            bail!("on node {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Changes the node's packet filter.
    ///
    /// # Errors
    /// When `iptables` refuses.
    pub async fn filter(&self, rule: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid)).args(["iptables", "--wait"]).args(rule);
        let output = command.output().await.context("nsenter and iptables")?;
        if !output.status.success() {
            bail!("iptables {}: {}", rule.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Has the agent stand still, or do damage, where it comes to this point next.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn arm(&self, point: Point) -> anyhow::Result<()> {
        let folder = self.path(FAULTS);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let fresh = folder.join("fresh");
        fs::write(&fresh, point.to_string())?;
        Ok(fs::rename(fresh, folder.join("armed"))?)
    }

    /// Whether the agent has come to the point.
    pub fn has_reached(&self) -> bool {
        self.path(FAULTS).join("reached").exists()
    }

    /// Lets the agent go on, and takes back what is armed.
    pub fn let_go(&self) {
        for file in ["armed", "reached"] {
            // Either need not be there, nor need the node.
            let _gone = fs::remove_file(self.path(FAULTS).join(file));
        }
    }

    /// What its engine and its folders hold.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn holds(&self) -> anyhow::Result<Holds> {
        let text = self.run(QUESTION).await?;
        let mut holds = Holds::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("container"), Some(name), Some(state)) => {
                    holds.containers.insert(name.into(), state.into());
                }
                (Some("process"), Some(name), Some(start)) => {
                    holds.processes.insert(name.into(), start.into());
                }
                (Some("volume"), Some(name), None) => holds.volumes.push(name.into()),
                (Some("staged"), Some(path), None) => holds.staged.push(path.into()),
                _ => bail!("{} says `{line}`", self.name),
            }
        }
        Ok(holds)
    }
}

/// On cgroup v1 what is frozen can't be killed: the kill waits, and is the first thing that each process meets when it is thawed.
fn end_frozen(freezer: &Path, id: &str) {
    let mut waiting = vec![(freezer.to_owned(), false)];
    while let Some((folder, within)) = waiting.pop() {
        let state = folder.join("freezer.state");
        if within && fs::read_to_string(&state).is_ok_and(|state| state.trim() != "THAWED") {
            let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for process in processes.lines().filter_map(|line| line.parse().ok()) {
                let _gone = kill(Pid::from_raw(process), Signal::SIGKILL);
            }
            let _gone = fs::write(state, "THAWED");
        }
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let within = within || entry.file_name().to_string_lossy().contains(id);
            waiting.push((entry.path(), within));
        }
    }
}
