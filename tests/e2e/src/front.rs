//! A front, beside a test or in an agent: one address for each service.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::net::TcpListener;

use crate::continuum::Continuum;
use crate::docker::docker;
use crate::process::Daemon;
use crate::sterna::Sterna;
use crate::zoo::eventually;
use crate::zoo::load::{http, page};

/// A service of the front.
#[derive(Debug, Clone, Copy)]
pub struct Fronted<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its port, in its container.
    pub port: u16,
    /// What is spoken: `tcp`, `http` or `redis`.
    pub protocol: &'a str,
}

/// Where the agents of local nodes listen.
const AGENT: u16 = 7420;
/// Where a front in an agent tells what it counts.
pub const METRICS: u16 = 9464;
/// Added to a service's port it is that of a front in an agent: services publish theirs on the same node.
const BESIDE: u16 = 1000;
/// Time for an agent to end and start again, or a front to start.
const TO_START: Duration = Duration::from_secs(30);
/// Ends the agent of the node that it runs in, which is then started again.
const END_AGENT: &str = r#"for process in /proc/[0-9]*; do
[ "$(tr '\0' ' ' <"$process/cmdline" 2>/dev/null)" = "sterna agent --config /etc/sterna/agent.toml " ] || continue
kill -TERM "${process#/proc/}" && exit
done
exit 1"#;

/// The front, running. Dropped, it ends; one in an agent, with the agent.
#[derive(Debug)]
pub struct Front {
    _daemon: Option<Daemon>,
    addresses: Vec<(String, SocketAddr)>,
    metrics: SocketAddr,
}

/// An address that nobody listens on, all interfaces of this host among them.
async fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    Ok(listener.local_addr()?)
}

/// A service's table, of a front's file or of an agent's.
/// As many connections as every machine has open files for.
fn table(key: &str, name: &str, listen: SocketAddr, port: u16, protocol: &str) -> String {
    format!(
        "[[{key}]]\nname = \"{name}\"\nlisten = \"{listen}\"\nport = {port}\nprotocol = \"{protocol}\"\nconnections = 500\n"
    )
}

impl Front {
    /// Starts it before services of a continuum, and waits until it listens.
    ///
    /// # Errors
    /// When it can't be started or does not listen.
    pub async fn start(
        sterna: &Sterna,
        continuum: &Continuum,
        services: &[Fronted<'_>],
    ) -> anyhow::Result<Self> {
        let metrics = free().await?;
        let inventory = continuum.file().display();
        let mut text = format!("schema_version = 1\ninventory = \"{inventory}\"\nmetrics = \"{metrics}\"\n");
        let mut addresses = Vec::new();
        for Fronted { name, port, protocol } in services {
            let listen = free().await?;
            text.push_str(&table("service", name, listen, *port, protocol));
            addresses.push(((*name).to_owned(), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port())));
        }
        let file = continuum.folder().join("front.toml");
        std::fs::write(&file, text)?;
        let mut command = sterna.command();
        command.arg("front").arg("--config").arg(&file).arg("--state").arg(continuum.state());
        let mut daemon = Daemon::start("sterna front", command, continuum.folder().join("front.log"))?;
        let metrics = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), metrics.port());
        let mut front = Self { _daemon: None, addresses, metrics };
        daemon.until(TO_START, || front.listens()).await?;
        front._daemon = Some(daemon);
        Ok(front)
    }

    /// Has the agent of `node` run one before services of a continuum, with a certificate of its own, and waits until it
    /// listens. The agent is started again for that.
    ///
    /// # Errors
    /// When the node can't be given what it takes, or nothing listens.
    pub async fn in_agent(
        sterna: &Sterna,
        continuum: &Continuum,
        node: &str,
        services: &[Fronted<'_>],
    ) -> anyhow::Result<Self> {
        // Within a node nobody can look up where local nodes are.
        let mut inventory = std::fs::read_to_string(continuum.file())?;
        for (name, address) in continuum.nodes().map(|(name, _)| name).zip(continuum.addresses(AGENT).await?)
        {
            let named = format!("name = \"{name}\"\n");
            inventory = inventory.replacen(&named, &format!("{named}agent = \"{address}\"\n"), 1);
        }
        let (folder, file) = (continuum.folder().join("front"), continuum.file().display().to_string());
        let (given, state) = (folder.display().to_string(), continuum.state().display().to_string());
        sterna.must(&["front", "--issue", &given, "--inventory", &file, "--state", &state]).await?;
        std::fs::write(folder.join("inventory.toml"), inventory)?;
        let container = continuum.container(node);
        docker(&["cp", &given, &format!("{container}:/etc/sterna/front")]).await?;
        let mut text = format!(
            "[front]\ninventory = \"front/inventory.toml\"\nidentity = \"front\"\nmetrics = \"0.0.0.0:{METRICS}\"\n"
        );
        let (mut addresses, host) = (Vec::new(), continuum.address(node).await?);
        for Fronted { name, port, protocol } in services {
            let listen = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port + BESIDE);
            text.push_str(&table("front.service", name, listen, *port, protocol));
            addresses.push(((*name).to_owned(), SocketAddr::new(host, listen.port())));
        }
        let append = r#"printf %s "$1" >>/etc/sterna/agent.toml"#;
        docker(&["exec", &container, "sh", "-c", append, "append", &text]).await?;
        docker(&["exec", &container, "sh", "-c", END_AGENT]).await?;
        let front = Self { _daemon: None, addresses, metrics: SocketAddr::new(host, METRICS) };
        let listens = || async {
            ensure!(front.listens().await, "the agent of {node} runs no front");
            Ok(())
        };
        eventually(TO_START, listens).await?;
        Ok(front)
    }

    async fn listens(&self) -> bool {
        for address in self.addresses.iter().map(|(_, address)| *address).chain([self.metrics]) {
            if tokio::net::TcpStream::connect(address).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Where clients on this host find a service.
    ///
    /// # Errors
    /// When the front has no such service.
    pub fn address(&self, service: &str) -> anyhow::Result<SocketAddr> {
        let found = self.addresses.iter().find(|(name, _)| name == service);
        Ok(found.with_context(|| format!("the front has no service `{service}`"))?.1)
    }

    /// A number that it counts of a service.
    ///
    /// # Errors
    /// When it does not tell it.
    pub async fn counted(&self, service: &str, name: &str) -> anyhow::Result<u64> {
        let text = page(&http()?, self.metrics, "/metrics").await?;
        let key = format!("sterna_front_{name}{{service=\"{service}\",");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&key)?.split_once("} "))
            .with_context(|| format!("{key} in\n{text}"))?;
        Ok(value.1.trim().parse()?)
    }
}
