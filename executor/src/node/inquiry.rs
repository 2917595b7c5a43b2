//! Asking what was decided about what is held here and was not heard of for a while.

use std::time::Duration;

use super::arrival::Arrivals;

/// How long nothing may be heard of a held service until its source is asked what was decided.
const SILENCE: Duration = Duration::from_secs(4);

/// Asks the sources of held services what was decided, whenever nothing was heard for a while: a call that was lost, or a
/// source that was restarted, leaves nothing held for longer than it must be.
pub async fn inquire(arrivals: Arrivals) {
    let mut time = Duration::ZERO;
    loop {
        match arrivals.silent_for(time) {
            Ok(silent) => {
                for arrival in silent {
                    let order = &arrival.reservation.order;
                    arrivals.hear(order.id);
                    if let Err(error) = arrivals.settle(&arrival).await {
                        tracing::warn!(migration = %order.id, source = %order.from, %error,
                            "held, and its source can't be asked what was decided");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "what is held here can't be looked up"),
        }
        time = SILENCE;
        tokio::time::sleep(SILENCE / 2).await;
    }
}
