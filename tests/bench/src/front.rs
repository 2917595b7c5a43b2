//! `sterna front` beside a benchmark: one address for a service, wherever it runs.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sterna_e2e::continuum::Continuum;
use sterna_e2e::process::Daemon;
use sterna_e2e::sterna::Sterna;

/// How long a front may take until it listens.
const TO_START: Duration = Duration::from_secs(30);

/// A service that a front stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fronted {
    /// The service.
    pub name: &'static str,
    /// The port that it has within its container.
    pub port: u16,
    /// What is spoken: `tcp`, `http` or `redis`.
    pub protocol: &'static str,
}

/// A front that runs. Dropped, it ends.
#[derive(Debug)]
pub struct Front {
    daemon: Daemon,
    addresses: Vec<(Fronted, SocketAddr)>,
}

/// The front's file.
fn config(inventory: &str, addresses: &[(Fronted, SocketAddr)]) -> String {
    let mut text = format!("schema_version = 1\ninventory = \"{inventory}\"\n");
    for (Fronted { name, port, protocol }, listen) in addresses {
        // Writing into a text can't fail.
        let _written = write!(
            text,
            "[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nport = {port}\nprotocol = \"{protocol}\"\n"
        );
    }
    text
}

/// Whether this `sterna` has a front.
///
/// # Errors
/// When it has none, or can't be run.
pub async fn exists(sterna: &Sterna) -> anyhow::Result<()> {
    let help = sterna.must(&["--help"]).await?;
    let has = help.lines().any(|line| line.split_whitespace().next() == Some("front"));
    ensure!(has, "this sterna has no command `front`");
    Ok(())
}

impl Front {
    /// Starts one on free ports of loopback, and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(sterna: &Sterna, continuum: &Continuum, services: &[Fronted]) -> anyhow::Result<Self> {
        exists(sterna).await?;
        let mut addresses = Vec::new();
        let mut taken = Vec::new();
        for service in services {
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.push((*service, listener.local_addr()?));
            taken.push(listener);
        }
        // All at once, so that no two are the same.
        drop(taken);
        let file = continuum.folder().join("front.toml");
        std::fs::write(&file, config(&continuum.file().display().to_string(), &addresses))?;
        let mut command = sterna.command();
        command.arg("front").arg("--config").arg(&file).arg("--state").arg(continuum.state());
        let daemon = Daemon::start("sterna front", command, continuum.folder().join("front.log"))?;
        let mut front = Self { daemon, addresses };
        let all: Vec<SocketAddr> = front.addresses.iter().map(|(_, address)| *address).collect();
        let listens = || async {
            for address in &all {
                if tokio::net::TcpStream::connect(address).await.is_err() {
                    return false;
                }
            }
            true
        };
        front.daemon.until(TO_START, listens).await?;
        Ok(front)
    }

    /// Where a service is reached through it.
    ///
    /// # Errors
    /// When it does not stand before that service.
    pub fn address(&self, service: &str) -> anyhow::Result<SocketAddr> {
        let found = self.addresses.iter().find(|(fronted, _)| fronted.name == service);
        found.map(|(_, address)| *address).with_context(|| format!("the front has no {service}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_each_service() {
        let redis = Fronted { name: "redis", port: 6379, protocol: "redis" };
        assert_eq!(
            config("/i.toml", &[(redis, "127.0.0.1:1".parse().unwrap())]),
            "schema_version = 1\ninventory = \"/i.toml\"\n[[service]]\nname = \"redis\"\nlisten = \"127.0.0.1:1\"\n\
             port = 6379\nprotocol = \"redis\"\n"
        );
    }
}
