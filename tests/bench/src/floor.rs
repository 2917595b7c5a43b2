//! The floor: what no way of moving a service by CRIU could get below. The dump of the frozen service into RAM and its restore,
//! both by `runc` alone, and what has to cross the link in between.
//!
//! Both are done with the very ticker that Sterna moves, where it stands: it is dumped, restored a second time beside itself, and
//! let go on.

use anyhow::{Context as _, ensure};
use serde::Serialize;
use serde_json::Value;
use sterna_e2e::docker::docker;

use crate::pump::Inside;

const PROGRAM: &str = include_str!("programs/floor.pl");
/// Where the image goes: in RAM.
const IMAGE: &str = "/dev/shm/sterna-bench-floor";
/// Where the second container's bundle lies.
const BUNDLE: &str = "/run/sterna-bench-floor";
/// The second container.
const COPY: &str = "sterna-bench-floor";
/// Passes that are thought through: it is settled long before.
const PASSES: u32 = 200;

/// One direct dump and restore.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Direct {
    /// Milliseconds of the dump.
    pub dump: f64,
    /// Milliseconds of the restore.
    pub restore: f64,
    /// Bytes of the image.
    pub image: u64,
}

impl Direct {
    /// From the line that the program in the node prints.
    ///
    /// # Errors
    /// When it is something else.
    fn read(line: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let wrong = || format!("the floor's program says `{line}`");
        let [dump, restore, image] = words[..] else { anyhow::bail!(wrong()) };
        let read = Self {
            dump: dump.parse().with_context(wrong)?,
            restore: restore.parse().with_context(wrong)?,
            image: image.parse().with_context(wrong)?,
        };
        ensure!(read.dump > 0.0 && read.restore > 0.0, wrong());
        Ok(read)
    }
}

/// MiB that differ at the freeze from what was sent before it, if sending ahead is done as well as it can be: in passes, each of
/// which sends what was written during the one before, for as long as that makes them shorter. A pass takes no less than a dump.
///
/// Pages are written at random, so some of them more than once: of `mib` MiB, `rate` per second touch in `seconds`
/// `mib · (1 − e^(−rate · seconds / mib))`.
///
/// `rate` and `bandwidth` in MiB per second, `dump` in ms.
pub fn changed(mib: f64, rate: f64, dump: f64, bandwidth: f64) -> f64 {
    if mib <= 0.0 || rate <= 0.0 || bandwidth <= 0.0 {
        return 0.0;
    }
    let touched = |seconds: f64| mib * -(-rate * seconds / mib).exp_m1();
    // The first pass sends everything.
    let mut pass = dump / 1e3 + mib / bandwidth;
    for _ in 0..PASSES {
        pass = dump / 1e3 + touched(pass) / bandwidth;
    }
    touched(pass)
}

/// The floor of the downtime in ms.
pub fn downtime(direct: Direct, changed: f64, bandwidth: f64) -> f64 {
    let crossing = if changed > 0.0 { changed / bandwidth * 1e3 } else { 0.0 };
    direct.dump + direct.restore + crossing
}

/// The configuration of a second container that is restored beside the first: it has the same everything, but a cgroup of its
/// own, and the engine is not called when it starts.
///
/// # Errors
/// When it is not the configuration of a container.
fn second(config: &str, bundle: &str, container: &str) -> anyhow::Result<String> {
    let mut config: Value = serde_json::from_str(config).context("the container's configuration")?;
    let all = config.as_object_mut().context("the container's configuration")?;
    all.remove("hooks");
    let root = all.get_mut("root").and_then(|root| root.get_mut("path")).context("it has no root")?;
    let path = root.as_str().context("its root has no path")?;
    if !path.starts_with('/') {
        *root = format!("{bundle}/{path}").into();
    }
    let cgroup =
        all.get_mut("linux").and_then(|linux| linux.get_mut("cgroupsPath")).context("it has no cgroup")?;
    let path = cgroup.as_str().context("its cgroup has no path")?;
    *cgroup = path.replace(container, COPY).into();
    Ok(config.to_string())
}

/// Measures once, with a container on a node. It stands still meanwhile, and goes on.
///
/// # Errors
/// When there is no CRIU on the node, or it refuses.
pub async fn measure(node: &str, service: &str) -> anyhow::Result<Direct> {
    let id = docker(&["exec", node, "docker", "inspect", "--format", "{{.Id}}", service]).await?;
    let find = format!("ls -d /run/docker/runtime-*/*/{id}");
    let state = docker(&["exec", node, "sh", "-c", &find]).await.context("the runtime's state")?;
    let root = state.lines().next().and_then(|line| line.strip_suffix(&id)).context("the runtime's state")?;
    let root = root.trim_end_matches('/');
    let known = docker(&["exec", node, "runc", "--root", root, "state", &id]).await?;
    let known: Value = serde_json::from_str(&known).context("runc state")?;
    let bundle = known["bundle"].as_str().context("runc names no bundle")?;
    let config = docker(&["exec", node, "cat", &format!("{bundle}/config.json")]).await?;
    let config = second(&config, bundle, &id)?;
    let write = format!("rm -rf {BUNDLE} && mkdir -p {BUNDLE} && printf %s \"$1\" >{BUNDLE}/config.json");
    docker(&["exec", node, "sh", "-c", &write, "sh", &config]).await?;
    let mut program = Inside::start(node, PROGRAM, &[&id, root, IMAGE, BUNDLE, COPY])?;
    let direct = Direct::read(&program.line().await?)?;
    // Until it has ended the service stands frozen.
    program.end().await?;
    Ok(direct)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECT: Direct = Direct { dump: 400.0, restore: 500.0, image: 1 };

    #[test]
    fn without_writes_it_is_dump_and_restore() {
        assert_eq!(changed(1024.0, 0.0, 400.0, 12.0), 0.0);
        assert_eq!(downtime(DIRECT, 0.0, 12.0), 900.0);
    }

    #[test]
    fn few_writes_shrink_to_those_of_one_dump() {
        // Fixed point of t = 0.4 + 1 · t / 12, but for pages that are hit twice.
        let settled = 0.4 / (1.0 - 1.0 / 12.0);
        let changed = changed(1024.0, 1.0, 400.0, 12.0);
        assert!((changed - settled).abs() < 0.01, "{changed}");
        assert!((downtime(DIRECT, changed, 12.0) - 900.0 - changed / 12.0 * 1e3).abs() < 1e-9);
    }

    #[test]
    fn more_writes_than_the_link_carries_never_shrink_but_have_a_bound() {
        let some = changed(256.0, 20.0, 400.0, 12.0);
        assert!(some > 100.0 && some < 256.0, "{some}");
        assert!(changed(4.0, 20.0, 400.0, 12.0) <= 4.0);
    }

    #[test]
    fn the_second_container_has_its_own_cgroup_and_calls_nobody() {
        let config = r#"{"hooks":{"prestart":[{}]},"root":{"path":"rootfs","readonly":true},
                         "linux":{"cgroupsPath":"/docker/abc","seccomp":{}}}"#;
        let changed: Value = serde_json::from_str(&second(config, "/b", "abc").unwrap()).unwrap();
        assert_eq!(changed["hooks"], Value::Null);
        assert_eq!(changed["root"]["path"], "/b/rootfs");
        assert_eq!(changed["root"]["readonly"], true);
        assert_eq!(changed["linux"]["cgroupsPath"], "/docker/sterna-bench-floor");
        assert!(second("{}", "/b", "abc").is_err());
    }

    #[test]
    fn the_programs_line_is_read() {
        let read = Direct::read("300.5 350.25 1048576").unwrap();
        assert_eq!(read, Direct { dump: 300.5, restore: 350.25, image: 1_048_576 });
        assert!(Direct::read("300.5 350.25").is_err());
        assert!(Direct::read("0 1 1").is_err());
    }
}
