//! Files of every kind, in the writable layer and in a volume: hard links, holes, names that are no text, access lists,
//! capabilities, owners, times; names of the image that were deleted or replaced. Between moves the service changes them.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const SCRIPT: &str = include_str!("programs/trees.py");

/// What the service sees of its files, and its word.
#[derive(Debug, Default)]
pub struct Trees {
    seen: String,
    said: String,
    turn: u32,
}

async fn look<G: Ground>(place: Place<'_, G>) -> anyhow::Result<String> {
    place.exec(&["python3", "-c", SCRIPT, "look"]).await
}

/// The first line that is not the same.
fn difference<'a>(before: &'a str, after: &'a str) -> Option<(&'a str, &'a str)> {
    let longest = before.lines().count().max(after.lines().count());
    let lines = |text: &'a str| text.lines().chain(std::iter::repeat("nothing")).take(longest);
    lines(before).zip(lines(after)).find(|(one, other)| one != other)
}

impl Workload for Trees {
    fn service(&self) -> Service {
        Service::new("trees", IMAGE, &["python3", "-c", SCRIPT, "serve"]).volume("zoo-kept:/kept")
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        self.said = eventually(Duration::from_secs(20), || place.exec(&["cat", "/said"])).await?;
        self.seen = look(place).await?;
        for needed in ["user.sterna", "posix_acl_access", "security.capability", "sparse", "\\xff\\xfe"] {
            ensure!(self.seen.contains(needed), "the service could not make `{needed}`:\n{}", self.seen);
        }
        Ok(())
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let said = place.exec(&["cat", "/said"]).await?;
        ensure!(said == self.said, "another process: it says {said}, it said {}", self.said);
        let seen = look(place).await?;
        if let Some((before, after)) = difference(&self.seen, &seen) {
            anyhow::bail!("before the move: {before}\nafter the move:  {after}");
        }
        let names = seen.lines().count();
        self.turn += 1;
        place.exec(&["python3", "-c", SCRIPT, "change", &self.turn.to_string()]).await.context("changing")?;
        self.seen = look(place).await?;
        ensure!(self.turn > 2 || self.seen != seen, "nothing was changed");
        Ok(format!("{names} names with all that is known of them"))
    }
}
