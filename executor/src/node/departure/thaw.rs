//! Letting the source go on.

use std::time::Duration;

use crate::engine::docker::restarts;
use crate::migration::machine::StepError;

use super::{Leaving, PAUSE, failed};

/// Longest wait for CRIU to let go of the processes before that is told as a failure, and tried again.
const LET_GO: Duration = Duration::from_secs(5);

impl Leaving {
    /// Lets the source go on, and starts it anew where its node went down meanwhile.
    pub(super) async fn thaw(&mut self) -> Result<(), StepError> {
        if !self.engine.has_container(&self.container).await.map_err(failed)? {
            // Somebody removed it, and waiting for it would never end.
            self.started_anew = Some("its container was removed meanwhile".to_owned());
            return Ok(());
        }
        self.look().await?;
        // While CRIU is at work in the processes they must stay frozen: thawed now, they would run its code.
        let waited = tokio::time::Instant::now();
        while self.processes().is_ok_and(|processes| processes.traced()) {
            if waited.elapsed() > LET_GO {
                return Err(StepError::Failed("CRIU still holds the processes".to_owned()));
            }
            tokio::time::sleep(PAUSE / 10).await;
        }
        self.engine.unpause(&self.container).await.map_err(failed)?;
        self.traffic.thawed(&self.order.service);
        if let Some(policy) = &self.restart {
            self.engine.set_restart(&self.container, Some(policy.clone())).await.map_err(failed)?;
        }
        if self.engine.inspect(&self.container).await.map_err(failed)?.pid.is_none() {
            let down = "its processes were lost with its node";
            if restarts(self.restart.as_ref()) {
                self.engine.start(&self.container).await.map_err(failed)?;
                self.started_anew = Some(down.to_owned());
            } else {
                let why = format!("{down}, and its restart policy leaves it down");
                self.started_anew = Some(why);
            }
        }
        Ok(())
    }
}
