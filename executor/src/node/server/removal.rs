//! Services that are to be no more.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use sterna_core::continuum::ServiceName;

use crate::engine::criu;
use crate::error_chain::chain;

use super::Agent;
use super::caller::{FromScheduler, Named};
use super::refusal::Refusal;

/// Stops a service, and removes it with the volumes that only it used.
pub(super) async fn remove_service(
    _: FromScheduler,
    State(agent): State<Agent>,
    Named(service): Named,
) -> Result<Json<()>, Refusal> {
    // To its end, also when the caller goes away: a service that is half removed is of no use.
    match tokio::spawn(async move { agent.remove(&service).await }).await {
        Ok(done) => done.map(Json),
        Err(error) => {
            Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("the call was cut short: {error}")))
        }
    }
}

impl Agent {
    async fn remove(&self, service: &ServiceName) -> Result<(), Refusal> {
        let _removal = self.running.begin_removal(service).await?;
        let owned = self.owned().await?.into_iter().map(|(container, _)| container);
        let container = owned.into_iter().find(|one| one.service().as_ref() == Some(service));
        let Some(container) = container else {
            return Err(Refusal(StatusCode::NOT_FOUND, format!("`{service}` does not stand here")));
        };
        let mut own = Vec::new();
        for volume in &container.volumes {
            if self.engine.other_users_of(&volume.name, &container.id).await?.is_empty() {
                own.push(volume.name.as_str());
            }
        }
        // A frozen one can't be asked to end.
        if container.pid.is_some() && !container.paused {
            self.engine.stop(&container).await?;
        }
        self.engine.remove(&container.id).await?;
        tracing::info!(%service, "removed");
        if let Some(migration) = container.migration() {
            // There may be none: it lies where no restart of the node leaves it.
            let _ = std::fs::remove_file(criu::settings_path(migration));
        }
        self.traffic.look_again();
        let mut left = Vec::new();
        for volume in own {
            if let Err(error) = self.engine.remove_volume(volume).await {
                left.push(format!("`{volume}`: {}", chain(&error)));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let text = format!(
            "`{service}` is removed, but these volumes of it are left, to be removed by hand: {}",
            left.join("; ")
        );
        Err(Refusal(StatusCode::INTERNAL_SERVER_ERROR, text))
    }
}
