//! Waiting for what takes a moment.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

/// Pause before another look, and before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(200);

/// Waits until it is so.
///
/// # Errors
/// When it is not within `most`, and as soon as nobody can tell.
pub async fn eventually(
    most: Duration,
    what: &str,
    mut so: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !so().await? {
        ensure!(start.elapsed() < most, "not within {most:?}: {what}");
        sleep(PAUSE).await;
    }
    Ok(())
}

/// Tries until it succeeds.
///
/// # Errors
/// When it does not within `most`; with what went wrong at last.
pub async fn succeeds<T>(
    most: Duration,
    what: &str,
    mut tried: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        match tried().await {
            Err(error) if start.elapsed() > most => {
                return Err(error.context(format!("not within {most:?}: {what}")));
            }
            Err(_) => sleep(AGAIN).await,
            Ok(value) => return Ok(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    const MOST: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn waits_no_longer_than_it_must_and_says_what_for() {
        let mut looks = 0;
        let third = async || {
            looks += 1;
            Ok(looks == 3)
        };
        eventually(MOST, "the third look", third).await.unwrap();
        assert_eq!(looks, 3);
        let never = eventually(MOST, "the moon", async || Ok(false)).await.unwrap_err().to_string();
        assert!(never.contains("the moon"), "{never}");
        let start = Instant::now();
        let broken = eventually(MOST, "the moon", async || bail!("blind")).await.unwrap_err().to_string();
        assert!(broken == "blind" && start.elapsed() < MOST, "{broken}");
    }

    #[tokio::test]
    async fn tries_again_and_tells_what_went_wrong_at_last() {
        let mut tries = 0;
        let second = async || {
            tries += 1;
            ensure!(tries == 2, "try {tries}");
            Ok(tries)
        };
        assert_eq!(succeeds(MOST, "the second", second).await.unwrap(), 2);
        let failed = succeeds(MOST, "the moon", async || -> anyhow::Result<()> { bail!("too far") }).await;
        let failed = format!("{:#}", failed.unwrap_err());
        assert!(failed.contains("the moon") && failed.ends_with("too far"), "{failed}");
    }
}
