//! Clocks of the agents' own. All nodes share the machine's clock, which is not a test's to set, and no namespace of the
//! kernel has a clock of day of its own: so each agent is started with libfaketime, which shifts the time of day (and not
//! the monotonic clocks, which no step of a real clock shifts either) by what a file says.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::node::Node;
use crate::world::until;

const OFFSET: &str = "run/sterna/clock";
const TO_END: Duration = Duration::from_secs(5);

/// Starts the agent with a library before it; its name stays the same, and what it starts keeps the time of the machine.
const SETUP: &str = r#"
set -e
mv /usr/bin/sterna /usr/lib/sterna/sterna
ln -sf ../lib/sterna/sterna /usr/bin/sterna-shim
cat >/usr/bin/sterna <<'END'
#!/bin/sh
export LD_PRELOAD=/usr/lib/sterna/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/run/sterna/clock FAKETIME_NO_CACHE=1
export FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_ONLY_CMDS=sterna
mkdir -p /run/sterna
[ -e /run/sterna/clock ] || echo +0 >/run/sterna/clock
exec /usr/lib/sterna/sterna "$@"
END
chmod +x /usr/bin/sterna
"#;

fn library() -> anyhow::Result<PathBuf> {
    let folders = fs::read_dir("/usr/lib").context("/usr/lib")?.flatten().map(|entry| entry.path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    found.context("libfaketime.so.1 is not below /usr/lib: install the package libfaketime")
}

/// Gives the agent of a node, from its next start on, a clock of its own, and has it started again; one that has it keeps it for as
/// long as its container lives. Whether it was started again.
///
/// # Errors
/// When libfaketime is not here.
pub async fn give(node: &Node) -> anyhow::Result<bool> {
    let folder = node.path("usr/lib/sterna");
    if folder.join("sterna").exists() {
        return Ok(false);
    }
    let (from, to) = (library()?, folder.join("libfaketime.so.1"));
    fs::copy(&from, &to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    node.run(SETUP).await?;
    let before = node.processes("sterna");
    node.kill("sterna").await?;
    // Killed, it may be seen to listen for an instant more.
    let ended = async || node.processes("sterna").iter().all(|one| !before.contains(one));
    until(TO_END, "the agent ends", ended).await?;
    Ok(true)
}

/// Sets the clock of an agent so many seconds off the machine's.
///
/// # Errors
/// When the file can't be written.
pub fn set(node: &Node, seconds: i32) -> anyhow::Result<()> {
    let path = node.path(OFFSET);
    // At once for every reader.
    let fresh: &Path = &path.with_extension("new");
    fs::write(fresh, format!("{seconds:+}\n")).with_context(|| fresh.display().to_string())?;
    Ok(fs::rename(fresh, path)?)
}
