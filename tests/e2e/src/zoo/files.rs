//! A process with 10,000 open files, each read up to its own place, one that is open but deleted, and locks of three kinds.

use std::time::Duration;

use anyhow::ensure;

use super::load::{http, page};
use super::{Ground, IMAGE, Place, Workload, eventually};
use crate::inventory::Service;

const PORT: u16 = 8105;
const HOLDER: &str = include_str!("programs/files.py");
const RIVAL: &str = include_str!("programs/rival.py");

/// The process, which looks after its own files and locks when it is asked to.
#[derive(Debug, Default)]
pub struct Files {
    said: String,
}

async fn look<G: Ground>(place: Place<'_, G>) -> anyhow::Result<String> {
    page(&http()?, place.address(PORT).await?, "/").await
}

impl Workload for Files {
    fn service(&self) -> Service {
        Service::new("files", IMAGE, &["python3", "-c", HOLDER, "8105"]).port(PORT)
    }

    async fn drive<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<()> {
        self.said = eventually(Duration::from_secs(30), || look(place)).await?;
        self.check(place).await.map(drop)
    }

    async fn check<G: Ground>(&mut self, place: Place<'_, G>) -> anyhow::Result<String> {
        let said = look(place).await?;
        ensure!(
            said.ends_with(" 10000 files as they were, the deleted one whole"),
            "the process says of its files: {said}"
        );
        ensure!(said == self.said, "another process: it says `{said}`, it said `{}`", self.said);
        let rival = place.exec(&["python3", "-c", RIVAL]).await?;
        ensure!(rival == "flock held, posix held, ofd held", "another process finds: {rival}");
        Ok(format!("10000 files as they were; {rival}"))
    }
}
