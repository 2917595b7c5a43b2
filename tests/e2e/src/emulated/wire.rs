//! The network that emulated hosts, the container nodes of the same continuum and we are on: the bridge of an engine's
//! network, so that the engine chooses addresses that nobody has, lets them through its filters, and removes it all.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::docker::docker;

/// A network, and how a machine is put on it.
#[derive(Debug)]
pub struct Wire {
    gateway: Ipv4Addr,
    last: Ipv4Addr,
    prefix: u8,
    script: PathBuf,
}

impl Wire {
    /// Makes the network of a continuum, as `sterna sites up` would, so that container nodes join it and
    /// `sterna sites down` removes it. `folder` is for the script that emulators run.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn lay(continuum: &str, folder: &Path) -> anyhow::Result<Self> {
        let (name, label) = (format!("sterna-{continuum}"), format!("sterna.continuum={continuum}"));
        let id = docker(&["network", "create", "--label", &label, &name]).await?;
        let format = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}";
        let text = docker(&["network", "inspect", "--format", format, &name]).await?;
        let (subnet, gateway) = text.split_once(' ').with_context(|| format!("network {name} is {text}"))?;
        let (first, prefix) = subnet.split_once('/').with_context(|| format!("network {name} is {text}"))?;
        let prefix: u8 = prefix.parse()?;
        if !(8..=24).contains(&prefix) {
            bail!("network {name} is too small for emulated hosts: {subnet}");
        }
        let last = u32::from(first.parse::<Ipv4Addr>()?) | (u32::MAX >> prefix);
        // Docker names the bridge by the network's number.
        let bridge = format!("br-{}", id.get(..12).context("the engine gave no number of the network")?);
        let script = folder.join("plug");
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&script)?;
        std::io::Write::write_all(
            &mut file,
            format!("#!/bin/sh\nexec ip link set \"$1\" up master {bridge}\n").as_bytes(),
        )?;
        Ok(Self { gateway: gateway.parse()?, last: last.into(), prefix, script })
    }

    /// Address of emulated host number `number`: from the end of the network, since the engine gives addresses from the
    /// beginning.
    pub fn address(&self, number: u8) -> IpAddr {
        Ipv4Addr::from(u32::from(self.last) - 10 - u32::from(number)).into()
    }

    /// Length of the network's prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The way out of the network: we.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// What an emulator runs, with the name of its network device, to be plugged in.
    pub fn script(&self) -> &Path {
        &self.script
    }
}
