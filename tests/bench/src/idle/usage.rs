//! What the programs of a node take of processors and memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Serialize;
use sterna_e2e::docker::docker;

use crate::pump::CLOCK;

const PROGRAM: &str = include_str!("../programs/usage.pl");
/// Who is looked at: the agent, the engine, its containerd.
pub const NAMES: [&str; 3] = ["sterna", "dockerd", "containerd"];

/// What a program took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Usage {
    /// Milliseconds of processor time per second.
    pub processor: f64,
    /// Resident memory in MiB, at the end.
    pub memory: f64,
}

/// Milliseconds of processor time so far and KiB resident, by name.
type Sample = BTreeMap<String, (f64, f64)>;

fn read(text: &str) -> anyhow::Result<Sample> {
    let mut sample = Sample::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, millis, kib] = words[..] else { bail!("the node says `{line}`") };
        sample.insert(name.to_owned(), (millis.parse()?, kib.parse()?));
    }
    Ok(sample)
}

async fn sample(container: &str) -> anyhow::Result<Sample> {
    let program = format!("{CLOCK}\n{PROGRAM}");
    let mut arguments = vec!["exec", container, "perl", "-e", &program];
    arguments.extend(NAMES);
    read(&docker(&arguments).await?)
}

fn between(before: &Sample, after: &Sample, over: Duration) -> BTreeMap<String, Usage> {
    let used = |(name, (millis, kib)): (&String, &(f64, f64))| {
        let earlier = before.get(name).map_or(0.0, |one| one.0);
        // One that was started anew began from zero.
        let processor = (millis - earlier).max(0.0) / over.as_secs_f64();
        (name.clone(), Usage { processor, memory: kib / 1024.0 })
    };
    after.iter().filter(|(_, (_, kib))| *kib > 0.0).map(used).collect()
}

/// What the programs of each of these containers take while nothing happens for `over`.
///
/// # Errors
/// When a container can't be looked into.
pub async fn measure(containers: &[&str], over: Duration) -> anyhow::Result<Vec<BTreeMap<String, Usage>>> {
    let start = Instant::now();
    let mut before = Vec::new();
    for container in containers {
        before.push(sample(container).await.with_context(|| (*container).to_owned())?);
    }
    tokio::time::sleep(over).await;
    let mut all = Vec::new();
    let took = start.elapsed();
    for (container, before) in containers.iter().zip(&before) {
        all.push(between(before, &sample(container).await?, took));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_what_was_added() {
        let (before, after) =
            (read("sterna 100 2048\ndockerd 5 0").unwrap(), read("sterna 400 4096\ndockerd 0 0").unwrap());
        let usage = between(&before, &after, Duration::from_secs(60));
        assert_eq!(usage.len(), 1, "what does not run takes nothing");
        assert_eq!(usage["sterna"], Usage { processor: 5.0, memory: 4.0 });
        assert!(read("sterna 100").is_err());
    }

    /// The program itself, on this host.
    #[test]
    fn a_program_that_runs_is_seen() {
        let output = std::process::Command::new("perl")
            .args(["-e", &format!("{CLOCK}\n{PROGRAM}"), "perl", "nobody-has-this-name"])
            .output()
            .unwrap();
        let sample = read(&String::from_utf8(output.stdout).unwrap()).unwrap();
        assert!(sample["perl"].1 > 0.0 && sample["nobody-has-this-name"].1 == 0.0, "{sample:?}");
    }
}
