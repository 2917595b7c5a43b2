//! Two named volumes, written all the time by a process that counts in memory: every number stands in both once. One also has a
//! file that is written through a mapping only; the process says in a line of its own when it finds there what it did not write.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const SCRIPT: &str = include_str!("programs/volumes.py");
/// Prints how many lines there are, and how many of them don't hold their own number. The second file is read first, so
/// that it can't be ahead of the first for what was written in between.
const COUNT: &str = r#"for file in /two/log /one/log; do awk '$1 != NR { wrong++ } END { print NR, wrong + 0 }' "$file"; done"#;

/// The process, and how far it was.
#[derive(Debug, Default)]
pub struct Volumes {
    token: String,
    written: u64,
}

async fn written<G: Ground>(place: Place<'_, G>) -> anyhow::Result<u64> {
    let text = place.exec(&["sh", "-c", COUNT]).await?;
    let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [two, wrong_in_two, one, wrong_in_one] = numbers[..] else { anyhow::bail!("not two counts: {text}") };
    ensure!(
        wrong_in_one == 0 && wrong_in_two == 0 && two <= one,
        "numbers are lost or doubled: {wrong_in_one} of {one} lines in one volume, {wrong_in_two} of {two} in the other"
    );
    Ok(two)
}

impl Workload for Volumes {
    fn service(&self) -> Service {
        let service = Service::new("volumes", IMAGE, &["python3", "-c", SCRIPT]);
        service.volume("zoo-one:/one").volume("zoo-two:/two")
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        self.token = eventually(Duration::from_secs(20), || place.exec(&["cat", "/one/token"])).await?;
        self.goes_on(place).await
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let token = place.exec(&["cat", "/one/token"]).await?;
        ensure!(token == self.token, "another process: {token} was {}", self.token);
        self.goes_on(place).await.context("the volumes")?;
        Ok(format!("{} lines in both volumes, each once", self.written))
    }
}

impl Volumes {
    async fn goes_on<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        let first = written(place).await?;
        ensure!(first >= self.written, "{first} lines, {} before", self.written);
        let more = || async {
            let now = written(place).await?;
            ensure!(now > first, "it stands still at {now} lines");
            Ok(now)
        };
        self.written = eventually(Duration::from_secs(10), more).await?;
        Ok(())
    }
}
