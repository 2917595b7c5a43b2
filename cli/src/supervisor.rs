//! What the service manager is told, where there is one: systemd's notify protocol. Without one nothing is said.

use std::sync::Arc;

use sd_notify::NotifyState;
use sterna_daemon::telemetry::Telemetry;

/// It serves.
pub fn ready() {
    say(NotifyState::Ready);
}

/// It is stopping.
pub fn stopping() {
    say(NotifyState::Stopping);
}

/// Says that the loop goes on, for as long as it does and somebody wants to know. A cycle that fails is no reason to be restarted;
/// a loop that does not come back is.
pub async fn watchdog(telemetry: Arc<Telemetry>) {
    let Some(every) = sd_notify::watchdog_enabled() else { return };
    loop {
        match telemetry.silent() {
            None => say(NotifyState::Watchdog),
            Some(silent) => tracing::error!(seconds = silent.as_secs(), "the loop does not come back"),
        }
        tokio::time::sleep(every / 2).await;
    }
}

fn say(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
