//! What has crossed the link so far in the phase under way, told now and then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sterna_policies::quantity::Bytes;
use tokio::time::Instant;

use crate::migration::report::Event;

/// Time between two words about it.
const BETWEEN: Duration = Duration::from_secs(1);

type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// Counts what crosses.
#[derive(Clone, Default)]
pub struct Progress {
    tell: Option<Tell>,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    bytes: Bytes,
    of: Option<Bytes>,
    told: Option<(Instant, Bytes)>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl Progress {
    /// Tells whoever listens.
    pub fn told(tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self { tell: Some(Arc::new(tell)), counted: Arc::default() }
    }

    /// Begins anew, with so much to be sent where that is known.
    pub fn begin(&self, of: Option<Bytes>) {
        let told = Some((Instant::now(), Bytes::ZERO));
        *self.counted.lock().unwrap_or_else(PoisonError::into_inner) =
            Counted { bytes: Bytes::ZERO, of, told };
    }

    /// So much more has crossed.
    pub fn count(&self, bytes: usize) {
        let Some(tell) = &self.tell else { return };
        let event = {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            counted.bytes.0 += bytes as u64;
            let now = Instant::now();
            let (last, before) = *counted.told.get_or_insert((now, Bytes::ZERO));
            let since = now.duration_since(last);
            if since < BETWEEN {
                return;
            }
            counted.told = Some((now, counted.bytes));
            let more = counted.bytes.0.saturating_sub(before.0) as f64;
            let per_second = Bytes((more / since.as_secs_f64()) as u64);
            // What was expected may have grown meanwhile.
            let of = counted.of.map(|of| of.max(counted.bytes));
            Event::Progress { bytes: counted.bytes, of, per_second }
        };
        tell(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_a_second_with_the_rate_since_then() {
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let progress = Progress::told(move |event| seen.lock().unwrap().push(event));
        progress.begin(Some(Bytes(3000)));
        for _ in 0..4 {
            progress.count(1000);
            tokio::time::advance(Duration::from_millis(700)).await;
        }
        let told = |bytes, of, per_second| Event::Progress {
            bytes: Bytes(bytes),
            of: Some(Bytes(of)),
            per_second: Bytes(per_second),
        };
        assert_eq!(*events.lock().unwrap(), [told(3000, 3000, 2142)]);
        tokio::time::advance(Duration::from_millis(300)).await;
        progress.count(1000);
        assert_eq!(events.lock().unwrap()[1], told(5000, 5000, 1176));
    }
}
