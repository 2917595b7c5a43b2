//! `sterna front`, beside a test: one address for each service.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::continuum::Continuum;
use crate::process::Daemon;
use crate::sterna::Sterna;
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

/// The front, running. Dropped, it ends.
#[derive(Debug)]
pub struct Front {
    _daemon: Daemon,
    addresses: Vec<(String, SocketAddr)>,
    metrics: SocketAddr,
}

/// An address that nobody listens on, all interfaces of this host among them.
async fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    Ok(listener.local_addr()?)
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
            text.push_str(&format!(
                "[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nport = {port}\nprotocol = \"{protocol}\"\n"
            ));
            addresses.push(((*name).to_owned(), SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port())));
        }
        let file = continuum.folder().join("front.toml");
        std::fs::write(&file, text)?;
        let mut command = sterna.command();
        command.arg("front").arg("--config").arg(&file).arg("--state").arg(continuum.state());
        let mut daemon = Daemon::start("sterna front", command, continuum.folder().join("front.log"))?;
        let metrics = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), metrics.port());
        let all: Vec<SocketAddr> = addresses.iter().map(|(_, address)| *address).chain([metrics]).collect();
        let listens = || async {
            for address in &all {
                if tokio::net::TcpStream::connect(address).await.is_err() {
                    return false;
                }
            }
            true
        };
        daemon.until(Duration::from_secs(15), listens).await?;
        Ok(Self { _daemon: daemon, addresses, metrics })
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
        let key = format!("sterna_front_{name}{{service=\"{service}\"}} ");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(&key))
            .with_context(|| format!("{key} in\n{text}"))?;
        Ok(value.trim().parse()?)
    }
}
