//! What a node is: a container of this host's engine, or a pod of a cluster.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use sterna_e2e::docker::{self, docker};
use sterna_e2e::sterna::Sterna;
use tokio::process::Command;

use crate::cluster::{Cluster, NAMESPACE, STORAGE, machine_of};
use crate::disk::{Disks, seen_at};

/// What the nodes are made on.
#[derive(Debug, Clone)]
pub enum Ground {
    /// This host's engine.
    Engine,
    /// A cluster.
    Cluster(Arc<Cluster>),
}

impl Ground {
    /// The binary, its commands asking this ground.
    pub fn asked_by(&self, sterna: Sterna) -> Sterna {
        match self {
            Self::Engine => sterna,
            Self::Cluster(cluster) => cluster.asked_by(sterna),
        }
    }

    /// What the inventory says of a node, beside its size.
    pub fn described(&self, node: &str) -> String {
        match self {
            Self::Engine => String::new(),
            Self::Cluster(_) => format!(
                "kubernetes = {{ namespace = \"{NAMESPACE}\", node = \"{}\", storage = \"{STORAGE}\" }}\n",
                machine_of(node)
            ),
        }
    }

    /// Cores of a node: a cluster gives none away twice, and two of three stand on one of its nodes.
    pub const fn cpu(&self) -> &'static str {
        match self {
            Self::Engine => "2",
            Self::Cluster(_) => "1",
        }
    }

    /// Gives the nodes of a continuum, before they are made, disks of their own.
    ///
    /// # Errors
    /// When there are no loop devices, or we may not use them.
    pub async fn disks(&self, continuum: &str, nodes: &[&str]) -> anyhow::Result<Disks> {
        match self {
            Self::Engine => Disks::make(continuum, nodes).await,
            Self::Cluster(cluster) => Disks::make_in(cluster, continuum, nodes).await,
        }
    }

    /// The address under which the nodes of a continuum reach this host.
    ///
    /// # Errors
    /// When there is no network of theirs.
    pub async fn host(&self, continuum: &str) -> anyhow::Result<IpAddr> {
        match self {
            Self::Engine => {
                let network = format!("sterna-{continuum}");
                let format = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
                let gateway = docker(&["network", "inspect", "--format", format, &network]).await?;
                gateway.parse().with_context(|| format!("gateway `{gateway}`"))
            }
            Self::Cluster(cluster) => cluster.host(),
        }
    }

    /// What a node of this name is.
    pub fn home(&self, name: String) -> Home {
        match self {
            Self::Engine => Home::Container(name),
            Self::Cluster(cluster) => Home::Pod(Arc::clone(cluster), name),
        }
    }
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Home {
    /// A container of this host's engine, by its name.
    Container(String),
    /// A pod, by its cluster and name.
    Pod(Arc<Cluster>, String),
}

/// How a node is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The id of its container.
    pub id: String,
    /// Its first process, as the host counts; 0 while it does not run.
    pub pid: i32,
    /// Its address, if it has one.
    pub address: Option<IpAddr>,
}

impl Home {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Container(name) | Self::Pod(_, name) => name,
        }
    }

    /// Where the host sees the folder with the agent's register, whether the node runs or not.
    ///
    /// # Errors
    /// When the host's engine does not know it.
    pub async fn state(&self, node: &str) -> anyhow::Result<PathBuf> {
        match self {
            Self::Container(name) => {
                let volume = format!("{name}-state");
                Ok(docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]).await?.into())
            }
            Self::Pod(..) => Ok(seen_at(node).join("state")),
        }
    }

    /// Looks at it.
    ///
    /// # Errors
    /// When who keeps it does not answer, or does not know it.
    pub async fn look(&self) -> anyhow::Result<Seen> {
        match self {
            Self::Container(name) => {
                let text = docker(&["inspect", "--format", "{{.Id}} {{.State.Pid}}", name]).await?;
                let (id, pid) = text.split_once(' ').with_context(|| format!("inspect says `{text}`"))?;
                let pid = pid.parse()?;
                let address = if pid > 0 { Some(docker::address(name).await?) } else { None };
                Ok(Seen { id: id.to_owned(), pid, address })
            }
            Self::Pod(cluster, name) => {
                let Some(seen) = cluster.look(name).await? else { return Ok(Seen::default()) };
                let Some(id) = seen.container else { return Ok(Seen::default()) };
                let address = seen.address.map(|address| address.parse()).transpose()?;
                Ok(Seen { pid: first_process(&id).unwrap_or(0), id, address })
            }
        }
    }

    /// Whether its first process has ended, for whoever keeps it.
    ///
    /// # Errors
    /// When the host's engine does not know it.
    pub async fn has_ended(&self, pid: i32) -> anyhow::Result<bool> {
        match self {
            Self::Container(name) => {
                Ok(docker(&["inspect", "--format", "{{.State.Running}}", name]).await? == "false")
            }
            // The cluster may have it running again by the time that it is asked.
            Self::Pod(..) => Ok(!Path::new("/proc").join(pid.to_string()).exists()),
        }
    }

    /// Starts it, where the cluster does not do that by itself.
    ///
    /// # Errors
    /// When the host's engine can't.
    pub async fn start(&self) -> anyhow::Result<()> {
        match self {
            Self::Container(name) => docker(&["start", name]).await.map(drop),
            Self::Pod(..) => Ok(()),
        }
    }

    /// A command that prints what it says, from `since` on.
    pub fn log(&self, since: &str) -> Command {
        match self {
            Self::Container(name) => {
                let mut command = Command::new("docker");
                command.args(["logs", "--timestamps", "--since", since, name]);
                command
            }
            Self::Pod(cluster, name) => cluster.log(name, since),
        }
    }
}

/// The first process of a container of the cluster, as the host counts.
fn first_process(id: &str) -> Option<i32> {
    let entries = fs::read_dir("/proc").ok()?;
    let folders = entries.flatten().map(|entry| entry.path());
    let is_it = |folder: &Path| {
        let read = |file| fs::read_to_string(folder.join(file)).unwrap_or_default();
        is_first(&read("status")) && is_in(&read("cgroup"), id)
    };
    let found = folders.filter(|folder| is_it(folder));
    found.filter_map(|folder| folder.file_name()?.to_str()?.parse().ok()).next()
}

/// Whether a process is the first in a namespace of processes just below ours; those of services are one further down.
fn is_first(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.is_some_and(|line| line.split_whitespace().collect::<Vec<_>>()[..].get(1..) == Some(&["1"]))
}

fn is_in(cgroups: &str, id: &str) -> bool {
    cgroups.lines().any(|line| line.split('/').any(|part| part == id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_of_a_pod_is_told_from_those_of_services_and_of_the_host() {
        assert!(is_first("Name:\ttini\nNSpid:\t4711\t1\n"));
        for other in ["NSpid:\t4711\t9\t1\n", "NSpid:\t4711\t7\n", "NSpid:\t1\n", ""] {
            assert!(!is_first(other), "{other}");
        }
        let groups = "5:freezer:/k/edge-n1/kubepods/pod1/abc\n0::/\n";
        assert!(is_in(groups, "abc") && !is_in(groups, "ab"));
    }
}
