//! A shell pipeline that passes numbers through pipes: what is on its way in a pipe moves too.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const SCRIPT: &str = include_str!("programs/pipeline.sh");

/// Several processes that start short-lived ones all the time.
#[derive(Debug, Default)]
pub struct Pipeline {
    before: Option<State>,
}

/// What the last process of the pipeline has noted.
#[derive(Debug, Clone)]
struct State {
    token: String,
    number: u64,
}

async fn state<G: Ground>(place: Place<'_, G>) -> anyhow::Result<State> {
    let text = place.exec(&["cat", "/state"]).await?;
    let mut words = text.split_whitespace();
    let mut word = || words.next().with_context(|| format!("the pipeline noted `{text}`"));
    let (token, number, wrong) = (word()?.to_owned(), word()?.parse()?, word()?);
    ensure!(wrong == "0", "numbers were lost, doubled or spoilt {wrong} times");
    Ok(State { token, number })
}

async fn beyond<G: Ground>(place: Place<'_, G>, number: u64) -> anyhow::Result<State> {
    let attempt = || async {
        let state = state(place).await?;
        ensure!(state.number > number, "it stands still at {}", state.number);
        Ok(state)
    };
    eventually(Duration::from_secs(10), attempt).await
}

impl Workload for Pipeline {
    fn service(&self) -> Service {
        Service::new("pipeline", IMAGE, &["bash", "-c", SCRIPT])
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        self.before = Some(beyond(place, 100).await?);
        Ok(())
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let before = self.before.take().context("it was not driven")?;
        let first = state(place).await?;
        ensure!(first.token == before.token, "another process: {} was {}", first.token, before.token);
        ensure!(first.number >= before.number, "at {}, was at {} before", first.number, before.number);
        let now = beyond(place, first.number).await?;
        let seen = format!("at {}, none lost or doubled", now.number);
        self.before = Some(now);
        Ok(seen)
    }
}
