//! Having services of a Kubernetes cluster lead straight to where services run, beside `sterna run`.

use std::sync::Arc;
use std::time::Duration;

use sterna_daemon::control::desk::Desk;
use sterna_daemon::service_endpoints::Keeper;
use sterna_daemon::settings::Kubernetes;
use sterna_executor::identity::Credentials;
use sterna_executor::platform::kubernetes::connection;
use sterna_executor::platform::kubernetes::leadership::Leadership;
use sterna_executor::platform::kubernetes::service_endpoints::objects::Namespace;
use sterna_executor::traffic::hearing::Hearing;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The task that keeps them.
pub struct Led {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Led {
    /// Begins, in the namespaces of the settings. The certificate is a front's.
    pub async fn begin(
        settings: &Kubernetes,
        credentials: Credentials,
        desk: Arc<Desk>,
        leadership: Option<Leadership>,
    ) -> anyhow::Result<Self> {
        let client = connection::client(settings.kubeconfig.as_deref()).await?;
        let keeper = Keeper {
            namespaces: settings.endpoints.iter().map(|name| Namespace::new(client.clone(), name)).collect(),
            hearing: Hearing::new(credentials),
            leads: move || leadership.as_ref().is_none_or(Leadership::holds),
            desk,
        };
        let (end, ended) = oneshot::channel();
        Ok(Self { end, task: tokio::spawn(keeper.keep(ended)) })
    }

    /// Writes nothing more.
    pub async fn end(self) {
        let Self { end, mut task } = self;
        let _asked = end.send(());
        if tokio::time::timeout(TO_END, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// How long a writing that is under way may take.
const TO_END: Duration = Duration::from_secs(1);
