//! Services that are declared as objects in a Kubernetes cluster, looked after beside `sterna run`.

use std::path::PathBuf;
use std::sync::Arc;

use sterna_core::continuum::{Continuum, inventory};
use sterna_daemon::control::desk::Desk;
use sterna_daemon::control::world::{RealWorld, SystemClock};
use sterna_daemon::declared::Declared;
use sterna_daemon::migratable_service::Keeper;
use sterna_daemon::reload::{FileError, Watched};
use sterna_daemon::settings::{Kubernetes, Settings};
use sterna_executor::identity::Authority;
use sterna_executor::platform::docker::Settings as NodeImage;
use sterna_executor::platform::kubernetes::connection;
use sterna_executor::platform::kubernetes::leadership::Leadership;
use sterna_executor::platform::kubernetes::migratable_service::objects::Declarations;
use sterna_policies::diagnose::Report;
use sterna_policies::load::is_name;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What it needs.
pub struct Parts {
    /// The agents.
    pub world: RealWorld,
    /// Who makes certificates.
    pub authority: Authority,
    /// What the loop saw last.
    pub desk: Arc<Desk>,
    /// The inventory file.
    pub inventory: PathBuf,
    /// What is declared.
    pub declared: Declared,
    /// Whether this scheduler leads; `None` where it is the only one.
    pub leadership: Option<Leadership>,
}

/// The inventory, with what is declared elsewhere where the settings say that something is.
pub fn inventory(settings: &Settings) -> Result<(Watched<Continuum>, Report), FileError> {
    let path = &settings.inventory;
    let takes_services = settings.kubernetes.as_ref().is_some_and(|kubernetes| kubernetes.services.is_some());
    // State is kept under the continuum's name. What else is wrong with the file is told below.
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let name = toml::from_str::<toml::Table>(&text).ok().and_then(|table| {
        let name = table.get("name")?.as_str()?;
        is_name(name).then(|| name.to_owned())
    });
    let Some(name) = name.filter(|_| takes_services) else {
        return Watched::open(path, inventory::load);
    };
    let declared = Declared::of(&settings.state_of(&name));
    Watched::open_with(path, move |path| declared.with(path), inventory::load)
}

/// The task that looks after them.
pub struct Served {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Served {
    /// Begins, in a namespace.
    pub async fn begin(settings: &Kubernetes, namespace: &str, parts: Parts) -> anyhow::Result<Self> {
        let image = match &settings.stand_in_image {
            Some(image) => image.clone(),
            None => NodeImage::from_environment()?.image()?,
        };
        let client = connection::client(settings.kubeconfig.as_deref()).await?;
        let Parts { world, authority, desk, inventory, declared, leadership } = parts;
        let keeper = Keeper {
            declarations: Declarations::new(client, namespace),
            world,
            authority,
            clock: SystemClock,
            leads: move || leadership.as_ref().is_none_or(Leadership::holds),
            inventory,
            declared,
            desk,
            image,
        };
        let (end, ended) = oneshot::channel();
        Ok(Self { end, task: tokio::spawn(keeper.keep(ended)) })
    }

    /// Ends it. What is under way is looked at again by whoever comes next.
    pub fn end(self) {
        let _asked = self.end.send(());
        self.task.abort();
    }
}
